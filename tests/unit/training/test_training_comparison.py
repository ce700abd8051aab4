"""Better, worse, or noise."""

import numpy as np
import pytest
from scipy import stats

from aiops_training.comparison import Answers, compare
from aiops_training.datasets import load_bundled
from aiops_training.errors import DataError
from aiops_training.holdout import split

TRUTH = np.arange(60) % 3


def right_in(count, shift=0):
    """Answers of which so many are right, those from `shift` on."""
    said = (TRUTH + 1) % 3
    said[shift : shift + count] = TRUTH[shift : shift + count]
    return Answers(said)


@pytest.mark.parametrize(
    ("new", "old", "accepted", "not_worse", "word"),
    [
        (right_in(58), right_in(20), True, True, "better"),
        (right_in(20), right_in(58), False, False, "worse"),
        (right_in(40), right_in(40), False, True, "neither"),
        (right_in(41), right_in(40), False, True, "neither"),
        (right_in(39), right_in(40), False, True, "neither"),
        (right_in(40, 20), right_in(40), False, True, "neither"),
    ],
)
def test_what_it_takes_to_be_promoted(new, old, accepted, not_worse, word):
    """Better beyond noise, or not worse beyond noise."""
    judged = compare(TRUTH, new, old, "accuracy")

    assert (accepted, not_worse) == (judged.accepted("better"), judged.accepted("not-worse"))
    assert judged.verdict().startswith(word)


def test_on_accuracy_it_is_mcnemars_exact_test():
    """One-sided: the probability of so many discordant pairs in favour of the new model."""
    judged = compare(TRUTH, right_in(26), right_in(20), "accuracy")

    expected = stats.binomtest(6, 6, alternative="greater").pvalue
    assert expected == pytest.approx(judged.p_better, abs=0.005)


def test_equal_models_are_seldom_taken_for_better():
    """Of 40 pairs of models that are equally good, some two are: that is what alpha says."""
    generator = np.random.default_rng(1)
    target = generator.normal(size=80)

    def noisy():
        return Answers(target + generator.normal(size=80))

    alarms = sum(compare(target, noisy(), noisy(), "rmse").accepted("better") for _ in range(40))
    assert alarms <= stats.binom.isf(0.001, 40, 0.05)


def test_scores_are_those_of_the_metric():
    """Accuracy, and the root of the mean square, with the gain in the same units."""
    judged = compare(TRUTH, right_in(58), right_in(20), "accuracy")
    assert (58 / 60, 20 / 60, 38 / 60) == pytest.approx((judged.new, judged.in_service, judged.gain))
    assert judged.interval[0] < judged.gain < judged.interval[1]

    target = np.linspace(0, 1, 50)
    judged = compare(target, Answers(target + 0.5), Answers(target + 2.0), "rmse")
    assert (0.5, 2.0, 1.5) == pytest.approx((judged.new, judged.in_service, judged.gain))
    assert (1.5, 1.5) == pytest.approx(judged.interval)


def test_log_loss_is_taken_of_the_label_that_was_right():
    """By the model's own order of labels."""
    labels = np.array([2, 0, 1])
    sure = np.where(TRUTH[:, None] == labels, 0.8, 0.1)
    vague = np.full((60, 3), 1 / 3)

    judged = compare(TRUTH, Answers(TRUTH, sure, labels), Answers(TRUTH, vague, np.arange(3)), "log_loss")

    assert (-np.log(0.8), np.log(3)) == pytest.approx((judged.new, judged.in_service))
    assert judged.accepted("better")


def test_labels_are_the_same_as_numbers_and_as_texts():
    """JSON and CSV files change their type, and not what they mean."""
    judged = compare(TRUTH.astype(str), right_in(60), right_in(30), "accuracy")
    assert 1.0 == judged.new


def test_what_cannot_be_compared_is_refused():
    """Too few rows, and no probabilities."""
    with pytest.raises(DataError, match="at least 20"):
        compare(TRUTH[:19], Answers(TRUTH[:19]), Answers(TRUTH[:19]), "accuracy")
    with pytest.raises(DataError, match="compare by accuracy"):
        compare(TRUTH, right_in(40), right_in(40), "log_loss")


def test_it_says_the_same_each_time():
    """The resampling has a seed."""
    assert compare(TRUTH, right_in(45), right_in(38), "accuracy") == compare(
        TRUTH, right_in(45), right_in(38), "accuracy"
    )


@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_no_row_is_on_both_sides(name):
    """What judges was not learnt; all rows are used, and classes keep their shares."""
    dataset = load_bundled(name)
    learnt, held = split(dataset, 0.2)

    together = np.concatenate([learnt.rows, held.rows])
    assert sorted(map(tuple, dataset.rows)) == sorted(map(tuple, together))
    assert pytest.approx(0.2, abs=0.01) == len(held.rows) / len(dataset.rows)
    if dataset.classes:
        assert {10} == set(np.unique(held.target, return_counts=True)[1])
