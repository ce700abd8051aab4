"""The windowed rule: whether the quantile bins of a window of rows are filled as those of the baseline are.

Pearson's χ² for two samples and the Kolmogorov–Smirnov distance at the edges of the bins, both against their law for these
two numbers of rows, so that a small window is not an alarm; the population stability index says how large a difference is.
Rows that depend on each other count for fewer (the first-order correction of Rao and Scott, 1981).
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from aiops_drift.wire import Baseline

Array = npt.NDArray[np.float64]

FEWEST: Final = 0.5  # counted in an empty bin: PSI takes the logarithm of its share


@dataclass(frozen=True)
class Windowed:
    """What a window says, each with one entry a column.

    Attributes:
        p_values: of χ² and Kolmogorov–Smirnov together, adjusted for the columns as Benjamini and Hochberg (1995) do.
        psi: population stability index.
    """

    p_values: tuple[float, ...]
    psi: tuple[float, ...]


def windowed(bins: npt.NDArray[np.int64], baseline: Baseline) -> Windowed:
    """Compare a window's bins, shape (C, BINS), with the baseline's."""
    expected = np.array(baseline.probabilities)
    inflation = np.array(baseline.inflation)
    rows = bins.sum(axis=1)
    tests = zip(
        _chi_squared(bins, expected, inflation, baseline.rows),
        _kolmogorov_smirnov(bins, expected, inflation, baseline.rows),
        strict=True,
    )
    p_values = [min(1.0, 2 * min(p_values)) for p_values in tests]
    return Windowed(tuple(adjusted(p_values)), tuple(_psi(bins, expected, rows, baseline.rows).tolist()))


def adjusted(p_values: list[float]) -> list[float]:
    """The level at which each would be found with the false discovery rate held at that level."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i], reverse=True)
    least, found = 1.0, [1.0] * len(p_values)
    for rank, i in zip(range(len(p_values), 0, -1), order, strict=True):
        least = min(least, p_values[i] * len(p_values) / rank)
        found[i] = least
    return found


def _chi_squared(bins: npt.NDArray[np.int64], expected: Array, inflation: Array, baseline_rows: int) -> list[float]:
    """P(χ² ≥ what is seen) of each column, for two samples of different size."""
    rows = np.maximum(bins.sum(axis=1), 1)[:, None]
    before = expected * baseline_rows
    together = bins + before
    used = together > 0
    ratio = np.sqrt(baseline_rows / rows)
    difference = ratio * bins - before / ratio
    statistics = np.divide(difference**2, together, out=np.zeros_like(difference), where=used).sum(axis=1) / inflation
    freedoms = used.sum(axis=1) - 1
    judged = (bins.any(axis=1) & (freedoms > 0)).tolist()
    entries = zip(statistics.tolist(), freedoms.tolist(), judged, strict=True)
    return [chi_squared_tail(statistic, freedom) if enough else 1.0 for statistic, freedom, enough in entries]


def chi_squared_tail(statistic: float, freedom: int) -> float:
    """P(χ² ≥ statistic), by its finite sum for whole degrees of freedom (Abramowitz and Stegun 26.4.4, 26.4.5)."""
    half = statistic / 2
    odd = freedom % 2
    power = 0.5 if odd else 0.0
    term = math.exp(-half) * half**power / math.gamma(power + 1)
    total = math.erfc(math.sqrt(half)) if odd else 0.0
    while power < freedom / 2:
        total += term
        power += 1
        term *= half / power
    return min(1.0, total)


def _kolmogorov_smirnov(
    bins: npt.NDArray[np.int64], expected: Array, inflation: Array, baseline_rows: int
) -> list[float]:
    """P(distance ≥ what is seen) of each column, for two samples; at the edges of bins only, so it is a bound."""
    rows = bins.sum(axis=1)
    distances = np.abs(np.cumsum(bins / np.maximum(rows, 1)[:, None] - expected, axis=1)).max(axis=1)
    sizes = rows * baseline_rows / (rows + baseline_rows) / inflation
    return [kolmogorov_tail(x) for x in (distances * np.sqrt(sizes)).tolist()]


def kolmogorov_tail(x: float) -> float:
    """P(distance · √size ≥ x), by Kolmogorov's series; a term beyond k = 5 / x is below e⁻⁵⁰, and no digit of the sum."""
    if x < 0.2:  # noqa: PLR2004 - below it the probability is 1 to 12 digits, and the sum converges slowly
        return 1.0
    terms = ((-1) ** (k - 1) * math.exp(-2 * k * k * x * x) for k in range(1, 2 + int(5 / x)))
    return min(1.0, max(0.0, 2 * math.fsum(terms)))


def _psi(bins: npt.NDArray[np.int64], expected: Array, rows: npt.NDArray[np.int64], baseline_rows: int) -> Array:
    seen = np.maximum(bins, FEWEST) / np.maximum(rows, 1)[:, None]
    before = np.maximum(expected, FEWEST / baseline_rows)
    psi: Array = np.where(
        (bins == 0) & (expected == 0) | (rows == 0)[:, None], 0.0, (seen - before) * np.log(seen / before)
    ).sum(axis=1)
    return psi
