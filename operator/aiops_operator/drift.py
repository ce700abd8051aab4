"""Polls `/drift` of all ready pods of each service and merges what they say into one verdict a service.

A missed poll loses nothing and a repeated one adds nothing: a cursor per incarnation remembers the blocks already seen. The
key of a service is enqueued only when something that its status shows has changed.
"""

import asyncio
import datetime as dt
import logging
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import aiohttp
import orjson

from aiops_drift import (
    RATE_SECONDS,
    Agreement,
    Baseline,
    Cursor,
    Expectations,
    Report,
    Shadowed,
    State,
    Thresholds,
    advance,
    in_order,
    observe,
    reconsider,
    reports_from,
    run_length,
    verdict,
)
from aiops_drift.verdict import RECOVERY_FRACTION, WINDOW_ROWS
from aiops_operator import shadow, status
from aiops_operator.api import Drift, InferenceService
from aiops_operator.errors import PodError
from aiops_operator.metrics import Metrics
from aiops_operator.names import CONTAINER_PORT, Key
from aiops_operator.shadow import Compared
from aiops_operator.status import Finding, Mounted, Problem
from aiops_operator.tracing import span_of

HTTP_OK: Final = 200
CONCURRENCY: Final = 32
TIMEOUT: Final = 3.0  # seconds for one answer
MAX_REPORT: Final = 4 * 2**20  # bytes: more than the blocks that a pod keeps of the most features it may have
MAX_HEALTH: Final = 64 * 2**10
CHUNK: Final = 64 * 2**10
SILENT_ROUNDS: Final = 6  # polls without any answer after which the verdict is unknown
MAX_CURSORS: Final = 256  # incarnations remembered a service: more than a rollout of 100 pods makes
MAX_COUNTS: Final = 256  # processes whose comparisons are remembered, beyond those that live
MAX_CURSOR_NUMBERS: Final = 2**17  # the same, times features: a pod may change its incarnation at each poll
BATCH_ROWS: Final = 50  # rows that a pod gathers before it validates them
JITTER: Final = 0.1
BY_WEIGHT: Final = ("failed", "error", "passed", "pending", "disabled")  # of expectations, the worst first

Answer = tuple[Report, ...] | PodError

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
class Heard:
    """What a pod said when it last answered.

    Attributes:
        incarnation: the identity of the counts of the process that speaks of expectations.
        serves: digests of its model and its profile.
        expectations: what Great Expectations last said in it.
        said_at: rows of the service that had been merged when they first said so.
        incarnations: the identities of the counts of all processes.
    """

    incarnation: str
    serves: tuple[str, str]
    expectations: Expectations
    said_at: int
    incarnations: tuple[str, ...]


@dataclass(frozen=True)
class Memory:
    """What is remembered of one service between two polls.

    Attributes:
        state: the rows that count, and whether drift is on.
        identity: digests of the model and the profile that these rows belong to; None before the first answer.
        baseline: what the rules know of the profile; None before the first answer.
        cursors: how far each incarnation was read, least lately used first.
        rows: all rows merged.
        counting_from: when counting began, by the pods' clocks, and the rows merged by then; None before the first answer.
        row_rate: rows per second since; None where that is too short a time to say.
        heard: what each pod last said, by pod; one that misses a poll is not forgotten.
        silent_rounds: polls on end that no pod answered.
        settled_at: when the verdict of a status that was taken over was last settled as no drift; rows from before are not
            judged again, for the rows of other pods that settled it may be gone.
        finding: what all this says.
    """

    state: State = field(default_factory=State)
    identity: tuple[str, str] | None = None
    baseline: Baseline | None = None
    cursors: Mapping[str, Cursor] = field(default_factory=dict)
    rows: int = 0
    counting_from: tuple[float, int] | None = None
    row_rate: float | None = None
    heard: Mapping[str, Heard] = field(default_factory=dict)
    silent_rounds: int = 0
    settled_at: dt.datetime | None = None
    finding: Finding = field(default_factory=Finding)


@dataclass(frozen=True)
class Second:
    """A revision that is compared with the one that serves.

    Attributes:
        revision: its hash.
        pods: those of it that can be asked.
        memory: of what they say of the rows that they are given.
        heard: what each process of the serving pods has compared, by its identity, least lately heard first.
    """

    revision: str
    pods: tuple[Pod, ...]
    memory: Memory = field(default_factory=Memory)
    heard: Mapping[str, Shadowed] = field(default_factory=dict)

    @property
    def compared(self) -> Compared:
        """What all this says."""
        agreement = sum((shadowed.agreement for shadowed in self.heard.values()), Agreement())
        # The same one of several each time: what is shown must not go to and fro.
        problem = min((shadowed.problem for shadowed in self.heard.values() if shadowed.problem), default="")
        return Compared(agreement, self.memory.finding, problem)


def taken_over(service: InferenceService) -> Memory:
    """The memory of an operator that has just started: an episode in the status is neither forgotten nor begun again."""
    model = (service.status.get("model") or {}).get("digest")
    return Memory(
        state=State(drifting=_was_drifting(service.status)),
        identity=(model, "") if model else None,
        settled_at=_settled_at(service.status),
    )


def _settled_at(written: Mapping[str, Any]) -> dt.datetime | None:
    condition = status.condition_of(written, "DriftDetected")
    if condition.get("status") in (None, "True"):
        return None
    try:
        return dt.datetime.fromisoformat(condition["lastTransitionTime"])
    except (KeyError, TypeError, ValueError):
        return None


def _was_drifting(written: Mapping[str, Any]) -> bool:
    """Whether the episode in a status is one of scores; expectations that failed say so again by themselves."""
    drift, reason = written.get("drift") or {}, status.condition_of(written, "DriftDetected").get("reason")
    if not drift.get("episode") or reason == "ExpectationsFailed":
        return False
    try:
        beyond = float(drift["score"]) > RECOVERY_FRACTION * float(drift["threshold"])
    except (KeyError, TypeError, ValueError):
        beyond = False
    return beyond or reason == "ScoreAboveThreshold"


def merge(memory: Memory, answers: Mapping[Pod, Answer], drift: Drift, *, oldest: float = math.inf) -> Memory:
    """Merge one round of answers into what is remembered, and judge.

    At first contact with a pod only blocks of at most `oldest` seconds count.

    Only pods that serve the model and profile of the newest template's pods are merged; another model or profile begins
    anew. Blocks are stepped through in their order of closing, whichever pod they are from.
    """
    told = {pod: answer for pod, answer in answers.items() if not isinstance(answer, PodError)}
    if not told:
        return _silent(memory, [str(answer) for answer in answers.values()])
    # All processes of a pod serve the same: the first speaks for them.
    firsts = {pod: answer[0] for pod, answer in told.items()}
    reports = [report for answer in told.values() for report in answer]
    identity = _identity(memory.identity, firsts)
    memory, baseline = _of_identity(memory, identity, firsts)
    cursors, read = dict(memory.cursors), []
    for report in reports:
        if (report.model, report.profile) != identity or report.baseline != baseline:
            continue
        known = cursors.pop(report.incarnation, None)
        cursors[report.incarnation], fresh = advance(known, report)
        if known is None:
            fresh = tuple(block for block in fresh if report.now - block.closed <= oldest)
        read.append((report, fresh))
    blocks = in_order(read)
    rows = memory.rows + sum(block.counts.n for block in blocks)
    remembered = max(2 * max(len(answers), len(reports)), min(MAX_CURSORS, MAX_CURSOR_NUMBERS // len(baseline.names)))
    now = max(report.now for report in reports)
    counting_from = memory.counting_from or (now, rows)
    seconds = now - counting_from[0]
    memory = replace(
        memory,
        counting_from=counting_from,
        row_rate=(rows - counting_from[1]) / seconds if seconds >= RATE_SECONDS else memory.row_rate,
    )
    asked = thresholds(memory, drift)
    memory = replace(
        memory,
        state=observe(memory.state, blocks, baseline, asked),
        cursors=dict(list(cursors.items())[-remembered:]),
        rows=rows,
        heard=_heard(memory.heard, answers, rows),
        silent_rounds=0,
    )
    finding = Finding(
        polled=True,
        verdict=verdict(memory.state, baseline, asked),
        expectations=merged_expectations(timely_expectations(memory)),
        models={pod: heard.serves[0] for pod, heard in memory.heard.items()},
    )
    return replace(memory, finding=finding)


def merge_second(second: Second, answers: Mapping[Pod, Answer], own: Mapping[Pod, Answer], drift: Drift) -> Second:
    """Merge what serving pods say of a second revision, and what its `own` pods say of their rows."""
    heard = dict(second.heard)
    for report in (report for answer in answers.values() if not isinstance(answer, PodError) for report in answer):
        if report.shadowed is not None and report.shadowed.revision == second.revision:
            heard.pop(report.shadowed.incarnation, None)
            heard[report.shadowed.incarnation] = report.shadowed
    remembered = MAX_COUNTS + len(answers)
    return replace(
        second,
        memory=merge(second.memory, own, drift) if own else second.memory,
        heard=dict(list(heard.items())[-remembered:]),
    )


def adjusted(memory: Memory, before: Drift, after: Drift) -> Memory:
    """What is remembered when the resource asks for something else.

    Rows are judged anew where what they are compared with has changed, and there alone: an episode that is acknowledged
    half-way through its recovery, or a webhook's cooldown, must not end it.
    """
    return memory if thresholds(memory, before) == thresholds(memory, after) else judged(memory, after)


def judged(memory: Memory, drift: Drift) -> Memory:
    """The same rows under thresholds that have changed."""
    if memory.finding.verdict is None or memory.baseline is None:
        return memory
    asked = thresholds(memory, drift)
    state = reconsider(memory.state, memory.baseline, asked)
    finding = replace(memory.finding, verdict=verdict(state, memory.baseline, asked))
    return replace(memory, state=state, finding=finding)


def thresholds(memory: Memory, drift: Drift) -> Thresholds:
    """What the resource asks for, with its false-alarm interval in rows."""
    rows = run_length(drift.average_run_length, drift.false_alarm_interval, memory.row_rate)
    return replace(drift.thresholds, run_length=rows)


def timely_expectations(memory: Memory) -> list[Expectations]:
    """What the pods of the current model say, without failures that the service's rows have left behind.

    A pod that gets no more rows validates none: its last failure counts until the others have seen as many rows as the
    window holds, and as all pods together need for a batch each; of several processes in a pod one validates, its share.
    """
    patience = max(WINDOW_ROWS, BATCH_ROWS * sum(len(heard.incarnations) for heard in memory.heard.values()))
    said = [heard for heard in memory.heard.values() if heard.serves == memory.identity]
    return [
        Expectations("pending")
        if heard.expectations.state == "failed" and memory.rows - heard.said_at > patience
        else heard.expectations
        for heard in said
    ]


def _heard(before: Mapping[str, Heard], answers: Mapping[Pod, Answer], rows: int) -> dict[str, Heard]:
    heard = {}
    for pod, answer in answers.items():
        past = before.get(pod.name)
        if not isinstance(answer, PodError):
            heard[pod.name] = _heard_of(past, answer, rows)
        elif past is not None:
            heard[pod.name] = past
    return heard


def _heard_of(past: Heard | None, reports: Sequence[Report], rows: int) -> Heard:
    speaker = min(reports, key=lambda report: BY_WEIGHT.index(report.expectations.state))
    incarnations = tuple(report.incarnation for report in reports)
    serves = (speaker.model, speaker.profile)
    if past is not None and past.serves == serves:
        missing = len(reports) < len(past.incarnations) and past.incarnation not in incarnations
        if missing and speaker.expectations.state == "disabled":
            return past  # the one that validates has missed a poll: it is not forgotten
        if (past.incarnation, past.expectations) == (speaker.incarnation, speaker.expectations):
            return replace(past, incarnations=incarnations)
    return Heard(speaker.incarnation, serves, speaker.expectations, rows, incarnations)


def merged_expectations(pods: Sequence[Expectations]) -> Expectations:
    """One answer for all pods: the worst that any of them says."""
    for state in BY_WEIGHT[:-1]:
        said = [expectations for expectations in pods if expectations.state == state]
        if said:
            failed = {name for expectations in said for name in expectations.failed}
            rows = sum(expectations.evaluated_rows for expectations in said)
            message = min(entry.message for entry in said)
            return Expectations(said[0].state, rows, failed=tuple(sorted(failed)), message=message)
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


def _of_identity(memory: Memory, identity: tuple[str, str], reports: Mapping[Pod, Report]) -> tuple[Memory, Baseline]:
    if memory.identity == identity and memory.baseline is not None:
        return memory, memory.baseline
    baseline = next(report.baseline for report in reports.values() if (report.model, report.profile) == identity)
    # After a takeover only the model is known, from the status: its episode goes on, another model's does not.
    goes_on = memory.identity is None or memory.identity == (identity[0], "")
    state = State(drifting=memory.state.drifting and goes_on)
    return Memory(state=state, identity=identity, baseline=baseline, settled_at=memory.settled_at), baseline


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
    second: Second | None = None
    gist: tuple[object, ...] = ()
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None


class PodClient:
    """Asks pods over HTTP, trusting neither the time they take nor the size of what they say."""

    def __init__(self, *, port: int = CONTAINER_PORT) -> None:
        self._port = port
        self._limit = asyncio.Semaphore(CONCURRENCY)
        self._reading = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def report(self, address: str, after: int | None = None) -> tuple[Report, ...]:
        """Read `GET /drift`, a report of each process, only blocks with a greater number than `after` where it is given.

        Raises:
            PodError: no answer in time, one that is too large, or one that is not the document.
        """
        query = f"?after={after}" if after is not None else ""
        code, body = await self._get(address, f"/drift{query}", MAX_REPORT)
        if code != HTTP_OK:
            message = f"/drift answered {code}"
            raise PodError(message)
        try:
            # One at a time, with a turn for all other work before each: a hostile answer takes a third of a second.
            async with self._reading:
                await asyncio.sleep(0)
                return reports_from(orjson.loads(body))
        except (ValueError, RecursionError) as error:  # DriftError is a ValueError
            message = f"/drift is not understood: {error}"
        # Outside the except block: an error that is kept must not keep what a pod has sent.
        raise PodError(message)

    async def problem(self, address: str) -> Problem | None:
        """What a pod that is not ready says of itself on /health; None where it says nothing of use."""
        try:
            code, body = await self._get(address, "/health", MAX_HEALTH)
            document = orjson.loads(body)
        except (PodError, ValueError, RecursionError):
            return None
        return None if code == HTTP_OK else status.said_by_pod(document)

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

    def track(
        self, service: InferenceService, pods: Sequence[Pod], mounted: Mounted, second: Second | None = None
    ) -> Finding:
        """Ask these pods from now on, judge what is known by the thresholds of now, and say what that gives.

        `second` is a revision to be compared with theirs, of which nothing need be known: what is, is kept.
        """
        tracked = self._tracked.get(service.key)
        if tracked is None or tracked.service.uid != service.uid:
            self.forget(service.key)
            tracked = _Tracked(service, (), mounted, taken_over(service))
            tracked.task = asyncio.create_task(self._poll_forever(tracked), name=f"poller of {service.key}")
            self._tracked[service.key] = tracked
        tracked.memory = adjusted(tracked.memory, tracked.service.drift, service.drift)
        second = _continued(tracked, service, second)
        if tracked.pods != tuple(pods) or (second and second.pods) != (tracked.second and tracked.second.pods):
            tracked.wake.set()  # a new pod is asked at once: the model it has loaded is waited for
        tracked.service, tracked.pods, tracked.mounted, tracked.second = service, tuple(pods), mounted, second
        tracked.gist = shadow.gist(service, second.compared) if second else ()
        self._publish(tracked)
        return tracked.memory.finding

    def compared(self, key: Key) -> Compared:
        """What is known of the second revision; nothing where there is none."""
        tracked = self._tracked.get(key)
        return tracked.second.compared if tracked is not None and tracked.second is not None else Compared()

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
                # With no pods there is nothing to ask until there is one.
                await asyncio.wait_for(tracked.wake.wait(), pause if tracked.pods else None)
            except TimeoutError:
                continue

    async def _poll(self, tracked: _Tracked) -> None:
        pods = tracked.pods
        if not pods:
            return
        started = time.perf_counter()
        with span_of("drift poll", tracked.service.key):
            second = tracked.second
            beside = second.pods if second else ()
            answers = await asyncio.gather(
                *(self._ask(tracked.memory, pod) for pod in pods),
                *(self._ask(second.memory, pod) for pod in beside if second),
            )
        settled_at = tracked.memory.settled_at
        oldest = (self._timing.clock() - settled_at).total_seconds() if settled_at else math.inf
        round_ = dict(zip(pods, answers[: len(pods)], strict=True))
        if second is not None and tracked.second is not None and tracked.second.revision == second.revision:
            own = dict(zip(beside, answers[len(pods) :], strict=True))
            tracked.second = merge_second(tracked.second, round_, own, tracked.service.drift)
        tracked.memory = merge(tracked.memory, round_, tracked.service.drift, oldest=oldest)
        self._metrics.poll_seconds.observe(time.perf_counter() - started)
        self._publish(tracked)
        ready = [pod.name for pod in tracked.pods]
        view = status.pods_view(tracked.service, ready, tracked.mounted, tracked.memory.finding, self._timing.clock())
        news = tracked.second and shadow.gist(tracked.service, tracked.second.compared) != tracked.gist
        if news or not view.is_shown_by(tracked.service.status):
            self._enqueue(tracked.service.key)

    async def _ask(self, memory: Memory, pod: Pod) -> Answer:
        known = memory.heard.get(pod.name)
        # A number is one process's: where several count, all tell what they keep.
        incarnation = known.incarnation if known and len(known.incarnations) == 1 else ""
        cursor = memory.cursors.get(incarnation)
        try:
            reports = await self._client.report(pod.address, cursor.number if cursor else None)
            if cursor and [report.incarnation for report in reports] != [incarnation]:
                # Another process: a number of the one before means nothing to it.
                reports = await self._client.report(pod.address)
        except PodError as error:
            self._metrics.polls.labels("error").inc()
            return error
        except Exception as error:  # whatever one pod may answer, the others are heard
            logger.exception("pod %s could not be polled", pod.name)
            self._metrics.polls.labels("error").inc()
            return PodError(f"/drift is not understood: {type(error).__name__}")
        self._metrics.polls.labels("success").inc()
        return reports

    def _publish(self, tracked: _Tracked) -> None:
        finding = tracked.memory.finding
        monitored = tracked.service.monitoring.mode != "none"
        self._metrics.monitored_pods.labels(*tracked.service.key).set(len(tracked.pods) if monitored else 0)
        if finding.verdict is not None:
            service, said = tracked.service, finding.verdict
            detected = status.detected(finding, service.drift)
            acknowledged = bool(detected) and status.acknowledged(service)
            self._metrics.set_drift(service.key, said, detected=detected, acknowledged=acknowledged)
        agreement = tracked.second.compared.agreement if tracked.second else None
        self._metrics.set_shadow(tracked.service.key, agreement)


def _continued(tracked: _Tracked, service: InferenceService, second: Second | None) -> Second | None:
    """What is known of a second revision is kept, and judged by the thresholds of now."""
    known = tracked.second
    if second is None or known is None or known.revision != second.revision:
        return second
    return replace(known, pods=second.pods, memory=adjusted(known.memory, tracked.service.drift, service.drift))
