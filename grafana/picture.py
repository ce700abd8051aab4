"""Draws a dashboard as it would be seen: the panels' own queries, asked of a Prometheus over its last minutes.

`python grafana/picture.py http://127.0.0.1:9090 docs/dashboard.png`; a picture for the documentation, which needs no Grafana.
"""

import argparse
import datetime as dt
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter, date2num

BOARD: Final = Path(__file__).resolve().parent / "dashboards.json"
# What Grafana puts in place of its variables.
VARIABLES: Final = {"$__rate_interval": "30s", "$namespace": ".*", "$service": ".*"}
COLUMNS: Final = 24
LONGEST: Final = 32  # characters of a legend
# Inches: the whole, a row of Grafana's grid, the title's line, and what a panel leaves around its axes.
WIDTH, ROW, HEADING, LEFT, RIGHT, BOTTOM, TOP = 13, 0.3, 0.5, 0.7, 0.15, 0.5, 0.3
COLORS: Final = {"green": "#5aa454", "red": "#d64f4f", "yellow": "#e0b63a"}


@dataclass(frozen=True)
class Series:
    """One series: what the legend says of it, its labels, Unix seconds, values."""

    legend: str
    labels: Mapping[str, str]
    times: Sequence[float]
    values: Sequence[float]

    @property
    def newest(self) -> float:
        """The last value."""
        return self.values[-1]


def filled(expr: str) -> str:
    """A query with values in place of the variables."""
    for variable, value in VARIABLES.items():
        expr = expr.replace(variable, value)
    return expr


def asked(client: httpx.Client, panel: Mapping[str, Any], minutes: float) -> list[Series]:
    """What a panel's queries return.

    Raises:
        httpx.HTTPError: Prometheus does not answer, or does not understand a query.
    """
    now, found = time.time(), []
    for target in panel["targets"]:
        query = {
            "query": filled(target["expr"]),
            "start": now - 60 * minutes,
            "end": now,
            "step": max(1.0, minutes / 4),
        }
        answer = client.get("/api/v1/query_range", params=query).raise_for_status().json()["data"]["result"]
        found += [_series(target.get("legendFormat", ""), entry) for entry in answer]
    return [series for series in found if series.times]


def _series(legend: str, entry: Mapping[str, Any]) -> Series:
    labels = entry["metric"]
    points = [(float(t), float(value)) for t, value in entry["values"] if value != "NaN"]
    text = re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), legend) or ", ".join(labels.values())
    text = text if len(text) <= LONGEST else f"…{text[1 - LONGEST :]}"  # what is longer leaves no room for the panels
    return Series(text, labels, [t for t, _ in points], [value for _, value in points])


def draw(panels: Sequence[tuple[Mapping[str, Any], Sequence[Series]]], target: Path, title: str) -> None:
    """All panels in their places."""
    mpl.use("agg")
    mpl.rcParams |= {"font.size": 8, "axes.titlesize": 9, "axes.titleweight": "bold", "axes.titlelocation": "left"}
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel, _ in panels)
    width, height = WIDTH, rows * ROW + HEADING
    figure = plt.figure(figsize=(width, height))
    figure.text(LEFT / width, 1 - HEADING / 2 / height, title, fontsize=14, fontweight="bold", va="center")
    for panel, found in panels:
        place, column = panel["gridPos"], WIDTH / COLUMNS
        left, bottom = place["x"] * column + LEFT, (rows - place["y"] - place["h"]) * ROW + BOTTOM
        size = place["w"] * column - LEFT - RIGHT, place["h"] * ROW - BOTTOM - TOP
        axis = figure.add_axes((left / width, bottom / height, size[0] / width, size[1] / height))
        axis.set_title(panel["title"])
        DRAWN.get(panel["type"], _lines)(axis, panel, found)
    figure.savefig(target, dpi=90)
    plt.close(figure)


def _lines(axis: Axes, panel: Mapping[str, Any], found: Sequence[Series]) -> None:
    for series in found:
        style = "--" if series.legend.endswith(" threshold") else "-"
        axis.plot(_dates(series.times), series.values, style, label=series.legend, linewidth=1.2)
    unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "")
    axis.set_ylabel({"s": "seconds", "reqps": "per second"}.get(unit, ""))
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.xaxis.set_major_formatter(DateFormatter("%H:%M:%S"))
    axis.tick_params(axis="x", labelrotation=20)
    if found:
        axis.legend(fontsize=6, ncols=2, loc="best")


def _stat(axis: Axes, panel: Mapping[str, Any], found: Sequence[Series]) -> None:
    axis.axis("off")
    states = _states(panel)
    for i, series in enumerate(found):
        text, color = states.get(series.newest, (f"{series.newest:g}", "black"))
        height = 1 - (i + 0.5) / len(found)
        axis.text(0.5, height, text, ha="center", va="center", fontsize=22, color=color, fontweight="bold")
        axis.text(0.5, height - 0.3 / len(found), series.legend, ha="center", va="center")


def _timeline(axis: Axes, panel: Mapping[str, Any], found: Sequence[Series]) -> None:
    states = _states(panel)
    axis.set_yticks(
        [i + 0.5 for i in range(len(found))], labels=[series.legend for series in found], rotation=90, va="center"
    )
    for i, series in enumerate(found):
        dates = _dates(series.times)
        width = (dates[-1] - dates[0]) / max(1, len(dates) - 1)
        colors = [states.get(value, ("", "grey"))[1] for value in series.values]
        axis.broken_barh([(date, width) for date in dates], (i + 0.1, 0.8), facecolors=colors)
    axis.xaxis.set_major_formatter(DateFormatter("%H:%M:%S"))
    for text, color in states.values():
        axis.plot([], [], "s", color=color, label=text)
    axis.legend(fontsize=7, ncols=len(states), loc="upper right")


def _table(axis: Axes, _: Mapping[str, Any], found: Sequence[Series]) -> None:
    axis.axis("off")
    if found:
        names = list(found[0].labels)
        cells = [[series.labels[name][:14] for name in names] for series in found]
        axis.table(cells, colLabels=names, loc="center", fontsize=7).auto_set_column_width(range(len(names)))


def _states(panel: Mapping[str, Any]) -> dict[float, tuple[str, str]]:
    """What values stand for, and in which colour."""
    mappings = panel.get("fieldConfig", {}).get("defaults", {}).get("mappings") or ()
    options = {value: shown for mapping in mappings for value, shown in mapping["options"].items()}
    return {float(value): (shown["text"], COLORS.get(shown["color"], "black")) for value, shown in options.items()}


def _dates(times: Sequence[float]) -> list[float]:
    return [float(date2num(dt.datetime.fromtimestamp(t, dt.UTC))) for t in times]


DRAWN: Final = {"stat": _stat, "state-timeline": _timeline, "table": _table}


def main() -> None:
    """Ask and draw."""
    parser = argparse.ArgumentParser(prog="picture", description=__doc__)
    parser.add_argument("prometheus", help="URL of a Prometheus")
    parser.add_argument("target", type=Path, help="PNG to write")
    parser.add_argument("--minutes", type=float, default=5, help="how far back (default: 5)")
    options = parser.parse_args()
    board = json.loads(BOARD.read_text(encoding="utf-8"))
    with httpx.Client(base_url=options.prometheus, trust_env=False, timeout=30) as client:
        panels = [(panel, asked(client, panel, options.minutes)) for panel in board["panels"]]
    draw(panels, options.target, board["title"])


if __name__ == "__main__":
    main()
