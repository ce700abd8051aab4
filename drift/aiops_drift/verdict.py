"""The verdict on a service: three rules on the merged blocks of all pods, with one recovery.

- *mean*: the seed's rule. Over the last 256 rows (`minSamples` at least) the mean of a feature lies further from the
  baseline's than its threshold.
- *sequential*: the mean scores of the rows of any of nine lengths of the past are those of a change; see
  `aiops_drift.sequential`.
- *windowed*: each 256 rows, the quantile bins are filled otherwise than in the baseline; see `aiops_drift.windowed`.

The last two share out the run length that was asked for. Drift is over when the rows of the recovery window have looked healthy
for 64 rows on end, by a margin, so that what hovers at its threshold does not flap. The window is as long as what was found
needed: 128 rows where at most 64 gave the drift away, so that a unit error is forgotten after some 190 healthy rows, else 256.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from aiops_drift.counts import Block
from aiops_drift.sequential import BLOCK_ROWS, HANDICAPS, LONGEST, SPREAD_HANDICAP, WINDOWS, deviation
from aiops_drift.windowed import Windowed, windowed
from aiops_drift.wire import Baseline

WINDOW_ROWS: Final = 256
WINDOW_BLOCKS: Final = WINDOW_ROWS // BLOCK_ROWS
RECOVERY_ROWS: Final = 128
DWELL_ROWS: Final = 64
RECOVERY_FRACTION: Final = 0.9
# A drift that was found is still there at half its size: for the calibrated rules healthy means well below the threshold.
CALIBRATED_RECOVERY_FRACTION: Final = 0.75
OBVIOUS_BLOCKS: Final = 4
# Most changes move a mean or a spread, and the sequential rule finds them first: the windowed rule gets a small part of the
# false alarms. Its p-values are bounds: at a level of 0.2 of them it makes 0.08 of them (simulated at 2000 rows).
WINDOWED_LEVEL: Final = 0.2
SEQUENTIAL_SHARE: Final = 0.92
LEAST_THRESHOLD: Final = 0.5
KEPT_BLOCKS: Final = LONGEST + 8  # the longest window, and a tested window behind one that is not full

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

Reason = Literal["ScoreAboveThreshold", "WithinThresholds", "InsufficientSamples"]
Rule = Literal["mean", "sequential", "windowed"]


@dataclass(frozen=True)
class Thresholds:
    """What the resource asks for; a change acts on the rows already seen.

    Attributes:
        z_score: |mean - μ| / σ above which a feature has drifted.
        features: the same for single features, by name.
        min_samples: rows below which there is no verdict.
        run_length: rows without drift between two false alarms, on average, of the sequential and the windowed rule together;
            None where only the mean is watched.
    """

    z_score: float = 5.0
    features: Mapping[str, float] = field(default_factory=dict)
    min_samples: int = 50
    run_length: float | None = None

    def of(self, feature: str) -> float:
        """The threshold of one feature."""
        return self.features.get(feature, self.z_score)

    def sequential(self, baseline: Baseline) -> float | None:
        """What the sequential statistic is compared with; None where there is no such rule."""
        if self.run_length is None or baseline.calibration is None:
            return None
        return max(LEAST_THRESHOLD, baseline.calibration.threshold(self.run_length / SEQUENTIAL_SHARE))

    @property
    def level(self) -> float | None:
        """The false discovery rate of one window; None where there is no windowed rule."""
        return None if self.run_length is None else min(0.5, WINDOWED_LEVEL * WINDOW_ROWS / self.run_length)


@dataclass(frozen=True)
class State:
    """What the verdict is made from: the last blocks of all pods in order of closing, and whether drift was on.

    A takeover starts with the `drifting` of the resource's status and no blocks: what was drifting stays so until healthy
    rows say otherwise.

    Attributes:
        drifting: whether drift is on.
        blocks: oldest first.
        pending: how many of the newest were not yet part of a window of the windowed rule.
        recovery_rows: how many rows must look healthy, where drift is on.
    """

    drifting: bool = False
    blocks: tuple[Block, ...] = ()
    pending: int = 0
    recovery_rows: int = WINDOW_ROWS


@dataclass(frozen=True)
class FeatureScore:
    """One column's largest statistic over its threshold, scaled so that the threshold reads as `threshold`.

    Attributes:
        name: of the column.
        score: in deviations, as the threshold.
        threshold: `Thresholds.of` the column.
        rule: which rule's statistic it is.
        psi: population stability index of the last window.
    """

    name: str
    score: float
    threshold: float
    rule: Rule = "mean"
    psi: float = 0.0


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
        features: all columns' scores, in their order.
        unseen: columns with values that a constant or categorical column had not in training; a finding about the data.
        missing: columns with values that were not given; a finding about the data.
    """

    drifting: bool | None
    reason: Reason
    score: float
    threshold: float
    feature: str
    samples: int
    features: tuple[FeatureScore, ...]
    unseen: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def observe(state: State, blocks: Sequence[Block], baseline: Baseline, thresholds: Thresholds) -> State:
    """Step through new blocks in their order; the result does not depend on how many come at a time."""
    while blocks:
        evidence = _Evidence((*state.blocks, *blocks), baseline, thresholds)
        first = len(state.blocks)
        if not state.drifting:
            onset = evidence.onset(first, state.pending)
            if onset is None:
                pending = (state.pending + len(blocks)) % WINDOW_BLOCKS
                return State(drifting=False, blocks=evidence.needed(RECOVERY_ROWS), pending=pending)
            first = onset + 1
            state = State(drifting=True, blocks=state.blocks, recovery_rows=evidence.recovery_rows(onset))
        end = evidence.recovery(first, state.recovery_rows)
        if end is None:
            return replace(state, blocks=evidence.needed(state.recovery_rows), pending=0)
        # The rows of the drift must not sound the alarm again: the window begins anew with the healthy ones.
        start = int(evidence.starts(evidence.at_least(state.recovery_rows))[end])
        state = State(drifting=False, blocks=evidence.blocks[start : end + 1])
        blocks = evidence.blocks[end + 1 :]
    return state


def reconsider(state: State, baseline: Baseline, thresholds: Thresholds) -> State:
    """Judge the rows already seen by thresholds that have changed, as if drift had not been on before.

    Where there are fewer rows than `min_samples` nothing can be said anew, and what was on stays on.
    """
    if not state.blocks:
        return state
    evidence = _Evidence(state.blocks, baseline, thresholds)
    if evidence.window_rows[-1] < thresholds.min_samples:
        return state
    return replace(state, drifting=bool(evidence.drifting()[-1]))


def verdict(state: State, baseline: Baseline, thresholds: Thresholds) -> Verdict:
    """Say what a state means."""
    names = baseline.names
    window = _newest(state.blocks, _window_rows(thresholds))
    samples = sum(block.counts.n for block in window)
    features = _features(state, baseline, thresholds)
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
        unseen=_named(names, [block.counts.unseen for block in window]),
        missing=_named(names, [block.counts.missing for block in window]),
    )


def _features(state: State, baseline: Baseline, thresholds: Thresholds) -> tuple[FeatureScore, ...]:
    limits = [thresholds.of(name) for name in baseline.names]
    if not state.blocks:
        return tuple(FeatureScore(name, 0.0, limit) for name, limit in zip(baseline.names, limits, strict=True))
    evidence = _Evidence(state.blocks, baseline, thresholds)
    found = evidence.window(len(state.blocks) - state.pending)
    ratios: list[tuple[Rule, Array]] = [
        ("mean", evidence.mean_ratios(evidence.window_start)[-1]),
        ("sequential", evidence.sequential_ratios()[-1]),
        ("windowed", evidence.windowed_ratios(found)),
    ]
    psi = found.psi if found else (0.0,) * len(limits)
    scores = []
    for column, (name, limit) in enumerate(zip(baseline.names, limits, strict=True)):
        rule, ratio = max(((rule, float(of[column])) for rule, of in ratios), key=lambda entry: entry[1])
        scores.append(FeatureScore(name, ratio * limit, limit, rule, psi[column]))
    return tuple(scores)


def _window_rows(thresholds: Thresholds) -> int:
    return max(WINDOW_ROWS, thresholds.min_samples)


class _Evidence:
    """Blocks as cumulative sums, so that the window that ends at any of them costs one subtraction.

    Sums are exact (multiples of 2⁻¹⁰), so a difference of cumulative sums is the sum itself. Arrays have one entry a block:
    what is asked of block i is asked of the rows up to its end.
    """

    def __init__(self, blocks: tuple[Block, ...], baseline: Baseline, thresholds: Thresholds) -> None:
        self.blocks = blocks
        self._baseline = baseline
        self._thresholds = thresholds
        self._limits = np.array([thresholds.of(name) for name in baseline.names])
        sizes = np.array([block.counts.n for block in blocks], dtype=np.int64)
        self._rows = np.concatenate([[0], np.cumsum(sizes)])
        self._z = self._running([block.counts.z for block in blocks])
        self._threshold = thresholds.sequential(baseline)
        self.window_start = self.starts(_window_rows(thresholds))
        self.window_rows = self._rows[1:] - self._rows[self.window_start]

    def at_least(self, rows: int) -> int:
        """So many rows of a window, or as many as a verdict takes."""
        return max(rows, self._thresholds.min_samples)

    def drifting(self) -> Flags:
        """Whether the mean or the sequential rule sounds at each block, where there are enough rows to say so."""
        enough: Flags = self.window_rows >= self._thresholds.min_samples
        beyond: Flags = (self.mean_ratios(self.window_start).max(axis=1) > 1) | (
            self.sequential_ratios().max(axis=1) > 1
        )
        return enough & beyond

    def onset(self, first: int, pending: int) -> int | None:
        """The first block from `first` on at which any rule sounds."""
        found = np.flatnonzero(self.drifting()[first:])
        onset = first + int(found[0]) if found.size else None
        ends = range(first - pending + WINDOW_BLOCKS - 1, len(self.blocks) if onset is None else onset, WINDOW_BLOCKS)
        enough = (end for end in ends if self.window_rows[end] >= self._thresholds.min_samples)
        return next((end for end in enough if self.windowed_ratios(self.window(end + 1)).max() > 1), onset)

    def recovery_rows(self, onset: int) -> int:
        """How long the recovery from what was found at a block must be."""
        obvious = (
            self.mean_ratios(self.window_start)[onset].max() > 1
            or self.sequential_ratios(OBVIOUS_BLOCKS)[onset].max() > 1
        )
        return RECOVERY_ROWS if obvious else WINDOW_ROWS

    def recovery(self, first: int, rows: int) -> int | None:
        """The first block from `first` on at which the last `rows` have looked healthy for as long as the dwell."""
        start = self.starts(self.at_least(rows))
        healthy = self._rows[1:] - self._rows[start] >= self.at_least(rows)
        healthy &= self.mean_ratios(self.starts(self.at_least(RECOVERY_ROWS))).max(axis=1) <= RECOVERY_FRACTION
        healthy &= self.sequential_ratios(rows // BLOCK_ROWS).max(axis=1) <= CALIBRATED_RECOVERY_FRACTION
        if rows > RECOVERY_ROWS:
            for end in np.flatnonzero(healthy):
                found = self.windowed_ratios(self.window(int(end) + 1))
                healthy[end] = found.max() <= CALIBRATED_RECOVERY_FRACTION
        last_unhealthy = np.maximum.accumulate(np.where(healthy, -1, np.arange(len(self.blocks))))
        # The last block that ended at least the dwell's rows before each; -1 where there is none.
        dwell = np.searchsorted(self._rows[1:], self._rows[1:] - DWELL_ROWS, side="right") - 1
        over = np.flatnonzero(((dwell >= 0) & (last_unhealthy < dwell))[first:])
        return first + int(over[0]) if over.size else None

    def needed(self, recovery_rows: int) -> tuple[Block, ...]:
        """The newest blocks that any later step can ask for: none of its windows reaches further back."""
        last = int(np.searchsorted(self._rows[1:], self._rows[-1] - (DWELL_ROWS - 1), side="right")) - 1
        reach = int(self.starts(self.at_least(recovery_rows))[last]) if last >= 0 else 0
        return self.blocks[min(reach, int(self.window_start[-1]), max(0, len(self.blocks) - KEPT_BLOCKS)) :]

    def mean_ratios(self, start: npt.NDArray[np.int64]) -> Array:
        """|mean z| over its threshold, of the windows that begin at these blocks; shape (blocks, C)."""
        rows = (self._rows[1:] - self._rows[start])[:, None]
        ratios: Array = np.abs(self._z[1:] - self._z[start]) / rows / self._limits
        return ratios

    def sequential_ratios(self, longest: int = LONGEST) -> Array:
        """The largest sequential statistic over its threshold, of windows of at most so many blocks; shape (blocks, C)."""
        blocks, columns = len(self.blocks), len(self._limits)
        largest = np.zeros((blocks, columns))
        if self._threshold is None:
            return largest
        location = self._running([block.counts.location for block in self.blocks])
        spread = self._running([block.counts.spread for block in self.blocks])
        for window, handicap in zip(WINDOWS, HANDICAPS, strict=True):
            if window > min(blocks, longest):
                break
            scale = deviation((self._rows[window:] - self._rows[:-window]).astype(np.float64), self._baseline.rows)
            moved = np.abs(location[window:] - location[:-window]) / scale[:, None]
            widened = np.abs(spread[window:] - spread[:-window]) / scale[:, None] - SPREAD_HANDICAP
            ratios = (np.maximum(moved, widened) - handicap) / self._threshold
            np.maximum(largest[window - 1 :], ratios, out=largest[window - 1 :])
        return largest

    def window(self, end: int) -> Windowed | None:
        """What the windowed rule says of the 16 blocks before `end`; None where there are fewer, or no such rule."""
        if end < WINDOW_BLOCKS or self._thresholds.level is None:
            return None
        bins = np.array([block.counts.bins for block in self.blocks[end - WINDOW_BLOCKS : end]], dtype=np.int64)
        return windowed(bins.sum(axis=0), self._baseline)

    def windowed_ratios(self, found: Windowed | None) -> Array:
        """Above 1 where p is below the level, shape (C,): the root of log p over log level, which goes as deviations do."""
        if found is None or self._thresholds.level is None:
            return np.zeros(len(self._limits))
        least = np.finfo(np.float64).tiny
        ratios: Array = np.sqrt(np.log(np.maximum(found.p_values, least)) / np.log(self._thresholds.level))
        return ratios

    def starts(self, rows: int) -> npt.NDArray[np.int64]:
        """Where the shortest window of at least `rows` rows (or all there are) that ends with each block begins."""
        found: npt.NDArray[np.int64] = np.searchsorted(self._rows, self._rows[1:] - rows, side="right") - 1
        return np.maximum(found, 0)

    def _running(self, sums: Sequence[Sequence[float]]) -> Array:
        table = np.array(sums, dtype=np.float64).reshape(len(sums), len(self._limits))
        return np.concatenate([np.zeros((1, len(self._limits))), np.cumsum(table, axis=0)])


def _newest(blocks: Sequence[Block], rows: int) -> Sequence[Block]:
    """The newest blocks that together hold at least `rows` rows (or all)."""
    held = 0
    for start in range(len(blocks) - 1, -1, -1):
        held += blocks[start].counts.n
        if held >= rows:
            return blocks[start:]
    return blocks


def _named(names: Sequence[str], counts: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """Names of the columns with any count."""
    if not counts:
        return ()
    return tuple(name for name, total in zip(names, np.sum(counts, axis=0).tolist(), strict=True) if total)
