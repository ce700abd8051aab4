"""Which revisions are compared first, and what becomes of them."""

import datetime as dt
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from revisions import live, revision

from aiops_drift import Agreement, Verdict
from aiops_operator import shadow
from aiops_operator.api import InferenceService
from aiops_operator.conditions import MAX_MESSAGE, Problem
from aiops_operator.podsview import Finding
from aiops_operator.resources import Failed, History
from aiops_operator.shadow import Compared, Seen

SHADOW = {"rollout": {"strategy": "Shadow", "shadow": {"minRows": 100, "maxDistance": 0.1}}}
GOOD = {"goodRevision": "a"}
LATER = dt.datetime(2030, 1, 2, 4, 0, tzinfo=dt.UTC)
DIGEST = "sha256:" + "3f9a1c2" + "0" * 57
A, B, C = (revision(digest) for digest in "abc")


def alone(make, *, complete=True, exceeded=False):
    """The shadow's Deployment."""
    return live(make(), B, complete=complete, exceeded=exceeded)


def heard(rows=0, differing=0, failed=0, *, drifting=False, model=DIGEST):
    """What both models' pods said."""
    verdict = Verdict(drifting, "WithinThresholds", 1.25, 5.0, "length", rows, ())
    finding = Finding(polled=True, verdict=verdict, models={"p": model})
    return Compared(Agreement(rows, differing, failed), finding)


def stepped(service, seen, way="compare", wanted=B, now=LATER):
    """`status.shadow` after a look."""
    return shadow.step(service, way, wanted, seen, now)


def comparing(make, spec=None, **shown):
    """A service whose shadow has been seen to be ready."""
    before = {"revision": "b", "state": "Comparing", "since": "2030-01-02T03:04:05Z"}
    return make(spec or SHADOW, GOOD | {"shadow": before | shown})


def test_without_a_strategy_nothing_is_compared(make):
    """A change is rolled out at once, as it always was."""
    service = make(status=GOOD)

    assert shadow.course(service, B, live(service, A, complete=True)) == "roll"


@pytest.mark.parametrize("spec", [SHADOW, {"rollout": {"strategy": "Shadow"}}])
def test_a_changed_revision_is_compared_with_a_good_one(make, spec):
    """Whether the status knows that it is good or the Deployment says so; the first revision has none to be compared with."""
    service = make(spec, GOOD)

    assert shadow.course(service, B, live(service, A)) == "compare"
    assert shadow.course(make(spec), B, live(service, A, complete=True)) == "compare"
    assert shadow.course(service, A, None) == "roll"
    assert shadow.course(make(spec), B, live(service, A)) == "roll"


def test_what_is_the_same_is_rolled(make):
    """Nothing is compared with itself."""
    service = make(SHADOW, GOOD)

    assert shadow.course(service, A, live(service, A, complete=True)) == "roll"


def test_a_service_that_is_scaled_to_zero_and_back_runs_what_it_ran(make):
    """A rejection stands, and what was not compared waits for pods that get requests; one that never had any has nothing to wait for."""
    shown = {"revision": "b", "minRows": 100, "maxDistance": "0.1"}
    ways = {"Rejected": "keep", "Comparing": "wait", "Promoted": "roll"}
    for state, way in ways.items():
        service = make(SHADOW | {"replicas": 0}, GOOD | {"shadow": shown | {"state": state}})
        assert way == shadow.course(service, B, live(service, A))
    never = make(SHADOW | {"replicas": 0})
    none = {"status": {"observedGeneration": 1}}
    assert "roll" == shadow.course(never, B, live(never, A) | none)
    assert "spec.replicas is 0" in stepped(make(SHADOW | {"replicas": 0}, GOOD), Seen(), "wait")["message"]


def test_who_wants_the_last_good_revision_back_wants_it_now(make):
    """A revert is no change that must first prove itself; what has failed is told by the rollback."""
    service = make(SHADOW, {"goodRevision": "b"})

    assert shadow.course(service, A, live(service, B, History(good=A), complete=True)) == "roll"
    assert shadow.course(service, A, live(service, B, History(failed=Failed("a", "X", "…")), complete=True)) == "roll"
    assert shadow.course(service, C, live(service, B, History(good=A), complete=True)) == "compare"


def test_a_change_during_a_rollout_waits_for_its_end(make):
    """Unless there is nothing to go back to: then the change is what mends it."""
    service, claim = make(SHADOW, GOOD), revision("a", {"persistentVolumeClaim": {"claimName": "disk"}})

    assert shadow.course(service, C, live(service, B, History(good=A))) == "wait"
    assert shadow.course(service, C, live(service, B, History(good=A), exceeded=True)) == "wait"
    assert shadow.course(service, C, live(service, B, History(good=claim), exceeded=True)) == "roll"
    # Whatever is remembered: where no pod serves, no row would ever be compared.
    down = live(service, B, History(good=A))
    assert shadow.course(service, C, down | {"status": down["status"] | {"availableReplicas": 0}}) == "roll"


def test_what_was_decided_is_done(make):
    """As the status has it; a rejection holds until the spec asks for something else of it."""
    shown = {"revision": "b", "minRows": 100, "maxDistance": "0.1"}
    promoted, rejected = (
        make(SHADOW, GOOD | {"shadow": shown | {"state": state}}) for state in ("Promoted", "Rejected")
    )
    lax = make({"rollout": {"strategy": "Shadow", "shadow": {"maxDistance": 0.5}}}, rejected.status)

    assert shadow.course(promoted, B, live(promoted, A)) == "roll"
    assert shadow.course(rejected, B, live(rejected, A)) == "keep"
    assert shadow.course(rejected, C, live(rejected, A)) == "compare"
    assert shadow.course(lax, B, live(lax, A)) == "compare"


def test_who_was_rejected_by_drift_is_compared_again_by_other_thresholds(make):
    """What the rows are judged by counts where that has led to the rejection, and nowhere else."""
    drifted = stepped(comparing(make), Seen(alone(make), compared=heard(100, drifting=True)))
    differing = stepped(comparing(make), Seen(alone(make), compared=heard(100, 50)))
    lax = SHADOW | {"drift": {"zScoreThreshold": 9}}

    assert ("InputDrifted", "PredictionsDiffer") == (drifted["reason"], differing["reason"])
    for spec, shown, way in (
        (SHADOW, drifted, "keep"),
        (lax, drifted, "compare"),
        (lax, differing, "keep"),
        (lax, drifted | {"drift": {"detected": True}}, "keep"),
    ):
        service = make(spec, GOOD | {"shadow": shown})
        assert way == shadow.course(service, B, live(service, A))


@pytest.mark.parametrize(
    ("state", "way", "wanted", "goes_on"),
    [
        ("Starting", "compare", B, True),
        ("Comparing", "compare", B, True),
        ("Comparing", "compare", C, False),
        ("Comparing", None, None, True),
        ("Comparing", "roll", A, False),
        ("Rejected", "compare", B, False),
        ("Rejected", None, None, False),
    ],
)
def test_a_comparison_goes_on(make, state, way, wanted, goes_on):
    """While artifacts are away, too; another revision has one of its own, and so has the same one later."""
    found = shadow.going_on(comparing(make, state=state), way, wanted)

    assert ("b@2030-01-02T03:04:05Z" if goes_on else None) == (found and found.name)
    assert shadow.going_on(make(status=comparing(make).status), "compare", B) is None


def test_an_operator_that_has_just_begun_shows_what_was_shown(make):
    """It has heard nothing yet; what keeps a pod from being ready it knows at once."""
    shown = stepped(comparing(make), Seen(alone(make), compared=heard(60)))
    service = make(SHADOW, GOOD | {"shadow": shown})
    trouble = Problem("OOMKilled", "Pod p ran out of memory.", stalled=False)

    assert shown == stepped(service, Seen(alone(make)))
    assert stepped(service, Seen(alone(make), trouble))["message"].endswith("Pod p ran out of memory.")


def test_a_shadow_is_started_and_seen_to_be_ready(make):
    """What keeps its pod from being ready is told meanwhile."""
    service, slow = make(SHADOW, GOOD), Problem("Loading", "the model is being loaded", stalled=False)
    begun = stepped(service, Seen(alone(make, complete=False), slow))
    ready = stepped(make(SHADOW, GOOD | {"shadow": begun}), Seen(alone(make)))

    assert begun == {
        "revision": "b",
        "since": "2030-01-02T04:00:00Z",
        "minRows": 100,
        "maxDistance": "0.1",
        "state": "Starting",
        "message": "Revision b is started as a shadow. the model is being loaded",
    }
    assert ("Comparing", 0, begun["since"]) == (ready["state"], ready["rows"], ready["since"])
    assert "Starting" == stepped(service, Seen(None))["state"]


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (lambda make: Seen(alone(make, complete=False, exceeded=True)), "ProgressDeadlineExceeded"),
        (
            lambda make: Seen(alone(make, complete=False, exceeded=True), Problem("DigestMismatch", "…")),
            "DigestMismatch",
        ),
        (lambda make: Seen(alone(make, complete=False), restarts=3), "ProgressDeadlineExceeded"),
        (lambda make: Seen(alone(make, complete=False), Problem("OOMKilled", "…"), restarts=3), "OOMKilled"),
    ],
)
def test_a_pod_that_does_not_get_ready_is_rejected(make, seen, reason):
    """With what it says of itself, where it says something."""
    found = stepped(make(SHADOW, GOOD), seen(make))

    assert ("Rejected", reason) == (found["state"], found["reason"])
    assert "its pod does not get ready" in found["message"]


@pytest.mark.parametrize(
    ("compared", "state", "reason"),
    [
        (heard(99), "Comparing", None),
        (heard(100), "Promoted", "Compared"),
        (heard(100, differing=10), "Promoted", "Compared"),
        (heard(100, differing=11), "Rejected", "PredictionsDiffer"),
        (heard(99, failed=1), "Promoted", "Compared"),
        (heard(98, failed=2), "Rejected", "PredictionsFail"),
        (heard(0, failed=100), "Rejected", "PredictionsFail"),
        (heard(100, drifting=True), "Rejected", "InputDrifted"),
        (heard(1000, drifting=None), "Comparing", None),
        (Compared(Agreement(1000), Finding(polled=True)), "Comparing", None),
        (
            Compared(Agreement(100, 90, 0, np.array([[0.0, 100.0, 50.0]])), heard(100).finding),
            "Rejected",
            "PredictionsDiffer",
        ),
    ],
)
def test_rows_decide(make, compared, state, reason):
    """Enough of them, at a small distance, with hardly any that fail, and no drift from the new model's own baseline."""
    found = stepped(comparing(make), Seen(alone(make), compared=compared))

    assert (state, reason) == (found["state"], found.get("reason"))
    assert (reason is not None) == ("decidedAt" in found)


def test_what_a_pod_says_of_rows_that_fail_is_passed_on(make):
    """Meanwhile and in the end, as long as it likes."""
    for rows, state in ((50, "Comparing"), (100, "Rejected")):
        compared = replace(heard(0, failed=rows), problem="HTTP 400: inputs[0] has 4 values" + "…" * 999)
        found = stepped(comparing(make), Seen(alone(make), compared=compared))

        assert (state, True) == (found["state"], "(HTTP 400: inputs[0] has 4 values…" in found["message"])


def test_a_decision_shows_what_it_rests_on(make):
    """Exactly, and with a sentence that says what to make of it."""
    found = stepped(comparing(make), Seen(alone(make), compared=heard(123, 1)))

    assert found == {
        "revision": "b",
        "since": "2030-01-02T03:04:05Z",
        "minRows": 100,
        "maxDistance": "0.1",
        "rows": 123,
        "distance": "0.00813",
        "model": {"digest": DIGEST, "shortDigest": "3f9a1c2"},
        "drift": {"detected": False, "score": "1.2", "threshold": "5", "worstFeature": "length"},
        "state": "Promoted",
        "reason": "Compared",
        "decidedAt": "2030-01-02T04:00:00Z",
        "message": "Revision b is rolled out: over 123 rows its predictions are at a distance of 0.00813, within 0.1, and the rows "
        "look like its baseline.",
    }


@given(st.lists(st.integers(0, 100), max_size=60))
def test_rows_that_come_cause_few_writes(steps):
    """However many polls there are, what is shown moves by tenths of the rows that are asked for."""
    service = status_of({"revision": "b", "state": "Comparing", "since": "2030-01-02T03:04:05Z"})
    shown, writes, rows = dict(service.status["shadow"]), -1, 0
    for step in steps:
        rows = min(rows + step, 999)
        found = stepped(status_of(shown), Seen(ONE_READY, compared=heard(rows, rows // 50)))
        writes += found != shown
        shown = found

    assert writes <= 10


def test_a_pod_that_fails_while_it_is_compared_is_told_of(make):
    """Its container's problem stands behind the figures."""
    trouble = Problem("OOMKilled", "Pod p ran out of memory.", stalled=False)
    found = stepped(comparing(make), Seen(alone(make, complete=False), trouble, 1, heard(60)))

    assert ("Comparing", True) == (found["state"], found["message"].endswith("Pod p ran out of memory."))


def test_what_is_asked_for_may_change_while_rows_are_compared(make):
    """The rows that were compared count by what is asked for now."""
    service = comparing(make, {"rollout": {"strategy": "Shadow", "shadow": {"minRows": 50}}}, minRows=100, rows=60)

    assert "Promoted" == stepped(service, Seen(alone(make), compared=heard(60)))["state"]


def test_another_revision_begins_anew(make):
    """So does one that was rejected by what is no longer asked for."""
    service = comparing(make, rows=90)
    rejected = comparing(make, state="Rejected", maxDistance="0.01", reason="PredictionsDiffer")

    for found in (stepped(service, Seen(None), wanted=C), stepped(rejected, Seen(alone(make, complete=False)))):
        assert ("Starting", "2030-01-02T04:00:00Z", False) == (found["state"], found["since"], "rows" in found)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("2030-01-02T03:59:59Z", "2030-01-02T04:00:00Z"),
        ("2030-01-02T04:00:00Z", "2030-01-02T04:00:01Z"),
        ("2030-01-02T04:00:07Z", "2030-01-02T04:00:08Z"),
        ("2031-01-02T04:00:00Z", "2030-01-02T04:00:00Z"),
        ("9999-12-31T23:59:59Z", "2030-01-02T04:00:00Z"),
        ("2030-01-02", "2030-01-02T04:00:00Z"),
        ("yesterday", "2030-01-02T04:00:00Z"),
    ],
)
def test_no_two_comparisons_begin_in_the_same_second(make, before, expected):
    """Their counts are told apart by it; a time that nobody's clock has shown is none to go by."""
    assert expected == stepped(comparing(make, since=before), Seen(None), wanted=C)["since"]


@pytest.mark.parametrize(
    ("shown", "way", "wanted", "kept"),
    [
        ({"revision": "b", "state": "Promoted"}, "roll", B, True),
        ({"revision": "b", "state": "Promoted"}, "roll", A, False),
        ({"revision": "b", "state": "Comparing"}, "roll", A, False),
        ({"revision": "b", "state": "Rejected"}, "keep", B, True),
        ({"revision": "b", "state": "Comparing"}, None, None, True),
        ({}, "roll", A, False),
    ],
)
def test_what_was_is_shown_as_long_as_it_says_something(make, shown, way, wanted, kept):
    """A promotion of what serves, a rejection of what is asked for, and what is known while artifacts are not."""
    found = stepped(make(SHADOW, {"shadow": shown}), Seen(), way, wanted)

    assert (shown if kept else {}) == found


def test_a_paused_service_stands_still(make):
    """Rows that would decide wait until it goes on."""
    service = comparing(make, SHADOW | {"paused": True})

    assert service.status["shadow"] == stepped(service, Seen(alone(make), compared=heard(1000)))


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("Waiting", ("ShadowWaiting", False)),
        ("Starting", ("ShadowStarting", False)),
        ("Comparing", ("ShadowComparing", False)),
        ("Promoted", ("ShadowPromoted", False)),
        ("Rejected", ("ShadowRejected", True)),
    ],
)
def test_ready_says_why_it_is_not(state, expected):
    """Only a rejection needs a person."""
    found = shadow.problem({"state": state, "message": "…"})

    assert expected == (found.reason, found.stalled)
    assert shadow.problem({}) is None


def test_events_tell_of_the_beginning_and_of_the_end():
    """Once each; of a rejection the condition Stalled tells."""
    starting, comparing, promoted, rejected = (
        {"revision": "b", "state": state, "message": state}
        for state in ("Starting", "Comparing", "Promoted", "Rejected")
    )

    assert [("Normal", "ShadowStarting", "Starting")] == list(shadow.events({}, starting))
    assert [] == list(shadow.events(starting, comparing))
    assert [] == list(shadow.events(starting, starting | {"message": "…"}))
    assert [("Normal", "ShadowPromoted", "Promoted")] == list(shadow.events(comparing, promoted))
    assert [] == list(shadow.events(comparing, rejected))
    assert [("Normal", "ShadowStarting", "Starting")] == list(shadow.events(starting | {"revision": "a"}, starting))


def test_what_is_heard_is_looked_at_when_it_shows(make):
    """At a step of the rows, a row that failed, a model, a verdict; not at each row."""
    service = comparing(make)
    one, same, more = (shadow.gist(service, heard(rows)) for rows in (11, 19, 20))

    assert one == same
    assert (
        len({one, more, *(shadow.gist(service, found) for found in (heard(11, failed=1), heard(11, drifting=None)))})
        == 4
    )
    assert () == shadow.gist(make(), heard(11))


def test_the_longest_message_fits():
    """What a pod says of itself may be as long as it likes."""
    service = status_of({"revision": "b", "state": "Starting"})
    trouble = Problem("X" * 128, "…" * 1024)
    for seen in (Seen(ONE_LATE, trouble), Seen(ONE_LATE | {"status": {}}, trouble), Seen(ONE_READY, trouble)):
        assert len(stepped(service, seen)["message"]) <= MAX_MESSAGE


def status_of(shown):
    """A service with a strategy and this `status.shadow`."""
    body = {
        "metadata": {"name": "iris", "namespace": "models", "uid": "uid-1"},
        "spec": {"model": {"artifacts": {"uri": "s3://m/iris"}}, "rollout": json.loads(json.dumps(SHADOW["rollout"]))},
        "status": GOOD | {"shadow": shown},
    }
    body["spec"]["rollout"]["shadow"]["minRows"] = 1000
    return InferenceService.from_dict(body)


ONE_READY = live(status_of({}), B, complete=True)
ONE_LATE = live(status_of({}), B, exceeded=True)
