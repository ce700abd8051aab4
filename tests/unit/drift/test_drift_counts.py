"""Counts merge exactly, and each block is taken once."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_drift import Counts, Expectations, Profile, Recorder, Report, WireError, advance, in_order, reports_from

RNG = np.random.default_rng(7)
ROWS = RNG.normal(size=(2000, 3)) * [1.0, 10.0, 0.1]
PROFILE = Profile.from_rows(ROWS, ["a", "b", "c"])
MODEL = "sha256:" + "3f" * 32
NOTHING_VALIDATED = Expectations()


def report(recorder, after=-1, expectations=NOTHING_VALIDATED, now=0.0):
    """What the recorder reports."""
    return recorder.report(MODEL, expectations, after, now)


def recorded(rows, sizes=(), incarnation="0123456789abcdef"):
    """A recorder that was given the rows in requests of these sizes, then the rest."""
    recorder = Recorder(PROFILE, incarnation)
    start = 0
    for size in (*sizes, len(rows)):
        if rows[start : start + size].size:
            recorder.record(rows[start : start + size], float(start))
        start += size
    return recorder


@given(st.lists(st.integers(0, 2000), max_size=8))
def test_any_split_adds_up_to_the_same_bits(cuts):
    """Windows are sums, and sums do not depend on how rows were shared out over pods and polls."""
    parts = np.split(ROWS, sorted(cuts))
    total = Counts.zero(3)
    for part in parts:
        total += Counts.of(PROFILE, part)

    assert Counts.of(PROFILE, ROWS) == total


@given(st.integers(0, 2000))
def test_difference_undoes_a_sum(cut):
    """Counts are a group: later minus earlier is what came between."""
    earlier, between = Counts.of(PROFILE, ROWS[:cut]), Counts.of(PROFILE, ROWS[cut:])

    assert between == (earlier + between) - earlier


@given(st.lists(st.integers(1, 400), max_size=12))
def test_blocks_do_not_depend_on_requests(sizes):
    """Blocks of 16 rows are cut from the stream, whatever the sizes of the requests; every row is counted once."""
    whole, split = report(recorded(ROWS)), report(recorded(ROWS, sizes))

    assert [block.counts for block in whole.blocks] == [block.counts for block in split.blocks]
    assert whole.counts == split.counts
    assert len(ROWS) == split.rows


def test_the_open_block_counts_as_rows_only():
    """150 rows are nine blocks and six rows that wait."""
    seen = report(recorded(ROWS[:150]))

    assert (150, 144, 9) == (seen.rows, seen.counts.n, len(seen.blocks))


def test_absurd_rows_weigh_no_more_than_the_limit():
    """One row of 1e300 adds 20 to a sum, not 1e300."""
    counts = Counts.of(PROFILE, np.full((1, 3), 1e300))

    assert (20.0, 20.0, 20.0) == counts.z


def test_a_constant_feature_that_moves_is_counted_apart():
    """No z for what never varied in training; its violations are counted instead."""
    profile = Profile.from_rows([[1.0, 7.0], [2.0, 7.0]])
    counts = Counts.of(profile, np.array([[1.0, 7.0], [1.0, 8.0], [1.0, -8.0]]))

    assert (0.0, (0, 2)) == (counts.z[1], counts.unseen)


@given(st.lists(st.integers(1, 400), max_size=12))
def test_polls_at_any_time_take_each_block_once(sizes):
    """A missed poll loses nothing and a repeated one adds nothing."""
    recorder, cursor, taken, start = Recorder(PROFILE, "i"), None, [], 0
    for size in sizes:
        if rows := ROWS[start : start + size].tolist():
            recorder.record(np.array(rows), 0.0)
        start += size
        for _ in range(2):
            cursor, blocks = advance(cursor, report(recorder))
            taken += [block.number for block in blocks]

    assert list(range(min(sum(sizes), len(ROWS)) // 16)) == taken


def test_more_than_the_kept_blocks_arrive_as_their_sum():
    """A poller away for 600 blocks gets the missed 88 in one block, and the sums are those of all rows."""
    rows = RNG.normal(size=(16 * 700, 3))
    recorder = Recorder(PROFILE, "i")
    recorder.record(rows[: 16 * 100], 0.0)
    cursor, first = advance(None, report(recorder))
    recorder.record(rows[16 * 100 :], 1.0)
    cursor, later = advance(cursor, report(recorder))

    total = Counts.zero(3)
    for block in (*first, *later):
        total += block.counts
    assert (100, 1 + 512) == (len(first), len(later))
    assert 88 * 16 == later[0].counts.n
    assert Counts.of(PROFILE, rows) == total
    assert 699 == cursor.number


def test_first_contact_takes_the_kept_blocks_only():
    """What is older than the kept blocks is history, not evidence."""
    _, blocks = advance(None, report(recorded(RNG.normal(size=(16 * 600, 3)))))

    assert list(range(88, 600)) == [block.number for block in blocks]


def test_report_survives_json():
    """The operator reads what the pod wrote, to the last bit."""
    sent = report(
        recorded(ROWS[:500]),
        expectations=Expectations("failed", 50, 3, ("expect_column_median_to_be_between(a)",), "1 of 8 failed"),
        now=12.5,
    )

    assert sent == Report.from_dict(json.loads(json.dumps(sent.to_dict())))


@given(st.integers(-(10**6), 10**6))
def test_clocks_that_disagree_do_not_reorder_rows(skew):
    """Blocks are ordered by their age on their own pod's clock."""
    pods = [Recorder(PROFILE, "a"), Recorder(PROFILE, "b")]
    for turn in range(6):
        pods[turn % 2].record(ROWS[turn * 16 : turn * 16 + 16], turn + (turn % 2) * skew)
    reports = [report(pods[0], now=10.0), report(pods[1], now=10.0 + skew)]
    blocks = in_order((seen, advance(None, seen)[1]) for seen in reports)

    assert [Counts.of(PROFILE, ROWS[turn * 16 : turn * 16 + 16]) for turn in range(6)] == [b.counts for b in blocks]


def test_a_pod_with_many_features_keeps_fewer_blocks():
    """A report stays small enough to be read: 32 blocks of 2048 features, 512 of four."""
    profile = Profile.from_rows(RNG.normal(size=(20, 2048)))
    recorder = Recorder(profile, "i")
    recorder.record(RNG.normal(size=(16 * 40, 2048)), 0.0)

    assert (32, list(range(8, 40))) == (
        len(report(recorder).blocks),
        [block.number for block in report(recorder).blocks],
    )


def test_after_leaves_out_what_was_read():
    """`?after=` keeps the answer small."""
    assert [30] == [block.number for block in report(recorded(ROWS[:500]), after=29).blocks]


def broken(**change):
    """A valid document with one field replaced."""
    return {**report(recorded(ROWS[:40])).to_dict(), **change}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, "document is not an object"),
        ([], "document is not an object"),
        (broken(version=1), "/drift speaks version 1, this operator reads 2"),
        (broken(incarnation=7), "document.incarnation is not a text of at most 64 characters"),
        (broken(incarnation="x" * 65), "document.incarnation is not a text of at most 64 characters"),
        (broken(model="m"), "document.model is not a digest, sha256: and 64 hexadecimal digits"),
        (broken(profile="sha256:" + "G" * 64), "document.profile is not a digest, sha256: and 64 hexadecimal digits"),
        (broken(features=[]), "document.features is not a list of distinct names that can be shown"),
        (broken(features=["a", "a", "c"]), "document.features is not a list of distinct names that can be shown"),
        (broken(features=["a", "b", "c\n"]), "document.features is not a list of distinct names that can be shown"),
        (broken(features=["a", "b", "\ud800"]), "document.features is not a list of distinct names that can be shown"),
        (broken(now=10**400), "document.now is not a number within ±9.0072e+15"),
        (broken(rows=-1), "document.rows is not a whole number from 0 to 2⁵³"),
        (broken(rows=True), "document.rows is not a whole number from 0 to 2⁵³"),
        (broken(rows=2**60), "document.rows is not a whole number from 0 to 2⁵³"),
        (broken(features=["a", "b"]), "blocks[0].z is not a list of at most 2"),
        (broken(baseline=None), "document.baseline is not an object"),
        (
            broken(baseline={**broken()["baseline"], "inflation": [0.5, 1, 1]}),
            "the baseline has an inflation below 1 or a negative probability",
        ),
        (
            broken(baseline={**broken()["baseline"], "calibration": {"intercept": "x"}}),
            "document.baseline.calibration.intercept is not a number within ±1000",
        ),
        (broken(features="abc"), "document.features is not a list of at most 2048"),
        (broken(features=["a", "b", "c" * 300]), "document.features is not a list of texts of at most 253 characters"),
        (broken(counts=[]), "document.counts is not an object"),
        (broken(blocks=[{}] * 513), "document.blocks is not a list of at most 512"),
        (broken(blocks=[{}]), "blocks[0].n is not a whole number from 0 to 2⁵³"),
        (
            broken(blocks=[{**broken()["blocks"][0], "z": [float("nan"), 0, 0]}]),
            "blocks[0].z is not 3 numbers within ±320",
        ),
        (
            broken(blocks=[{**broken()["blocks"][0], "z": [1e9, 0, 0]}]),
            "blocks[0].z is not 3 numbers within ±320",
        ),
        (
            broken(blocks=[{**broken()["blocks"][0], "z": [10**400, 0, 0]}]),
            "blocks[0].z is not 3 numbers within ±320",
        ),
        (broken(blocks=[{**broken()["blocks"][0], "n": 17}]), "a block has 16 rows, not 17"),
        (broken(blocks=[{**broken()["blocks"][0], "n": 1}]), "a block has 16 rows, not 1"),
        (broken(blocks=[broken()["blocks"][0]] * 2), "the numbers of blocks do not ascend by one"),
        (
            broken(expectations={"state": "maybe"}),
            "document.expectations.state is not one of disabled, pending, passed, failed, error",
        ),
    ],
)
def test_a_document_that_no_pod_of_ours_sends_is_refused(document, message):
    """A tenant's image may answer anything; the operator names the place and goes on."""
    with pytest.raises(WireError) as error:
        Report.from_dict(document)

    assert message == str(error.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(list(broken())), inner),
    )
)
def test_any_json_is_read_or_refused(document):
    """Nothing that JSON can say raises another error."""
    try:
        Report.from_dict(document)
    except WireError:
        return
    pytest.fail("an arbitrary document was taken for a report")


def of_processes(count):
    """The documents of so many processes of one pod."""
    return [report(recorded(ROWS[:40], incarnation=f"process {number}")).to_dict() for number in range(count)]


def test_the_answer_of_several_processes_is_read_report_by_report():
    """And that of one alone as the one that it is."""
    documents = json.loads(json.dumps(of_processes(3)))
    several = reports_from({"version": 2, "reports": documents})
    assert tuple(map(Report.from_dict, documents)) == several
    assert several[:1] == reports_from(documents[0])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda reports: reports.clear(), "document.reports is empty"),
        (lambda reports: reports.extend(of_processes(65)), "document.reports is not a list of at most 64"),
        (lambda reports: reports.append(reports[0]), "two of document.reports have the same incarnation"),
        (lambda reports: reports[1].update(model="sha256:" + "0" * 64), "different models or profiles"),
        (lambda reports: reports[1].update(profile="sha256:" + "0" * 64), "different models or profiles"),
        (lambda reports: reports[1]["baseline"].update(rows=7), "different models or profiles"),
        (lambda reports: reports[1].update(version=1), "/drift speaks version 1"),
        (lambda reports: reports.append([]), "document is not an object"),
    ],
)
def test_reports_that_do_not_belong_together_are_refused(change, sentence):
    """A pod is read whole or not at all, and the sentence says why."""
    reports = of_processes(2)
    change(reports)
    with pytest.raises(WireError, match=sentence):
        reports_from({"version": 2, "reports": reports})
