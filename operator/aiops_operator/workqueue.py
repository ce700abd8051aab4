"""The work queue: one worker a key at most, causes coalesced, errors retried with backoff, everything resynced with jitter.

Pure asyncio, no I/O. A cause that arrives while its key is worked on leads to one more run afterwards, however many arrive. Where
the API server asks for patience (Retry-After), the key's next run is no earlier, whatever its cause.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from aiops_operator.errors import ApiError, ConflictError
from aiops_operator.metrics import Metrics

FIRST_BACKOFF: Final = 0.5  # seconds
LARGEST_BACKOFF: Final = 60.0
WORKERS: Final = 16
JITTER: Final = 0.1
DRAIN_SECONDS: Final = 5.0  # what running work gets to finish in at shutdown

logger = logging.getLogger(__name__)
KeyT = TypeVar("KeyT", bound=Hashable)


@dataclass(frozen=True)
class Done:
    """How a run ended.

    Attributes:
        again_after: seconds to the next run without a cause, at most the resync interval, which None is.
        forget: the key is gone, and nothing more is planned for it.
    """

    again_after: float | None = None
    forget: bool = False


@dataclass
class _Entry:
    task: "asyncio.Task[None] | None" = None
    dirty: bool = False
    due: asyncio.TimerHandle | None = None
    failures: int = 0
    earliest: float = 0.0
    since: float = field(default=0.0)


class WorkQueue(Generic[KeyT]):
    """Runs `work` for keys."""

    def __init__(
        self,
        work: Callable[[KeyT], Awaitable[Done]],
        metrics: Metrics,
        *,
        resync: float,
        rng: random.Random,
        workers: int = WORKERS,
    ) -> None:
        self._work = work
        self._metrics = metrics
        self._resync = resync
        self._rng = rng
        self._slots = asyncio.Semaphore(workers)
        self._entries: dict[KeyT, _Entry] = {}
        self._waiting = 0
        self._closed = False

    @property
    def keys(self) -> tuple[KeyT, ...]:
        """All keys known: worked on, waiting, or planned."""
        return tuple(self._entries)

    def add(self, key: KeyT) -> None:
        """There is a cause to work on this key now."""
        if self._closed:
            return
        entry = self._entries.setdefault(key, _Entry())
        loop = asyncio.get_running_loop()
        if entry.due is not None:
            if loop.time() < entry.earliest:
                return  # the run that is planned sees this cause too
            entry.due.cancel()
            entry.due = None
        if entry.task is not None:
            entry.dirty = True
            return
        entry.since = loop.time()
        entry.task = loop.create_task(self._run(key, entry), name=f"worker for {key}")
        self._count(1)

    def add_all(self) -> None:
        """There is a cause for every known key, such as a kind that the cluster has begun to serve."""
        for key in self.keys:
            self.add(key)

    async def close(self) -> None:
        """Plan nothing more, let running work finish for a while, then cancel it."""
        self._closed = True
        for entry in self._entries.values():
            if entry.due is not None:
                entry.due.cancel()
        running = [entry.task for entry in self._entries.values() if entry.task is not None]
        if running:
            _, late = await asyncio.wait(running, timeout=DRAIN_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        self._entries.clear()

    async def _run(self, key: KeyT, entry: _Entry) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with self._slots:
                self._count(-1)
                self._metrics.queue_seconds.observe(loop.time() - entry.since)
                entry.dirty = False  # what came while waiting is seen by the run that begins now
                with self._metrics.active_workers.track_inprogress():
                    started = loop.time()
                    done = await self._once(key, entry)
                    self._metrics.reconcile_seconds.observe(loop.time() - started)
        finally:
            entry.task = None
        if self._closed:
            return
        patience = entry.earliest - loop.time()
        if entry.dirty and patience <= 0:
            self.add(key)
        elif done.forget:
            self._entries.pop(key, None)
        else:
            pause = self._jittered(self._resync)
            pause = pause if done.again_after is None else min(pause, done.again_after)
            entry.due = loop.call_later(max(pause, patience), self._come_due, key, entry)

    def _come_due(self, key: KeyT, entry: _Entry) -> None:
        entry.due = None
        self.add(key)

    async def _once(self, key: KeyT, entry: _Entry) -> Done:
        try:
            done = await self._work(key)
        except Exception as error:
            entry.failures += 1
            patience = error.retry_after if isinstance(error, ApiError) else 0.0
            entry.earliest = asyncio.get_running_loop().time() + patience
            backoff = self._jittered(min(LARGEST_BACKOFF, FIRST_BACKOFF * 2 ** min(entry.failures - 1, 16)))
            pause = max(backoff, patience)
            self._metrics.reconciles.labels("error").inc()
            self._metrics.reconcile_errors.inc()
            if isinstance(error, ConflictError):
                logger.info("%s changed meanwhile, again in %.1f s: %s", key, pause, error)
            elif isinstance(error, ApiError):
                logger.warning("%s failed, again in %.1f s: %s", key, pause, error)
            else:
                logger.exception("%s failed, again in %.1f s", key, pause)
            return Done(again_after=pause)
        entry.failures = 0
        result = "forgotten" if done.forget else "success" if done.again_after is None else "requeue"
        self._metrics.reconciles.labels(result).inc()
        return done

    def _count(self, change: int) -> None:
        self._waiting += change
        self._metrics.queue_depth.set(self._waiting)

    def _jittered(self, seconds: float) -> float:
        return seconds * self._rng.uniform(1 - JITTER, 1 + JITTER)
