"""Draws docs/drift.svg: what the status says of one service, row by row, by the code that says it.

A stream like the baseline of 1000 rows and 4 features, then half a deviation of one feature for 640 rows, then health; after
960 rows of it the same feature arrives in another unit (ten times as large) for 128 rows. A false alarm each 100,000 rows was
asked for. Run it from the root of the repository: `python bench/drift/picture.py`.
"""

from pathlib import Path
from typing import Final

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from aiops_drift import Baseline, Expectations, Profile, Recorder, State, Thresholds, advance, observe, verdict

TARGET: Final = Path(__file__).parents[2] / "docs" / "drift.svg"
ASKED: Final = Thresholds(run_length=100_000.0)
BLOCK: Final = 16  # rows
TALLEST: Final = 10.0


def stream(rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[int, int, str]]]:
    """Rows, and from where to where they are wrong."""
    rows = rng.normal(5.0, 1.0, size=(3200, 4))
    rows[960:1600, 0] += 0.5
    rows[2560:2688, 0] *= 10
    return rows, [(960, 1600, "half a deviation"), (2560, 2688, "tenfold")]


def said(rows: np.ndarray, profile: Profile) -> list[tuple[int, float, bool]]:
    """Rows so far, score and whether drift is on, at the end of each block."""
    recorder, state, baseline, cursor, found = Recorder(profile, "i"), State(), Baseline.of(profile), None, []
    for end in range(BLOCK, len(rows) + 1, BLOCK):
        recorder.record(rows[end - BLOCK : end], 0.0)
        cursor, blocks = advance(cursor, recorder.report("sha256:" + "0" * 64, Expectations(), -1, 0.0))
        state = observe(state, blocks, baseline, ASKED)
        found.append((end, verdict(state, baseline, ASKED).score, state.drifting))
    return found


def draw(found: list[tuple[int, float, bool]], wrong: list[tuple[int, int, str]]) -> None:
    """The picture as SVG, the same for the same numbers."""
    mpl.use("svg")
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "drift", "font.size": 9}
    figure, axis = plt.subplots(figsize=(9, 3), layout="constrained")
    for start, end, name in wrong:
        axis.axvspan(start, end, color="#f4e3c1")
        axis.text(start, TALLEST + 1.2, name, color="#8a5a00")
    on = [(end - BLOCK, BLOCK) for end, _, drifting in found if drifting]
    axis.broken_barh(on, (TALLEST + 0.2, 0.5), color="#c0392b", label="DriftDetected is True")
    axis.plot(
        [end for end, _, _ in found], [min(score, TALLEST) for _, score, _ in found], label="score (10 and more as 10)"
    )
    axis.axhline(ASKED.z_score, color="#555", linestyle="--", label="threshold")
    axis.set(xlabel="rows of the service", ylim=(0, TALLEST + 2), xlim=(0, found[-1][0]), yticks=(0, 5, 10))
    axis.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    figure.savefig(TARGET, metadata={"Date": None})


def main() -> None:
    """Draw."""
    rng = np.random.default_rng(12)
    baseline = rng.normal(5.0, 1.0, size=(1000, 4))
    rows, wrong = stream(rng)
    found = said(rows, Profile.from_rows(baseline).calibrated(baseline))
    draw(found, wrong)
    on = [end for end, _, drifting in found if drifting]
    first = [end for end in on if end - BLOCK not in on]
    print(f"on at {first}, off at {[end + BLOCK for end in on if end + BLOCK not in on]}")


if __name__ == "__main__":
    main()
