"""Which run length a resource asks for: in rows, or in time at the rate at which rows come."""

import math
from typing import Final

RATE_SECONDS: Final = 60.0  # over which rows must have come before a rate is made of them
RUN_LENGTH: Final = 10**6  # rows, as long as no rate is known
RUN_LENGTHS: Final = (10**4, 10**9)


def run_length(average: float | None, interval: float, row_rate: float | None) -> float | None:
    """Rows without drift between two false alarms, for `Thresholds.run_length`.

    In powers of two where it follows from a rate, so that a rate that wavers does not move thresholds: they go with the
    logarithm of the run length.

    Args:
        average: rows, as asked for; None where `interval` says it in time.
        interval: seconds between two false alarms; 0 where only the mean is watched.
        row_rate: rows per second; None where that is not known yet.
    """
    if average is not None:
        return float(average)
    if interval == 0:
        return None
    rows = RUN_LENGTH if row_rate is None else row_rate * interval
    shortest, longest = RUN_LENGTHS
    return 2.0 ** round(math.log2(min(max(rows, shortest), longest)))
