"""A pod's side: rows in, blocks and cumulative counts out."""

from collections import deque

import numpy as np

from aiops_drift.counts import BLOCK_ROWS, MOST_AT_ONCE, Block, Sums, sums
from aiops_drift.errors import WireError
from aiops_drift.profile import Profile, Rows
from aiops_drift.stored import Stored
from aiops_drift.wire import Baseline, Expectations, Report, kept_blocks


class Recorder:
    """The drift counts of one incarnation: the only state there is in a pod, and not thread-safe on purpose."""

    def __init__(self, profile: Profile, incarnation: str) -> None:
        self.profile = profile
        self.incarnation = incarnation
        columns = len(profile.columns)
        self._total: Sums = sums(profile, np.zeros((1, 0, columns)))
        self._blocks: deque[Block] = deque(maxlen=kept_blocks(columns))
        self._baseline = Baseline.of(profile)
        self._closed = 0
        # Rows wait here, unlooked at, until a block is full: one numpy pass a block costs a sixteenth of one a row.
        self._open: list[Rows] = []
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
        recorder._blocks.extend(stored.report.blocks)
        recorder._closed = stored.closed
        recorder._open = [stored.waiting] if stored.waiting.size else []
        recorder._open_rows = len(stored.waiting)
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
        self._open.append(self._with_outputs(rows, outputs))
        self._open_rows += rows.shape[0]
        if self._open_rows < BLOCK_ROWS:
            return
        waiting = np.concatenate(self._open)
        full = waiting.shape[0] // BLOCK_ROWS
        at_once = max(1, MOST_AT_ONCE // (BLOCK_ROWS * waiting.shape[1]))
        for start in range(0, full, at_once):
            part = waiting[start * BLOCK_ROWS : min(start + at_once, full) * BLOCK_ROWS]
            self._close(part.reshape(-1, BLOCK_ROWS, waiting.shape[1]), now)
        rest = waiting[full * BLOCK_ROWS :]
        # A copy, so that the rest of a large request does not keep all of it in memory.
        self._open = [rest.copy()] if rest.size else []
        self._open_rows = rest.shape[0]

    def _with_outputs(self, rows: Rows, outputs: Rows | None) -> Rows:
        watched = len(self.profile.outputs)
        if not watched:
            return rows
        if outputs is None:
            outputs = np.full((rows.shape[0], watched), np.nan)
        return np.hstack([rows, outputs])

    def _close(self, values: Rows, now: float) -> None:
        found = sums(self.profile, values)
        self._blocks.extend(Block(self._closed + i, now, found.counts(BLOCK_ROWS, i)) for i in range(values.shape[0]))
        self._closed += values.shape[0]
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
            blocks=tuple(block for block in self._blocks if block.number > after),
            expectations=expectations,
        )

    def stored(self, model: str, now: float) -> Stored:
        """All of it as it is at `now`, for a recorder that goes on later."""
        columns = len(self.profile.columns)
        waiting = np.concatenate(self._open) if self._open else np.empty((0, columns))
        return Stored(self.report(model, Expectations(), -1, now), waiting)

    def begin_anew(self, incarnation: str, after: int) -> None:
        """Go on under another identity with the blocks that have numbers above `after`; the others stay with the old one."""
        self.incarnation = incarnation
        self._blocks = deque((block for block in self._blocks if block.number > after), maxlen=self._blocks.maxlen)
