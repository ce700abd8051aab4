"""The sequential rule: a change at any time and of any size, from the sums of blocks.

At the end of each block, for each of nine lengths of the past from 16 to 384 rows, the mean score of the rows is compared
with the baseline's, for location and spread of each column: |S| / √(n·(1 + n/n₀)), which has deviation 1 without drift. It is
the generalised likelihood ratio test of Lai (1995), "Sequential changepoint detection in quality control and dynamical
systems", limited to windows, because a window forgets: the state is the last blocks, and nothing else. Small shifts need long
windows and are what is missed most, so short windows and spread pay a handicap.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

BLOCK_ROWS: Final = 16
WINDOWS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24)  # in blocks
LONGEST: Final = WINDOWS[-1]
# Both chosen by simulation at run lengths of 500 to 10⁵ rows: detection of 0.25 σ a third faster, of 1 σ no slower.
HANDICAPS: Final = tuple(0.2 * float(np.log2(LONGEST / window)) for window in WINDOWS)
SPREAD_HANDICAP: Final = 0.5


def statistics(sums: npt.NDArray[np.float32], baseline_rows: int) -> npt.NDArray[np.float32]:
    """The largest statistic of any column and window at the end of each block.

    Args:
        sums: of scores, shape (streams, blocks, 2C), location of all columns, then spread of all, in blocks of 16 rows.
        baseline_rows: n₀.

    Returns:
        Shape (streams, blocks); to be compared with `Calibration.threshold`.
    """
    streams, blocks, width = sums.shape
    running = np.concatenate([np.zeros((streams, 1, width), np.float32), np.cumsum(sums, axis=1)], axis=1)
    largest = np.full((streams, blocks), -np.inf, np.float32)
    for window, handicap in zip(WINDOWS, HANDICAPS, strict=True):
        if window > blocks:
            break
        size = np.abs(running[:, window:] - running[:, :-window])
        scale = deviation(window * BLOCK_ROWS, baseline_rows)
        location = size[..., : width // 2].max(axis=2) / scale
        spread = size[..., width // 2 :].max(axis=2) / scale - SPREAD_HANDICAP
        np.maximum(largest[:, window - 1 :], np.maximum(location, spread) - handicap, out=largest[:, window - 1 :])
    return largest


def deviation(rows: float | npt.NDArray[np.float64], baseline_rows: int) -> npt.NDArray[np.float64]:
    """Standard deviation of a sum of that many scores without drift; the baseline's own error adds to it."""
    return np.sqrt(rows * (1.0 + np.asarray(rows) / baseline_rows))
