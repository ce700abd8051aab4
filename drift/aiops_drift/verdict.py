"""The verdict on a service: the seed's rule on the merged window, with a recovery window of its own.

Drift sets in when, over the last 256 rows of all pods (`minSamples` at least), the mean of a feature lies further from the
baseline's than its threshold. It is over when the last 128 rows have looked healthy (below 0.9 of the threshold, so that a
feature that hovers at its threshold does not flap) for 64 rows on end: a unit error is forgotten after some 190 healthy rows,
not after all its rows have left the large window.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from aiops_drift.counts import Block

WINDOW_ROWS: Final = 256
RECOVERY_ROWS: Final = 128
DWELL_ROWS: Final = 64
RECOVERY_FRACTION: Final = 0.9

Reason = Literal["ScoreAboveThreshold", "WithinThresholds", "InsufficientSamples"]


@dataclass(frozen=True)
class Thresholds:
    """What the resource asks for; a change acts on the rows already seen.

    Attributes:
        z_score: |mean - μ| / σ above which a feature has drifted.
        features: the same for single features, by name.
        min_samples: rows below which there is no verdict.
    """

    z_score: float = 5.0
    features: Mapping[str, float] = field(default_factory=dict)
    min_samples: int = 50

    def of(self, feature: str) -> float:
        """The threshold of one feature."""
        return self.features.get(feature, self.z_score)


@dataclass(frozen=True)
class State:
    """What the verdict is made from: the last blocks of all pods in order of closing, and whether drift was on.

    A takeover starts with the `drifting` of the resource's status and no blocks: what was drifting stays so until healthy
    rows say otherwise.
    """

    drifting: bool = False
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True)
class FeatureScore:
    """One feature's |mean z| over the window, and its threshold."""

    name: str
    score: float
    threshold: float


@dataclass(frozen=True)
class Verdict:
    """The answer for one service.

    Attributes:
        drifting: None where there are too few rows to say and drift was not on before.
        reason: CamelCase, for the condition.
        score: the largest score over its threshold, scaled so that the threshold reads as `threshold`.
        threshold: `Thresholds.z_score`.
        feature: where the score comes from; empty where there is no row.
        samples: rows in the window.
        features: all features' scores, in the order of the columns.
        off_constant: features that were constant in training and are not now; a finding about the data, not drift.
    """

    drifting: bool | None
    reason: Reason
    score: float
    threshold: float
    feature: str
    samples: int
    features: tuple[FeatureScore, ...]
    off_constant: tuple[str, ...]


def observe(state: State, blocks: Sequence[Block], names: Sequence[str], thresholds: Thresholds) -> State:
    """Step through new blocks in their order; the result does not depend on how many come at a time."""
    while blocks:
        evidence = _Evidence((*state.blocks, *blocks), names, thresholds)
        first = len(state.blocks)
        if not state.drifting:
            onset = evidence.first(evidence.drifting(), first)
            if onset is None:
                return State(drifting=False, blocks=evidence.needed())
            first, state = onset + 1, State(drifting=True, blocks=state.blocks)
        end = evidence.first(evidence.recovered(), first)
        if end is None:
            return State(drifting=True, blocks=evidence.needed())
        # The rows of the drift must not sound the alarm again: the window begins anew with the healthy ones.
        start = int(evidence.recovery_start[end])
        state = State(drifting=False, blocks=evidence.blocks[start : end + 1])
        blocks = evidence.blocks[end + 1 :]
    return state


def reconsider(state: State, names: Sequence[str], thresholds: Thresholds) -> State:
    """Judge the rows already seen by thresholds that have changed, as if drift had not been on before.

    Where there are fewer rows than `min_samples` nothing can be said anew, and what was on stays on.
    """
    if not state.blocks:
        return state
    evidence = _Evidence(state.blocks, names, thresholds)
    if evidence.window_rows[-1] < thresholds.min_samples:
        return state
    return replace(state, drifting=bool(evidence.drifting()[-1]))


def verdict(state: State, names: Sequence[str], thresholds: Thresholds) -> Verdict:
    """Say what a state means; `names` are the features in the order of the columns."""
    window = _newest(state.blocks, _window_rows(thresholds))
    samples = sum(block.counts.n for block in window)
    means = _totals([block.counts.sum_z for block in window], len(names)) / max(samples, 1)
    features = tuple(
        FeatureScore(name, score, thresholds.of(name))
        for name, score in zip(names, np.abs(means).tolist(), strict=True)
    )
    worst = max(features, key=lambda feature: feature.score / feature.threshold, default=None)
    drifting: bool | None = state.drifting
    reason: Reason = "ScoreAboveThreshold" if state.drifting else "WithinThresholds"
    if samples < thresholds.min_samples and not state.drifting:
        drifting, reason = None, "InsufficientSamples"
    return Verdict(
        drifting=drifting,
        reason=reason,
        score=worst.score / worst.threshold * thresholds.z_score if worst else 0.0,
        threshold=thresholds.z_score,
        feature=worst.name if worst and samples else "",
        samples=samples,
        features=features,
        off_constant=tuple(
            name
            for name, count in zip(
                names, _totals([block.counts.off_constant for block in window], len(names)), strict=True
            )
            if count
        ),
    )


def _window_rows(thresholds: Thresholds) -> int:
    return max(WINDOW_ROWS, thresholds.min_samples)


def _recovery_rows(thresholds: Thresholds) -> int:
    return max(RECOVERY_ROWS, thresholds.min_samples)


class _Evidence:
    """Blocks as cumulative sums, so that the window that ends at any of them costs one subtraction.

    Sums are exact (multiples of 2⁻¹⁰), so a difference of cumulative sums is the sum itself. Arrays have one entry a block:
    what is asked of block i is asked of the rows up to its end.
    """

    def __init__(self, blocks: tuple[Block, ...], names: Sequence[str], thresholds: Thresholds) -> None:
        self.blocks = blocks
        self._thresholds = thresholds
        self._limits = np.array([thresholds.of(name) for name in names])
        sizes = np.array([block.counts.n for block in blocks], dtype=np.int64)
        sums = np.array([block.counts.sum_z for block in blocks], dtype=np.float64).reshape(len(blocks), len(names))
        self._rows = np.concatenate([[0], np.cumsum(sizes)])
        self._sums = np.concatenate([np.zeros((1, len(names))), np.cumsum(sums, axis=0)])
        self.window_start = self._starts(_window_rows(thresholds))
        self.recovery_start = self._starts(_recovery_rows(thresholds))
        self.window_rows = self._rows[1:] - self._rows[self.window_start]

    def drifting(self) -> npt.NDArray[np.bool_]:
        """Whether the window is beyond a threshold, and large enough to say so."""
        enough: npt.NDArray[np.bool_] = self.window_rows >= self._thresholds.min_samples
        return enough & (self._ratios(self.window_start) > 1)

    def recovered(self) -> npt.NDArray[np.bool_]:
        """Whether the recovery window was whole and healthy at each of the ends that lie within the dwell."""
        whole = self._rows[1:] - self._rows[self.recovery_start] >= _recovery_rows(self._thresholds)
        healthy = whole & (self._ratios(self.recovery_start) <= RECOVERY_FRACTION)
        index = np.arange(len(self.blocks))
        last_unhealthy = np.maximum.accumulate(np.where(healthy, -1, index))
        dwell_start = self._dwell_start()
        return (dwell_start >= 0) & (last_unhealthy < dwell_start)

    def first(self, found: npt.NDArray[np.bool_], start: int) -> int | None:
        """The first block from `start` on of which it is true."""
        where = np.flatnonzero(found[start:])
        return start + int(where[0]) if where.size else None

    def needed(self) -> tuple[Block, ...]:
        """The newest blocks that any later step can ask for: none of its windows reaches further back."""
        last = int(np.searchsorted(self._rows[1:], self._rows[-1] - (DWELL_ROWS - 1), side="right")) - 1
        reach = int(self.recovery_start[last]) if last >= 0 else 0
        return self.blocks[min(reach, int(self.window_start[-1])) :]

    def _ratios(self, start: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        rows = (self._rows[1:] - self._rows[start])[:, None]
        ratios: npt.NDArray[np.float64] = (np.abs(self._sums[1:] - self._sums[start]) / rows / self._limits).max(axis=1)
        return ratios

    def _starts(self, rows: int) -> npt.NDArray[np.int64]:
        """Where the shortest window of at least `rows` rows (or all there are) that ends with each block begins."""
        found: npt.NDArray[np.int64] = np.searchsorted(self._rows, self._rows[1:] - rows, side="right") - 1
        return np.maximum(found, 0)

    def _dwell_start(self) -> npt.NDArray[np.int64]:
        """The last block that ended at least the dwell's rows before each; -1 where there is none."""
        found: npt.NDArray[np.int64] = np.searchsorted(self._rows[1:], self._rows[1:] - DWELL_ROWS, side="right") - 1
        return found


def _newest(blocks: Sequence[Block], rows: int) -> Sequence[Block]:
    """The newest blocks that together hold at least `rows` rows (or all)."""
    held = 0
    for start in range(len(blocks) - 1, -1, -1):
        held += blocks[start].counts.n
        if held >= rows:
            return blocks[start:]
    return blocks


def _totals(sums: Sequence[Sequence[float]], features: int) -> npt.NDArray[np.float64]:
    """Column sums, shape (features,)."""
    totals: npt.NDArray[np.float64] = np.array(sums, dtype=np.float64).reshape(len(sums), features).sum(axis=0)
    return totals
