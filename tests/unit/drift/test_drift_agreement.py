"""Two models' predictions are compared by sums that merge, and what crosses the wire is checked on arrival."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_drift import Agreement, Expectations, Profile, Recorder, Report, Shadowed, WireError

VALUES = st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=40)
REPORT = Recorder(Profile.from_rows([[1.0], [2.0], [4.0]]), "0123456789abcdef").report(
    "sha256:" + "3f" * 32, Expectations(), -1, 0.0
)


def told(**changes):
    """A /drift document with what a shadow's rows gave, some of it changed."""
    shadowed = Shadowed("ab", "cd", Agreement(10, 3, 1, np.array([[5.0, 40.0, 2.0]])), "HTTP 400")
    document = Report(**{**vars(REPORT), "shadowed": shadowed}).to_dict()
    return {**document, "shadowed": {**document["shadowed"], **changes}}


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], 0.0),
        ([1, 2, 3, 4], [1, 2, 0, 0], 0.5),
        (["a", "b"], ["b", "a"], 1.0),
        ([[0, 1], [1, 1]], [[0, 1], [1, 0]], 0.5),
        ([1, 2], [1.0, "2"], 0.5),
        ([], [], None),
    ],
)
def test_classes_differ_by_share_of_rows(first, second, distance):
    """The distance of two classifiers is the share of rows on which they say something else."""
    assert distance == Agreement.of_classes(first, second).distance


def test_numbers_differ_in_deviations_of_first():
    """The distance of two regressions has no unit: it is in standard deviations of what the first model says."""
    first = np.array([-1.0, 1.0] * 50)
    one, scaled = Agreement.of_values(first, first + 0.25), Agreement.of_values(100 * first, 100 * first + 25)

    assert pytest.approx(0.25) == one.distance
    assert pytest.approx(0.25) == scaled.distance


def test_outputs_are_averaged():
    """Of several outputs each counts as much, whatever its unit."""
    first = np.array([[-1.0, -1000.0], [1.0, 1000.0]])

    assert pytest.approx(0.5) == Agreement.of_values(first, np.add(first, [1.0, 0.0])).distance


@given(VALUES, VALUES)
def test_sums_merge(one, other):
    """Of the rows of two processes the sums are those of one process that saw them all."""
    (a, b), (c, d) = zip(*one, strict=True), zip(*other, strict=True)
    merged, whole = Agreement.of_values(a, b) + Agreement.of_values(c, d), Agreement.of_values(a + c, b + d)

    assert (whole.rows, whole.differing, whole.failed) == (merged.rows, merged.differing, merged.failed)
    for mine, theirs in zip(whole.outputs, merged.outputs, strict=True):
        assert pytest.approx(mine[0], abs=1e-6) == theirs[0]
        assert pytest.approx(mine[1], rel=1e-9, abs=1e-3) == theirs[1]
        assert pytest.approx(mine[2], abs=1e-6) == theirs[2]


def test_nothing_is_neutral():
    """Before the first row there is nothing to merge, and no distance."""
    found = Agreement.of_values([1.0, 2.0], [1.5, 2.0])

    assert found == Agreement() + found
    assert found == found + Agreement()
    assert Agreement().distance is None


def test_other_forms_do_not_merge():
    """Pods of which one serves classes and one numbers still say on how many rows the models differ."""
    merged = Agreement.of_classes([1, 2], [1, 3]) + Agreement.of_values([1.0, 2.0], [1.0, 2.0])

    assert Agreement(rows=4, differing=1) == merged
    assert merged.distance == 0.25


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_has_failed(value):
    """A second model that says NaN has not answered; a first model that does is compared all the same."""
    found = Agreement.of_values([1.0, 2.0, 3.0], [1.0, value, 3.0])

    assert (2, 0, 1) == (found.rows, found.differing, found.failed)
    assert math.isfinite(Agreement.of_values([1.0, value, 3.0], [1.0, 2.0, 3.0]).distance)


def test_all_failed_has_no_distance():
    """Where nothing could be compared there is no distance, rather than none."""
    assert Agreement(failed=2) == Agreement.of_values([1.0, 2.0], [math.nan, math.nan])


@pytest.mark.parametrize("second", [[1.0, 2.0], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], 7.0])
def test_other_shapes_are_refused(second):
    """Predictions of another form cannot be compared."""
    with pytest.raises(ValueError, match="shape"):
        Agreement.of_values([1.0, 2.0, 3.0], second)


def test_largest_numbers_stay_finite():
    """No prediction makes a sum that JSON cannot carry."""
    found = Agreement.of_values([1.7e308, -1.7e308], [-1.7e308, 1.7e308])

    assert np.isfinite(found.outputs).all()
    assert math.isfinite(found.distance)


def test_constant_first_model_is_far_from_any_other():
    """Where the first model says one number always there is no scale: any difference is the farthest."""
    assert 1e6 == Agreement.of_values([3.0, 3.0], [3.0, 3.1]).distance
    assert 0.0 == Agreement.of_values([3.0, 3.0], [3.0, 3.0]).distance


def test_sums_that_overflow_have_a_distance():
    """A pod may report what no model says: to merge it is no error, and gives a number."""
    one, other = (Agreement(2**53, outputs=np.array([[mean, 1e305, 1e305]])) for mean in (1e305, -1e305))

    assert 0 <= (one + other + one).distance <= 1e6


def test_an_agreement_is_a_value():
    """Equal ones are equal, with one hash, and nobody writes to one."""
    one, other, third = (Agreement.of_values([1.0, 2.0, 3.0], [1.0, 2.0, said]) for said in (4.0, 4.0, 5.0))

    assert (one, hash(one)) == (other, hash(other))
    assert one != third
    with pytest.raises(ValueError, match="read-only"):
        one.outputs[0] = 0.0


def test_report_carries_it():
    """What a pod found crosses the wire unchanged, and a report without it is one of a pod without a shadow."""
    assert (
        Shadowed("ab", "cd", Agreement(10, 3, 1, np.array([[5.0, 40.0, 2.0]])), "HTTP 400")
        == Report.from_dict(told()).shadowed
    )
    assert Report.from_dict(REPORT.to_dict()).shadowed is None
    assert "shadowed" not in REPORT.to_dict()


@pytest.mark.parametrize(
    "change",
    [
        {"rows": -1},
        {"rows": 2},
        {"failed": "1"},
        {"differing": 2**60},
        {"incarnation": "x" * 65},
        {"revision": None},
        {"outputs": [[1.0, 2.0]]},
        {"outputs": [[1.0, -2.0, 3.0]]},
        {"outputs": [[1.0, 2.0, math.inf]]},
        {"outputs": [[1.0, 2.0, 3.0], [math.nan, 2.0, 3.0]]},
        {"outputs": [[1.0, 2.0, 3.0], [1.0, 2.0, 10**400]]},
        {"outputs": [[1.0, 2.0, "3.0"]]},
        {"outputs": [[1.0, 2.0, True]]},
        {"outputs": [[1.0, 2.0, None]]},
        {"outputs": [[1.0, 2.0, [3.0]]]},
        {"outputs": [[1.0, 2.0, 3.0], 4.0]},
        {"outputs": [[0.0, 0.0, 0.0]] * 2049},
        {"outputs": {}},
        {"problem": "x" * 1025},
    ],
)
def test_wire_is_checked(change):
    """A pod's answer is trusted in nothing: a tenant's image may have written it."""
    with pytest.raises(WireError):
        Report.from_dict(told(**change))
