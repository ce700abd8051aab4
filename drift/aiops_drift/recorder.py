"""A pod's side: rows in, blocks and cumulative counts out."""

from collections import deque

import numpy as np

from aiops_drift.counts import BLOCK_ROWS, MOST_AT_ONCE, Block, Sums, sums
from aiops_drift.profile import Profile, Rows
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
        self._open: Rows = np.empty((BLOCK_ROWS, columns))
        self._open_rows = 0

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
