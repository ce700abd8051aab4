"""The page of `/drift/report`: a story as one HTML document without scripts or anything from elsewhere."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import jinja2

from aiops_inference import charts
from aiops_inference.charts import Scale, Tick
from aiops_inference.story import Column, Episode, Story

MOST_CARDS: Final = 50
LONGEST_NAME: Final = 120  # characters of a column's name that are shown
MOST_FAILED: Final = 50
MOST_NAMED: Final = 10  # columns in one sentence

WIDTH: Final = 360.0  # of the drawings in a card, in their own units, which are about pixels
BARS_TOP: Final = 14.0
BARS_BOTTOM: Final = 110.0
LETTER: Final = 6.2  # width of a letter of the labels
MEANS_HEIGHT: Final = 64.0
LINE_HEIGHT: Final = 100.0  # the time line is stretched to its place: per cent, in both directions
LOWEST_TOP: Final = 1.5  # score over threshold that the time line reaches at least, and at most
HIGHEST_TOP: Final = 3.0

RULES: Final = {
    "mean": "the mean of the last rows is too far from the baseline's",
    "sequential": "somewhere in the last 16 to 384 rows its values moved, or spread, by more than chance explains",
    "windowed": "its values fall in other bins than the baseline's did",
}


@dataclass(frozen=True)
class Pair:
    """Baseline and live bar of one bin: left edges, width, tops and heights."""

    title: str
    left: float
    right: float
    width: float
    baseline_top: float
    baseline_height: float
    live_top: float
    live_height: float


@dataclass(frozen=True)
class Label:
    """Text at x, middle."""

    x: float
    text: str


@dataclass(frozen=True)
class Bars:
    """A histogram in pairs of bars."""

    pairs: tuple[Pair, ...]
    labels: tuple[Label, ...]
    ticks: tuple[float, ...]
    most: str
    alternative: str


@dataclass(frozen=True)
class Shade:
    """A span of a time axis."""

    left: float
    width: float


@dataclass(frozen=True)
class Means:
    """Block means over time, with the band of the baseline's mean ± σ, and drift shaded."""

    line: str
    band_top: float
    band_height: float
    mean: float
    above: str
    below: str
    shades: tuple[Shade, ...]
    alternative: str


@dataclass(frozen=True)
class Card:
    """One column as it is drawn."""

    column: Column
    score: float  # where the bar of the score ends, per cent
    bars: Bars
    means: Means | None


@dataclass(frozen=True)
class Line:
    """The time line; all in per cent from left and top."""

    line: str
    area: str
    threshold: float
    shades: tuple[Shade, ...]
    ticks: tuple[Tick, ...]
    levels: tuple[Tick, ...]
    start: str
    end: str
    alternative: str


def render(story: Story, service: str, pod: str) -> str:
    """The document; its size is bounded whatever the model's features are many and called."""
    drawn = _worst(story.columns, MOST_CARDS)
    cards = [_card(story, column) for column in drawn]
    shown = {column.name for column in drawn}
    rest = sorted((column for column in story.columns if column.name not in shown), key=lambda column: -column.ratio)
    return _template().render(
        story=story,
        service=service,
        pod=pod,
        worst=max(story.columns, key=lambda column: column.ratio),
        line=_line(story),
        inputs=[card for card in cards if card.column.kind == "input"],
        outputs=[card for card in cards if card.column.kind == "output"],
        rest=rest,
        missing=[column.name for column in story.columns if column.missing],
        unseen=[column.name for column in story.columns if column.unseen],
        rules=RULES,
        most_failed=MOST_FAILED,
        most_named=MOST_NAMED,
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("aiops_inference"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": charts.number, "moment": charts.moment, "short": _short, "duration": _duration}
    return environment.get_template("report.html")


def _worst(columns: Iterable[Column], most: int) -> list[Column]:
    """Those to be drawn, inputs before outputs: the worst of both."""
    chosen = sorted(columns, key=lambda column: -column.ratio)[:most]
    return sorted(chosen, key=lambda column: (column.kind == "output", -column.ratio))


def _card(story: Story, column: Column) -> Card:
    return Card(
        column=column,
        score=Scale(0, 2, 0, 100)(column.ratio),
        bars=_bars(column),
        means=_means(story, column) if column.means else None,
    )


def _bars(column: Column) -> Bars:
    bins = column.bins
    most = max((max(bin_.baseline, bin_.live) for bin_ in bins), default=1.0)
    height = Scale(0, most, 0, BARS_BOTTOM - BARS_TOP)
    slot = WIDTH / max(1, len(bins))
    bar = round(slot * 0.38, 2)
    edges = charts.numbers([bin_.low for bin_ in bins[1:] if bin_.low is not None])
    named = all(bin_.values for bin_ in bins)
    spans = [_span(before, after) for before, after in zip(["", *edges], [*edges, ""], strict=True)]
    pairs = []
    for i, bin_ in enumerate(bins):
        left, before, now = i * slot + slot * 0.1, height(bin_.baseline), height(bin_.live)
        title = f"{bin_.values if named else spans[i]}: baseline {_percent(bin_.baseline)}, live {_percent(bin_.live)}"
        pairs.append(
            Pair(
                title=title,
                left=round(left, 2),
                right=round(left + bar + slot * 0.04, 2),
                width=bar,
                baseline_top=round(BARS_BOTTOM - before, 2),
                baseline_height=before,
                live_top=round(BARS_BOTTOM - now, 2),
                live_height=now,
            )
        )
    if named:
        places = [(slot * (i + 0.5), _shortened(bin_.values, 24)) for i, bin_ in enumerate(bins)]
    else:
        places = [(slot * (i + 1), edge) for i, edge in enumerate(edges)]
    return Bars(
        pairs=tuple(pairs),
        labels=tuple(_thinned(places, slot)),
        ticks=() if named else tuple(round(slot * (i + 1), 2) for i in range(len(edges))),
        most=_percent(most),
        alternative=f"Share of rows in each bin, baseline against live. {'; '.join(pair.title for pair in pairs)}.",
    )


def _span(low: str, high: str) -> str:
    if low and high:
        return f"{low} to {high}"
    return f"{low} and above" if low else f"below {high}" if high else "all values"


def _thinned(places: list[tuple[float, str]], slot: float) -> Iterable[Label]:
    """As many labels as have room."""
    longest = max((len(text) for _, text in places), default=0)
    every = max(1, -(-int((longest + 1) * LETTER) // max(1, int(slot))))
    return (Label(round(x, 2), text) for x, text in places[(len(places) - 1) % every // 2 :: every])


def _means(story: Story, column: Column) -> Means:
    places = charts.thinned(story.times, column.means)
    low, high = column.mean - column.std, column.mean + column.std
    across = Scale(story.times[0], story.times[-1], 0, WIDTH)
    margin = column.std / 2
    up = Scale(
        min(low - margin, *(y for _, y in places)), max(high + margin, *(y for _, y in places)), MEANS_HEIGHT - 2, 2
    )
    below, above = charts.numbers([low, high])
    return Means(
        line=charts.points([(across(x), up(y)) for x, y in places]),
        band_top=up(high),
        band_height=round(up(low) - up(high), 2),
        mean=up(column.mean),
        above=above,
        below=below,
        shades=_shades(story, WIDTH),
        alternative=f"Means of the live rows over time, from {charts.number(column.means[0])} to"
        f" {charts.number(column.means[-1])}; the baseline's mean is {charts.number(column.mean)}, its deviation"
        f" {charts.number(column.std)}.",
    )


def _line(story: Story) -> Line | None:
    """None where there is nothing to draw yet."""
    if not story.moments:
        return None
    start, end = story.times[0], story.times[-1]
    across = Scale(start, end, 0, 100)
    top = min(max(LOWEST_TOP, 1.1 * max(moment.ratio for moment in story.moments)), HIGHEST_TOP)
    up = Scale(0, top, LINE_HEIGHT, 0)
    places = [(across(moment.at), up(moment.ratio)) for moment in story.moments]
    threshold = story.verdict.threshold
    levels = [Tick(up(level), charts.number(level * threshold)) for level in (0.0, 1.0, 2.0) if level < top]
    if top == HIGHEST_TOP:
        levels.append(Tick(up(top), f"{charts.number(top * threshold)}+"))
    count = len(story.episodes)
    return Line(
        line=charts.points(places),
        area=charts.points([(places[0][0], LINE_HEIGHT), *places, (places[-1][0], LINE_HEIGHT)]),
        threshold=up(1.0),
        shades=_shades(story, 100.0),
        ticks=tuple(charts.time_ticks(start, end)),
        levels=tuple(levels),
        start=charts.moment(start),
        end=charts.moment(end),
        alternative=f"Score over time, from {charts.moment(start)} to {charts.moment(end)}: now"
        f" {charts.number(story.verdict.score)} against a threshold of {charts.number(threshold)};"
        f" {count} {'period' if count == 1 else 'periods'} of drift.",
    )


def _shades(story: Story, width: float) -> tuple[Shade, ...]:
    across = Scale(story.times[0], story.times[-1], 0, width)

    def shade(episode: Episode) -> Shade:
        left = across(story.times[0] if episode.earlier else episode.since)
        right = width if episode.until is None else across(episode.until)
        return Shade(left, round(max(right - left, width / 200), 2))

    return tuple(map(shade, story.episodes))


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share == 0 or share >= 0.01 else f"{100 * share:.1f}%"  # noqa: PLR2004 - one per cent


def _short(name: str) -> str:
    return _shortened(name, LONGEST_NAME)


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _duration(seconds: float) -> str:
    """A time span in its two largest units."""
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    left, parts = round(seconds), []
    for unit, size in units:
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2]) or "less than a second"
