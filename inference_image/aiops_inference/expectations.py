"""Great Expectations beside the server: samples rows, feeds the process that validates, and restarts it when it dies."""

import asyncio
import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from aiops_drift import Expectations
from aiops_inference.codec import encode
from aiops_inference.telemetry import Log, Metrics

Rows = npt.NDArray[np.float64]

MIN_BATCH_ROWS: Final = 50  # fewer say little about a mean or a range
MAX_WAITING_ROWS: Final = 1000  # a sample is enough: a verdict costs about the same for 10 rows and for 10,000
MAX_WAITING_VALUES: Final = 1_000_000  # of all waiting rows together, 8 MB
INTERVAL: Final = 1.0  # seconds between the starts of two validations, at least
START_TIMEOUT: Final = 300.0  # seconds for the import, which takes 3 on a free processor
BATCH_TIMEOUT: Final = 120.0
FIRST_PAUSE: Final = 1.0  # seconds before a restart, doubled up to LONGEST_PAUSE
LONGEST_PAUSE: Final = 60.0
MAX_LINE: Final = 1 << 20
KILL_TIMEOUT: Final = 2.0  # seconds for a killed process to be gone; one in an uninterruptible wait may never be

COMMAND: Final = (sys.executable, "-m", "aiops_inference.validator")


class ChildDiedError(Exception):
    """The validating process ended or went silent."""


class Validator:
    """The server's side of the validating process; `offer` is all that the request path sees of it.

    Attributes:
        expectations: the current verdict, as `/drift` carries it.
    """

    def __init__(  # noqa: PLR0913 - the last four are what tests replace
        self,
        features: tuple[str, ...],
        metrics: Metrics,
        log: Log,
        on_failure: Callable[[Expectations], None],
        *,
        interval: float = INTERVAL,
        first_pause: float = FIRST_PAUSE,
        command: tuple[str, ...] = COMMAND,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._features = features
        self._metrics = metrics
        self._log = log
        self._on_failure = on_failure
        self._interval = interval
        self._first_pause = first_pause
        self._command = command
        self._most = max(MIN_BATCH_ROWS, min(MAX_WAITING_ROWS, MAX_WAITING_VALUES // len(features)))
        self._clock = clock
        self._waiting: deque[tuple[float, Rows]] = deque()  # with the time at which they came
        self._rows = 0
        self._taking = False
        self._validating_since: float | None = None  # when the oldest row of the batch that is being validated came
        self._validated = 0
        self._enough = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self.expectations = Expectations()
        metrics.watch_expectations(lambda: self.expectations.state, lambda: self.lag, lambda: self._rows)

    @property
    def lag(self) -> float:
        """Seconds since the oldest row came that has no verdict yet, waiting or being validated; 0 where there is none."""
        if self._validating_since is not None:
            return self._clock() - self._validating_since
        return self._clock() - self._waiting[0][0] if self._waiting else 0.0

    @property
    def pid(self) -> int | None:
        """The validating process, while there is one."""
        return self._process.pid if self._process else None

    def start(self, suite: bytes) -> None:
        """Begin to validate against the suite's bytes; nothing happens where it has begun already."""
        if self._task is None:
            self.expectations = Expectations("pending", batches=self._validated)
            self._taking = True
            self._task = asyncio.create_task(self._supervise(suite), name="expectations")

    async def stop(self, message: str = "") -> None:
        """End the process and forget what waits; the state becomes `disabled`."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._forget()
        self.expectations = Expectations(message=message, batches=self._validated)

    def offer(self, rows: Rows) -> None:
        """Let some rows wait for validation; newer ones push out the oldest."""
        if not self._taking:
            return
        latest = rows[-self._most :]
        self._waiting.append((self._clock(), latest))
        self._rows += latest.shape[0]
        dropped = rows.shape[0] - latest.shape[0]
        while self._rows - self._waiting[0][1].shape[0] >= self._most:
            oldest = self._waiting.popleft()[1].shape[0]
            self._rows -= oldest
            dropped += oldest
        if dropped:
            self._metrics.dropped_rows.inc(dropped)
        if self._rows >= MIN_BATCH_ROWS:
            self._enough.set()

    def _take(self) -> Rows:
        batch = np.concatenate([rows for _, rows in self._waiting])[-self._most :]
        self._validating_since = self._waiting[0][0]
        self._waiting.clear()
        self._rows = 0
        self._enough.clear()
        return np.ascontiguousarray(batch)

    def _forget(self) -> None:
        """Take no more, and let what waits go."""
        self._taking = False
        self._waiting.clear()
        self._rows = 0
        self._enough.clear()

    async def _supervise(self, suite: bytes) -> None:
        pause = self._first_pause
        while True:
            validated = self._validated
            try:
                await self._run(suite)
            except (ChildDiedError, OSError) as error:
                problem = str(error)
            else:
                self._forget()
                return
            if self._validated > validated:
                pause = self._first_pause
            message = f"the validating process {problem}; it is started again"
            self.expectations = Expectations("error", batches=self._validated, message=message)
            self._log.warning("expectations", state="error", message=problem, restart_in_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _run(self, suite: bytes) -> None:
        """One life of the process; returns only where the suite cannot be applied at all.

        Raises:
            ChildDiedError: it ended, or did not answer in time.
            OSError: it could not be started.
        """
        pipe = asyncio.subprocess.PIPE
        nowhere = asyncio.subprocess.DEVNULL  # what libraries print is not in the form of the log
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, stderr=nowhere, limit=MAX_LINE
        )
        self._process = process
        self._metrics.validator_starts.inc()
        died = asyncio.create_task(process.wait(), name="expectations process")
        try:
            hello = await self._ask(
                process, encode({"suite": suite.decode(errors="replace"), "features": self._features})
            )
            if hello.state == "error":
                self._metrics.validations.labels("error").inc()
                self._show(hello)
                return
            while True:
                await self._wait_for_rows(died)
                pace = asyncio.create_task(asyncio.sleep(self._interval))
                try:
                    await self._validate(process, self._take())
                    await pace
                finally:
                    pace.cancel()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.wait({died}, timeout=KILL_TIMEOUT)
            died.cancel()
            self._process = None

    async def _validate(self, process: asyncio.subprocess.Process, batch: Rows) -> None:
        """Have one batch judged. One that the process died of is not tried again: it would die of it again."""
        rows = len(batch)
        try:
            verdict = await self._ask(process, encode({"rows": rows}), batch.tobytes())
        except BaseException:
            self._metrics.dropped_rows.inc(rows)
            raise
        finally:
            self._validating_since = None
        self._publish(verdict, rows)

    async def _wait_for_rows(self, died: "asyncio.Task[int]") -> None:
        enough = asyncio.create_task(self._enough.wait())
        try:
            await asyncio.wait({enough, died}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            enough.cancel()
        if died.done():
            message = f"ended with exit code {died.result()}"
            raise ChildDiedError(message)

    async def _ask(self, process: asyncio.subprocess.Process, line: bytes, content: bytes = b"") -> Expectations:
        assert process.stdin is not None  # noqa: S101 - both are pipes, as asked for above
        assert process.stdout is not None  # noqa: S101
        timeout = BATCH_TIMEOUT if content else START_TIMEOUT
        answer = b""
        try:
            async with asyncio.timeout(timeout):
                process.stdin.write(line + b"\n" + content)
                with contextlib.suppress(ConnectionError):  # it ended: reading says so too, below
                    await process.stdin.drain()
                answer = await process.stdout.readline()
        except TimeoutError as error:
            message = f"did not answer within {timeout:g} s"
            raise ChildDiedError(message) from error
        if not answer.endswith(b"\n"):
            message = f"ended with exit code {await process.wait()}"
            raise ChildDiedError(message)
        verdict: dict[str, Any] = orjson.loads(answer)
        return Expectations(**{**verdict, "batches": self._validated, "failed": tuple(verdict["failed"])})

    def _publish(self, verdict: Expectations, rows: int) -> None:
        self._validated += 1
        self._metrics.validations.labels(verdict.state).inc()
        self._metrics.validated_rows.inc(rows)
        verdict = replace(verdict, batches=self._validated)
        self._show(verdict)
        if verdict.state == "failed":
            self._on_failure(verdict)

    def _show(self, verdict: Expectations) -> None:
        changed = (verdict.state, verdict.failed) != (self.expectations.state, self.expectations.failed)
        self.expectations = verdict
        if changed:
            write = self._log.info if verdict.state == "passed" else self._log.warning
            write("expectations", state=verdict.state, failed=verdict.failed, message=verdict.message)
