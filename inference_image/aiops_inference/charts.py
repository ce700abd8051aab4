"""Geometry of the page's drawings: numbers to coordinates, ticks and labels; nothing of HTML."""

import datetime as dt
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MOST_POINTS: Final = 64  # of a small line; more cannot be told apart
MOST_TICKS: Final = 6
MOST_DECIMALS: Final = 6
WRITTEN_OUT: Final = (1e-3, 1e6)  # numbers of this size; others as powers of ten
DAY: Final = 86400.0
TIME_STEPS: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0),
    *(3600.0, 7200.0, 10800.0, 21600.0, 43200.0, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY, 91 * DAY, 364 * DAY),
)

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """A linear map of [low, high] to [start, end]; what is beyond is drawn at the end."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Where a value is."""
        if self.high <= self.low:
            return round((self.start + self.end) / 2, 2)
        # Halved: the difference of two numbers near the largest would not be finite.
        part = (value / 2 - self.low / 2) / (self.high / 2 - self.low / 2)
        return round(self.start + min(max(part, 0.0), 1.0) * (self.end - self.start), 2)


@dataclass(frozen=True)
class Tick:
    """A label at a place, in percent of the axis."""

    at: float
    label: str


def number(value: float, digits: int = 4) -> str:
    """A number for a person: so many significant digits, written out where it is neither huge nor tiny."""
    if value == 0:
        return "0"
    least, most = WRITTEN_OUT
    if not least <= abs(value) < most:
        return f"{value:.{digits - 1}g}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in {"-0", ""} else text.replace("-", "−")


def numbers(values: Sequence[float]) -> list[str]:
    """Ascending numbers side by side, with as many decimals as tell the closest of them apart."""
    gaps = [later - earlier for earlier, later in itertools.pairwise(values) if later > earlier]
    least, most = WRITTEN_OUT
    largest = max((abs(value) for value in values), default=0.0)
    if not gaps or largest >= most or min(gaps) < least:
        return [number(value) for value in values]
    decimals = min(MOST_DECIMALS, max(0, 1 - math.floor(math.log10(min(gaps)))))
    written = [f"{value:.{decimals}f}" for value in values]
    while decimals > 0 and all(text.endswith("0") for text in written):
        decimals -= 1
        written = [text[:-1] for text in written]
    return [text.rstrip(".").replace("-", "−") for text in written]


def time_ticks(start: float, end: float) -> list[Tick]:
    """At most six round times, in UTC, between two in seconds since the epoch."""
    step = next((step for step in TIME_STEPS if (end - start) / step <= MOST_TICKS - 1), TIME_STEPS[-1])
    scale = Scale(start, end, 0, 100)
    first = math.ceil(start / step)
    return [Tick(scale(i * step), _clock(i * step, step)) for i in range(first, first + MOST_TICKS) if i * step <= end]


def _clock(at: float, step: float) -> str:
    time = dt.datetime.fromtimestamp(round(at, 3), dt.UTC)
    if step >= DAY or (step >= 60 and time.hour == time.minute == 0):  # noqa: PLR2004 - seconds of a minute
        return f"{time.day} {time:%b}"
    if step < 1:
        return f"{time:%H:%M:%S}.{time.microsecond // 1000:03}".rstrip("0").rstrip(".")
    return f"{time:%H:%M:%S}" if step < 60 else f"{time:%H:%M}"  # noqa: PLR2004 - as above


def moment(at: float) -> str:
    """A time for a sentence."""
    time = dt.datetime.fromtimestamp(at, dt.UTC)
    return f"{time.day} {time:%b %Y %H:%M:%S} UTC"


def points(places: Sequence[Point]) -> str:
    """For the attribute `points`."""
    return " ".join(f"{x:g},{y:g}" for x, y in places)


def thinned(times: Sequence[float], values: Sequence[float]) -> list[Point]:
    """Means of neighbours, so that at most 64 are left."""
    together = max(1, -(-len(values) // MOST_POINTS))
    parts = (slice(start, start + together) for start in range(0, len(values), together))
    # Halves of halves: the sum of several numbers near the largest would not be finite.
    return [
        (times[part][-1], math.fsum(value / together for value in values[part]) * together / len(values[part]))
        for part in parts
    ]
