"""One idempotent reconcile for every cause: observe → desired → apply → prune → status.

Nothing is remembered between two runs but what a cache may forget: the digests of artifacts by version of their ConfigMap.
"""

import asyncio
import datetime as dt
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from aiops_operator import cloudevent, names, podsview, resources, retraining, rollback, shadow, status
from aiops_operator.api import ClaimSource, ConfigMapSource, ImageSource, InferenceService, UriSource
from aiops_operator.cluster import Cluster
from aiops_operator.conditions import Problem, condition_of, is_new
from aiops_operator.desired import (
    Capabilities,
    Desired,
    Found,
    World,
    announcements,
    desired,
    monitoring,
    mounted_of,
    superfluous_copies,
)
from aiops_operator.drift import Pod, Second
from aiops_operator.errors import ApiError, ConflictError, ForbiddenError, InvalidError, SpecError
from aiops_operator.live import (
    age_of,
    container_problem,
    contains,
    foreign_problem,
    going,
    has_begun,
    is_ready,
    is_running,
    not_found,
    owner_uid,
    pod_hash,
    refusal,
    restarts_of,
    template_hash,
    version_of,
    with_hash,
)
from aiops_operator.names import Key, Kind
from aiops_operator.podclient import PodClient
from aiops_operator.poller import Poller
from aiops_operator.status import Observation
from aiops_operator.store import Store, is_partial, partial
from aiops_operator.workqueue import Done

WAITING: Final = 5.0  # seconds between looks at what is waited for: references that are not watched, pods that start
ASKED_PODS: Final = 4
# Problems whose end the watches tell of.
WATCHED_REASONS: Final = frozenset(
    {"ArtifactsIncomplete", "ArtifactsNotFound", rollback.ROLLED_BACK, *shadow.REASONS.values()}
)
MAX_CONFLICTS: Final = 4  # tries to apply a child that others write meanwhile

logger = logging.getLogger(__name__)


class Reconciler:
    """Brings the cluster to what an InferenceService says, and the InferenceService's status to what the cluster is."""

    def __init__(  # noqa: PLR0913, PLR0917  the parts of the process, put together in one place
        self,
        cluster: Cluster,
        store: Store,
        pods: PodClient,
        poller: Poller,
        image: str,
        clock: Callable[[], dt.datetime],
        tell: Callable[[cloudevent.Event], None] | None = None,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._pods = pods
        self._poller = poller
        self._image = image
        self._clock = clock
        self._tell = tell
        self._digests: dict[Key, tuple[tuple[str, str], resources.Artifacts]] = {}
        self._put_off: dict[Key, float] = {}
        self.capabilities = Capabilities()
        self.peers: Sequence[Mapping[str, Any]] = ()
        """Who may send requests to every service that limits who may, as a NetworkPolicy writes them."""

    async def reconcile(self, key: Key) -> Done:
        """Work on one service once.

        Raises:
            ApiError: the API server did not do as asked; the same may succeed later.
        """
        body = self._store.get(names.INFERENCE_SERVICE, *key)
        if body is None or "deletionTimestamp" in body["metadata"]:
            # Garbage collection takes the children along; there is nothing to write to what is going.
            self._poller.forget(key)
            self._digests.pop(key, None)
            self._put_off.pop(key, None)
            return Done(forget=body is None)
        try:
            service = InferenceService.from_dict(body)
        except SpecError as error:
            logger.warning("%s cannot be read, is an older CRD installed? %s", key, error)
            return Done()
        live = self._store.get(names.DEPLOYMENT, *key)
        if live is None and not is_new(service.status):
            # Somebody has deleted it, or taken away the label by which it is watched: what it remembers counts all the same.
            live = await self._cluster.get(names.DEPLOYMENT, *key)
        service = service.autoscaled(live["spec"].get("replicas") if live is not None else None)
        world = await self._observe(service, live)
        wanted = desired(world, self._image, self.capabilities, self.peers)
        problem = wanted.problem
        children: dict[tuple[Kind, str], dict[str, Any]] = {**world.children}
        if not service.paused:
            problem, applied = await self._apply(world, wanted)
            children |= applied
            await self._prune(world, wanted)
        world = replace(world, children=children)
        pause = self._puts_off(world, problem)
        if pause:
            return Done(again_after=pause)
        return await self._write_status(body, world, wanted, problem)

    def _puts_off(self, world: World, problem: Problem | None) -> float:
        """Seconds for which the status can wait; 0 for no more."""
        now, key = asyncio.get_running_loop().time(), world.service.key
        waited = now - self._put_off.setdefault(key, now)
        pause = status.pause(world.service, world.own(names.DEPLOYMENT), problem, waited)
        if not pause:
            del self._put_off[key]
        return pause

    # --- observe -------------------------------------------------------------------------------------------------

    async def _observe(self, service: InferenceService, deployment: dict[str, Any] | None) -> World:
        name = service.key.name
        own = {name, names.runtime_config_map(name), names.shadow(name)}
        children = [
            (kind, child)
            for kind in names.CHILD_KINDS
            for child in self._store.of_service(kind, service.key)
            if child["metadata"]["name"] in own
        ]
        copies = [
            entry
            for entry in self._store.of_service(names.CONFIG_MAP, service.key)
            if names.is_model_config_map(name, entry["metadata"]["name"])
        ]
        return World(
            service=service,
            children={(kind, child["metadata"]["name"]): child for kind, child in children}
            | ({(names.DEPLOYMENT, name): deployment} if deployment is not None else {}),
            copies=sorted(copies, key=age_of, reverse=True),
            pods=self._store.of_service(names.POD, service.key),
            artifacts=await self._artifacts(service),
        )

    async def _artifacts(self, service: InferenceService) -> Found | Problem:
        namespace = service.key.namespace
        match service.model.source:
            case ConfigMapSource(name):
                return await self._config_map_artifacts(service, name)
            case ClaimSource(name) as source:
                claim = self._store.get(names.CLAIM, namespace, name)
                if claim is None:
                    return not_found(names.CLAIM.kind, namespace, name)
                if "deletionTimestamp" in claim["metadata"]:
                    return going(names.CLAIM.kind, namespace, name)
                return Found(resources.claim_mount(source))
            case ImageSource() as source:
                return Found(resources.image_mount(source))
            case UriSource() as source:
                return Found(resources.uri_mount(service, source))

    async def _config_map_artifacts(self, service: InferenceService, name: str) -> Found | Problem:
        namespace = service.key.namespace
        found = await self._digested(service, name)
        if found is None:
            return not_found("ConfigMap", namespace, name)
        artifacts, source = found
        model_key = resources.model_key(artifacts.files, service.model.model_file)
        missing = [] if model_key else [service.model.model_file]
        missing += [service.model.baseline_file] if service.model.baseline_file not in artifacts.files else []
        if model_key is None or missing:
            keys = ", ".join(sorted(artifacts.files)) or "none"
            text = f"ConfigMap {namespace}/{name} has no key {' and no key '.join(missing)} (it has: {keys}): add it"
            return Problem("ArtifactsIncomplete", f"{text}, or set spec.model.modelFile and baselineFile.")
        copy_name = names.model_config_map(service.key.name, artifacts.digest)
        there = self._store.get(names.CONFIG_MAP, namespace, copy_name)
        copy = None
        if there is None or owner_uid(there) != service.uid:
            source = source or await self._cluster.get(names.CONFIG_MAP, namespace, name)
            if source is None or resources.artifacts_of(source).digest != artifacts.digest:
                raise ConflictError(409, f"ConfigMap {namespace}/{name} changes while it is read")
            copy = resources.model_config_map(service, source)
        return Found(
            mount=resources.config_map_mount(copy_name, artifacts.digest),
            model=artifacts.files[model_key],
            copy=copy,
        )

    async def _digested(
        self, service: InferenceService, name: str
    ) -> tuple[resources.Artifacts, dict[str, Any] | None] | None:
        """The digests of a ConfigMap's files; it is read in full, and returned, only where its version is not the one read last."""
        namespace = service.key.namespace
        found = self._store.get(names.CONFIG_MAP, namespace, name)
        if found is None:
            return None
        known = self._digests.get(service.key)
        if known is not None and known[0] == version_of(found):
            return known[1], None
        body = await self._cluster.get(names.CONFIG_MAP, namespace, name)
        if body is None:
            return None
        artifacts = resources.artifacts_of(body)
        self._digests[service.key] = (version_of(body), artifacts)
        return artifacts, body

    # --- apply ---------------------------------------------------------------------------------------------------

    async def _apply(
        self, world: World, wanted: Desired
    ) -> tuple[Problem | None, dict[tuple[Kind, str], dict[str, Any]]]:
        """Apply in two steps, so that pods never start before what they mount."""
        first = [child for child in wanted.children if child[0] == names.CONFIG_MAP]
        rest = [child for child in wanted.children if child[0] != names.CONFIG_MAP]
        problem, applied = wanted.problem, {}
        for step in (first, rest):
            results = await asyncio.gather(*(self._apply_child(world, kind, body) for kind, body in step))
            for (kind, body), result in zip(step, results, strict=True):
                if isinstance(result, Problem):
                    # What is wrong with the artifacts explains more than what follows from it.
                    problem = problem or result
                else:
                    applied[kind, body["metadata"]["name"]] = result
        return problem, applied

    async def _apply_child(self, world: World, kind: Kind, body: dict[str, Any]) -> dict[str, Any] | Problem:
        service, name = world.service, body["metadata"]["name"]
        live = await self._live_child(world, kind, name)
        # The autoscaler's number is not what we mean: it must not cause a write.
        stamped = with_hash(body, unmeant="replicas" if service.autoscaling else "")
        for _ in range(MAX_CONFLICTS):
            problem = foreign_problem(service, kind, live) if live is not None else None
            if problem is not None:
                return problem
            if live is not None and contains(live, stamped):
                return live
            try:
                if live is None:
                    # Without force: what somebody else has created a moment ago is not taken over.
                    return self._remembered(kind, await self._cluster.apply(kind, stamped, force=False))
                version = {"resourceVersion": live["metadata"]["resourceVersion"]}
                versioned = {**stamped, "metadata": {**stamped["metadata"], **version}}
                return self._remembered(kind, await self._cluster.apply(kind, versioned, force=True))
            except ConflictError:
                if service.autoscaling is not None and kind == names.DEPLOYMENT and live is not None:
                    raise  # the autoscaler may have another number by now: the next run begins with it
                live = await self._cluster.get(kind, service.key.namespace, name)
            except (InvalidError, ForbiddenError) as error:
                return refusal(service, kind, name, error)
        raise ConflictError(409, f"{kind.kind} {name} is written by others all the time")

    async def _live_child(self, world: World, kind: Kind, name: str) -> dict[str, Any] | None:
        """A child, or whatever has its name: what was not made for a service must not be written over."""
        service, live = world.service, world.children.get((kind, name))
        if live is None and kind in {names.CONFIG_MAP, names.DEPLOYMENT}:
            # Of ConfigMaps all are watched, of Deployments those that an operator has made; another's has another selector, which
            # is one value and always there, so that an apply without force is refused.
            live = self._store.get(kind, service.key.namespace, name)
            if live is None:
                return None
        if live is not None and not is_partial(live):
            return live
        live = await self._cluster.get(kind, service.key.namespace, name)
        if live is not None and owner_uid(live) == service.uid:
            self._store.put(kind, live)
        return live

    def _remembered(self, kind: Kind, answer: dict[str, Any]) -> dict[str, Any]:
        """The answer to a write; the watch that tells of it a moment later is then no news."""
        copy = kind == names.CONFIG_MAP and answer.get("immutable")
        self._store.put(kind, partial(answer) if copy else answer)
        return answer

    async def _prune(self, world: World, wanted: Desired) -> None:
        namespace = world.service.key.namespace
        doomed = [
            (kind, child) for kind, name in wanted.unwanted if (child := world.children.get((kind, name))) is not None
        ]
        doomed += [(names.CONFIG_MAP, copy) for copy in superfluous_copies(world)]
        for kind, child in doomed:
            metadata = child["metadata"]
            if owner_uid(child) == world.service.uid and "deletionTimestamp" not in metadata:
                await self._cluster.delete(kind, namespace, metadata["name"], metadata["uid"])

    # --- status --------------------------------------------------------------------------------------------------

    async def _write_status(
        self, body: Mapping[str, Any], world: World, wanted: Desired, problem: Problem | None
    ) -> Done:
        service, now, deployment = world.service, self._clock(), world.own(names.DEPLOYMENT)
        newest = template_hash(deployment)
        pods = world.pods_of(service.key.name)
        ready, waiting = _ready(pods, newest), [pod for pod in pods if not is_ready(pod) and pod_hash(pod) == newest]
        mounted = mounted_of(world, wanted.revision)
        second, beside_pods = _second(world, wanted)
        unready = [pod for pod in beside_pods if not is_ready(pod)]
        finding = self._poller.track(service, ready, mounted, second)
        heard = shadow.Seen(
            deployment=world.own(names.DEPLOYMENT, names.shadow(service.key.name)),
            problem=await self._pod_problem(unready),
            restarts=max(map(restarts_of, beside_pods), default=0),
            compared=self._poller.compared(service.key),
        )
        beside = shadow.step(service, wanted.course, wanted.revision, heard, now)
        if wanted.course not in {None, "roll"}:
            problem = problem or shadow.problem(beside)
        seen = Observation(
            deployment=deployment,
            ready_pods=[pod.name for pod in ready],
            mounted=mounted,
            problem=problem,
            pod_problem=await self._pod_problem(waiting),
            finding=finding,
            monitoring=monitoring(world, self.capabilities),
            revision=newest,
            reachable=world.own(names.SERVICE) is not None,
        )
        document = status.build(service, seen, now)
        if beside:
            document["shadow"] = beside
        again_after = await self._retrain(service, document, now)
        if not status.same(document, service.status):
            version = body["metadata"]["resourceVersion"]
            self._remembered(names.INFERENCE_SERVICE, await self._cluster.apply_status(service.key, version, document))
            await self._announce(body, service.status, document, now)
        self._poller.written(service.key, document)
        # Watches tell of everything but of references, of garbage that goes, and of what a running pod says of itself.
        blind = (problem is not None and problem.reason not in WATCHED_REASONS) or any(
            is_running(pod) for pod in (*waiting, *unready)
        )
        # An acknowledged episode that begins or ends mutes or unmutes the pods: their settings follow the status.
        blind |= podsview.acknowledged(replace(service, status=document)) != podsview.acknowledged(service)
        pauses = [again_after] if again_after is not None else []
        # What was decided, or that copies are due, is acted on in a run that finds it written.
        pauses += [0.0] if shadow.moved(service.status.get("shadow") or {}, beside) and not service.paused else []
        pauses += [WAITING] if blind and not service.paused else []
        return Done(again_after=min(pauses, default=None))

    async def _retrain(self, service: InferenceService, document: dict[str, Any], now: dt.datetime) -> float | None:
        """Let an episode of drift lead to its Job, and say so in the status; seconds until the next look, None for none."""
        drift = document.get("drift") or {}
        jobs = self._store.of_service(names.JOB, service.key)
        last = (service.status.get("retraining") or {}).get("job", "")
        deleted = self._store.ended(names.JOB, service.key.namespace, last)
        step = retraining.step(service, drift, jobs, now, deleted)
        shown: Mapping[str, Any] = step.status
        if step.attempt is not None and not service.paused:
            refusal = await self._make_job(service, drift, step.attempt)
            shown = (
                retraining.refused(shown, drift["episode"], step.attempt, refusal, now)
                if refusal
                else retraining.made(service, drift["episode"], step.attempt, now)
            )
        if shown:
            document["retraining"] = dict(shown)
        return retraining.REFUSED_PAUSE if shown.get("state") == retraining.REFUSED else step.again_after

    async def _make_job(self, service: InferenceService, drift: Mapping[str, Any], attempt: int) -> str:
        """Make the Job of an attempt, if it is not there already; why that cannot be, empty where it can."""
        namespace, wanted = service.key.namespace, service.drift.on_drift
        name = wanted.cron_job if wanted else ""
        try:
            cron_job = await self._cluster.get(names.CRON_JOB, namespace, name)
            if cron_job is None or "deletionTimestamp" in cron_job["metadata"]:
                return f"CronJob {namespace}/{name} is not there: create it, or correct spec.drift.onDrift.cronJobRef."
            if not cron_job["spec"].get("suspend"):
                return f"CronJob {namespace}/{name} is not suspended: set spec.suspend to true, so that drift alone starts it."
            body = retraining.job(service, cron_job, drift, attempt)
            live = await self._created_job(body)
            if not retraining.same_job(live, body):
                return f"Job {namespace}/{live['metadata']['name']} was not made for this episode: delete it."
            self._remembered(names.JOB, live)
        except (ForbiddenError, InvalidError) as error:
            return f"A Job of CronJob {namespace}/{name} is refused: {error.message}"
        except ApiError as error:
            # A quarrel about a Job (an admission webhook that is down, say) must not keep the verdict out of the status.
            return f"A Job of CronJob {namespace}/{name} cannot be made now: {error.message}"
        return ""

    async def _created_job(self, body: dict[str, Any]) -> dict[str, Any]:
        """The Job of this name: an operator before this one may have made it, and could not write that down."""
        try:
            return await self._cluster.create(names.JOB, body)
        except ConflictError:
            found = await self._cluster.find(names.JOB, body["metadata"]["namespace"], body["metadata"]["name"])
            if found is None:
                raise  # another conflict: that of a quota, say
            return found

    async def _pod_problem(self, pods: Sequence[dict[str, Any]]) -> Problem | None:
        """Why these pods are not ready; a few are asked, for they mostly fail alike."""
        running = [pod for pod in pods if is_running(pod)][:ASKED_PODS]
        answers = await asyncio.gather(*(self._pods.problem(pod["status"]["podIP"]) for pod in running))
        said = [(pod, answer) for pod, answer in zip(running, answers, strict=True) if answer is not None]
        # What no waiting will mend explains more than that a pod was started again, and that more than that it starts; of one
        # that has just begun to, that is not worth a write.
        now = self._clock()
        return next(
            itertools.chain(
                (answer for _, answer in said if answer.stalled),
                (problem for problem in map(container_problem, pods) if problem is not None),
                (answer for pod, answer in said if not has_begun(pod, now, WAITING)),
            ),
            None,
        )

    async def _announce(
        self, body: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any], now: dt.datetime
    ) -> None:
        key = names.Key(body["metadata"]["namespace"], body["metadata"]["name"])
        if self._tell is not None:
            # Once the status is written, which one operator alone succeeds in: the sink is told of each change once.
            for event in cloudevent.of_change(key, before, after, now):
                self._tell(event)
        was, ready = (condition_of(entry, "Ready") for entry in (before, after))
        if (was.get("status"), was.get("reason")) != (ready["status"], ready["reason"]):
            logger.info("%s is Ready=%s, %s: %s", key, ready["status"], ready["reason"], ready["message"])
        moves = [
            told(before.get(part) or {}, after.get(part) or {})
            for part, told in (("shadow", shadow.events), ("retraining", retraining.events))
        ]
        for type_, reason, message in itertools.chain(announcements(before, after), *moves):
            try:
                await self._cluster.record(body, type_, reason, message, now)
            except ApiError as error:
                # The status is what counts; an Event tells of it and is not worth another run.
                logger.warning("no Event %s for %s: %s", reason, key, error)


def _ready(pods: Sequence[dict[str, Any]], newest: str | None) -> list[Pod]:
    """Those that can be asked."""
    return [
        Pod(pod["metadata"]["name"], pod["status"]["podIP"], newest=pod_hash(pod) == newest)
        for pod in pods
        if is_ready(pod)
    ]


def _second(world: World, wanted: Desired) -> tuple[Second | None, list[dict[str, Any]]]:
    """The revision that is compared, and its pods; none where none is."""
    comparison = shadow.going_on(world.service, wanted.course, wanted.revision)
    if comparison is None:
        return None, []
    pods = world.pods_of(names.shadow(world.service.key.name))
    own = [pod for pod in pods if pod_hash(pod) == comparison.revision]
    return Second(comparison.name, tuple(_ready(own, comparison.revision))), own
