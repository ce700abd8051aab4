"""Polls `/drift` of all ready pods of each service and merges what they say into one verdict a service.

A missed poll loses nothing and a repeated one adds nothing: a cursor per incarnation remembers the blocks already seen. The
key of a service is enqueued only when something that its status shows has changed.
"""

import asyncio
import datetime as dt
import json
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import aiohttp

from aiops_drift import Cursor, DriftError, Expectations, Report, State, advance, observe, verdict
from aiops_operator import status
from aiops_operator.api import Drift, InferenceService
from aiops_operator.errors import PodError
from aiops_operator.metrics import Metrics
from aiops_operator.names import CONTAINER_PORT, Key
from aiops_operator.status import Finding, Mounted, Problem

HTTP_OK: Final = 200
CONCURRENCY: Final = 64
TIMEOUT: Final = 3.0  # seconds for one answer
MAX_REPORT: Final = 16 * 2**20  # bytes: 512 blocks of 256 features
MAX_HEALTH: Final = 64 * 2**10
CHUNK: Final = 64 * 2**10
SILENT_ROUNDS: Final = 6  # polls without any answer after which the verdict is unknown
MAX_CURSORS: Final = 512  # incarnations remembered a service: more than a rollout of 100 pods makes
JITTER: Final = 0.1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pod:
    """A pod that can be asked.

    Attributes:
        name: of the pod.
        address: IP.
        newest: whether it is of the newest template.
    """

    name: str
    address: str
    newest: bool


@dataclass(frozen=True)
class Memory:
    """What is remembered of one service between two polls.

    Attributes:
        state: the rows that count, and whether drift is on.
        identity: digests of the model and the profile that these rows belong to; None before the first answer.
        names: the features, in the order of the columns.
        cursors: how far each incarnation was read, least lately used first.
        incarnations: the incarnation that each pod last spoke of, by pod.
        silent_rounds: polls on end that no pod answered.
        finding: what all this says.
    """

    state: State = field(default_factory=State)
    identity: tuple[str, str] | None = None
    names: tuple[str, ...] = ()
    cursors: Mapping[str, Cursor] = field(default_factory=dict)
    incarnations: Mapping[str, str] = field(default_factory=dict)
    silent_rounds: int = 0
    finding: Finding = field(default_factory=Finding)


def taken_over(service: InferenceService) -> Memory:
    """The memory of an operator that has just started: an episode in the status is neither forgotten nor begun again."""
    reason = status.condition_of(service.status, "DriftDetected").get("reason")
    episode = bool((service.status.get("drift") or {}).get("episode"))
    model = (service.status.get("model") or {}).get("digest")
    drifting = episode and reason != "ExpectationsFailed"
    return Memory(state=State(drifting=drifting), identity=(model, "") if model else None)


def merge(memory: Memory, answers: Mapping[Pod, Report | PodError], drift: Drift) -> Memory:
    """Merge one round of answers into what is remembered, and judge.

    Only pods that serve the model and profile of the newest template's pods are merged; another model or profile begins
    anew. Blocks are stepped through in their order of closing, whichever pod they are from.
    """
    reports = {pod: answer for pod, answer in answers.items() if isinstance(answer, Report)}
    if not reports:
        return _silent(memory, [str(answer) for answer in answers.values()])
    identity = _identity(memory.identity, reports)
    memory = _of_identity(memory, identity, reports)
    cursors, blocks = dict(memory.cursors), []
    for report in reports.values():
        if (report.model, report.profile) != identity or report.features != memory.names:
            continue
        try:
            cursor, fresh = advance(cursors.pop(report.incarnation, None), report)
        except DriftError:
            logger.warning("incarnation %s contradicts itself and is read anew", report.incarnation)
            continue
        cursors[report.incarnation] = cursor
        blocks += [((block.closed, report.incarnation, block.number), block) for block in fresh]
    ordered = [block for _, block in sorted(blocks, key=lambda entry: entry[0])]
    merged = [report for report in reports.values() if (report.model, report.profile) == identity]
    memory = replace(
        memory,
        state=observe(memory.state, ordered, memory.names, drift.thresholds),
        cursors=dict(list(cursors.items())[-MAX_CURSORS:]),
        incarnations={pod.name: report.incarnation for pod, report in reports.items()},
        silent_rounds=0,
    )
    finding = Finding(
        polled=True,
        verdict=verdict(memory.state, memory.names, drift.thresholds),
        expectations=merged_expectations(merged),
        models={pod.name: report.model for pod, report in reports.items()},
    )
    return replace(memory, finding=finding)


def judged(memory: Memory, drift: Drift) -> Memory:
    """The same rows under the thresholds of now."""
    if memory.finding.verdict is None:
        return memory
    state = observe(memory.state, (), memory.names, drift.thresholds)
    finding = replace(memory.finding, verdict=verdict(state, memory.names, drift.thresholds))
    return replace(memory, state=state, finding=finding)


def merged_expectations(reports: Sequence[Report]) -> Expectations:
    """One answer for all pods: the worst that any of them says."""
    for state in ("failed", "error", "passed", "pending"):
        said = [report.expectations for report in reports if report.expectations.state == state]
        if said:
            failed = {name for expectations in said for name in expectations.failed}
            rows = sum(expectations.evaluated_rows for expectations in said)
            return Expectations(said[0].state, rows, tuple(sorted(failed)), min(entry.message for entry in said))
    return Expectations()


def _silent(memory: Memory, errors: Sequence[str]) -> Memory:
    rounds = memory.silent_rounds + 1
    silent = memory.finding.silent
    if rounds >= SILENT_ROUNDS and errors:
        silent = f"No pod answers: {min(errors)}"
    return replace(memory, silent_rounds=rounds, finding=replace(memory.finding, polled=True, silent=silent))


def _identity(before: tuple[str, str] | None, reports: Mapping[Pod, Report]) -> tuple[str, str]:
    newest = [report for pod, report in reports.items() if pod.newest] or list(reports.values())
    served = [(report.model, report.profile) for report in newest]
    return max(sorted(set(served)), key=lambda identity: (served.count(identity), identity == before))


def _of_identity(memory: Memory, identity: tuple[str, str], reports: Mapping[Pod, Report]) -> Memory:
    if memory.identity == identity:
        return memory
    names = next(report.features for report in reports.values() if (report.model, report.profile) == identity)
    # After a takeover only the model is known, from the status: its episode goes on, another model's does not.
    goes_on = memory.identity is None or memory.identity == (identity[0], "")
    state = State(drifting=memory.state.drifting and goes_on)
    return Memory(state=state, identity=identity, names=names)


@dataclass(frozen=True)
class Timing:
    """When to poll.

    Attributes:
        interval: seconds between two polls of a service, ±10%.
        clock: the time of day, for what the status shows.
        rng: spreads the polls of many services.
    """

    interval: float
    clock: Callable[[], dt.datetime]
    rng: random.Random


@dataclass
class _Tracked:
    """One service's task and what it works on."""

    service: InferenceService
    pods: tuple[Pod, ...]
    mounted: Mounted
    memory: Memory
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None


class PodClient:
    """Asks pods over HTTP, trusting neither the time they take nor the size of what they say."""

    def __init__(self, *, port: int = CONTAINER_PORT) -> None:
        self._port = port
        self._limit = asyncio.Semaphore(CONCURRENCY)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def report(self, address: str, after: int | None = None) -> Report:
        """Read `GET /drift`, only blocks with a greater number than `after` where it is given.

        Raises:
            PodError: no answer in time, one that is too large, or one that is not the document.
        """
        query = f"?after={after}" if after is not None else ""
        code, body = await self._get(address, f"/drift{query}", MAX_REPORT)
        if code != HTTP_OK:
            message = f"/drift answered {code}"
            raise PodError(message)
        try:
            return Report.from_dict(json.loads(body))
        except (ValueError, RecursionError) as error:  # DriftError is a ValueError
            message = f"/drift is not understood: {error}"
            raise PodError(message) from error

    async def problem(self, address: str) -> Problem | None:
        """What a pod that is not ready says of itself on /health; None where it says nothing of use."""
        try:
            code, body = await self._get(address, "/health", MAX_HEALTH)
            document = json.loads(body)
        except (PodError, ValueError, RecursionError):
            return None
        if code == HTTP_OK or not isinstance(document, dict) or not document.get("reason"):
            return None
        reason = status.reason_or(document["reason"], "PodNotReady")
        message = str(document.get("message", ""))[: status.MAX_MESSAGE]
        return Problem(reason, message, stalled=reason in status.FATAL_POD_REASONS)

    async def _get(self, address: str, path: str, limit: int) -> tuple[int, bytes]:
        host = f"[{address}]" if ":" in address else address
        url = f"http://{host}:{self._port}{path}"
        try:
            async with self._limit, self._open().get(url, allow_redirects=False) as response:
                body = bytearray()
                async for chunk in response.content.iter_chunked(CHUNK):
                    body += chunk
                    if len(body) > limit:
                        message = f"{path} is larger than {limit} bytes"
                        raise PodError(message)
                return response.status, bytes(body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            message = f"no answer from {url}: {error or type(error).__name__}"
            raise PodError(message) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONCURRENCY),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT),
                auto_decompress=False,
                headers={"Accept-Encoding": "identity", "User-Agent": "aiops-operator"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


class Poller:
    """Keeps one task a service, which asks its pods every `interval` seconds."""

    def __init__(self, client: PodClient, enqueue: Callable[[Key], None], metrics: Metrics, timing: Timing) -> None:
        self._client = client
        self._enqueue = enqueue
        self._metrics = metrics
        self._timing = timing
        self._tracked: dict[Key, _Tracked] = {}

    def track(self, service: InferenceService, pods: Sequence[Pod], mounted: Mounted) -> Finding:
        """Ask these pods from now on, judge what is known by the thresholds of now, and say what that gives."""
        tracked = self._tracked.get(service.key)
        if tracked is None or tracked.service.uid != service.uid:
            self.forget(service.key)
            tracked = _Tracked(service, (), mounted, taken_over(service))
            tracked.task = asyncio.create_task(self._poll_forever(tracked), name=f"poller of {service.key}")
            self._tracked[service.key] = tracked
        if tracked.service.drift != service.drift:
            tracked.memory = judged(tracked.memory, service.drift)
        if tracked.pods != tuple(pods):
            tracked.wake.set()  # a new pod is asked at once: the model it has loaded is waited for
        tracked.service, tracked.pods, tracked.mounted = service, tuple(pods), mounted
        self._publish(tracked)
        return tracked.memory.finding

    def written(self, key: Key, document: Mapping[str, Any]) -> None:
        """Remember the status as written, so that only what differs from it is a cause."""
        tracked = self._tracked.get(key)
        if tracked is not None:
            tracked.service = replace(tracked.service, status=document)

    def forget(self, key: Key) -> None:
        """Stop asking a service that is gone."""
        tracked = self._tracked.pop(key, None)
        if tracked is not None and tracked.task is not None:
            tracked.task.cancel()
        self._metrics.forget(key)

    async def close(self) -> None:
        """Stop asking altogether."""
        tasks = [tracked.task for tracked in self._tracked.values() if tracked.task is not None]
        self._tracked.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _poll_forever(self, tracked: _Tracked) -> None:
        while True:
            tracked.wake.clear()
            try:
                await self._poll(tracked)
            except Exception:  # a service's poller outlives whatever its pods may answer
                logger.exception("polling %s failed", tracked.service.key)
            pause = self._timing.interval * self._timing.rng.uniform(1 - JITTER, 1 + JITTER)
            try:
                await asyncio.wait_for(tracked.wake.wait(), pause)
            except TimeoutError:
                continue

    async def _poll(self, tracked: _Tracked) -> None:
        pods = tracked.pods
        if not pods:
            return
        started = time.perf_counter()
        answers = await asyncio.gather(*(self._ask(tracked.memory, pod) for pod in pods))
        tracked.memory = merge(tracked.memory, dict(zip(pods, answers, strict=True)), tracked.service.drift)
        self._metrics.poll_seconds.observe(time.perf_counter() - started)
        self._publish(tracked)
        ready = [pod.name for pod in tracked.pods]
        view = status.pods_view(tracked.service, ready, tracked.mounted, tracked.memory.finding, self._timing.clock())
        if not view.is_shown_by(tracked.service.status):
            self._enqueue(tracked.service.key)

    async def _ask(self, memory: Memory, pod: Pod) -> Report | PodError:
        incarnation = memory.incarnations.get(pod.name, "")
        cursor = memory.cursors.get(incarnation)
        try:
            report = await self._client.report(pod.address, cursor.number if cursor else None)
            if cursor and report.incarnation != incarnation:
                # Another process: a number of the one before means nothing to it.
                report = await self._client.report(pod.address)
        except PodError as error:
            self._metrics.polls.labels("error").inc()
            return error
        self._metrics.polls.labels("success").inc()
        return report

    def _publish(self, tracked: _Tracked) -> None:
        finding = tracked.memory.finding
        if finding.verdict is not None:
            detected = status.detected(finding, tracked.service.drift)
            score, samples = finding.verdict.score, finding.verdict.samples
            self._metrics.set_drift(tracked.service.key, score=score, samples=samples, detected=detected)
