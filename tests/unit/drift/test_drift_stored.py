"""What is stored goes on as if nothing had happened, or is refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_drift import Counts, Expectations, Profile, Recorder, Stored, WireError, advance

RNG = np.random.default_rng(11)
BASELINE = RNG.normal(size=(300, 3)) * [1.0, 10.0, 0.1]
PROFILE = Profile.from_rows(BASELINE, ["a", "b", "c"])
ROWS = RNG.normal(size=(1200, 3)) * [2.0, 10.0, 0.3]
ROWS[::7, 1] = np.nan
MODEL = "sha256:" + "3f" * 32


def after_a_restart(recorder, profile=PROFILE):
    """The recorder of a process that has read what this one stored."""
    stored = json.loads(json.dumps(recorder.stored(MODEL, 5.0).to_dict()))
    return Recorder.restored(profile, Stored.from_dict(stored))


def report(recorder):
    """All that it reports."""
    return recorder.report(MODEL, Expectations(), -1, 9.0)


def recorded(rows):
    """A recorder that was given the rows."""
    recorder = Recorder(PROFILE, "i")
    recorder.record(rows, 1.0)
    return recorder


@given(st.lists(st.integers(0, 300), min_size=1, max_size=10), st.data())
def test_restarts_between_requests_change_nothing(sizes, data):
    """The same incarnation, numbers, sums and waiting rows, to the last bit, however often the process is another."""
    steady, restarted, start = Recorder(PROFILE, "i"), Recorder(PROFILE, "i"), 0
    for size in sizes:
        rows = ROWS[start : start + size]
        start += len(rows)
        for recorder in (steady, restarted):
            recorder.record(rows, float(start))
        if data.draw(st.booleans()):
            restarted = after_a_restart(restarted)

    assert report(steady) == report(restarted)
    assert (steady.rows, steady.closed) == (restarted.rows, restarted.closed)


def test_more_than_the_kept_blocks_survive_as_sums():
    """A poller that was away for longer than the kept blocks, over a restart, still gets the sums of all rows."""
    rows = RNG.normal(size=(16 * 700, 3))
    recorder = recorded(rows[: 16 * 100])
    cursor, first = advance(None, report(recorder))
    recorder.record(rows[16 * 100 : 16 * 650 + 3], 2.0)
    recorder = after_a_restart(recorder)
    recorder.record(rows[16 * 650 + 3 :], 3.0)
    _, later = advance(cursor, report(recorder))

    total = Counts.zero(3)
    for block in (*first, *later):
        total += block.counts
    assert (100, 1 + 512) == (len(first), len(later))
    assert Counts.of(PROFILE, rows) == total


def test_an_infinite_output_waits_as_the_largest_number():
    """JSON has no infinity, and both count the same."""
    profile = Profile.from_rows(BASELINE[:, :2], ["a", "b"], outputs=BASELINE[:, 2:])
    steady = Recorder(profile, "i")
    steady.record(ROWS[:10, :2], 0.0, np.array([[np.inf], [-np.inf]] * 5))
    restarted = after_a_restart(steady, profile)
    for recorder in (steady, restarted):
        recorder.record(ROWS[10:16, :2], 1.0, ROWS[10:16, 2:])

    assert 1 == steady.closed
    assert report(steady) == report(restarted)


def test_another_incarnation_takes_what_the_old_one_does_not_hold():
    """A first contact with it gets the blocks above the number, and nothing else."""
    recorder = recorded(ROWS[: 16 * 10])
    recorder.begin_anew("j", 6)
    cursor, blocks = advance(None, report(recorder))
    recorder.record(ROWS[16 * 10 : 16 * 11], 2.0)
    _, later = advance(cursor, report(recorder))

    assert ("j", [7, 8, 9], [10]) == (
        recorder.incarnation,
        [block.number for block in blocks],
        [b.number for b in later],
    )


def test_another_baseline_is_refused():
    """Scores are against a baseline: those of another cannot be added to."""
    with pytest.raises(WireError, match="it was counted against another baseline"):
        Recorder.restored(Profile.from_rows(BASELINE * 2, ["a", "b", "c"]), recorded(ROWS).stored(MODEL, 0.0))


WHOLE = recorded(ROWS[:165]).stored(MODEL, 0.0).to_dict()


def broken(report=None, counts=None, **change):
    """A valid document with some fields replaced."""
    changed = WHOLE["report"] | (report or {})
    return {**WHOLE, "report": {**changed, "counts": changed["counts"] | (counts or {})}, **change}


BINS, Z = WHOLE["report"]["counts"]["bins"], WHOLE["report"]["counts"]["z"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, "it is not of version 1"),
        ([], "it is not of version 1"),
        (broken(version=2), "it is not of version 1"),
        ({"version": 1}, "document is not an object"),
        (broken({"incarnation": 7}), "document.incarnation is not a text of at most 64 characters"),
        (broken(waiting=None), "its waiting rows are not fewer than 16 rows of 3 numbers"),
        (broken(waiting=[[1, 2]] * 5), "its waiting rows are not fewer than 16 rows of 3 numbers"),
        (broken(waiting=[[0, 0, 0]] * 16), "its waiting rows are not fewer than 16 rows of 3 numbers"),
        (broken(waiting=[[0, 0, "1"]] * 5), "its waiting rows are not fewer than 16 rows of 3 numbers"),
        (broken(waiting=[[0, 0, True]] * 5), "its waiting rows are not fewer than 16 rows of 3 numbers"),
        (broken(waiting=[[0, 0, float("nan")]] * 5), "its waiting rows are not fewer than 16 rows of 3 numbers"),
        (broken(waiting=[[0, 0, 10**400]] * 5), "its waiting rows are not fewer than 16 rows of 3 numbers"),
        (broken(waiting=[]), "its rows are not those of its blocks"),
        (broken({"rows": 164}), "its rows are not those of its blocks"),
        (broken({"blocks": WHOLE["report"]["blocks"][:-1]}), "its blocks are not the last ones that it counted"),
        (broken({"blocks": WHOLE["report"]["blocks"][1:]}, {"n": 144}), "it has sums that no rows have"),
        (
            broken(counts={"n": 0, "z": [0] * 3, "location": [0] * 3, "spread": [0] * 3}),
            "it has sums that no rows have",
        ),
        (broken(counts={"bins": [[1 + BINS[0][0], *BINS[0][1:]], *BINS[1:]]}), "it has sums that no rows have"),
        (broken(counts={"z": [Z[0] + 1e-5, *Z[1:]]}), "it has sums that no rows have"),
        (broken(counts={"unseen": [161, 0, 0]}), "it has sums that no rows have"),
    ],
)
def test_what_no_process_of_ours_has_stored_is_refused(document, message):
    """A file that was cut, mixed or edited gives no count at all, rather than a wrong one."""
    assert Stored.from_dict(broken()).closed == 10
    with pytest.raises(WireError) as error:
        Stored.from_dict(document)
    assert message == str(error.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*WHOLE, *WHOLE["report"]]), inner),
    ),
    st.sampled_from([*WHOLE["report"], "waiting"]),
)
def test_any_json_is_read_or_refused(value, name):
    """In the place of any field, nothing that JSON can say raises another error."""
    document = broken(waiting=value) if name == "waiting" else broken({name: value} if name != "counts" else {})
    if name == "counts":
        document["report"]["counts"] = value
    try:
        Stored.from_dict(document)
    except WireError:
        return
    assert (name in {"incarnation", "now", "blocks", "expectations"}) or (value == WHOLE["report"].get(name))
