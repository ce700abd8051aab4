"""What `/drift/report` tells, in numbers: one pod's rows by the rules by which the operator judges those of all pods."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from aiops_drift import (
    RATE_SECONDS,
    Baseline,
    Block,
    Calibration,
    Expectations,
    Profile,
    Report,
    State,
    Thresholds,
    Verdict,
    observe,
    run_length,
    verdict,
)
from aiops_drift.profile import Feature
from aiops_drift.verdict import Rule
from aiops_inference.settings import RuntimeSettings

LOOKS: Final = 64  # at the score, over all blocks
LOOKED: Final = (
    2**13
)  # looks times columns, so that the time line of many features costs not much more than that of few
LONGEST_STRIDE: Final = 8  # blocks between two looks: fewer rows than it takes drift to end, so that none is overlooked

Kind = Literal["input", "output"]


@dataclass(frozen=True)
class Bin:
    """One of a column's quantile bins, from `low` up to `high` in its own unit, None where it is open.

    Attributes:
        low: the edge below it, which is in it.
        high: the edge above it, which is not.
        values: what the values in it are called, where there are only few; empty otherwise.
        baseline: share of the baseline's rows.
        live: share of the window's rows.
    """

    low: float | None
    high: float | None
    values: str
    baseline: float
    live: float


@dataclass(frozen=True)
class Column:
    """One input or output: the baseline beside the window of the verdict.

    Attributes:
        name: of the column.
        kind: whether the model is given it, or gives it.
        classes: whether its values stand for classes, whose mean says nothing.
        score: its largest statistic over its threshold, scaled so that the threshold reads as `threshold`.
        threshold: in deviations.
        rule: which rule's statistic it is.
        psi: population stability index of the last full window.
        shift: (mean of the window - baseline mean) / σ; values count as within ±20σ.
        mean: of the baseline, in the column's unit.
        std: of the baseline, same unit; 0 where it never varied.
        live_mean: of the window, same unit; None without rows.
        bins: those that have rows in the baseline or in the window.
        means: of each kept block, same unit, oldest first; empty where it never varied, or is of classes.
        missing: values of the window that were not given.
        unseen: values of the window that none of the baseline is like.
    """

    name: str
    kind: Kind
    classes: bool
    score: float
    threshold: float
    rule: Rule
    psi: float
    shift: float
    mean: float
    std: float
    live_mean: float | None
    bins: tuple[Bin, ...]
    means: tuple[float, ...]
    missing: int
    unseen: int

    @property
    def ratio(self) -> float:
        """Score over threshold: above 1 the column has drifted."""
        return self.score / self.threshold


@dataclass(frozen=True)
class Moment:
    """The score at the end of a block.

    Attributes:
        at: seconds since the epoch.
        ratio: score over threshold, of the worst column.
        column: which one it is.
    """

    at: float
    ratio: float
    column: str


@dataclass(frozen=True)
class Episode:
    """Drift, from the end of the block that gave it away.

    Attributes:
        since: seconds since the epoch.
        until: the same; None where it goes on.
        earlier: it may have begun before the blocks that are kept.
    """

    since: float
    until: float | None
    earlier: bool = False


@dataclass(frozen=True)
class Story:
    """All that the page shows, and none of how.

    Attributes:
        now: by the pod's clock, seconds since the epoch.
        model: digest of the model.
        profile: digest of the profile.
        baseline_rows: of the profile.
        calibration: its run lengths, where they were simulated.
        rows: all that the pod has answered.
        verdict: on the newest of its closed blocks.
        thresholds: what it was made by.
        settings: where these come from.
        row_rate: this pod's rows a second; None where that is not known yet.
        sequential: what the sequential statistic is compared with; None where there is no such rule.
        expectations: what Great Expectations last said.
        times: when the kept blocks were closed, oldest first.
        moments: the score over time.
        episodes: drift over time.
        columns: worst first, inputs before outputs.
    """

    now: float
    model: str
    profile: str
    baseline_rows: int
    calibration: Calibration | None
    rows: int
    verdict: Verdict
    thresholds: Thresholds
    settings: RuntimeSettings
    row_rate: float | None
    sequential: float | None
    expectations: Expectations
    times: tuple[float, ...]
    moments: tuple[Moment, ...]
    episodes: tuple[Episode, ...]
    columns: tuple[Column, ...]

    @property
    def episode(self) -> Episode | None:
        """The drift that goes on."""
        return self.episodes[-1] if self.episodes and self.episodes[-1].until is None else None

    @property
    def drifted(self) -> bool | None:
        """As the resource would say it: a suite that failed is drift, too; None where there are too few rows to say."""
        return True if self.expectations.state == "failed" else self.verdict.drifting


def tell(profile: Profile, report: Report, settings: RuntimeSettings, classes: Sequence[str] | None = None) -> Story:
    """Judge a pod's kept blocks from the oldest on.

    Args:
        profile: the baseline in numbers.
        report: with all blocks that the pod keeps.
        settings: what the resource asks for.
        classes: names of a classifier's classes, in the order by which its outputs are counted.
    """
    rate = row_rate(report)
    thresholds = Thresholds(
        z_score=settings.z_score,
        features=settings.features,
        min_samples=settings.min_samples,
        run_length=run_length(settings.average_run_length, settings.false_alarm_interval, rate),
    )
    state, moments, episodes = history(report.blocks, report.baseline, thresholds)
    last = verdict(state, report.baseline, thresholds)
    return Story(
        now=report.now,
        model=report.model,
        profile=report.profile,
        baseline_rows=profile.rows,
        calibration=profile.calibration,
        rows=report.rows,
        verdict=last,
        thresholds=thresholds,
        settings=settings,
        row_rate=rate,
        sequential=thresholds.sequential(report.baseline),
        expectations=report.expectations,
        times=tuple(block.closed for block in report.blocks),
        moments=moments,
        episodes=episodes,
        columns=_columns(profile, report.blocks, last, classes),
    )


def row_rate(report: Report) -> float | None:
    """Rows a second since the oldest kept block was closed; None where that is too short a time to say."""
    if not report.blocks:
        return None
    seconds = report.now - report.blocks[0].closed
    rows = sum(block.counts.n for block in report.blocks[1:])
    return rows / seconds if seconds >= RATE_SECONDS and rows else None


def history(
    blocks: Sequence[Block], baseline: Baseline, thresholds: Thresholds
) -> tuple[State, tuple[Moment, ...], tuple[Episode, ...]]:
    """Step through blocks; the score is looked at now and then, the first block of each episode and of each calm is exact."""
    looks = max(1, min(LOOKS, LOOKED // len(baseline.names)))
    stride = min(LONGEST_STRIDE, -(-len(blocks) // looks)) or 1
    state, moments, episodes = State(), list[Moment](), list[Episode]()
    for start in range(0, len(blocks), stride):
        part = blocks[start : start + stride]
        before, state = state, observe(state, part, baseline, thresholds)
        if state.drifting != before.drifting:
            i, turned = _turn(before, part, baseline, thresholds)
            turn = part[i]
            moments.append(_moment(turned, turn, baseline, thresholds))
            if turned.drifting:
                # What was found in the first rows that can be judged may be older than what is kept.
                judged = sum(block.counts.n for block in blocks[: start + i + 1])
                episodes.append(
                    Episode(turn.closed, None, blocks[0].number > 0 and judged < 2 * thresholds.min_samples)
                )
            else:
                episodes[-1] = replace(episodes[-1], until=turn.closed)
            if turn is part[-1]:
                continue
        moments.append(_moment(state, part[-1], baseline, thresholds))
    return state, tuple(moments), tuple(episodes)


def _turn(state: State, blocks: Sequence[Block], baseline: Baseline, thresholds: Thresholds) -> tuple[int, State]:
    """The first block at which drift begins, or ends, and the state then; the last where none does."""
    drifting = state.drifting
    for i, block in enumerate(blocks):
        state = observe(state, [block], baseline, thresholds)
        if state.drifting != drifting:
            return i, state
    return len(blocks) - 1, state


def _moment(state: State, block: Block, baseline: Baseline, thresholds: Thresholds) -> Moment:
    said = verdict(state, baseline, thresholds)
    return Moment(block.closed, said.score / said.threshold, said.feature)


def _columns(
    profile: Profile, blocks: Sequence[Block], last: Verdict, classes: Sequence[str] | None
) -> tuple[Column, ...]:
    window = _newest(blocks, last.samples)
    live = None
    for block in window:
        live = block.counts if live is None else live + block.counts
    columns = []
    for i, (feature, score) in enumerate(zip(profile.columns, last.features, strict=True)):
        kind: Kind = "input" if i < len(profile.features) else "output"
        names = dict(enumerate(classes)) if kind == "output" and classes else {}
        shift = live.z[i] / live.n if live else 0.0
        columns.append(
            Column(
                name=feature.name,
                kind=kind,
                classes=bool(names),
                score=score.score,
                threshold=score.threshold,
                rule=score.rule,
                psi=score.psi,
                shift=shift,
                mean=feature.mean,
                std=feature.std,
                live_mean=_valued(feature, shift) if live and live.n > live.missing[i] else None,
                bins=_bins(feature, live.bins[i] if live else (), names),
                means=tuple(_valued(feature, block.counts.z[i] / block.counts.n) for block in blocks)
                if feature.std and not names
                else (),
                missing=live.missing[i] if live else 0,
                unseen=live.unseen[i] if live else 0,
            )
        )
    return tuple(sorted(columns, key=lambda column: (column.kind == "output", -column.ratio)))


def _valued(feature: Feature, z: float) -> float:
    """What has this z-score, in the feature's unit; finite though it be beyond the largest of numbers."""
    return max(-sys.float_info.max, min(sys.float_info.max, feature.mean + z * feature.std))


def _newest(blocks: Sequence[Block], rows: int) -> Sequence[Block]:
    """The newest blocks that together have so many rows."""
    start = len(blocks)
    while start and rows > 0:
        start -= 1
        rows -= blocks[start].counts.n
    return blocks[start:]


def _bins(feature: Feature, counts: Sequence[int], names: Mapping[int, str]) -> tuple[Bin, ...]:
    total = sum(counts)
    lows: list[float | None] = [None, *feature.edges]
    highs: list[float | None] = [*feature.edges, None]
    shares = [count / total for count in counts] if total else [0.0] * len(highs)
    entries = zip(lows, highs, feature.probabilities, shares, strict=True)
    return tuple(
        Bin(low, high, _values(feature, low, high, names), before, now)
        for low, high, before, now in entries
        if before or now
    )


def _values(feature: Feature, low: float | None, high: float | None, names: Mapping[int, str]) -> str:
    """The categories in a bin."""
    known = feature.categories or ((feature.mean,) if feature.std == 0 else ())
    inside = [value for value in known if (low is None or value >= low) and (high is None or value < high)]
    return ", ".join(names.get(int(value), f"{value:g}") for value in inside)
