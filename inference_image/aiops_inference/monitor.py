"""Drift as one pod sees it: the seed's rule on each request, and the counts of every accepted row."""

import itertools
import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aiops_drift import Expectations, Profile, Recorder, Report, Stored, request_scores
from aiops_inference.codec import LARGEST
from aiops_inference.settings import RuntimeSettings

Rows = npt.NDArray[np.float64]

SCORE_DIGITS = 4
NUMBERS = "biuf"  # the kinds of arrays


class Judgement(NamedTuple):
    """The seed's rule on one request; a tuple, because one is made for every request.

    Attributes:
        scores: |mean - μ| / σ per feature, shape (F,).
        score: the largest of them.
        drifted: whether any feature is beyond its own threshold.
    """

    scores: Rows
    score: float
    drifted: bool


def judge(profile: Profile, thresholds: Rows, rows: Rows, sizes: Sequence[int]) -> list[Judgement]:
    """Apply the rule to requests whose rows, shape (n, F), follow each other; thresholds have the shape (F,)."""
    scores = request_scores(profile, rows, sizes)
    drifted = np.logical_or.reduce(scores > thresholds, axis=1).tolist()
    largest = np.maximum.reduce(scores, axis=1).tolist()
    return list(map(Judgement, scores, largest, drifted))


class Monitor:
    """The drift state of one incarnation, which begins with this object unless a recorder is given that goes on."""

    def __init__(
        self,
        profile: Profile,
        model: str,
        settings: RuntimeSettings,
        labels: Sequence[object] | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """Begin an incarnation; `labels` are a classifier's classes in the order by which they are counted."""
        self._profile = profile
        self._codes = None if labels is None else {label: float(code) for code, label in enumerate(labels)}
        self._own_codes = self._codes is None or all(label == code for label, code in self._codes.items())
        self._model = model
        self._recorder = recorder or Recorder(profile, _incarnation())
        self._thresholds = thresholds(profile, settings)

    @property
    def features(self) -> tuple[str, ...]:
        """The features' names, in the order of the columns."""
        return self._profile.names

    def apply(self, settings: RuntimeSettings) -> tuple[str, ...]:
        """Use other thresholds from now on; returns the features that they name and the model does not have."""
        self._thresholds = thresholds(self._profile, settings)
        return tuple(sorted(set(settings.features) - set(self._profile.names)))

    def observe(self, rows: Rows, now: float, predictions: npt.ArrayLike | None = None) -> Judgement:
        """Count the rows of one accepted request at `now`, seconds since the epoch, and judge them."""
        return self.observe_batch(rows, [rows.shape[0]], now, predictions)[0]

    def observe_batch(
        self, rows: Rows, sizes: Sequence[int], now: float, predictions: npt.ArrayLike | None = None
    ) -> list[Judgement]:
        """Count the rows of accepted requests, which follow each other in `rows`, and judge each request by its own.

        `predictions` are what was answered, one a row; they are counted where the baseline tells what to expect of them.
        """
        self._recorder.record(rows, now, self._outputs(predictions))
        return judge(self._profile, self._thresholds, rows, sizes)

    def _outputs(self, predictions: npt.ArrayLike | None) -> Rows | None:
        if predictions is None or not self._profile.outputs:
            return None
        said = np.asarray(predictions)
        if self._codes is None or (self._own_codes and said.dtype.kind in NUMBERS):
            values = said.astype(np.float64)
        else:
            codes = map(self._codes.get, said.tolist(), itertools.repeat(np.nan))
            values = np.fromiter(codes, np.float64, said.shape[0])
        return values.reshape(said.shape[0], len(self._profile.outputs))

    def worst(self, judgement: Judgement) -> tuple[str, float, float]:
        """The feature that is furthest beyond its threshold, its score and that threshold."""
        column = int((judgement.scores / self._thresholds).argmax())
        score = round(float(judgement.scores[column]), SCORE_DIGITS)
        return self._profile.names[column], score, float(self._thresholds[column])

    def explain(self, rows: Rows, judgement: Judgement) -> list[dict[str, Any]]:
        """For each feature, what its mean in the request was compared with."""
        profile = self._profile
        columns = zip(
            profile.names,
            judgement.scores.tolist(),
            _means(rows).tolist(),
            profile.means.tolist(),
            profile.stds.tolist(),
            self._thresholds.tolist(),
            strict=True,
        )
        return [
            {
                "feature": name,
                "z": round(z, SCORE_DIGITS),
                "value": value,
                "baseline_mean": mean,
                "baseline_std": std,
                "threshold": threshold,
                "drifted": z > threshold,
            }
            for name, z, value, mean, std, threshold in columns
        ]

    def report(self, expectations: Expectations, now: float, after: int = -1) -> Report:
        """What `GET /drift` answers at `now`, seconds since the epoch; `after` leaves out the blocks up to that number."""
        return self._recorder.report(self._model, expectations, after, now=now)

    @property
    def rows(self) -> int:
        """All rows counted."""
        return self._recorder.rows

    @property
    def closed(self) -> int:
        """How many blocks were closed."""
        return self._recorder.closed

    def stored(self, now: float) -> Stored:
        """The counts as they are at `now`, seconds since the epoch, for a process that goes on later."""
        return self._recorder.stored(self._model, now)

    def begin_anew(self, after: int) -> None:
        """Go on as another incarnation with the blocks that have numbers above `after`; the others stay with the old one."""
        self._recorder.begin_anew(_incarnation(), after)


def _incarnation() -> str:
    return secrets.token_hex(8)


def thresholds(profile: Profile, settings: RuntimeSettings) -> Rows:
    """Each feature's own threshold, shape (F,)."""
    return np.array([settings.features.get(name, settings.z_score) for name in profile.names])


def _means(rows: Rows) -> Rows:
    """Of each column; finite, as its values are, though their sum may not be."""
    with np.errstate(over="ignore", invalid="ignore"):
        means: Rows = rows.mean(axis=0)
        if not np.isfinite(means).all():
            means = np.clip((rows / rows.shape[0]).sum(axis=0), -LARGEST, LARGEST)
    return means
