"""The baseline in numbers."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aiops_drift import Profile, ProfileError, request_scores

IRIS_LIKE = np.array([[5.1, 3.5, 1.0], [4.9, 3.0, 1.0], [6.3, 3.3, 1.0], [5.8, 2.7, 1.0]])

finite_rows = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=8),
    elements=st.floats(-1e150, 1e150, allow_subnormal=False),
)


def test_features_carry_mean_deviation_and_constancy():
    """Mean and population deviation are the column's; a column without spread has deviation 0."""
    profile = Profile.from_rows(IRIS_LIKE, ["length", "width", "constant"])

    assert ("length", "width", "constant") == profile.names
    assert [5.525, 3.125, 1.0] == pytest.approx(profile.means.tolist())
    assert [0.5585, 0.3031, 0.0] == pytest.approx(profile.stds.tolist(), abs=1e-4)
    assert [False, False, True] == profile.constant.tolist()


def test_names_default_to_their_column():
    """A baseline without names (the seed's three files) gets numbered ones."""
    assert ("feature 0", "feature 1", "feature 2") == Profile.from_rows(IRIS_LIKE).names


@given(finite_rows)
def test_profile_survives_json(rows):
    """What manifest.json carries is read back to an equal value with an equal digest."""
    profile = Profile.from_rows(rows)
    again = Profile.from_dict(json.loads(json.dumps(profile.to_dict())))

    assert profile == again
    assert profile.digest == again.digest


@given(finite_rows)
def test_bins_share_out_all_rows(rows):
    """The shares of the quantile bins add up to one."""
    for feature in Profile.from_rows(rows).features:
        assert pytest.approx(1.0) == sum(feature.probabilities)


def test_request_score_is_the_seed_rule():
    """|mean of the request's rows - mean| over the deviation; a constant feature never scores."""
    profile = Profile.from_rows(IRIS_LIKE)
    rows = np.array([[6.525, 3.125, 9.0], [6.525, 3.125, 9.0]])

    assert [1 / profile.stds[0], 0.0, 0.0] == pytest.approx(request_scores(profile, rows, [2])[0].tolist())


def test_requests_are_scored_each_by_its_own_rows():
    """One pass over a batch gives what a pass for each request gives."""
    profile = Profile.from_rows(IRIS_LIKE)
    rows = np.arange(18.0).reshape(6, 3)

    one_by_one = [request_scores(profile, part, [len(part)])[0].tolist() for part in np.split(rows, [2, 3])]

    assert one_by_one == pytest.approx(request_scores(profile, rows, [2, 1, 3]))


@given(hnp.arrays(np.float64, (3, 3), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_scores_are_finite_for_any_finite_rows(rows):
    """1e308 is a number that a client may send."""
    scores = request_scores(Profile.from_rows(IRIS_LIKE), rows, [1, 2])

    assert np.isfinite(scores).all()
    assert (scores <= 1e6).all()


@pytest.mark.parametrize(
    ("rows", "names", "message"),
    [
        ([[1.0, 2.0]], None, "the baseline must have the shape (rows ≥ 2, features ≥ 1), not (1, 2)"),
        ([1.0, 2.0], None, "the baseline must have the shape (rows ≥ 2, features ≥ 1), not (2,)"),
        ([[1.0], [np.nan]], None, "the baseline holds a value that is not finite at row 1, column 0"),
        ([["a"], ["b"]], None, "the baseline is not an array of numbers: could not convert string to float: 'a'"),
        ([[1.0], [2.0]], ["a", "b"], "the baseline has 1 columns, but 2 feature names were given"),
        ([[1.0, 2.0], [2.0, 3.0]], ["a", "a"], "the profile cannot be used: two features have one name: 'a'"),
        (
            [[1.0], [2.0]],
            [""],
            "the profile cannot be used: a feature's name must have 1 to 253 characters that can be shown",
        ),
        (
            [[1e308], [1e308]],
            None,
            "feature 'feature 0' of the baseline is too large for its mean and deviation to be finite",
        ),
    ],
)
def test_a_baseline_that_cannot_be_described_is_refused(rows, names, message):
    """Each refusal says what is wrong and where."""
    with pytest.raises(ProfileError) as error:
        Profile.from_rows(rows, names)

    assert message == str(error.value)


FEATURE = Profile.from_rows(IRIS_LIKE).to_dict()["features"][0]


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"features": []},
        {"features": None},
        {"features": [{"name": "a"}]},
        {"features": [{**FEATURE, "std": -1}]},
        {"features": [{**FEATURE, "mean": float("nan")}]},
        {"features": [{**FEATURE, "edges": [0]}]},
        {"features": [{**FEATURE, "knots": []}]},
        {"features": [{**FEATURE, "knots": FEATURE["knots"][::-1]}]},
        {"features": [{**FEATURE, "inflation": 0.5}]},
        {"outputs": [FEATURE]},
        {"calibration": {"intercept": "none"}},
        {"calibration": {"intercept": float("inf"), "slope": 1, "simulated": 1, "block": 1}},
        {"rows": "many"},
    ],
)
def test_a_malformed_profile_is_refused(change):
    """A manifest edited by hand gets the tree's error, never another."""
    with pytest.raises(ProfileError):
        Profile.from_dict({**Profile.from_rows(IRIS_LIKE).to_dict(), **change})
