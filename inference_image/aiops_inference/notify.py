"""Webhooks: drift is posted off the request path, with a cooldown, a few retries and a bounded queue.

A receiver is given five seconds an attempt, whatever it does with them. What may pass (408, 429, 5xx, no answer) is tried
again after a random part of a pause that doubles, or after what the receiver's Retry-After says, if that is not long.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from aiops_inference import cloudevent
from aiops_inference.cloudevent import Event
from aiops_inference.errors import describe
from aiops_inference.telemetry import Log, Metrics

if TYPE_CHECKING:
    import httpx

QUEUE: Final = 32  # webhooks that may wait; the cooldown makes more of them unlikely
ATTEMPTS: Final = 4
FIRST_PAUSE: Final = 0.5  # at most so many seconds before the second attempt, doubled before each further one
LONGEST_RETRY_AFTER: Final = 30.0  # seconds that a receiver may ask for
TIMEOUT: Final = 5.0  # seconds for one attempt, from the connection to the end of the answer
FLUSH_TIMEOUT: Final = 5.0  # seconds that a shutdown waits for what is queued
CLOSE_TIMEOUT: Final = 1.0  # seconds for connections to be closed after that
SERVER_ERROR: Final = 500
PASSING: Final = frozenset({408, 429})
REDIRECTION: Final = 300


class Notifier:
    """Posts CloudEvents to one URL, in order, one at a time."""

    def __init__(  # noqa: PLR0913 - the last two are for tests
        self,
        url: str,
        metrics: Metrics,
        log: Log,
        *,
        secret: bytes = b"",
        clock: Callable[[], float] = time.monotonic,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        """Prepare; `secret` is the key of the signature, empty for none."""
        self._url = url
        self._metrics = metrics
        self._log = log
        self._secret = secret
        self._clock = clock
        self._first_pause = first_pause
        self._queue: asyncio.Queue[Event] = asyncio.Queue(QUEUE)
        self._quiet_until: dict[str, float] = {}
        self._undelivered = 0
        self._worker: asyncio.Task[None] | None = None
        # A webhook's path often is its password: only the host is ever written down.
        self.host = urlsplit(url).hostname or ""

    def start(self) -> None:
        """Begin to deliver."""
        self._worker = asyncio.create_task(self._deliver_all(), name="webhook")

    async def stop(self) -> None:
        """Deliver what is queued, for a few seconds, and end; what is left then is counted as dropped."""
        if self._worker is None:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._queue.join(), FLUSH_TIMEOUT)
        self._worker.cancel()
        await asyncio.wait({self._worker}, timeout=CLOSE_TIMEOUT)
        self._worker = None
        if self._undelivered:
            self._metrics.webhooks.labels("dropped").inc(self._undelivered)
            self._log.warning("webhook", result="dropped", host=self.host, message=f"{self._undelivered} at the end")

    def notify(self, service: str, detector: str, data: Mapping[str, Any], cooldown: float) -> bool:
        """Queue a webhook, unless one of this detector was queued within the last `cooldown` seconds; never waits."""
        now = self._clock()
        if now < self._quiet_until.get(detector, now):
            self._metrics.webhooks.labels("suppressed").inc()
            return False
        try:
            self._queue.put_nowait(cloudevent.drift_detected(service, detector, data, time.time()))
        except asyncio.QueueFull:
            self._metrics.webhooks.labels("dropped").inc()
            return False
        self._undelivered += 1
        self._quiet_until[detector] = now + cooldown
        return True

    async def _deliver_all(self) -> None:
        import httpx  # noqa: PLC0415 - most pods have no webhook and need not pay for its import

        async with httpx.AsyncClient(timeout=None) as client:  # noqa: S113 - each attempt has one limit for all its phases
            while True:
                event = await self._queue.get()
                result = await self._deliver(client, event)
                self._undelivered -= 1
                self._metrics.webhooks.labels(result).inc()
                if result != "delivered":
                    # Nobody was told: the next drift may try again at once.
                    self._quiet_until.pop(event.detector, None)
                self._queue.task_done()

    async def _deliver(self, client: "httpx.AsyncClient", event: Event) -> str:
        problem = ""
        for attempt in range(1, ATTEMPTS + 1):
            retry_after = None
            try:
                async with asyncio.timeout(TIMEOUT):
                    sent = cloudevent.headers(event, self._secret, time.time())
                    response = await client.post(self._url, content=event.body, headers=sent)
            except TimeoutError:
                problem = f"no answer within {TIMEOUT:g} s"
            except Exception as error:  # noqa: BLE001 - whatever one delivery does, the next one has its turn
                problem = describe(error)
            else:
                status = response.status_code
                if status < REDIRECTION:
                    self._log.info("webhook", result="delivered", host=self.host, attempts=attempt)
                    return "delivered"
                problem = f"HTTP {status}"
                if status < SERVER_ERROR and status not in PASSING:
                    self._log.warning("webhook", result="refused", host=self.host, message=problem)
                    return "refused"
                retry_after = _seconds(response.headers.get("retry-after", ""))
            if attempt < ATTEMPTS:
                await asyncio.sleep(self._pause(attempt, retry_after))
        self._log.warning("webhook", result="failed", host=self.host, message=problem, attempts=ATTEMPTS)
        return "failed"

    def _pause(self, attempt: int, retry_after: float | None) -> float:
        if retry_after is not None:
            return min(retry_after, LONGEST_RETRY_AFTER)
        # The whole of it by chance, so that pods that saw the same drift do not come back together.
        return random.uniform(0, self._first_pause * 2 ** (attempt - 1))  # noqa: S311 - no secret hangs on it


def _seconds(retry_after: str) -> float | None:
    """The header in seconds; None where it is missing or a date, which clocks that disagree would make nonsense of."""
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None
