"""Scores by rank: what makes one rule right for normal, skewed, heavy-tailed and discrete features alike.

A value is scored by its place in the baseline, not by its distance from the mean, so that the tails of a feature cannot
decide how often the alarm sounds. Two scores a value: *location* (van der Waerden's normal scores) and *spread* (Mood's, the
squared distance of the rank from the middle). Both are within ±4 and have mean 0 and long-run variance 1 (less where a rare
category would have to score more) over the baseline.

Sources: van der Waerden (1952), "Order tests for the two-sample problem"; Mood (1954), "On the asymptotic efficiency of
certain nonparametric two-sample tests"; the bandwidth of the long-run variance is of Politis (2003), "Adaptive bandwidth
choice".
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

KNOTS: Final = 25
QUIET_LAGS: Final = 5  # as many autocorrelations on end that are none end the dependence
MAX_LAG: Final = 200
# A category of three rows in a thousand would score 18 deviations and be an alarm by itself whenever it comes. Normal scores
# of 15,000 rows reach 4.
LARGEST_SCORE: Final = 4.0
LONGEST_MEMORY: Final = 0.1  # of the rows: of a longer dependence they hold too few spells to measure it
LARGEST_AUTOREGRESSION: Final = 0.97
_NORMAL: Final = NormalDist()


@dataclass(frozen=True)
class ScoreMap:
    """Piecewise linear maps from a feature's values to its scores; a value beyond the outer knots scores as they do.

    Attributes:
        knots: ascending, in the feature's own unit, at most 25.
        location: the location score at each knot.
        spread: the spread score at each knot.
        inflation: long-run variance over variance of the feature's normal scores in the baseline, at least 1.
        memory: rows over which the baseline's rows depend on each other; 0 where they do not, -1 where the dependence has no
            end, as in rows that were sorted: then their order says nothing, and they are taken as independent.
    """

    knots: tuple[float, ...]
    location: tuple[float, ...]
    spread: tuple[float, ...]
    inflation: float
    memory: int


def score_map(column: Array) -> ScoreMap:
    """The maps of one feature from its baseline values, shape (n,), finite, in the order in which they were seen."""
    knots, ranks = _knots(column)
    normal = np.array([_NORMAL.inv_cdf(rank) for rank in ranks])
    location, inflation, memory = _standardised(column, knots, normal)
    spread, _, spread_memory = _standardised(column, knots, (2 * ranks - 1) ** 2)
    return ScoreMap(
        knots=tuple(knots.tolist()),
        location=tuple(location.tolist()),
        spread=tuple(spread.tolist()),
        inflation=inflation,
        memory=max(memory, spread_memory, key=abs),
    )


def _knots(column: Array) -> tuple[Array, Array]:
    """Values and their mid-ranks in (0, 1): all distinct ones where there are few, else quantiles evenly spaced in z."""
    values, times = np.unique(column, return_counts=True)
    ranks = (np.cumsum(times) - times / 2) / column.size
    if values.size <= KNOTS:
        return values, ranks
    widest = _NORMAL.inv_cdf(1 - 0.5 / column.size)
    levels = np.array([_NORMAL.cdf(z) for z in np.linspace(-widest, widest, KNOTS)])
    knots = np.unique(np.interp(levels, ranks, values))
    return knots, np.interp(knots, values, ranks)


def _standardised(column: Array, knots: Array, scores: Array) -> tuple[Array, float, int]:
    """The scores at the knots with mean 0 and long-run variance 1 over the column, its inflation and its memory."""
    over_rows = np.interp(column, knots, scores)
    if knots.size == 1 or over_rows.std() == 0:
        return np.zeros_like(scores), 1.0, 0
    centred = scores - over_rows.mean()
    deviation = max(float(over_rows.std()), float(np.abs(centred).max()) / LARGEST_SCORE)
    inflation, memory = _long_run(over_rows)
    return centred / deviation / np.sqrt(inflation), inflation, memory


def _long_run(series: Array) -> tuple[float, int]:
    """Long-run variance over variance, at least 1, and the bandwidth that it took (0: none, -1: no end of it was found).

    The larger of the flat-top estimate and the one of a first-order autoregression, whose coefficient is freed of its bias:
    a short baseline hides part of its own dependence.
    """
    n = series.size
    lags = min(n // 4, MAX_LAG)
    if lags <= QUIET_LAGS:
        return 1.0, 0
    centred = series - series.mean()
    spectrum = np.fft.rfft(centred, 2 * n)
    covariance = np.fft.irfft(spectrum * np.conj(spectrum))[: lags + 1]
    correlation = covariance / covariance[0]
    loud = np.abs(correlation[1:]) > 2 * np.sqrt(np.log10(n) / n)
    quiet = [start for start in range(lags - QUIET_LAGS) if not loud[start : start + QUIET_LAGS].any()]
    if not quiet or 2 * quiet[0] > n * LONGEST_MEMORY:
        return 1.0, -1
    if quiet[0] == 0:
        return 1.0, 0
    bandwidth = 2 * quiet[0]
    lag = np.arange(1, bandwidth + 1)
    taper = np.clip(2 * (1 - lag / bandwidth), 0, 1)
    seen = correlation[1 : bandwidth + 1]
    flat_top = 1 + 2 * float((taper[: seen.size] * seen).sum())
    first = min(LARGEST_AUTOREGRESSION, float(correlation[1] + (1 + 3 * correlation[1]) / n))
    return max(1.0, flat_top, (1 + first) / (1 - first)), bandwidth
