"""Draws docs/drift.svg: what the status says of one service, row by row, by the code that says it.

A stream like the baseline of 1000 rows and 4 features, then half a deviation of one feature for 640 rows, then health; after
960 rows of it the same feature arrives in another unit (ten times as large) for 128 rows. A false alarm each 100,000 rows was
asked for. Run it from the root of the repository: `python bench/drift/picture.py`.
"""

from pathlib import Path
from typing import Final

import numpy as np

from aiops_drift import Baseline, Expectations, Profile, Recorder, State, Thresholds, advance, observe, verdict

TARGET: Final = Path(__file__).parents[2] / "docs" / "drift.svg"
ASKED: Final = Thresholds(run_length=100_000.0)
WIDTH, HEIGHT, LEFT, TOP, TALLEST = 900, 300, 50, 44, 10.0


def stream(rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[int, int, str]]]:
    """Rows, and from where to where they are wrong."""
    rows = rng.normal(5.0, 1.0, size=(3200, 4))
    rows[960:1600, 0] += 0.5
    rows[2560:2688, 0] *= 10
    return rows, [(960, 1600, "half a deviation"), (2560, 2688, "tenfold")]


def said(rows: np.ndarray, profile: Profile) -> list[tuple[int, float, bool]]:
    """Rows so far, score and whether drift is on, at the end of each block."""
    recorder, state, baseline, cursor, found = Recorder(profile, "i"), State(), Baseline.of(profile), None, []
    for end in range(16, len(rows) + 1, 16):
        recorder.record(rows[end - 16 : end], 0.0)
        cursor, blocks = advance(cursor, recorder.report("sha256:" + "0" * 64, Expectations(), -1, 0.0))
        state = observe(state, blocks, baseline, ASKED)
        found.append((end, verdict(state, baseline, ASKED).score, state.drifting))
    return found


def drawn(found: list[tuple[int, float, bool]], wrong: list[tuple[int, int, str]]) -> str:
    """The picture as SVG."""
    last = found[-1][0]

    def x(row: float) -> str:
        return f"{LEFT + row / last * (WIDTH - LEFT - 20):.1f}"

    def y(score: float) -> str:
        return f"{HEIGHT - 40 - min(score, TALLEST) / TALLEST * (HEIGHT - 40 - TOP):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for start, end, name in wrong:
        width = float(x(end)) - float(x(start))
        parts += [
            f'<rect x="{x(start)}" y="{TOP}" width="{width:.1f}" height="{HEIGHT - 40 - TOP}" fill="#f4e3c1"/>',
            f'<text x="{x(start)}" y="{TOP - 26}" fill="#8a5a00">{name}</text>',
        ]
    on = [(end - 16, end) for end, _, drifting in found if drifting]
    parts += [
        f'<rect x="{x(a)}" y="{TOP - 14}" width="{float(x(b)) - float(x(a)) + 0.2:.1f}" height="8" fill="#c0392b"/>'
        for a, b in on
    ]
    for score in (0, 5, 10):
        parts.append(f'<text x="{LEFT - 8}" y="{float(y(score)) + 4:.1f}" text-anchor="end">{score}</text>')
    for row in range(0, last + 1, 800):
        parts.append(f'<text x="{x(row)}" y="{HEIGHT - 22}" text-anchor="middle">{row}</text>')
    line = " ".join(f"{x(end)},{y(score)}" for end, score, _ in found)
    parts += [
        f'<line x1="{LEFT}" x2="{x(last)}" y1="{y(5)}" y2="{y(5)}" stroke="#555" stroke-dasharray="5 4"/>',
        f'<line x1="{LEFT}" x2="{x(last)}" y1="{y(0)}" y2="{y(0)}" stroke="#555"/>',
        f'<polyline points="{line}" fill="none" stroke="#1f5fa8" stroke-width="1.5"/>',
        f'<text x="{x(20)}" y="{TOP - 6}" fill="#c0392b">red: DriftDetected is True</text>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 6}" text-anchor="middle">rows of the service; blue: score (10 and more as 10), dashed: threshold</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main() -> None:
    """Draw."""
    rng = np.random.default_rng(12)
    baseline = rng.normal(5.0, 1.0, size=(1000, 4))
    rows, wrong = stream(rng)
    found = said(rows, Profile.from_rows(baseline).calibrated(baseline))
    TARGET.write_text(drawn(found, wrong), encoding="utf-8")
    on = [end for end, _, drifting in found if drifting]
    first = [end for end in on if end - 16 not in on]
    print(f"on at {first}, off at {[end + 16 for end in on if end + 16 not in on]}")


if __name__ == "__main__":
    main()
