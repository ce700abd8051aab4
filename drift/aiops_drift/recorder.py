"""A pod's side: rows in, blocks and cumulative counts out."""

from collections import deque

import numpy as np

from aiops_drift.counts import BLOCK_ROWS, Block, Counts
from aiops_drift.profile import Profile, Rows
from aiops_drift.wire import Expectations, Report, kept_blocks


class Recorder:
    """The drift counts of one incarnation: the only state there is in a pod, and not thread-safe on purpose."""

    def __init__(self, profile: Profile, incarnation: str) -> None:
        self.profile = profile
        self.incarnation = incarnation
        self._counts = Counts.zero(len(profile.features), bins=True)
        self._blocks: deque[Block] = deque(maxlen=kept_blocks(len(profile.features)))
        self._closed = 0
        # Rows wait here, unlooked at, until a block is full: one numpy pass a block costs a sixteenth of one a row.
        self._open: list[Rows] = []
        self._open_rows = 0

    @property
    def rows(self) -> int:
        """All rows recorded, those of the open block too."""
        return self._counts.n + self._open_rows

    def record(self, rows: Rows, now: float) -> None:
        """Count rows, shape (n, F), finite; each block that they fill is closed at `now`, seconds since the epoch."""
        self._open.append(rows)
        self._open_rows += rows.shape[0]
        if self._open_rows < BLOCK_ROWS:
            return
        waiting = np.concatenate(self._open)
        full = waiting.shape[0] - waiting.shape[0] % BLOCK_ROWS
        for start in range(0, full, BLOCK_ROWS):
            counts = Counts.of(self.profile, waiting[start : start + BLOCK_ROWS])
            self._blocks.append(Block(self._closed, now, counts))
            self._closed += 1
        self._counts += Counts.of(self.profile, waiting[:full], bins=True)
        # A copy, so that the rest of a large request does not keep all of it in memory.
        self._open = [waiting[full:].copy()] if full < waiting.shape[0] else []
        self._open_rows = waiting.shape[0] - full

    def report(self, model: str, expectations: Expectations, after: int, now: float) -> Report:
        """What `GET /drift` answers at `now`: the counts, and the kept blocks with numbers above `after` (-1 for all)."""
        return Report(
            incarnation=self.incarnation,
            model=model,
            profile=self.profile.digest,
            features=self.profile.names,
            rows=self.rows,
            now=now,
            counts=self._counts,
            blocks=tuple(block for block in self._blocks if block.number > after),
            expectations=expectations,
        )
