"""A pod's side: rows in, blocks and cumulative counts out."""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from aiops_drift.counts import BLOCK_ROWS, MOST_AT_ONCE, Block, Sums, sums
from aiops_drift.errors import WireError
from aiops_drift.profile import Profile, Rows
from aiops_drift.stored import Stored
from aiops_drift.wire import Baseline, Expectations, Report, kept_blocks


class _Closed(NamedTuple):
    """Blocks that were closed together, as the arrays that they were counted in: most are never asked for one by one."""

    number: int
    closed: float
    sums: Sums

    @property
    def end(self) -> int:
        """The number after the last one."""
        return self.number + self.sums.z.shape[0]

    def blocks(self, first: int) -> Iterator[Block]:
        """Those from a number on."""
        for i in range(max(0, first - self.number), self.sums.z.shape[0]):
            yield Block(self.number + i, self.closed, self.sums.counts(BLOCK_ROWS, i))


class Recorder:
    """The drift counts of one incarnation: the only state there is in a pod, and not thread-safe on purpose."""

    def __init__(self, profile: Profile, incarnation: str) -> None:
        self.profile = profile
        self.incarnation = incarnation
        columns = len(profile.columns)
        self._total: Sums = sums(profile, np.zeros((1, 0, columns)))
        self._most = kept_blocks(columns)
        self._kept: deque[_Closed] = deque()
        self._first = 0  # the first block of this incarnation that may be kept
        self._baseline = Baseline.of(profile)
        self._closed = 0
        # Rows wait here, unlooked at, until a block is full: one numpy pass a block costs a sixteenth of one a row.
        self._open: Rows = np.empty((BLOCK_ROWS, columns))
        self._open_rows = 0

    @classmethod
    def restored(cls, profile: Profile, stored: Stored) -> "Recorder":
        """Go on where another recorder was: the same incarnation, numbers and sums.

        Raises:
            WireError: it counted against another profile.
        """
        recorder = cls(profile, stored.report.incarnation)
        if (stored.report.profile, stored.report.baseline) != (profile.digest, recorder._baseline):
            message = "it was counted against another baseline"
            raise WireError(message)
        recorder._total = Sums.of(stored.report.counts)
        recorder._kept.extend(
            _Closed(block.number, block.closed, Sums.of(block.counts)) for block in stored.report.blocks
        )
        recorder._closed = stored.closed
        recorder._open_rows = len(stored.waiting)
        recorder._open[: recorder._open_rows] = stored.waiting
        return recorder

    @property
    def closed(self) -> int:
        """How many blocks were closed, which is the number of the next."""
        return self._closed

    @property
    def rows(self) -> int:
        """All rows recorded, those of the open block too."""
        return self._closed * BLOCK_ROWS + self._open_rows

    def record(self, rows: Rows, now: float, outputs: Rows | None = None) -> None:
        """Count rows; each block that they fill is closed at `now`, seconds since the epoch.

        Args:
            rows: shape (n, F), finite, or NaN where a value is missing.
            now: by the pod's clock.
            outputs: what the model says of each row, shape (n, O); missing where left out.
        """
        columns, features, count = len(self.profile.columns), len(self.profile.features), rows.shape[0]
        if self._open_rows + count < BLOCK_ROWS:
            place, self._open_rows = self._open[self._open_rows :][:count], self._open_rows + count
            self._fill(place, features, rows, outputs)
            return
        waiting = np.empty((self._open_rows + count, columns))
        waiting[: self._open_rows] = self._open[: self._open_rows]
        self._fill(waiting[self._open_rows :], features, rows, outputs)
        full = waiting.shape[0] // BLOCK_ROWS
        at_once = max(1, MOST_AT_ONCE // (BLOCK_ROWS * columns))
        for start in range(0, full, at_once):
            part = waiting[start * BLOCK_ROWS : min(start + at_once, full) * BLOCK_ROWS]
            self._close(part.reshape(-1, BLOCK_ROWS, columns), now)
        self._open_rows = waiting.shape[0] - full * BLOCK_ROWS
        self._open[: self._open_rows] = waiting[full * BLOCK_ROWS :]

    @staticmethod
    def _fill(place: Rows, features: int, rows: Rows, outputs: Rows | None) -> None:
        place[:, :features] = rows
        place[:, features:] = np.nan if outputs is None else outputs

    def _close(self, values: Rows, now: float) -> None:
        found = sums(self.profile, values)
        self._kept.append(_Closed(self._closed, now, found))
        self._closed += values.shape[0]
        while self._kept[0].end <= self._closed - self._most:
            self._kept.popleft()
        self._total = found.total(self._total)

    def report(self, model: str, expectations: Expectations, after: int, now: float) -> Report:
        """What `GET /drift` answers at `now`: the counts, and the kept blocks with numbers above `after` (-1 for all)."""
        return Report(
            incarnation=self.incarnation,
            model=model,
            profile=self.profile.digest,
            baseline=self._baseline,
            rows=self.rows,
            now=now,
            counts=self._total.counts(self._closed * BLOCK_ROWS),
            blocks=self._blocks(after),
            expectations=expectations,
        )

    def _blocks(self, after: int) -> tuple[Block, ...]:
        first = max(after + 1, self._first, self._closed - self._most)
        return tuple(block for closed in self._kept if closed.end > first for block in closed.blocks(first))

    def stored(self, model: str, now: float) -> Stored:
        """All of it as it is at `now`, for a recorder that goes on later."""
        return Stored(self.report(model, Expectations(), -1, now), self._open[: self._open_rows].copy())

    def begin_anew(self, incarnation: str, after: int) -> None:
        """Go on under another identity with the blocks that have numbers above `after`; the others stay with the old one."""
        self.incarnation = incarnation
        self._first = after + 1
