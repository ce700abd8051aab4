"""Polls `/drift` of all ready pods of each service.

The key of a service is enqueued only when something that its status shows has changed.
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

from aiops_operator import podsview, shadow
from aiops_operator.api import InferenceService
from aiops_operator.drift import Answer, Memory, Pod, Second, adjusted, merge, merge_second, taken_over
from aiops_operator.errors import PodError
from aiops_operator.metrics import Metrics
from aiops_operator.names import Key
from aiops_operator.podclient import PodClient
from aiops_operator.podsview import Finding, Mounted
from aiops_operator.shadow import Compared
from aiops_operator.tracing import span_of

JITTER: Final = 0.1

logger = logging.getLogger(__name__)


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
        view = podsview.pods_view(tracked.service, ready, tracked.mounted, tracked.memory.finding, self._timing.clock())
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
            detected = podsview.detected(finding, service.drift)
            acknowledged = bool(detected) and podsview.acknowledged(service)
            self._metrics.set_drift(service.key, said, detected=detected, acknowledged=acknowledged)
        agreement = tracked.second.compared.agreement if tracked.second else None
        self._metrics.set_shadow(tracked.service.key, agreement)


def _continued(tracked: _Tracked, service: InferenceService, second: Second | None) -> Second | None:
    """What is known of a second revision is kept, and judged by the thresholds of now."""
    known = tracked.second
    if second is None or known is None or known.revision != second.revision:
        return second
    return replace(known, pods=second.pods, memory=adjusted(known.memory, tracked.service.drift, service.drift))
