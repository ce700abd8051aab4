"""Watch freshness: what is told from what the API server shows and what the watch delivers."""

from aiops_operator.health import Freshness
from aiops_operator.names import Key

A, B = Key("n", "a"), Key("n", "b")


def test_a_watch_that_delivers_lives():
    """Every version that is shown has been delivered."""
    freshness = Freshness()
    freshness.heard(A, "1", 0)
    freshness.listed({A: "1"}, 20)
    assert ({}, "") == (freshness.lags(), freshness.fault(1000))


def test_a_version_that_is_never_delivered_means_death():
    """After 150 s, and not before."""
    freshness, faults = Freshness(), []
    freshness.heard(A, "1", 0)
    for now in (20, 40, 170, 171):
        freshness.listed({A: "2"}, now)
        faults.append(freshness.fault(now))
    assert ["", "", "", "the watch has not delivered n/a for 151 s"] == faults


def test_a_resource_that_is_busy_does_not_look_dead():
    """The listing is always ahead of the watch, but something comes in between."""
    freshness = Freshness()
    for now in range(0, 1000, 20):
        freshness.listed({A: str(now + 1)}, now)
        freshness.heard(A, str(now), now + 10)
    assert freshness.fault(1000) == ""


def test_a_new_resource_and_a_deleted_one_are_noticed_too():
    """A creation or a deletion that is never delivered is as bad as a change."""
    freshness = Freshness()
    freshness.heard(B, "1", 0)
    freshness.listed({A: "1"}, 20)
    freshness.listed({A: "1"}, 200)
    assert "the watch has not delivered n/a, n/b for 180 s" == freshness.fault(200)


def test_an_api_server_that_is_down_fails_nothing():
    """No time is counted while nothing is known, of what was behind before either."""
    freshness = Freshness()
    freshness.listed({A: "1"}, 0)
    freshness.owing({"pods"})
    freshness.listed({A: "1"}, 140)
    for now in range(160, 10_000, 20):
        freshness.unknown(now)
        freshness.owing({"pods"})
    assert ({"inferenceservices": 140.0, "pods": 140.0}, "") == (freshness.lags(), freshness.fault(10_000))


def test_an_api_server_that_refuses_now_and_then_only_delays_the_verdict():
    """One answer in seven is a refusal, and the time up to it does not count."""
    freshness, dead = Freshness(), []
    for number, now in enumerate(range(0, 400, 20)):
        if number % 7 == 3:
            freshness.unknown(now)
        else:
            freshness.listed({A: "1"}, now)
        dead += [now] if freshness.fault(now) else []
    assert 180 == dead[0]


def test_watches_of_a_kind_that_go_on_owing_mean_death():
    """After 150 s, with the kind's name, and not once they have brought something."""
    freshness, faults = Freshness(), []
    for now, owing in ((0, {"deployments"}), (150, {"deployments"}), (151, {"deployments"}), (171, set())):
        freshness.listed({}, now)
        faults.append(freshness.fault(now))
        freshness.owing(owing)
    freshness.owing({"deployments"})
    assert ["", "", "the watch has not delivered changes of deployments for 151 s", ""] == [
        *faults[:3],
        freshness.fault(171),
    ]


def test_a_watcher_that_ends_is_missed():
    """Kopf does not start it again."""
    freshness = Freshness()
    freshness.running({"watcher for pods.v1@None", "watcher for services.v1@None"}, 0)
    freshness.running({"watcher for services.v1@None"}, 160)
    assert (freshness.fault(140), freshness.fault(161)) == ("", "ended: watcher for pods.v1@None")


def test_a_deletion_that_falls_into_a_relist_is_no_death():
    """Kopf does not deliver it; whoever looks at the key that is no longer shown says that it is gone."""
    freshness = Freshness()
    freshness.heard(A, "1", 0)
    freshness.heard(B, "1", 0)
    assert freshness.listed({A: "1", B: "1"}, 20) == set()
    assert freshness.listed({B: "1"}, 40) == {A}
    freshness.gone(A, 41)
    assert freshness.listed({B: "1"}, 60) == set()
    assert ({}, "", {B: "1"}) == (freshness.lags(), freshness.fault(1000), freshness.delivered)


def test_a_resource_that_is_made_again_is_not_gone():
    """What the watch delivers after the question is newer than the answer."""
    freshness = Freshness()
    freshness.heard(A, "1", 0)
    freshness.heard(A, "2", 42)
    freshness.gone(A, 41)
    freshness.listed({A: "2"}, 60)
    assert ({}, {A: "2"}) == (freshness.lags(), freshness.delivered)


def test_what_is_gone_is_forgotten():
    """Nothing is kept of resources that were deleted."""
    freshness = Freshness()
    freshness.heard(A, "1", 0)
    freshness.heard(A, None, 1)
    freshness.heard(B, "1", 1)
    freshness.gone(B, 2)
    freshness.listed({}, 20)
    assert freshness == Freshness()
