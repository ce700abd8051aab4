"""What a pod keeps of its counts for the process after it: its report, the rows that wait, and a check of both."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from aiops_drift.counts import BLOCK_ROWS, GRID, Z_LIMIT, Counts
from aiops_drift.errors import WireError
from aiops_drift.profile import Rows
from aiops_drift.wire import Report

STORED_VERSION: Final = 1
LARGEST: Final = sys.float_info.max


@dataclass(frozen=True)
class Stored:
    """One recorder at one moment; what is recorded later does not change it.

    Attributes:
        report: its counts, with all blocks that it keeps.
        waiting: the rows of the open block, shape (n, C) with n < 16, NaN where a value is missing.
    """

    report: Report
    waiting: Rows

    @property
    def closed(self) -> int:
        """How many blocks were closed, which is the number of the next."""
        return self.report.counts.n // BLOCK_ROWS

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; `Stored.from_dict` reads it back to a recorder that goes on as this one would."""
        # An infinite output becomes the largest number, which counts the same: JSON has no infinity.
        finite = np.clip(self.waiting, -LARGEST, LARGEST).tolist()
        waiting = [[value if value == value else None for value in row] for row in finite]  # noqa: PLR0124 - NaN is not
        return {"version": STORED_VERSION, "report": self.report.to_dict(), "waiting": waiting}

    @classmethod
    def from_dict(cls, document: object) -> "Stored":
        """Read what an earlier process wrote, trusting none of it.

        Raises:
            WireError: another version, a report that is none, or parts that contradict each other: sums that no rows have, blocks
                that are not the last ones, more rows than were counted.
        """
        if not isinstance(document, Mapping) or document.get("version") != STORED_VERSION:
            message = f"it is not of version {STORED_VERSION}"
            raise WireError(message)
        report = Report.from_dict(document.get("report"))
        waiting = _waiting_from(document.get("waiting"), len(report.baseline.names))
        before = report.counts
        for block in report.blocks:
            before -= block.counts
        if not all(map(_can_be, (report.counts, before, *(block.counts for block in report.blocks)))):
            message = "it has sums that no rows have"
            raise WireError(message)
        stored = cls(report, waiting)
        if before.n % BLOCK_ROWS or report.rows != report.counts.n + len(waiting):
            message = "its rows are not those of its blocks"
            raise WireError(message)
        if report.blocks and report.blocks[-1].number != stored.closed - 1:
            message = "its blocks are not the last ones that it counted"
            raise WireError(message)
        return stored


def _can_be(counts: Counts) -> bool:
    """Whether some rows have these sums: each value is in a bin or missing, and each score on the grid."""
    columns = zip(counts.missing, counts.unseen, counts.bins, strict=True)
    scores = (*counts.z, *counts.location, *counts.spread)
    return (
        counts.n >= 0
        and all(
            min(missing, unseen, *bins) >= 0 and missing + sum(bins) == counts.n and unseen <= counts.n
            for missing, unseen, bins in columns
        )
        and all(abs(score) <= Z_LIMIT * counts.n and (score * GRID).is_integer() for score in scores)
    )


def _waiting_from(value: object, columns: int) -> Rows:
    if (
        not isinstance(value, list)
        or len(value) >= BLOCK_ROWS
        or not all(isinstance(row, list) and len(row) == columns and all(map(_is_value, row)) for row in value)
    ):
        message = f"its waiting rows are not fewer than {BLOCK_ROWS} rows of {columns} numbers"
        raise WireError(message)
    return np.array([[np.nan if entry is None else entry for entry in row] for row in value], dtype=np.float64).reshape(
        len(value), columns
    )


def _is_value(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST)
