"""All rules together: recovery, dwell, and features that are hard on statistics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops_drift import Baseline, Expectations, Profile, Recorder, State, Thresholds, advance, observe, verdict

MODEL = "sha256:" + "3f" * 32
ASKED = Thresholds(run_length=2000.0)
ROWS = np.random.default_rng(21).normal(size=(1000, 4)) * [0.8, 0.4, 1.8, 0.8] + [5.8, 3.1, 3.8, 1.2]
PROFILE = Profile.from_rows(ROWS).calibrated(ROWS)


def stepped(profile, rows, state=None, thresholds=ASKED):
    """The state after these rows."""
    recorder = Recorder(profile, "i")
    recorder.record(rows, 0.0)
    blocks = advance(None, recorder.report(MODEL, Expectations(), -1, 0.0))[1]
    return observe(state or State(), blocks, Baseline.of(profile), thresholds)


def healthy(n, seed):
    """Rows drawn from the baseline."""
    return ROWS[np.random.default_rng(seed).integers(0, len(ROWS), n)]


@pytest.mark.parametrize("wrong", [lambda v: v * 10, lambda v: v * 1000, lambda v: v * 0 + 1e300, lambda v: -v])
@pytest.mark.parametrize("bad_rows", [16, 64, 1024])
def test_any_unit_error_is_forgotten_after_two_hundred_healthy_rows(wrong, bad_rows):
    """However wrong and however long: on at once, still on after 176 healthy rows (the dwell), over by 224 and for good."""
    broken = healthy(bad_rows, 1)
    broken[:, 2] = wrong(broken[:, 2])
    drifted = stepped(PROFILE, broken, stepped(PROFILE, healthy(320, 2)))
    seen = [stepped(PROFILE, healthy(n, 3), drifted).drifting for n in (0, 176, 224, 480)]

    assert [True, True, False, False] == seen


def test_one_bad_block_within_the_dwell_begins_it_anew():
    """Recovery means healthy on end: what comes and goes does not flap."""
    broken = healthy(16, 1) * [1, 1, 10, 1]
    state, seen = stepped(PROFILE, broken, stepped(PROFILE, healthy(320, 2))), []
    for number in range(6):
        state = stepped(PROFILE, healthy(160, 4 + number), state)
        state = stepped(PROFILE, broken, state)
        seen.append(state.drifting)
    after = stepped(PROFILE, healthy(224, 3), state)

    assert ([True] * 6, False) == (seen, after.drifting)


COLUMNS = {
    "constant": (lambda _, n: np.full(n, 7.0), lambda x: x),
    "two values": (lambda rng, n: (rng.random(n) < 0.5) * 1.0, lambda x: np.where(np.arange(x.size) % 8, 1.0, x)),
    "rare second value": (
        lambda rng, n: (rng.random(n) < 0.01) * 1.0,
        lambda x: np.where(np.arange(x.size) % 2, 1.0, x),
    ),
    "heavy ties": (lambda rng, n: np.maximum(0, rng.normal(size=n) - 1), lambda x: x + 0.3),
    "rounded": (lambda rng, n: np.round(rng.normal(size=n) * 2) / 2, lambda x: x + 1),
    "huge": (lambda rng, n: rng.normal(size=n) * 1e150, lambda x: x + 1e150),
    "tiny": (lambda rng, n: rng.normal(size=n) * 1e-150, lambda x: x + 1e-150),
    "offset": (lambda rng, n: rng.normal(size=n) + 1e9, lambda x: x + 1),
    "cauchy": (lambda rng, n: rng.standard_cauchy(n), lambda x: x + 2),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_features_that_are_hard_on_statistics(name):
    """Each beside a normal one: quiet on rows of its own kind, found where it changes, with finite scores throughout."""
    draw, change = COLUMNS[name]
    rng = np.random.default_rng(31)
    table = np.stack([draw(rng, 3000), rng.normal(size=3000)], axis=1)
    profile = Profile.from_rows(table[:1000]).calibrated(table[:1000])
    baseline, asked = Baseline.of(profile), Thresholds(run_length=1e5)
    clean = stepped(profile, table[1000:2000], thresholds=asked)
    moved = table[2000:2160].copy()
    moved[:, 0] = change(moved[:, 0])
    changed = stepped(profile, moved, clean, asked)
    scores = [entry.score for state in (clean, changed) for entry in verdict(state, baseline, asked).features]

    assert (False, name != "constant") == (clean.drifting, changed.drifting)
    assert np.isfinite(scores).all()


def test_what_a_constant_feature_does_is_told_of_the_data_and_is_not_drift():
    """Another value, 1e300 and nothing at all: unseen and missing, and no score."""
    table = np.stack([np.full(500, 7.0), ROWS[:500, 0]], axis=1)
    profile = Profile.from_rows(table, ["fixed", "free"]).calibrated(table)
    rows = table[:320].copy()
    rows[300, 0], rows[301, 0], rows[302] = 8.0, 1e300, np.nan
    answer = verdict(stepped(profile, rows), Baseline.of(profile), ASKED)

    assert (False, ("fixed",), ("fixed", "free")) == (answer.drifting, answer.unseen, answer.missing)
    assert 0.0 == answer.features[0].score


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, -0.0, 1e300, -1e300, 5e-324, np.nan, 3.8]), min_size=1, max_size=12),
    st.lists(st.integers(1, 400), min_size=1, max_size=6),
)
def test_absurd_values_never_make_an_absurd_verdict(values, sizes):
    """Whatever comes, however it is cut: the counts are those of one piece, and every score is finite."""
    rows = np.array([(values[i % len(values)], 3.1, 3.8, values[-1]) for i in range(sum(sizes))])
    whole, cut = Recorder(PROFILE, "i"), Recorder(PROFILE, "i")
    whole.record(rows, 0.0)
    for part in np.split(rows, np.cumsum(sizes)[:-1]):
        cut.record(part, 0.0)
        cut.report(MODEL, Expectations(), -1, 0.0)  # a look in between changes nothing
    reports = [recorder.report(MODEL, Expectations(), -1, 0.0) for recorder in (whole, cut)]
    state = observe(State(), reports[0].blocks, Baseline.of(PROFILE), ASKED)

    assert reports[0] == reports[1]
    assert np.isfinite([entry.score for entry in verdict(state, Baseline.of(PROFILE), ASKED).features]).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(1, 60)), min_size=1, max_size=40), st.integers(0, 10**6))
def test_windows_merge_to_the_same_bits_for_any_split_over_pods(dealt, seed):
    """Rows in requests of any size to any of eight pods: closed blocks and open rows together are the rows, bit for bit."""
    rng = np.random.default_rng(seed)
    pods = [Recorder(PROFILE, f"i{number}") for number in range(8)]
    given_rows = [[] for _ in pods]
    for pod, size in dealt:
        part = healthy(size, int(rng.integers(1 << 30)))
        pods[pod].record(part, 0.0)
        given_rows[pod].append(part)
    closed = [np.vstack(parts)[: len(np.vstack(parts)) // 16 * 16] for parts in given_rows if parts]
    merged = sum((pod.report(MODEL, Expectations(), -1, 0.0).counts for pod in pods[1:]), counts_of(pods[0]))
    alone = Recorder(PROFILE, "alone")
    alone.record(np.vstack(closed), 0.0)

    assert counts_of(alone) == merged


def counts_of(recorder):
    """Of its closed blocks."""
    return recorder.report(MODEL, Expectations(), -1, 0.0).counts
