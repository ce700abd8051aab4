"""Posts CloudEvents to the one sink that the administrator configured: in order, off the reconciles' path, never to a tenant's URL.

What may pass (408, 429, 5xx, no answer) is tried again after a random part of a pause that doubles, or after what Retry-After
says, if that is not long. Delivery is at least once while the process lives, and is not made up for after a crash.
"""

import asyncio
import contextlib
import logging
import random
import time
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from aiops_operator import cloudevent, retryafter
from aiops_operator.cloudevent import Event
from aiops_operator.metrics import Metrics

QUEUE: Final = 1024  # events that may wait: one for each of a thousand services that drift at once
ATTEMPTS: Final = 6
FIRST_PAUSE: Final = 1.0  # at most so many seconds before the second attempt, doubled before each further one
LONGEST_RETRY_AFTER: Final = 30.0  # seconds that a receiver may ask for
TIMEOUT: Final = 5.0  # seconds for one attempt, from the connection to the status of the answer
FLUSH_SECONDS: Final = 5.0  # that the end of the process waits for what is queued
SERVER_ERROR: Final = 500
PASSING: Final = frozenset({408, 429})
REDIRECTION: Final = 300

logger = logging.getLogger(__name__)


class Sink:
    """One receiver, and what waits to be sent to it."""

    def __init__(self, url: str, secret: bytes, metrics: Metrics, *, first_pause: float = FIRST_PAUSE) -> None:
        """Prepare; `secret` is the key of the signature, empty for none."""
        self._url = url
        self._secret = secret
        self._metrics = metrics
        self._first_pause = first_pause
        self._queue: asyncio.Queue[Event] = asyncio.Queue(QUEUE)
        self._undelivered = 0
        self._worker: asyncio.Task[None] | None = None
        # A receiver's path often is its password: only the host is ever written down.
        self._host = urlsplit(url).hostname or ""

    def start(self) -> None:
        """Begin to deliver."""
        self._worker = asyncio.create_task(self._deliver_all(), name="sink")

    async def stop(self) -> None:
        """Deliver what is queued, for a few seconds, and end; what is left then is counted as dropped."""
        if self._worker is None:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._queue.join(), FLUSH_SECONDS)
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)
        self._worker = None
        if self._undelivered:
            self._count("dropped", self._undelivered)
            logger.warning("%d drift events for %s are dropped at the end", self._undelivered, self._host)

    def tell(self, event: Event) -> None:
        """Queue an event; never waits."""
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self._count("dropped")
            logger.warning("drift event %s is dropped: %d wait for %s", event.id, QUEUE, self._host)
            return
        self._waiting(1)

    async def _deliver_all(self) -> None:
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None),  # each attempt has one limit for all its phases
            headers={"User-Agent": "aiops-operator"},
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=True,  # a sink outside the cluster may be behind the administrator's proxy
        ) as session:
            while True:
                event = await self._queue.get()
                self._count(await self._deliver(session, event))
                self._waiting(-1)
                self._queue.task_done()

    async def _deliver(self, session: aiohttp.ClientSession, event: Event) -> str:
        problem = ""
        for attempt in range(1, ATTEMPTS + 1):
            retry_after = None
            try:
                async with asyncio.timeout(TIMEOUT):
                    code, retry_after = await self._post(session, event)
            except TimeoutError:
                problem = f"no answer within {TIMEOUT:g} s"
            except Exception as error:  # noqa: BLE001 - whatever one delivery does, the next one has its turn
                problem = type(error).__name__  # its text may have the URL in it
            else:
                if code < REDIRECTION:
                    logger.info("drift event %s is delivered to %s", event.id, self._host)
                    return "delivered"
                problem = f"HTTP {code}"
                if code < SERVER_ERROR and code not in PASSING:
                    logger.warning("drift event %s is refused by %s: %s", event.id, self._host, problem)
                    return "refused"
            if attempt < ATTEMPTS:
                await asyncio.sleep(self._pause(attempt, retry_after))
        logger.warning("drift event %s cannot be delivered to %s: %s", event.id, self._host, problem)
        return "failed"

    async def _post(self, session: aiohttp.ClientSession, event: Event) -> tuple[int, float | None]:
        sent = cloudevent.headers(event, self._secret, time.time())
        # The body of the answer is not read: it says nothing, and may have no end.
        async with session.post(self._url, data=event.body, headers=sent, allow_redirects=False) as response:
            return response.status, retryafter.seconds(response.headers.get("Retry-After", ""), LONGEST_RETRY_AFTER)

    def _pause(self, attempt: int, retry_after: float | None) -> float:
        if retry_after is not None:
            return retry_after
        return random.uniform(0, self._first_pause * 2 ** (attempt - 1))  # noqa: S311 - no secret hangs on it

    def _count(self, result: str, events: int = 1) -> None:
        self._metrics.sink_events.labels(result).inc(events)

    def _waiting(self, change: int) -> None:
        self._undelivered += change
        self._metrics.sink_queue.set(self._undelivered)
