"""Run lengths: how many rows without drift there are between two alarms of the sequential rule, by its threshold.

The rule is run on streams drawn from the baseline's own rows, in blocks of rows where these depend on each other (the
circular block bootstrap of Politis and Romano, 1992), so that dependence between columns and in time is paid for. Each stream
has an error of its own in the baseline's means, because another baseline would have had other means: a baseline of few rows
pays for it. What is kept is a curve, log(run length) = a + b·h + h²/2, whose last term is the tail of the normal law that sums
of bounded scores follow; beyond the run lengths that can be simulated it is an extrapolation, and says so.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aiops_drift.sequential import BLOCK_ROWS, statistics

Scores = npt.NDArray[np.float64]

SEED: Final = 20_250_101  # the same baseline gives the same bytes
STREAM_BLOCKS: Final = 500
PART_BLOCKS: Final = 25
LIVELY: Final = 0.5  # a column of less variance is constant, or has a rare category
MOST_STREAMS: Final = 300
FEWEST_STREAMS: Final = 40
WORK: Final = 60_000_000  # scores that may be drawn: about a third of a second
MOST_COLUMNS: Final = 64  # more are paid for as if the others were independent of these
LONGEST_SIMULATED: Final = 2 * STREAM_BLOCKS * BLOCK_ROWS
SHORTEST_SIMULATED: Final = 500
THRESHOLDS_TRIED: Final = 30


@dataclass(frozen=True)
class Calibration:
    """The curve of one baseline.

    Attributes:
        intercept: a.
        slope: b.
        simulated: the longest run length, in rows, that was seen and not extrapolated.
        block: rows that were drawn together; 1 where they do not depend on each other.
    """

    intercept: float
    slope: float
    simulated: int
    block: int

    def threshold(self, run_length: float) -> float:
        """The h at which the rule sounds a false alarm every `run_length` rows on average."""
        missing = max(0.0, math.log(run_length) - self.intercept)
        root = math.sqrt(self.slope * self.slope + 2 * missing)
        # The same root as root - slope, which would lose its digits where the slope is large.
        return 2 * missing / (root + self.slope) if self.slope > 0 else root - self.slope

    def extrapolated(self, run_length: float) -> bool:
        """Whether such run lengths were too long to be simulated."""
        return run_length > self.simulated

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; `Calibration.from_dict` reads it back to an equal value."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "Calibration":
        """Read what `to_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError, OverflowError: a document of another form.
        """
        found = cls(
            intercept=float(document["intercept"]),
            slope=float(document["slope"]),
            simulated=int(document["simulated"]),
            block=int(document["block"]),
        )
        if not (math.isfinite(found.intercept) and math.isfinite(found.slope)):
            message = "the calibration's curve is not finite"
            raise ValueError(message)
        return found


def calibrate(scores: Scores, memory: int) -> Calibration:
    """Simulate the sequential rule.

    Args:
        scores: of the baseline's rows, shape (n, 2C): location of all columns, then spread of all.
        memory: rows over which they depend on each other; 0 where they do not.
    """
    rng = np.random.default_rng(SEED)
    rows, columns = scores.shape[0], scores.shape[1] // 2
    chosen = rng.permutation(columns)[:MOST_COLUMNS]
    watched = scores[:, np.concatenate([chosen, columns + chosen])].astype(np.float32)
    block = _bootstrap_block(rows, memory)
    alarms = np.maximum.accumulate(statistics(_streams(watched, block, rng), rows), axis=1)
    thresholds = np.quantile(alarms[:, -1], np.linspace(0.02, 0.9, THRESHOLDS_TRIED))
    lengths = np.array([_run_length(alarms, threshold) for threshold in thresholds])
    fit = (lengths >= SHORTEST_SIMULATED) & (lengths <= LONGEST_SIMULATED)
    if fit.sum() < 2:  # noqa: PLR2004 - a line takes two points
        fit = np.ones_like(fit)
    # A long run length is known from few alarms: it weighs less.
    slope, intercept = np.polyfit(
        thresholds[fit], np.log(lengths[fit]) - thresholds[fit] ** 2 / 2, 1, w=1 / np.sqrt(lengths[fit])
    )
    rest = math.log(columns / chosen.size)
    return Calibration(round(float(intercept) - rest, 6), round(float(slope), 6), LONGEST_SIMULATED, block)


def _bootstrap_block(rows: int, memory: int) -> int:
    if memory == 0:
        return 1
    return max(BLOCK_ROWS, min(max(3 * BLOCK_ROWS, 4 * memory), rows // 4) // BLOCK_ROWS * BLOCK_ROWS)


def _streams(scores: npt.NDArray[np.float32], block: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Sums of blocks of 16 rows as a pod would send them, shape (streams, blocks, 2C)."""
    rows, width = scores.shape
    length = STREAM_BLOCKS * BLOCK_ROWS
    streams = int(np.clip(WORK / (length * width), FEWEST_STREAMS, MOST_STREAMS))
    sums = np.empty((streams, STREAM_BLOCKS, width), np.float32)
    for stream in range(streams):
        starts = rng.integers(0, rows, -(-length // block))
        drawn = ((starts[:, None] + np.arange(block)) % rows).ravel()[:length]
        sums[stream] = scores[drawn].reshape(STREAM_BLOCKS, BLOCK_ROWS, width).sum(axis=1)
    if block > 1:
        sums /= _lost(sums)
    # Another baseline's means differ from this one's as those of two streams do, as far as their lengths differ.
    errors = sums.mean(axis=1) * np.float32(math.sqrt(length / rows))
    sums += np.roll(errors, 1, axis=0)[:, None, :]
    return sums


def _lost(sums: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What the deviation of sums lacks where the rows of joined blocks are strangers; shape (2C,).

    On average over columns, so that the error in each column's own long-run variance, which the rule lives with, stays in.
    """
    width = sums.shape[2]
    parts = sums.reshape(-1, PART_BLOCKS, width).sum(axis=1, dtype=np.float64)
    variance = (parts**2).mean(axis=0).reshape(2, -1) / (PART_BLOCKS * BLOCK_ROWS)
    scale = [math.sqrt(half[half > LIVELY].mean()) if (half > LIVELY).any() else 1.0 for half in variance]
    return np.repeat(scale, width // 2).astype(np.float32)


def _run_length(alarms: npt.NDArray[np.float32], threshold: float) -> float:
    """Rows over alarms, for streams that end at their first alarm; shape (streams, blocks), running maxima."""
    before = (alarms <= threshold).sum(axis=1)
    sounded = int((before < alarms.shape[1]).sum())
    return float(np.minimum(before + 1, alarms.shape[1]).sum()) * BLOCK_ROWS / max(sounded, 1)
