"""Copies of answered rows for a second model, the shadow, and how far its predictions are from those that were answered.

Clients never wait for it: their answers are out before a copy is made, the copies that wait are bounded, and one request is on
its way at a time, twenty a second at most. What comes of a copy:

| the shadow | the rows are |
| --- | --- |
| answers with a prediction for each | compared |
| answers with anything else, or not in time | failed; of several requests those that fail when they are told apart |
| is not there, or turns requests away (408, 429, 502, 503, 504) | dropped: that says nothing of its model |

Rows that find too many waiting are dropped too.

One shadow gets the copies of all pods that serve, which may be more than it can take, and that says nothing of its model
either: a POST has as many rows as are answered soon. The first has one row, the next twice as many as one that was answered
within a second, or half as many as one that was not. Each step up has been earned by the answer before, so that pods which
all begin, or have more to send, at once do not fill its queue with rows that nobody waits for in the end.
"""

import asyncio
import contextlib
import importlib
import itertools
import math
import re
import secrets
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from aiops_drift import Agreement, Shadowed
from aiops_inference.codec import encode
from aiops_inference.errors import describe
from aiops_inference.settings import ShadowSettings
from aiops_inference.telemetry import Log, Metrics, Sampler

if TYPE_CHECKING:
    import httpx

Rows = npt.NDArray[np.float64]

WAITING_ROWS: Final = 4096
WAITING_VALUES: Final = 1 << 20  # of all waiting rows and their predictions together
FIRST_ROWS: Final = 1  # of the first POST
MOST_ROWS: Final = 1024  # of any
MOST_VALUES: Final = 1 << 15  # of one: a millisecond of making JSON, and a body below 1 MiB
GATHER: Final = 0.25  # seconds in which rows gather, unless they are enough before: one POST for many costs less
PACE: Final = 0.05  # seconds of pause for each POST that was made: predictions come first, and 20,000 rows a second do
TIMEOUT: Final = 5.0  # seconds for one POST, from the connection to the end of the answer
SOON: Final = 1.0  # of these; an answer that takes longer makes POSTs smaller, long before one is given up
HANGS: Final = MOST_ROWS.bit_length()  # POSTs on end without an answer in time: as many as it takes to halve to one row
CONNECT_TIMEOUT: Final = 2.0  # of these; one that is not made in time says nothing of the model
MAX_ANSWER_BYTES: Final = 1 << 20
MOST_POSTS: Final = 64  # to tell the requests of one failed POST apart
APART_SECONDS: Final = 60.0  # after which no further one is begun: enough to find the one row of many that it hangs on
PAUSE: Final = 1.0  # seconds after a POST of which nothing could be compared
QUIET: Final = 60.0  # seconds without a failure after which the log says that all is well, and would tell of a new one
CLOSE_TIMEOUT: Final = 1.0  # seconds for the connection to be closed
OK: Final = 200
AWAY: Final = frozenset({408, 429, 502, 503, 504})
MAX_DETAIL: Final = 200  # characters of the shadow's own words in a log line
_REASON: Final = re.compile("[A-Za-z]{1,64}")
NUMBERS: Final = "biuf"  # the kinds of arrays
HEADERS: Final = {"content-type": "application/json", "accept-encoding": "identity"}


class AwayError(Exception):
    """The shadow is not there, or has no time."""


class RefusedError(Exception):
    """The shadow did not answer with a prediction for each row.

    Attributes:
        problem: what it said, without anything that may be of a row.
    """

    def __init__(self, problem: str, detail: str = "") -> None:
        super().__init__(f"{problem}: {detail}" if detail else problem)
        self.problem = problem


class LateError(RefusedError):
    """The shadow did not answer in time."""


class Copied(NamedTuple):
    """Rows of answered requests, one request after another; a tuple, because one is made for every call of the model.

    Attributes:
        rows: shape (n, F).
        said: what was answered, as plain values, one a row.
        sizes: rows of each request, n together.
    """

    rows: Rows
    said: list[Any]
    sizes: list[int]

    def cut(self, at: int) -> "tuple[Copied, Copied]":
        """The first `at` rows, of 0 to n, and the others; a request that has rows of both becomes two."""
        first = cut_sizes(self.sizes, at)
        rest = self.sizes[len(first) :]
        if (left := sum(self.sizes[: len(first)]) - at) > 0:
            rest = [left, *rest]
        return Copied(self.rows[:at], self.said[:at], first), Copied(self.rows[at:], self.said[at:], rest)

    def halves(self) -> "tuple[Copied, Copied]":
        """The first half of several requests, and the second; of several rows where there is one request."""
        half = len(self.sizes) // 2
        return self.cut(sum(self.sizes[:half]) if half else self.rows.shape[0] // 2)


def cut_sizes(sizes: Sequence[int], at: int) -> list[int]:
    """Rows of each request, of the first `at` rows alone."""
    starts = itertools.accumulate(sizes, initial=0)
    return [min(size, at - start) for size, start in zip(sizes, starts, strict=False) if start < at]


def most_rows(values: int) -> int:
    """How many rows one POST has at most, with so many values each."""
    return max(1, min(MOST_ROWS, MOST_VALUES // values))


def compared(task: str, said: list[Any], predictions: object) -> Agreement | None:
    """How far the shadow's predictions are from what was answered; None where they have another form.

    Args:
        task: of the model that answered, `classification` or `regression`.
        said: what it answered, as plain values, one a row.
        predictions: what the shadow's JSON has in that place.
    """
    if not isinstance(predictions, list) or len(predictions) != len(said):
        return None
    first = _table(said) if task == "regression" else None
    if first is not None:
        second = _table(predictions)
        return None if second is None or first.shape != second.shape else Agreement.of_values(first, second)
    answered = orjson.loads(encode(said))  # as clients read it: a date has become a text
    if set(map(_width, answered)) != set(map(_width, predictions)):
        return None
    return Agreement.of_classes(answered, predictions)


def _table(values: list[Any]) -> Rows | None:
    """Numbers, shape (n,) or (n, …), NaN for null; None for anything else, texts of numbers too."""
    try:
        table = np.asarray(values)
        return table.astype(np.float64) if table.dtype.kind in NUMBERS + "O" else None
    except (ArithmeticError, TypeError, ValueError):  # lists of different lengths, for one
        return None


def _width(value: object) -> int | None:
    """How many outputs a prediction has; 0 where it is not a list, None where it is none."""
    if isinstance(value, dict):
        return None
    return len(value) if isinstance(value, list) else 0


def refused(status: str, document: Mapping[str, Any]) -> RefusedError:
    """What an error of the shadow's says: its sentence may repeat a row, its reason does not."""
    reason, detail = document.get("reason"), document.get("error")
    word = f", {reason}" if isinstance(reason, str) and _REASON.fullmatch(reason) else ""
    return RefusedError(status + word, detail[:MAX_DETAIL] if isinstance(detail, str) else "")


def _object(content: bytes) -> dict[str, Any]:
    """The JSON object of an answer; an empty one where it is none."""
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


class Mirror:
    """The copies for one shadow, from `start` to `stop`; `offer` is all that the request path sees of it."""

    def __init__(
        self,
        settings: ShadowSettings,
        task: str,
        metrics: Metrics,
        log: Log,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin a count; `task` is that of the model whose answers are compared."""
        self._settings = settings
        self._task = task
        self._results = metrics.shadow_rows
        self._dropped = metrics.shadow_rows.labels("dropped")
        self._log = log
        self._clock = clock
        self._sampler = Sampler(settings.share)
        self._incarnation = secrets.token_hex(8)
        self._agreement = Agreement()
        self._problem = ""
        self._waiting: deque[Copied] = deque()
        self._rows = 0
        self._most = FIRST_ROWS
        self._unanswered = 0
        self._some = asyncio.Event()
        self._enough = asyncio.Event()
        self._told: set[type[Exception]] = set()
        self._failed_at = -math.inf
        self._worker: asyncio.Task[None] | None = None

    @property
    def shadowed(self) -> Shadowed:
        """What was found so far, as `/drift` carries it."""
        return Shadowed(self._incarnation, self._settings.revision, self._agreement, self._problem)

    def change(self, settings: ShadowSettings | None) -> bool:
        """Take settings of the same shadow, whose count goes on; False where they are of another, or of none."""
        before = self._settings
        if settings is None or (settings.url, settings.revision) != (before.url, before.revision):
            return False
        if settings.share != before.share:
            self._settings, self._sampler = settings, Sampler(settings.share)
        return True

    def start(self) -> None:
        """Begin to send."""
        settings = self._settings
        self._log.info("shadow", message="rows are copied", revision=settings.revision, url=settings.url)
        self._worker = asyncio.create_task(self._send_all(), name="shadow")

    async def stop(self) -> None:
        """Forget what waits, and close the connection, within a second."""
        if self._worker is None:
            return
        self._worker.cancel()
        await asyncio.wait({self._worker}, timeout=CLOSE_TIMEOUT)
        self._worker = None
        self._waiting.clear()
        found = self._agreement
        counts = {"rows": found.rows, "differing": found.differing, "failed": found.failed}
        self._log.info("shadow", message="rows are copied no more", revision=self._settings.revision, **counts)

    def offer(self, rows: Rows, said: list[Any], sizes: Sequence[int], answered: Sequence[bool]) -> None:
        """Let copies of requests' rows wait, as many requests as are sampled and as many rows as there is room for.

        Args:
            rows: of requests that were predicted together, shape (n, F).
            said: what was predicted, as plain values, one a row.
            sizes: rows of each request.
            answered: whether it was answered with its predictions; the others are left out.
        """
        sampled = answered if self._settings.share == 1 else [each and self._sampler() for each in answered]
        if not any(sampled):
            return
        if not all(sampled):
            starts = itertools.accumulate(sizes, initial=0)
            kept = [slice(start, start + size) for start, size, yes in zip(starts, sizes, sampled, strict=False) if yes]
            rows, said = np.concatenate([rows[each] for each in kept]), [one for each in kept for one in said[each]]
            sizes = list(itertools.compress(sizes, sampled))
        most = min(WAITING_ROWS, WAITING_VALUES // _values(rows, said))
        room = max(0, most - self._rows)
        if rows.shape[0] > room:
            self._dropped.inc(rows.shape[0] - room)
            sizes = cut_sizes(sizes, room)
        if not sizes:
            return
        # A copy: what is kept of a large request does not keep the rest of it in memory, and nobody else can write to it.
        copied = Copied(rows[:room].copy(), said[:room], list(sizes))
        self._waiting.append(copied)
        self._rows += copied.rows.shape[0]
        self._some.set()
        if self._rows >= most_rows(_values(rows, said)):
            self._enough.set()

    def _take(self) -> Copied:
        """What has waited longest, as much as one POST may have."""
        parts: list[Copied] = []
        most = most_rows(_values(self._waiting[0].rows, self._waiting[0].said))
        room = most if self._hangs else min(most, self._most)
        while self._waiting and room > 0:
            part = self._waiting.popleft()
            if part.rows.shape[0] > room:
                part, rest = part.cut(room)
                self._waiting.appendleft(rest)
            room -= part.rows.shape[0]
            parts.append(part)
        taken = Copied(
            np.concatenate([part.rows for part in parts]),
            list(itertools.chain.from_iterable(part.said for part in parts)),
            list(itertools.chain.from_iterable(part.sizes for part in parts)),
        )
        self._rows -= taken.rows.shape[0]
        if self._rows < most:
            self._enough.clear()
        if not self._waiting:
            self._some.clear()
        return taken

    async def _send_all(self) -> None:
        # In a thread, because it takes a third of a second in which predictions go on; most pods have no shadow to pay for.
        httpx = await asyncio.to_thread(importlib.import_module, "httpx")
        async with httpx.AsyncClient(
            # No certificates of authorities are read, which takes as long: the shadow speaks http.
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            trust_env=False,
            follow_redirects=False,
            headers=HEADERS,
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT),  # each POST has one limit for all its phases
        ) as client:
            while True:
                await self._some.wait()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(GATHER):
                        await self._enough.wait()
                taken, pause = self._take(), PAUSE
                try:
                    pause = await self._send(client, taken)
                except Exception as error:  # noqa: BLE001 - whatever one POST does, the next one has its turn
                    self._complain("dropped", error)
                    self._dropped.inc(taken.rows.shape[0])
                await asyncio.sleep(pause)

    async def _send(self, client: "httpx.AsyncClient", taken: Copied) -> float:
        """Have the shadow predict, and where it fails for several requests, tell them apart by halves.

        A model that fails for one row in a thousand costs some twenty POSTs so, and not a thousand. What is not answered in
        time is told apart to the single row: fewer rows may be answered in time, and then none has failed.

        Returns:
            Seconds until the next POST.
        """
        parts, posts, until, found = [taken], 0, math.inf, Agreement()
        while parts and posts <= MOST_POSTS and self._clock() <= until:
            part = parts.pop()
            rows, posts = part.rows.shape[0], posts + 1
            try:
                agreement = await self._ask(client, part)
            except AwayError as error:
                self._complain("dropped", error)
                parts.append(part)
                break
            except RefusedError as error:
                until = min(until, self._clock() + APART_SECONDS)
                if (rows if isinstance(error, LateError) else len(part.sizes)) > 1 and not self._hangs:
                    parts += reversed(part.halves())
                    continue
                self._complain("failed", error)
                self._problem = self._problem or error.problem
                agreement = Agreement(failed=rows)
            found += agreement
            self._count(agreement)
        self._dropped.inc(sum(part.rows.shape[0] for part in parts))
        if not parts and not found.failed:
            self._be_content()
        return posts * PACE if found.rows else max(posts * PACE, PAUSE)

    async def _ask(self, client: "httpx.AsyncClient", part: Copied) -> Agreement:
        """What one POST says; how long that takes says how many rows the next one has.

        Raises:
            AwayError: nothing that has to do with the model.
            RefusedError: that it has no prediction for each row, or nothing for too long (LateError).
        """
        rows, begun = part.rows.shape[0], self._clock()
        self._most = max(1, rows // 2)  # unless it answers soon
        status, content = await self._post(client, encode({"inputs": part.rows}))
        message = f"HTTP {status}"
        if status in AWAY:
            raise AwayError(message)
        self._unanswered = 0
        if self._clock() < begun + SOON:
            self._most = 2 * rows
        if status != OK:
            raise refused(message, _object(content))
        predictions = _object(content).get("predictions")
        agreement = compared(self._task, part.said, predictions)
        if agreement is None:
            message = f"no prediction of the same form for each row in at most {MAX_ANSWER_BYTES} bytes of JSON"
            raise RefusedError(message)
        return agreement

    async def _post(self, client: "httpx.AsyncClient", body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer; nothing of a body that is too long.

        Raises:
            AwayError: there is none.
            LateError: there is none in time.
        """
        content = bytearray()
        try:
            async with (
                asyncio.timeout(TIMEOUT),
                client.stream("POST", f"{self._settings.url}/predict", content=body) as response,
            ):
                async for chunk in response.aiter_raw():  # as it comes: what is compressed has no bound
                    content += chunk
                    if len(content) > MAX_ANSWER_BYTES:
                        return response.status_code, b""
                return response.status_code, bytes(content)
        except TimeoutError as error:
            self._unanswered += 1
            message = f"no answer within {TIMEOUT:g} s"
            raise LateError(message) from error
        except Exception as error:
            raise AwayError(describe(error)) from error

    @property
    def _hangs(self) -> bool:
        """Whether it has answered nothing for so long that rows are neither few nor told apart any more: all have failed."""
        return self._unanswered >= HANGS

    def _count(self, agreement: Agreement) -> None:
        self._agreement += agreement
        self._results.labels("compared").inc(agreement.rows)
        self._results.labels("failed").inc(agreement.failed)

    def _complain(self, result: str, error: Exception) -> None:
        """One line for the first failure of a kind, and none for those that follow it."""
        self._failed_at = self._clock()
        if type(error) not in self._told:
            self._told.add(type(error))
            self._log.warning("shadow", result=result, revision=self._settings.revision, message=describe(error))

    def _be_content(self) -> None:
        """All was compared: after some time the failures before are over."""
        if self._told and self._clock() > self._failed_at + QUIET:
            self._told.clear()
            self._log.info("shadow", message="it answers again", revision=self._settings.revision)


def _values(rows: Rows, said: list[Any]) -> int:
    """Of each row and its prediction."""
    features: int = rows.shape[1]
    return features + (_width(said[0]) or 1)
