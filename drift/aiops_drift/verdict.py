"""The verdict on a service: the seed's rule on the merged window, with a recovery window of its own.

Drift sets in when, over the last 256 rows of all pods (`minSamples` at least), the mean of a feature lies further from the
baseline's than its threshold. It is over when the last 128 rows have looked healthy (below 0.9 of the threshold, so that a
feature that hovers at its threshold does not flap) for 64 rows on end: a unit error is forgotten after some 190 healthy rows,
not after all its rows have left the large window.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from aiops_drift.counts import Block, Counts

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
    """Step through new blocks in their order; with none, apply changed thresholds to the rows already seen."""
    for block in blocks:
        state = _settle(_remember(state, block, thresholds), names, thresholds)
    return state if blocks else _settle(state, names, thresholds)


def verdict(state: State, names: Sequence[str], thresholds: Thresholds) -> Verdict:
    """Say what a settled state (of `observe`) means; `names` are the features in the order of the columns."""
    window = _last(state.blocks, _window_rows(thresholds), len(names))
    features = tuple(
        FeatureScore(name, abs(z) / window.n if window.n else 0.0, thresholds.of(name))
        for name, z in zip(names, window.sum_z, strict=True)
    )
    worst = max(features, key=lambda feature: feature.score / feature.threshold, default=None)
    drifting: bool | None = state.drifting
    reason: Reason = "ScoreAboveThreshold" if state.drifting else "WithinThresholds"
    if window.n < thresholds.min_samples and not state.drifting:
        drifting, reason = None, "InsufficientSamples"
    return Verdict(
        drifting=drifting,
        reason=reason,
        score=worst.score / worst.threshold * thresholds.z_score if worst else 0.0,
        threshold=thresholds.z_score,
        feature=worst.name if worst and window.n else "",
        samples=window.n,
        features=features,
        off_constant=tuple(name for name, count in zip(names, window.off_constant, strict=True) if count),
    )


def _window_rows(thresholds: Thresholds) -> int:
    return max(WINDOW_ROWS, thresholds.min_samples)


def _recovery_rows(thresholds: Thresholds) -> int:
    return max(RECOVERY_ROWS, thresholds.min_samples)


def _remember(state: State, block: Block, thresholds: Thresholds) -> State:
    most = max(_window_rows(thresholds), _recovery_rows(thresholds) + DWELL_ROWS)
    return replace(state, blocks=_trimmed((*state.blocks, block), most))


def _settle(state: State, names: Sequence[str], thresholds: Thresholds) -> State:
    if state.drifting:
        if not _recovered(state.blocks, names, thresholds):
            return state
        # The rows of the drift must not sound the alarm again: the window begins anew with the healthy ones.
        return State(drifting=False, blocks=_trimmed(state.blocks, _recovery_rows(thresholds)))
    window = _last(state.blocks, _window_rows(thresholds), len(names))
    drifting = window.n >= thresholds.min_samples and _ratio(window, names, thresholds) > 1
    return replace(state, drifting=drifting)


def _recovered(blocks: tuple[Block, ...], names: Sequence[str], thresholds: Thresholds) -> bool:
    """Whether the recovery window was healthy at each of the ends that lie within the dwell."""
    dwelt = 0
    for end in range(len(blocks), 0, -1):
        window = _last(blocks[:end], _recovery_rows(thresholds), len(names))
        if window.n < _recovery_rows(thresholds) or _ratio(window, names, thresholds) > RECOVERY_FRACTION:
            return False
        if dwelt >= DWELL_ROWS:
            return True
        dwelt += blocks[end - 1].counts.n
    return False


def _ratio(window: Counts, names: Sequence[str], thresholds: Thresholds) -> float:
    """The largest |mean z| over its threshold; 0 for an empty window."""
    ratios = (abs(z) / window.n / thresholds.of(name) for name, z in zip(names, window.sum_z, strict=True) if window.n)
    return max(ratios, default=0.0)


def _last(blocks: Sequence[Block], rows: int, features: int) -> Counts:
    """The sums of the newest blocks that together hold at least `rows` rows (or of all)."""
    total = Counts.zero(features)
    for block in _trimmed(blocks, rows):
        total += block.counts
    return total


def _trimmed(blocks: Sequence[Block], rows: int) -> tuple[Block, ...]:
    """The newest blocks that together hold at least `rows` rows (or all)."""
    kept = 0
    for start in range(len(blocks) - 1, -1, -1):
        kept += blocks[start].counts.n
        if kept >= rows:
            return tuple(blocks[start:])
    return tuple(blocks)
