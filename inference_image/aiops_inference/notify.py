"""Webhooks: drift is posted off the request path, with a cooldown, a few retries and a bounded queue."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from aiops_inference.codec import encode
from aiops_inference.errors import describe
from aiops_inference.telemetry import Log, Metrics

if TYPE_CHECKING:
    import httpx

QUEUE: Final = 32  # webhooks that may wait; the cooldown makes more of them unlikely
ATTEMPTS: Final = 4
FIRST_PAUSE: Final = 0.5  # seconds before the second attempt, doubled before each further one
TIMEOUT: Final = 5.0  # seconds for one attempt
FLUSH_TIMEOUT: Final = 5.0  # seconds that a shutdown waits for what is queued
SERVER_ERROR: Final = 500
TOO_MANY_REQUESTS: Final = 429
REDIRECTION: Final = 300


class Notifier:
    """Posts JSON to one URL, in order, one at a time."""

    def __init__(
        self,
        url: str,
        metrics: Metrics,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        self._url = url
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._first_pause = first_pause
        self._queue: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue(QUEUE)
        self._quiet_until: dict[str, float] = {}
        self._worker: asyncio.Task[None] | None = None
        # A webhook's path often is its password: only the host is ever written down.
        self.host = urlsplit(url).hostname or ""

    def start(self) -> None:
        """Begin to deliver."""
        self._worker = asyncio.create_task(self._deliver_all(), name="webhook")

    async def stop(self) -> None:
        """Deliver what is queued, for a few seconds, and end."""
        if self._worker is None:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._queue.join(), FLUSH_TIMEOUT)
        self._worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._worker
        self._worker = None

    def notify(self, detector: str, payload: Mapping[str, Any], cooldown: float) -> bool:
        """Queue a webhook, unless one of this detector was queued within the last `cooldown` seconds; never waits."""
        now = self._clock()
        if now < self._quiet_until.get(detector, now):
            self._metrics.webhooks.labels("suppressed").inc()
            return False
        try:
            self._queue.put_nowait({"event": "drift", "detector": detector, **payload})
        except asyncio.QueueFull:
            self._metrics.webhooks.labels("dropped").inc()
            return False
        self._quiet_until[detector] = now + cooldown
        return True

    async def _deliver_all(self) -> None:
        import httpx  # noqa: PLC0415 - most pods have no webhook and need not pay for its import

        async with httpx.AsyncClient(timeout=TIMEOUT) as client:
            while True:
                payload = await self._queue.get()
                try:
                    result = await self._deliver(client, payload)
                finally:
                    self._queue.task_done()
                self._metrics.webhooks.labels(result).inc()
                if result != "delivered":
                    # Nobody was told: the next drift may try again at once.
                    self._quiet_until.pop(str(payload["detector"]), None)

    async def _deliver(self, client: "httpx.AsyncClient", payload: Mapping[str, Any]) -> str:
        pause, problem = self._first_pause, ""
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(pause)
                pause *= 2
            try:
                response = await client.post(
                    self._url, content=encode(payload), headers={"content-type": "application/json"}
                )
            except Exception as error:  # noqa: BLE001 - whatever one delivery does, the next one has its turn
                problem = describe(error)
                continue
            status = response.status_code
            if status < REDIRECTION:
                self._log.info("webhook", result="delivered", host=self.host, attempts=attempt + 1)
                return "delivered"
            problem = f"HTTP {status}"
            if status < SERVER_ERROR and status != TOO_MANY_REQUESTS:
                self._log.warning("webhook", result="refused", host=self.host, message=problem)
                return "refused"
        self._log.warning("webhook", result="failed", host=self.host, message=problem, attempts=ATTEMPTS)
        return "failed"
