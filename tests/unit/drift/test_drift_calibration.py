"""Scores by rank, run lengths, and the two rules that stand on them."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aiops_drift import Baseline, Block, Calibration, Counts, Profile, State, Thresholds, observe, verdict
from aiops_drift.scores import score_map
from aiops_drift.sequential import statistics
from aiops_drift.windowed import adjusted, chi_squared_tail, kolmogorov_tail, windowed

RNG = np.random.default_rng(3)
RUN_LENGTH = 2000.0
ROWS = RNG.normal(size=(1000, 3))
OUTPUTS = (ROWS.sum(axis=1, keepdims=True) > 0).astype(float)
PROFILE = Profile.from_rows(ROWS, ["a", "b", "c"], OUTPUTS).calibrated(ROWS, OUTPUTS)
BASELINE = Baseline.of(PROFILE)


def autoregressive(rng, n, phi):
    """A series of deviation 1 whose rows depend on those before them."""
    noise = rng.normal(size=n) * np.sqrt(1 - phi**2)
    series = np.zeros(n)
    for i in range(1, n):
        series[i] = phi * series[i - 1] + noise[i]
    return series


def blocks_of(values, first=0):
    """Values, shape (n, C), cut into blocks."""
    parts = np.split(values, len(values) // 16)
    return [Block(first + i, 0.0, Counts.of(PROFILE, part)) for i, part in enumerate(parts)]


def healthy(n, rng=RNG):
    """Rows and outputs as in the baseline."""
    rows = rng.normal(size=(n, 3))
    return np.hstack([rows, (rows.sum(axis=1, keepdims=True) > 0).astype(float)])


@pytest.mark.parametrize("draw", [RNG.normal, RNG.lognormal, lambda size: RNG.standard_t(3, size=size)])
def test_scores_have_mean_zero_and_deviation_one_whatever_the_distribution(draw):
    """Ranks do not know of tails: location and spread of a baseline are standard, and uncorrelated with its scale."""
    column = draw(size=1000)
    scores = score_map(column)
    for knots in (scores.location, scores.spread):
        over_rows = np.interp(column, scores.knots, knots)
        assert (pytest.approx(0, abs=1e-9), pytest.approx(1)) == (over_rows.mean(), over_rows.std())


@given(st.lists(st.integers(-3, 3), min_size=4, max_size=200))
def test_any_discrete_feature_has_finite_ascending_scores(values):
    """Ties share a score; a larger value never has a smaller one."""
    scores = score_map(np.array(values, dtype=float))

    assert sorted(set(map(float, values))) == list(scores.knots)
    assert np.isfinite([*scores.location, *scores.spread]).all()
    assert (np.diff(scores.location) >= 0).all()


def test_dependence_in_time_is_measured():
    """An autoregression with φ = 0.5 has thrice the long-run variance; rows that were sorted have no order to speak of."""
    rng = np.random.default_rng(1)
    seen = score_map(autoregressive(rng, 10_000, 0.5)), score_map(rng.normal(size=10_000))

    assert pytest.approx(3, rel=0.15) == seen[0].inflation
    assert (1.0, 0) == (seen[1].inflation, seen[1].memory)
    assert (1.0, -1) == (score_map(np.arange(500.0)).inflation, score_map(np.arange(500.0)).memory)


def test_a_profile_survives_json():
    """The manifest carries scores, outputs and run lengths to the last bit."""
    assert PROFILE == Profile.from_dict(json.loads(json.dumps(PROFILE.to_dict())))


def test_values_are_scored_as_the_maps_say():
    """One vectorised pass over all columns gives what interpolation in each gives; absurd values score as the outermost."""
    values = np.vstack([healthy(50), np.full((1, 4), 1e308), np.full((1, 4), -1e308)])
    location, spread = PROFILE.rank_scores(values.T)
    for i, feature in enumerate(PROFILE.columns):
        assert np.interp(values[:, i], feature.knots, feature.location) == pytest.approx(location[i])
        assert np.interp(values[:, i], feature.knots, feature.spread) == pytest.approx(spread[i])


def test_missing_values_count_as_missing_and_nowhere_else():
    """A value that was not given moves no score and fills no bin."""
    counts = Counts.of(PROFILE, np.array([[np.nan, 0.0, 0.0, np.nan]]))

    assert ((1, 0, 0, 1), 0.0, 0, 1) == (counts.missing, counts.location[0], sum(counts.bins[0]), sum(counts.bins[1]))


def test_unseen_categories_are_counted():
    """Whole numbers of which each was seen more than once are all that there is."""
    profile = Profile.from_rows(np.array([[0.0, 1.0, 2.0] * 20, RNG.normal(size=60)]).T)
    counts = Counts.of(profile, np.array([[3.0, 9.0], [1.0, 9.0], [np.nan, 9.0]]))

    assert ((0.0, 1.0, 2.0), ()) == (profile.features[0].categories, profile.features[1].categories)
    assert (1, 0) == counts.unseen


@given(st.floats(1e3, 1e12), st.floats(1e3, 1e12))
def test_a_longer_run_length_asks_for_more(one, other):
    """Thresholds ascend with the run length, and the curve is the inverse of the threshold."""
    calibration = PROFILE.calibration
    low, high = sorted([one, other])
    threshold = calibration.threshold(high)

    assert calibration.threshold(low) <= threshold
    assert pytest.approx(np.log(high)) == calibration.intercept + calibration.slope * threshold + threshold**2 / 2
    assert (one > 16_000) == calibration.extrapolated(one)


@pytest.mark.parametrize("slope", [-3.0, 0.0, 0.5])
def test_the_curve_is_inverted_for_any_slope(slope):
    """No cancellation and no division by zero."""
    calibration = Calibration(2.0, slope, 16_000, 1)
    threshold = calibration.threshold(1e6)

    assert pytest.approx(np.log(1e6)) == 2.0 + slope * threshold + threshold**2 / 2


def test_the_same_baseline_gives_the_same_run_lengths():
    """Artifacts have the same bytes whenever they are made."""
    assert PROFILE.calibration == Profile.from_rows(ROWS, None, OUTPUTS).calibrated(ROWS, OUTPUTS).calibration


@pytest.mark.parametrize("phi", [0.0, 0.5])
def test_the_run_length_is_the_one_that_was_asked_for(phi):
    """On streams that the calibration has not seen, dependent in time or not; the bounds hold for any seed but a rare one."""
    rng = np.random.default_rng(17)
    rows, alarms = 0, 0
    for _ in range(12):
        series = [np.array([autoregressive(rng, 9000, phi) for _ in range(4)]).T for _ in range(2)]
        baseline, streams = series[0][:1000], [series[0][1000:], series[1]]
        profile = Profile.from_rows(baseline).calibrated(baseline)
        threshold = profile.calibration.threshold(RUN_LENGTH)
        for stream in streams:
            scores = np.vstack(profile.rank_scores(stream[: len(stream) // 16 * 16].T)).T
            sums = scores.reshape(1, -1, 16, 8).sum(axis=2).astype(np.float32)
            above = np.flatnonzero(statistics(sums, 1000)[0] > threshold)
            rows += 16 * (above[0] + 1) if above.size else len(stream)
            alarms += bool(above.size)

    assert 0.5 * RUN_LENGTH < rows / alarms < 2 * RUN_LENGTH


@given(st.floats(0.2, 8))
def test_the_tail_of_kolmogorov_s_distance_is_the_textbook_s(x):
    """However few terms of the series are summed."""
    assert pytest.approx(float(stats.kstwobign.sf(x)), rel=1e-9, abs=1e-15) == kolmogorov_tail(x)


@given(st.floats(0, 200), st.integers(1, 12))
def test_the_tail_of_chi_squared_is_the_textbooks(statistic, freedom):
    """The finite sum agrees with SciPy's incomplete gamma function."""
    assert pytest.approx(float(stats.chi2.sf(statistic, freedom)), rel=1e-9, abs=1e-40) == chi_squared_tail(
        statistic, freedom
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_adjusted_p_values_are_those_of_benjamini_and_hochberg(p_values):
    """As SciPy computes them."""
    assert stats.false_discovery_control(p_values).tolist() == pytest.approx(adjusted(p_values))


def test_a_window_of_the_baseline_is_no_alarm_and_a_swapped_mix_is():
    """Uniform p-values without drift; a distribution that keeps mean and spread is told by its bins."""
    rng = np.random.default_rng(2)
    clean = [windowed(np.array(Counts.of(PROFILE, healthy(256, rng)).bins), BASELINE).p_values for _ in range(200)]
    two_humps = healthy(256, rng)
    two_humps[:, 0] = np.where(two_humps[:, 0] > 0, 1.0, -1.0) + 0.05 * rng.normal(size=256)
    found = windowed(np.array(Counts.of(PROFILE, two_humps).bins), BASELINE)

    assert 0.005 < np.mean([min(p) < 0.1 for p in clean]) < 0.15
    assert found.p_values[0] < 1e-12
    assert min(found.p_values[1:]) > 1e-6
    assert found.psi[0] > 1 > found.psi[1]


@pytest.mark.parametrize(
    ("change", "feature", "rule"),
    [
        (lambda rows: rows + np.eye(4)[0], "a", "sequential"),
        (lambda rows: rows * [1, 2, 1, 1], "b", "sequential"),
        (lambda rows: np.hstack([rows[:, :3], np.ones((len(rows), 1))]), "prediction", "sequential"),
    ],
)
def test_a_change_too_small_for_the_mean_rule_is_found_and_named(change, feature, rule):
    """A unit shift, a doubled deviation and predictions that all agree: the feature and the rule are told."""
    thresholds = Thresholds(run_length=1e6)
    rng = np.random.default_rng(5)
    state = observe(State(), blocks_of(healthy(512, rng)), BASELINE, thresholds)
    drifted = observe(state, blocks_of(change(healthy(160, rng)), 32), BASELINE, thresholds)
    answer = verdict(drifted, BASELINE, thresholds)

    assert (False, True, feature) == (state.drifting, drifted.drifting, answer.feature)
    assert rule == next(entry.rule for entry in answer.features if entry.name == feature)


def test_a_small_drift_ends_within_a_few_hundred_healthy_rows():
    """Half a deviation takes a long window to find, and 256 healthy rows and the dwell to forget."""
    thresholds = Thresholds(run_length=1e5)
    rng = np.random.default_rng(6)
    state = observe(State(), blocks_of(healthy(512, rng)), BASELINE, thresholds)
    drifted = observe(state, blocks_of(healthy(512, rng) + 0.6 * np.eye(4)[0], 32), BASELINE, thresholds)
    after = observe(drifted, blocks_of(healthy(480, rng), 64), BASELINE, thresholds)

    assert (True, False) == (drifted.drifting, after.drifting)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=20), st.integers(0, 10**6))
def test_polls_do_not_change_what_the_calibrated_rules_say(polls, seed):
    """However blocks come, onset, recovery and the windows of the windowed rule are the same."""
    rng = np.random.default_rng(seed)
    rows = np.vstack([healthy(320, rng), healthy(160, rng) + np.eye(4)[0], healthy(480, rng)])
    blocks, thresholds = blocks_of(rows), Thresholds(run_length=RUN_LENGTH)
    state, start = State(), 0
    for size in (*polls, len(blocks)):
        state = observe(state, blocks[start : start + size], BASELINE, thresholds)
        start += size

    assert observe(State(), blocks, BASELINE, thresholds) == state
