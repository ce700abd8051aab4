"""The operator's side: which blocks of each pod are new since the last poll, each exactly once, in order of closing."""

from collections.abc import Iterable
from dataclasses import dataclass

from aiops_drift.counts import Block, Counts
from aiops_drift.wire import Report


@dataclass(frozen=True)
class Cursor:
    """How far one incarnation was read: the last block's number (-1 for none) and the counts up to it."""

    number: int
    counts: Counts


def advance(cursor: Cursor | None, report: Report) -> tuple[Cursor, tuple[Block, ...]]:
    """Read a report on from a cursor (None at first contact with its incarnation).

    A repeated report gives no block; a missed one is made up for by the next. Where more blocks were closed than the pod
    keeps, the missed ones come as one block with their sums, before the kept ones. At first contact only the kept blocks
    are taken: what came before them is history, not evidence.
    """
    last = report.blocks[-1].number if report.blocks else (cursor.number if cursor else -1)
    now = Cursor(last, report.counts)
    if cursor is None:
        return now, report.blocks
    fresh = tuple(block for block in report.blocks if block.number > cursor.number)
    missed = now.counts - cursor.counts
    for block in fresh:
        missed -= block.counts
    if not fresh or missed.n <= 0:
        return (now, fresh) if fresh else (cursor, ())
    return now, (Block(fresh[0].number - 1, fresh[0].closed, missed), *fresh)


def in_order(read: Iterable[tuple[Report, Iterable[Block]]]) -> list[Block]:
    """The new blocks of all pods, oldest first.

    A block's age is by the clock of its own pod, so that clocks which disagree do not put one pod's rows after another's.
    """
    aged = [
        (report.now - block.closed, report.incarnation, block.number, block)
        for report, blocks in read
        for block in blocks
    ]
    return [block for *_, block in sorted(aged, key=lambda entry: (-entry[0], *entry[1:3]))]
