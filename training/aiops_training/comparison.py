"""Is the new model better than the one in service, or is it noise? Pure.

Both answer the same held-out rows, so their losses come in pairs. Under the hypothesis that the models are equally good, either
could have been either: the test exchanges the pair's members at random and asks how often the difference gets as large as the one
seen (`scipy.stats.permutation_test`, R. A. Fisher 1935; with accuracy it is McNemar's exact test, which T. G. Dietterich 1998,
Neural Computation 10(7), recommends for two classifiers that were trained once). The interval is the bootstrap's
(`scipy.stats.bootstrap`, B. Efron 1979), for people; the test decides.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from aiops_training.datasets import Task
from aiops_training.errors import DataError

Metric = Literal["accuracy", "log_loss", "rmse"]
Accept = Literal["better", "not-worse"]

METRICS: Final[dict[Task, tuple[Metric, ...]]] = {"classification": ("accuracy", "log_loss"), "regression": ("rmse",)}
ACCEPT: Final[tuple[Accept, ...]] = ("better", "not-worse")
ALPHA: Final = 0.05
FEWEST: Final = 20  # rows; fewer show nothing
MOST: Final = 5000  # rows that are compared; more change no decision and take minutes
_RESAMPLES: Final = 9999
_BATCH: Final = 200
_SURE: Final = 1e-15  # the least probability that a log loss is taken of


@dataclass(frozen=True)
class Answers:
    """What a model says of n rows.

    Attributes:
        predictions: shape (n,): labels or numbers.
        probabilities: shape (n, K), of the K labels; None where the model has none.
        labels: shape (K,); None where the model has none.
    """

    predictions: npt.NDArray[Any]
    probabilities: npt.NDArray[np.float64] | None = None
    labels: npt.NDArray[Any] | None = None


@dataclass(frozen=True)
class Comparison:
    """The new model beside the one in service, on the same rows.

    Attributes:
        metric: what the scores are.
        rows: how many were compared.
        new: score of the new model.
        in_service: score of the model in service.
        gain: how much better the new model is, in units of the metric; negative where it is worse.
        interval: of the gain, at 95 %.
        p_better: how probable such a gain, or a larger one, is where neither is better.
        p_worse: the same for such a loss.
    """

    metric: Metric
    rows: int
    new: float
    in_service: float
    gain: float
    interval: tuple[float, float]
    p_better: float
    p_worse: float

    def accepted(self, accept: Accept, alpha: float = ALPHA) -> bool:
        """Whether the new model may take the place of the one in service.

        Args:
            accept: `better`: only where it is better beyond noise. `not-worse`: unless it is worse beyond noise.
            alpha: how probable noise may be that looks like it.
        """
        return self.p_better <= alpha if accept == "better" else self.p_worse > alpha

    def verdict(self, alpha: float = ALPHA) -> str:
        """In words: better, worse, or neither."""
        if self.p_better <= alpha:
            return f"better (p = {self.p_better:.2g})"
        if self.p_worse <= alpha:
            return f"worse (p = {self.p_worse:.2g})"
        return f"neither better nor worse beyond noise (p = {min(self.p_better, self.p_worse):.2g})"

    def __str__(self) -> str:
        """One line for people."""
        low, high = self.interval
        return (
            f"{self.metric} on {self.rows} held-out rows: new {self.new:.4g}, in service {self.in_service:.4g}; "
            f"gain {self.gain:+.4g}, 95 % interval {low:+.4g} to {high:+.4g}"
        )


def compare(target: npt.NDArray[Any], new: Answers, in_service: Answers, metric: Metric, seed: int = 0) -> Comparison:
    """Compare two models' answers to the same rows.

    Args:
        target: shape (n,), the truth; labels or numbers.
        new: of the new model.
        in_service: of the model in service.
        metric: `accuracy`, `log_loss` or `rmse`.
        seed: of the resampling; the same gives the same.

    Raises:
        DataError: fewer than 20 rows, or a log loss of a model without probabilities.
    """
    if len(target) < FEWEST:
        message = f"{len(target)} held-out rows are too few to compare models on; give at least {FEWEST}"
        raise DataError(message)
    picked = np.unique(np.linspace(0, len(target) - 1, min(len(target), MOST)).astype(int))
    losses = np.stack([_losses(target, answers, metric)[picked] for answers in (in_service, new)])

    def gain(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64], axis: int = -1) -> Any:  # noqa: ANN401
        return _loss(before.mean(axis=axis), metric) - _loss(after.mean(axis=axis), metric)

    better, worse = (_p(losses, gain, alternative, seed) for alternative in ("greater", "less"))
    scores = [float(_loss(row.mean(), metric)) for row in losses]
    if metric == "accuracy":
        scores = [1 - score for score in scores]
    seen = float(gain(*losses))
    return Comparison(metric, len(picked), scores[1], scores[0], seen, _interval(losses, gain, seed), better, worse)


def _losses(target: npt.NDArray[Any], answers: Answers, metric: Metric) -> npt.NDArray[np.float64]:
    """The loss of each row; their mean, or its root, is the metric's."""
    losses: npt.NDArray[np.float64]
    if metric == "accuracy":
        # As texts: labels that went through JSON, or through a file of text, are the same labels.
        losses = (answers.predictions.astype(str) != target.astype(str)).astype(np.float64)
        return losses
    if metric == "rmse":
        losses = (answers.predictions.astype(np.float64) - target.astype(np.float64)) ** 2
        return losses
    if answers.probabilities is None or answers.labels is None:
        message = "a log loss needs class probabilities, which one of the models does not give; compare by accuracy"
        raise DataError(message)
    places = target.astype(str)[:, None] == answers.labels.astype(str)
    losses = -np.log(np.clip((answers.probabilities * places).sum(axis=1), _SURE, 1))
    return losses


def _loss(mean: Any, metric: Metric) -> Any:  # noqa: ANN401 - a number, or an array of them
    return np.sqrt(mean) if metric == "rmse" else mean


def _p(losses: npt.NDArray[np.float64], gain: Any, alternative: str, seed: int) -> float:  # noqa: ANN401 - a function
    if (losses[0] == losses[1]).all():
        return 1.0
    found = stats.permutation_test(
        tuple(losses),
        gain,
        permutation_type="samples",
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=_BATCH,
        alternative=alternative,
        rng=seed,
    )
    return float(found.pvalue)


def _interval(losses: npt.NDArray[np.float64], gain: Any, seed: int) -> tuple[float, float]:  # noqa: ANN401 - a function
    if np.ptp(losses[0] - losses[1]) == 0:
        seen = float(gain(*losses))
        return (seen, seen)
    found = stats.bootstrap(
        tuple(losses),
        gain,
        paired=True,
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=_BATCH,
        method="percentile",  # BCa divides by nothing where most pairs are equal, as they are with accuracy
        rng=seed,
    )
    return (float(found.confidence_interval.low), float(found.confidence_interval.high))
