"""A pod's side: rows in, blocks and cumulative counts out."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from aiops_drift.counts import BLOCK_ROWS, MOST_AT_ONCE, Block, Sums, sums
from aiops_drift.errors import WireError
from aiops_drift.profile import Profile, Rows
from aiops_drift.stored import Stored
from aiops_drift.wire import Baseline, Expectations, Report, kept_blocks

WAITING_BLOCKS: Final = 8


class _Closed(NamedTuple):
    """Blocks that were counted together, as the arrays that they were counted in: most are never asked for one by one."""

    number: int
    times: Sequence[float]
    sums: Sums

    @property
    def end(self) -> int:
        """The number after the last one."""
        return self.number + len(self.times)

    def blocks(self, first: int) -> Iterator[Block]:
        """Those from a number on."""
        for i in range(max(0, first - self.number), len(self.times)):
            yield Block(self.number + i, self.times[i], self.sums.counts(BLOCK_ROWS, i))


class Recorder:
    """The drift counts of one incarnation: the only state there is in a pod, and not thread-safe on purpose."""

    def __init__(self, profile: Profile, incarnation: str) -> None:
        self.profile = profile
        self.incarnation = incarnation
        columns = len(profile.columns)
        self._total: Sums = sums(profile, np.zeros((columns, 0)), 1)
        self._most = kept_blocks(columns)
        self._kept: deque[_Closed] = deque()
        self._first = 0  # the first block of this incarnation that may be told of
        self._baseline = Baseline.of(profile)
        self._closed = 0
        # Rows wait here, unlooked at, until there are some blocks of them or somebody asks: a numpy pass over eight blocks
        # costs hardly more than one over a single row. They lie by columns, as they are looked at.
        self._open: Rows = np.empty((columns, WAITING_BLOCKS * BLOCK_ROWS))
        self._open_rows = 0
        self._full_at: list[float] = []  # when each of the waiting blocks became full

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
            _Closed(block.number, [block.closed], Sums.of(block.counts)) for block in stored.report.blocks
        )
        recorder._closed = stored.closed
        recorder._open_rows = len(stored.waiting)
        recorder._open[:, : recorder._open_rows] = stored.waiting.T
        return recorder

    @property
    def closed(self) -> int:
        """How many blocks were closed, which is the number of the next."""
        return self._closed + len(self._full_at)

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
        before, after = self._open_rows, self._open_rows + rows.shape[0]
        self._full_at += [now] * (after // BLOCK_ROWS - before // BLOCK_ROWS)
        if after <= self._open.shape[1]:
            self._fill(self._open[:, before:after], rows, outputs)
            self._open_rows = after
            if after == self._open.shape[1]:
                self._close(self._open)
            return
        waiting = np.empty((self._open.shape[0], after))
        waiting[:, :before] = self._open[:, :before]
        self._fill(waiting[:, before:], rows, outputs)
        self._close(waiting)

    def _fill(self, place: Rows, rows: Rows, outputs: Rows | None) -> None:
        features = len(self.profile.features)
        place[:features] = rows.T
        if features < place.shape[0]:
            place[features:] = np.nan if outputs is None else outputs.T

    def _close(self, waiting: Rows) -> None:
        """Count all full blocks of these rows, shape (C, n); the rest waits on."""
        columns, full = waiting.shape[0], waiting.shape[1] // BLOCK_ROWS
        at_once = max(1, MOST_AT_ONCE // (BLOCK_ROWS * columns))
        for start in range(0, full, at_once):
            blocks = min(at_once, full - start)
            part = waiting[:, start * BLOCK_ROWS : (start + blocks) * BLOCK_ROWS]
            found = sums(self.profile, part, blocks)
            self._kept.append(_Closed(self._closed, self._full_at[start : start + blocks], found))
            self._closed += blocks
            self._total = found.total(self._total)
        while self._kept and self._kept[0].end <= self._closed - self._most:
            self._kept.popleft()
        rest = waiting[:, full * BLOCK_ROWS :]
        self._open[:, : rest.shape[1]] = rest
        self._open_rows, self._full_at = rest.shape[1], []

    def _close_waiting(self) -> None:
        if self._full_at:
            self._close(self._open[:, : self._open_rows])

    def report(self, model: str, expectations: Expectations, after: int, now: float) -> Report:
        """What `GET /drift` answers at `now`: the counts, and the kept blocks with numbers above `after` (-1 for all)."""
        self._close_waiting()
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
        report = self.report(model, Expectations(), -1, now)
        return Stored(report, self._open[:, : self._open_rows].T.copy())

    def begin_anew(self, incarnation: str, after: int) -> None:
        """Go on under another identity with the blocks that have numbers above `after`; the others stay with the old one."""
        self._close_waiting()
        self.incarnation = incarnation
        self._first = after + 1
