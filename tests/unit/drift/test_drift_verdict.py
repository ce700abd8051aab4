"""The verdict on a service."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops_drift import (
    Baseline,
    Block,
    Counts,
    Expectations,
    Profile,
    Recorder,
    State,
    Thresholds,
    advance,
    observe,
    reconsider,
    verdict,
)

RNG = np.random.default_rng(11)
BASELINE = RNG.normal(size=(500, 4)) * [0.8, 0.4, 1.8, 0.8] + [5.8, 3.1, 3.8, 1.2]
NAMES = ("sepal length", "sepal width", "petal length", "petal width")
PROFILE = Profile.from_rows(BASELINE, NAMES)
WATCHED = Baseline.of(PROFILE)
DEFAULT = Thresholds()
WIDER = np.array([0.0, 0.8, 0.0, 0.0])  # two deviations of sepal width


def healthy(n):
    """Rows drawn from the baseline."""
    return BASELINE[RNG.integers(0, len(BASELINE), n)]


def unit_error(n):
    """Rows whose petal length arrives in millimetres."""
    return healthy(n) * [1, 1, 10, 1]


def after(rows, state=None, thresholds=DEFAULT):
    """The state after these rows, cut in blocks."""
    recorder = Recorder(PROFILE, "i")
    recorder.record(rows, 0.0)
    return observe(
        state or State(),
        advance(None, recorder.report("sha256:" + "3f" * 32, Expectations(), -1, 0.0))[1],
        WATCHED,
        thresholds,
    )


def said(state, thresholds=DEFAULT):
    """What the verdict is, in short."""
    answer = verdict(state, WATCHED, thresholds)
    return answer.drifting, answer.reason, answer.feature


def test_too_few_rows_are_no_verdict():
    """Below minSamples the answer is Unknown, and says how many there are."""
    answer = verdict(after(unit_error(48)), WATCHED, DEFAULT)

    assert (None, "InsufficientSamples", 48) == (answer.drifting, answer.reason, answer.samples)


def test_no_rows_are_no_verdict():
    """A service that nobody has called has no score and no feature."""
    answer = verdict(State(), WATCHED, DEFAULT)

    assert (None, 0.0, "", 0) == (answer.drifting, answer.score, answer.feature, answer.samples)


def test_healthy_rows_are_within_thresholds():
    """Three hundred rows of the baseline score far below 5."""
    answer = verdict(after(healthy(300)), WATCHED, DEFAULT)

    assert (False, "WithinThresholds", 256) == (answer.drifting, answer.reason, answer.samples)
    assert answer.score < 0.5


def test_a_unit_error_is_named():
    """Millimetres for centimetres on one feature: drift, with the feature and the score."""
    answer = verdict(after(unit_error(128), after(healthy(300))), WATCHED, DEFAULT)

    assert (True, "petal length") == (answer.drifting, answer.feature)
    assert answer.score > 5


def test_drift_ends_after_two_hundred_healthy_rows():
    """Recovery has a window of its own: a drift of any length ends within 208 healthy rows, and not after 96."""
    drifted = after(unit_error(5000))

    assert (True, False) == (after(healthy(96), drifted).drifting, after(healthy(208), drifted).drifting)


def test_recovery_does_not_sound_the_alarm_again():
    """Once it is over, the rows of the drift are out of the window."""
    recovered = after(healthy(208), after(unit_error(5000)))

    assert (False, "WithinThresholds") == said(recovered)[:2]
    assert (False, "WithinThresholds") == said(after(healthy(16), recovered))[:2]


def test_one_absurd_row_is_not_drift():
    """A single value, however wrong, does not own the window."""
    rows = healthy(300)
    rows[250] = 1e300

    assert False is after(rows).drifting


def test_a_takeover_neither_forgets_nor_clears():
    """An operator that starts while drift is on stays with it until healthy rows say otherwise."""
    restarted = observe(State(drifting=True), (), WATCHED, DEFAULT)

    assert True is said(restarted)[0]
    assert True is after(unit_error(16), restarted).drifting
    assert False is after(healthy(336), restarted).drifting


def test_a_lower_threshold_acts_on_the_rows_already_seen():
    """No new row is needed for a changed threshold."""
    state = after(healthy(300) + WIDER)

    assert (False, True) == (state.drifting, reconsider(state, WATCHED, Thresholds(z_score=1.0)).drifting)


def test_a_higher_threshold_clears_at_once():
    """Neither way does a changed threshold wait for traffic, however few rows there are."""
    state = after(unit_error(64) * [1, 1, 0.5, 1])

    assert (True, False) == (state.drifting, reconsider(state, WATCHED, Thresholds(z_score=15.0)).drifting)


def test_a_takeover_with_too_few_rows_is_not_reconsidered():
    """A changed threshold does not end an episode of which hardly a row is known."""
    state = after(healthy(16), State(drifting=True))

    assert True is reconsider(state, WATCHED, Thresholds(z_score=15.0)).drifting


def test_one_feature_may_have_a_threshold_of_its_own():
    """The score is scaled so that the service's threshold is the one to compare with."""
    thresholds = Thresholds(features={"sepal width": 1.0})
    answer = verdict(after(healthy(300) + WIDER, thresholds=thresholds), WATCHED, thresholds)

    assert (True, "sepal width", 5.0) == (answer.drifting, answer.feature, answer.threshold)
    assert pytest.approx(answer.features[1].score * 5.0) == answer.score


def test_a_constant_feature_that_moves_is_reported_and_is_not_drift():
    """What never varied in training has no z; it is a finding about the data."""
    profile = Profile.from_rows([[1.0, 7.0], [2.0, 7.0], [3.0, 7.0]], ["a", "b"])
    block = Block(0, 0.0, Counts.of(profile, np.tile([2.0, 8.0], (64, 1))))
    watched = Baseline.of(profile)
    answer = verdict(observe(State(), [block], watched, DEFAULT), watched, DEFAULT)

    assert (False, ("b",)) == (answer.drifting, answer.unseen)


def block(number, bad, size):
    """A block of so many rows, all healthy or all in the wrong unit."""
    return Block(number, 0.0, Counts.of(PROFILE, (unit_error if bad else healthy)(size)))


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([16, 16, 16, 16, 400])), min_size=1, max_size=80),
    st.lists(st.integers(1, 30), min_size=1, max_size=12),
    st.integers(16, 600),
)
def test_polls_do_not_change_the_verdict(kinds, polls, min_samples):
    """The verdict depends on the blocks and their order, not on how many come with a poll, gaps too; the state is bounded."""
    blocks = [block(i, bad, size) for i, (bad, size) in enumerate(kinds)]
    thresholds = replace(DEFAULT, min_samples=min_samples)
    whole = observe(State(), blocks, WATCHED, thresholds)
    state, start = State(), 0
    for size in (*polls, len(blocks)):
        state = observe(state, blocks[start : start + size], WATCHED, thresholds)
        start += size

    assert whole == state
    newest = sum(kept.counts.n for kept in whole.blocks[1:])
    assert len(whole.blocks) <= 32 or newest < max(256, max(256, min_samples) + 64 + 400)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 12)), min_size=1, max_size=8), st.integers(16, 300))
def test_steps_are_those_of_the_definition(phases, min_samples):
    """Block by block, drift sets in and ends as the plain definition says."""
    kinds = [bad for bad, count in phases for _ in range(count)]
    thresholds = replace(DEFAULT, min_samples=min_samples)
    state, history, drifting = State(), [], False
    for i, bad in enumerate(kinds):
        history.append(block(i, bad, 16))
        state = observe(state, history[-1:], WATCHED, thresholds)
        if drifting:
            ends = [history[: len(history) - back] for back in range(5)]  # the ends within 64 rows
            if all(mean_ratio(end, max(128, min_samples)) <= 0.9 for end in ends):
                drifting, history = False, last(history, max(128, min_samples))
        else:
            drifting = 16 * len(history) >= min_samples and mean_ratio(history, max(256, min_samples), 0) > 1
        assert drifting == state.drifting


def last(blocks, rows):
    """The newest blocks with at least so many rows."""
    return blocks[-((rows + 15) // 16) :]


def mean_ratio(blocks, rows, least=None):
    """Largest |mean z| over the threshold of 5; infinite where there are fewer rows than needed."""
    if 16 * len(blocks) < (rows if least is None else least):
        return np.inf
    window = last(blocks, rows)
    return np.abs(np.sum([kept.counts.z for kept in window], axis=0)).max() / (16 * len(window)) / 5
