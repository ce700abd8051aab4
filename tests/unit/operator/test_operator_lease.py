"""When a Lease may be taken."""

import pytest

from aiops_operator.lease import Seen, is_free, seen


def lease(version="1", **spec):
    """A Lease as the API server has it."""
    return {"metadata": {"resourceVersion": version}, "spec": spec}


def test_what_was_seen_is_timed_from_when_it_was_first_seen():
    """Another version begins anew: whoever renews is alive, whatever the clocks say."""
    first = seen(None, lease("1", holderIdentity="a", leaseDurationSeconds=15), 100.0)
    assert Seen("1", "a", 15, 100.0) == first
    assert first == seen(first, lease("1", holderIdentity="a", leaseDurationSeconds=15), 110.0)
    assert Seen("2", "a", 15, 110.0) == seen(first, lease("2", holderIdentity="a", leaseDurationSeconds=15), 110.0)


@pytest.mark.parametrize("duration", [None, 0, -1, "15", 1.5])
def test_a_duration_that_makes_no_sense_is_the_usual_one(duration):
    """Nobody takes over at once because of it."""
    assert 15 == seen(None, lease(holderIdentity="a", leaseDurationSeconds=duration), 0.0).duration


def test_a_lease_without_a_spec_is_nobodys():
    """Somebody has created it by hand."""
    assert "" == seen(None, {"metadata": {"resourceVersion": "1"}, "spec": None}, 0.0).holder


@pytest.mark.parametrize(
    ("holder", "now", "expected"),
    [("", 0.0, True), ("me", 0.0, True), ("other", 15.0, False), ("other", 15.1, True)],
)
def test_who_may_take_it(holder, now, expected):
    """Its holder, anybody when it is free, and others when it has run out."""
    assert expected == is_free(Seen("1", holder, 15, 0.0), "me", now)
