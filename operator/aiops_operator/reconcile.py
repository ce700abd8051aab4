"""One idempotent reconcile for every cause: observe → desired → apply → prune → status.

Nothing is remembered between two runs but what a cache may forget: the digests of artifacts by version of their ConfigMap.
"""

import asyncio
import datetime as dt
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiops_operator import names, resources, status
from aiops_operator.api import ClaimSource, ConfigMapSource, ImageSource, InferenceService
from aiops_operator.cluster import Cluster
from aiops_operator.drift import Pod, PodClient, Poller
from aiops_operator.errors import ApiError, ConflictError, ForbiddenError, InvalidError, SpecError
from aiops_operator.names import Key, Kind
from aiops_operator.resources import Mount, Scrape
from aiops_operator.status import Condition, Mounted, Observation, Problem
from aiops_operator.workqueue import Done

WAITING: Final = 5.0  # seconds between looks at what is waited for: references that are not watched, pods that start
KEPT_COPIES: Final = 2
ASKED_PODS: Final = 4
MAX_CONFLICTS: Final = 4  # tries to apply a child that others write meanwhile
HASH_DIGITS: Final = 16

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Capabilities:
    """What the cluster can do, as discovery last said."""

    service_monitors: bool = False


@dataclass(frozen=True)
class Found:
    """Artifacts that the pods can mount.

    Attributes:
        mount: as a volume.
        model: digest of the model's file, where the operator can know it.
        copy: the immutable ConfigMap to make of them; None where there is none to make.
    """

    mount: Mount
    model: str | None = None
    copy: dict[str, Any] | None = None


@dataclass(frozen=True)
class World:
    """What a reconcile sees of one service before it changes anything.

    Attributes:
        service: the resource.
        children: live objects by kind and name.
        copies: metadata of the copies of artifacts, newest first.
        pods: live pods.
        artifacts: what they are to mount, or why that is not known.
    """

    service: InferenceService
    children: Mapping[tuple[Kind, str], dict[str, Any]]
    copies: Sequence[dict[str, Any]]
    pods: Sequence[dict[str, Any]]
    artifacts: Found | Problem

    @property
    def deployment(self) -> dict[str, Any] | None:
        """The live Deployment, whoever made it."""
        return self.children.get((names.DEPLOYMENT, self.service.key.name))


@dataclass(frozen=True)
class Desired:
    """What a service is to have.

    Attributes:
        children: bodies to apply, in this order.
        unwanted: kinds and names of those it is not to have.
        problem: why it cannot have what its spec says.
    """

    children: Sequence[tuple[Kind, dict[str, Any]]]
    unwanted: Sequence[tuple[Kind, str]]
    problem: Problem | None


class Reconciler:
    """Brings the cluster to what an InferenceService says, and the InferenceService's status to what the cluster is."""

    def __init__(
        self, cluster: Cluster, pods: PodClient, poller: Poller, image: str, clock: Callable[[], dt.datetime]
    ) -> None:
        self._cluster = cluster
        self._pods = pods
        self._poller = poller
        self._image = image
        self._clock = clock
        self._digests: dict[Key, tuple[tuple[str, str], resources.Artifacts]] = {}
        self.capabilities = Capabilities()

    async def reconcile(self, key: Key) -> Done:
        """Work on one service once.

        Raises:
            ApiError: the API server did not do as asked; the same may succeed later.
        """
        body = await self._cluster.get(names.INFERENCE_SERVICE, *key)
        if body is None or "deletionTimestamp" in body["metadata"]:
            # Garbage collection takes the children along; there is nothing to write to what is going.
            self._poller.forget(key)
            self._digests.pop(key, None)
            return Done(forget=body is None)
        try:
            service = InferenceService.from_dict(body)
        except SpecError as error:
            logger.warning("%s cannot be read, is an older CRD installed? %s", key, error)
            return Done()
        world = await self._observe(service)
        wanted = desired(world, self._image, self.capabilities)
        problem = wanted.problem
        deployment = world.deployment
        if not service.paused:
            problem, applied = await self._apply(world, wanted)
            deployment = applied.get((names.DEPLOYMENT, key.name), deployment)
            await self._prune(world, wanted)
        return await self._write_status(body, world, deployment, problem)

    # --- observe -------------------------------------------------------------------------------------------------

    async def _observe(self, service: InferenceService) -> World:
        namespace, name = service.key
        wanted = [
            (names.CONFIG_MAP, names.runtime_config_map(name)),
            (names.SERVICE, name),
            (names.DEPLOYMENT, name),
            (names.POD_DISRUPTION_BUDGET, name),
            *([(names.SERVICE_MONITOR, name)] if self.capabilities.service_monitors else []),
        ]
        children, copies, pods, artifacts = await asyncio.gather(
            asyncio.gather(*(self._cluster.get(kind, namespace, child) for kind, child in wanted)),
            self._cluster.find_metadata(names.CONFIG_MAP, namespace, names.service_selector(name)),
            self._cluster.find(names.POD, namespace, names.pod_selector(name)),
            self._artifacts(service),
        )
        copies = [entry for entry in copies if names.is_model_config_map(name, entry["metadata"]["name"])]
        return World(
            service=service,
            children={key: child for key, child in zip(wanted, children, strict=True) if child is not None},
            copies=sorted(copies, key=_age, reverse=True),
            pods=pods,
            artifacts=artifacts,
        )

    async def _artifacts(self, service: InferenceService) -> Found | Problem:
        namespace = service.key.namespace
        match service.model.source:
            case ConfigMapSource(name):
                return await self._config_map_artifacts(service, name)
            case ClaimSource(name) as source:
                if await self._cluster.get_metadata(names.CLAIM, namespace, name) is None:
                    return _not_found("PersistentVolumeClaim", namespace, name)
                return Found(resources.claim_mount(source))
            case ImageSource() as source:
                return Found(resources.image_mount(source))

    async def _config_map_artifacts(self, service: InferenceService, name: str) -> Found | Problem:
        namespace = service.key.namespace
        artifacts = await self._digested(service, name)
        if artifacts is None:
            return _not_found("ConfigMap", namespace, name)
        missing = [
            file for file in (service.model.model_file, service.model.baseline_file) if file not in artifacts.files
        ]
        if missing:
            keys = ", ".join(sorted(artifacts.files)) or "none"
            text = f"ConfigMap {namespace}/{name} has no key {' and no key '.join(missing)} (it has: {keys}): add it"
            return Problem("ArtifactsIncomplete", f"{text}, or set spec.model.modelFile and baselineFile.")
        copy_name = names.model_config_map(service.key.name, artifacts.digest)
        there = await self._cluster.get_metadata(names.CONFIG_MAP, namespace, copy_name)
        copy = None
        if there is None or _owner_uid(there) != service.uid:
            source = await self._cluster.get(names.CONFIG_MAP, namespace, name)
            if source is None or resources.artifacts_of(source).digest != artifacts.digest:
                raise ConflictError(409, f"ConfigMap {namespace}/{name} changes while it is read")
            copy = resources.model_config_map(service, source)
        return Found(
            mount=resources.config_map_mount(copy_name, artifacts.digest),
            model=artifacts.files[service.model.model_file],
            copy=copy,
        )

    async def _digested(self, service: InferenceService, name: str) -> resources.Artifacts | None:
        """The digests of a ConfigMap's files, read in full only where its version is not the one read last."""
        namespace = service.key.namespace
        found = await self._cluster.get_metadata(names.CONFIG_MAP, namespace, name)
        if found is None:
            return None
        known = self._digests.get(service.key)
        if known is not None and known[0] == _version(found):
            return known[1]
        body = await self._cluster.get(names.CONFIG_MAP, namespace, name)
        if body is None:
            return None
        artifacts = resources.artifacts_of(body)
        self._digests[service.key] = (_version(body), artifacts)
        return artifacts

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
        live = world.children.get((kind, name))
        stamped = _stamped(body)
        for _ in range(MAX_CONFLICTS):
            problem = _foreign(service, kind, live) if live is not None else None
            if problem is not None:
                return problem
            if live is not None and contains(live, stamped):
                return live
            try:
                if live is None:
                    # Without force: what somebody else has created a moment ago is not taken over.
                    return await self._cluster.apply(kind, stamped, force=False)
                version = {"resourceVersion": live["metadata"]["resourceVersion"]}
                versioned = {**stamped, "metadata": {**stamped["metadata"], **version}}
                return await self._cluster.apply(kind, versioned, force=True)
            except ConflictError:
                live = await self._cluster.get(kind, service.key.namespace, name)
            except (InvalidError, ForbiddenError) as error:
                return _refused(service, kind, name, error)
        raise ConflictError(409, f"{kind.kind} {name} is written by others all the time")

    async def _prune(self, world: World, wanted: Desired) -> None:
        namespace = world.service.key.namespace
        doomed = [
            (kind, child) for kind, name in wanted.unwanted if (child := world.children.get((kind, name))) is not None
        ]
        doomed += [(names.CONFIG_MAP, copy) for copy in superfluous_copies(world)]
        for kind, child in doomed:
            metadata = child["metadata"]
            if _owner_uid(child) == world.service.uid and "deletionTimestamp" not in metadata:
                await self._cluster.delete(kind, namespace, metadata["name"], metadata["uid"])

    # --- status --------------------------------------------------------------------------------------------------

    async def _write_status(
        self, body: Mapping[str, Any], world: World, deployment: dict[str, Any] | None, problem: Problem | None
    ) -> Done:
        service, now = world.service, self._clock()
        newest = _template_hash(deployment)
        live = sorted(
            (pod for pod in world.pods if "deletionTimestamp" not in pod["metadata"]),
            key=lambda pod: str(pod["metadata"]["name"]),
        )
        ready = [
            Pod(pod["metadata"]["name"], pod["status"]["podIP"], newest=_pod_hash(pod) == newest)
            for pod in live
            if is_ready(pod)
        ]
        mounted = mounted_of(world)
        finding = self._poller.track(service, ready, mounted)
        waiting = [pod for pod in live if not is_ready(pod) and _pod_hash(pod) == newest]
        seen = Observation(
            deployment=deployment if deployment and _owner_uid(deployment) == service.uid else None,
            ready_pods=[pod.name for pod in ready],
            mounted=mounted,
            problem=problem,
            pod_problem=await self._pod_problem(waiting),
            finding=finding,
            monitoring=monitoring(service, self.capabilities, deployment),
        )
        document = status.build(service, seen, now)
        if not status.same(document, service.status):
            await self._cluster.apply_status(*service.key, document)
            await self._announce(body, service.status, document, now)
        self._poller.written(service.key, document)
        # Watches tell of everything but of references, of garbage that goes, and of what a running pod says of itself.
        blind = problem is not None or any(_is_running(pod) for pod in waiting)
        return Done(again_after=WAITING) if blind and not service.paused else Done()

    async def _pod_problem(self, pods: Sequence[dict[str, Any]]) -> Problem | None:
        """Why the first of these pods is not ready; a few are asked, for they mostly fail alike."""
        for pod in pods:
            problem = container_problem(pod)
            if problem is not None:
                return problem
        running = [pod for pod in pods if _is_running(pod)][:ASKED_PODS]
        answers = await asyncio.gather(*(self._pods.problem(pod["status"]["podIP"]) for pod in running))
        return next((answer for answer in answers if answer is not None), None)

    async def _announce(
        self, body: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any], now: dt.datetime
    ) -> None:
        for type_, reason, message in announcements(before, after):
            try:
                await self._cluster.record(body, type_, reason, message, now)
            except ApiError as error:
                # The status is what counts; an Event tells of it and is not worth another run.
                logger.warning(
                    "no Event %s for %s: %s",
                    reason,
                    names.Key(body["metadata"]["namespace"], body["metadata"]["name"]),
                    error,
                )


# --- desired -----------------------------------------------------------------------------------------------------


def desired(world: World, default_image: str, capabilities: Capabilities) -> Desired:
    """What a service is to have, given what there is."""
    service, name = world.service, world.service.key.name
    children: list[tuple[Kind, dict[str, Any]]] = [(names.CONFIG_MAP, resources.runtime_config_map(service))]
    unwanted: list[tuple[Kind, str]] = []
    stored = resources.stored_template(world.deployment) if world.deployment is not None else None
    problem = world.artifacts if isinstance(world.artifacts, Problem) else None
    if isinstance(world.artifacts, Found):
        if world.artifacts.copy is not None:
            children.append((names.CONFIG_MAP, world.artifacts.copy))
        scrape = scraping(service, capabilities)
        image = service.image or default_image
        body = resources.deployment(service, world.artifacts.mount, image, scrape, stored)
        children.append((names.DEPLOYMENT, body))
    elif stored is not None:
        # The reference has gone bad: what was last rolled out stays as it is, and stays healed and scaled.
        children.append((names.DEPLOYMENT, resources.with_template(service, stored.template)))
    children.append((names.SERVICE, resources.service(service)))
    if service.replicas > 1:
        children.append((names.POD_DISRUPTION_BUDGET, resources.pod_disruption_budget(service)))
    else:
        unwanted.append((names.POD_DISRUPTION_BUDGET, name))
    if capabilities.service_monitors and service.monitoring.mode in ("auto", "serviceMonitor"):
        children.append((names.SERVICE_MONITOR, resources.service_monitor(service)))
    else:
        unwanted.append((names.SERVICE_MONITOR, name))
    return Desired(children, unwanted, problem)


def scraping(service: InferenceService, capabilities: Capabilities) -> Scrape:
    """Whether pods carry the annotations: `auto` decides only for pods that are made anew, so that it rolls none."""
    mode = service.monitoring.mode
    if mode == "auto":
        return Scrape(annotated=not capabilities.service_monitors, forced=False)
    return Scrape(annotated=mode == "annotations", forced=True)


def monitoring(
    service: InferenceService, capabilities: Capabilities, deployment: Mapping[str, Any] | None
) -> Condition:
    """The condition MonitoringReady."""
    mode = service.monitoring.mode
    if mode == "none":
        return Condition(
            "MonitoringReady", "True", "Disabled", "spec.monitoring.mode is none: nothing is to be scraped."
        )
    if mode != "annotations" and capabilities.service_monitors:
        message = f"ServiceMonitor {service.key} selects the pods."
        return Condition("MonitoringReady", "True", "ServiceMonitorApplied", message)
    if mode == "serviceMonitor":
        message = "The cluster serves no ServiceMonitor: install the Prometheus Operator, or set spec.monitoring.mode."
        return Condition("MonitoringReady", "False", "ServiceMonitorUnavailable", message)
    stored = resources.stored_template(deployment) if deployment is not None else None
    if stored is None or stored.scraped:
        message = "The pods carry the annotations prometheus.io/scrape, port and path."
        return Condition("MonitoringReady", "True", "PodsAnnotated", message)
    message = "The pods carry no annotations until they roll: set spec.monitoring.mode to annotations to roll them now."
    return Condition("MonitoringReady", "False", "AnnotationsPending", message)


def mounted_of(world: World) -> Mounted:
    """What the pods are to load, for the status."""
    if isinstance(world.artifacts, Problem):
        return Mounted()
    return Mounted(world.artifacts.mount.display, world.artifacts.model)


def superfluous_copies(world: World) -> list[dict[str, Any]]:
    """Copies of artifacts to delete: neither wanted, nor the newest of the others, nor mounted by a live pod."""
    if isinstance(world.artifacts, Problem):
        return []
    mounting = [volume for pod in world.pods for volume in pod["spec"].get("volumes", ())]
    if world.deployment is not None:
        mounting += world.deployment["spec"]["template"]["spec"].get("volumes", ())
    mounted = {volume["configMap"].get("name") for volume in mounting if "configMap" in volume}
    wanted = world.artifacts.mount.display
    others = [copy for copy in world.copies if copy["metadata"]["name"] != wanted]  # newest first
    return [copy for copy in others[KEPT_COPIES - 1 :] if copy["metadata"]["name"] not in mounted]


def announcements(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    """The Events of a change of status, as type, reason and message: flips alone, never their repetition."""
    now = status.condition_of(after, "DriftDetected")
    episodes = [(entry.get("drift") or {}).get("episode") for entry in (before, after)]
    if episodes[1] and episodes[1] != episodes[0]:
        yield "Warning", "DriftDetected", now["message"]
    elif episodes[0] and not episodes[1] and now["status"] == "False":
        yield "Normal", "DriftCleared", now["message"]
    was, now = (status.condition_of(entry, "Stalled") for entry in (before, after))
    if now["status"] == "True" and (was.get("status"), was.get("reason")) != ("True", now["reason"]):
        yield "Warning", now["reason"], now["message"]
    was, now = (status.condition_of(entry, "Ready") for entry in (before, after))
    if now["status"] == "True" and was.get("status") != "True":
        yield "Normal", "Ready", now["message"]


# --- small looks at objects --------------------------------------------------------------------------------------


def contains(live: object, wanted: object) -> bool:
    """Whether a live object has everything that is wanted of it; what others or defaults have added does not count.

    Values that the API server writes in another form (a quantity of 0.5) do not look equal: then the apply, which changes
    nothing, decides.
    """
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(
            name in live and contains(live[name], value) for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(live, list)
            and len(live) == len(wanted)
            and all(contains(one, other) for one, other in zip(live, wanted, strict=True))
        )
    return live == wanted


def container_problem(pod: Mapping[str, Any]) -> Problem | None:
    """What the kubelet or the scheduler says against a pod that is not ready."""
    pod_status = pod.get("status") or {}
    for container in (*pod_status.get("initContainerStatuses", ()), *pod_status.get("containerStatuses", ())):
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        if not reason or reason in ("ContainerCreating", "PodInitializing"):
            continue
        ended = (container.get("lastState") or {}).get("terminated") or {}
        if reason == "CrashLoopBackOff" and ended.get("reason") == "OOMKilled":
            text = f"Pod {pod['metadata']['name']} ran out of memory: raise spec.resources.limits.memory."
            return Problem("OOMKilled", text, stalled=False)
        text = waiting.get("message") or f"exit code {ended.get('exitCode', 'unknown')}"
        return Problem(
            status.reason_or(reason, "ContainerWaiting"), f"Pod {pod['metadata']['name']}: {text}", stalled=False
        )
    for condition in pod_status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            text = condition.get("message", "no node takes it")
            return Problem("Unschedulable", f"Pod {pod['metadata']['name']}: {text}", stalled=False)
    return None


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is ready to be asked."""
    pod_status = pod.get("status") or {}
    conditions = pod_status.get("conditions") or ()
    ready = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
    return ready and bool(pod_status.get("podIP"))


def _is_running(pod: Mapping[str, Any]) -> bool:
    pod_status = pod.get("status") or {}
    return pod_status.get("phase") == "Running" and bool(pod_status.get("podIP"))


def _stamped(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body with a hash of itself: it tells a field that we no longer mean from one that was never there."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:HASH_DIGITS]
    annotations = {**body["metadata"].get("annotations", {}), names.ANNOTATION_APPLIED: digest}
    return {**body, "metadata": {**body["metadata"], "annotations": annotations}}


def _owner_uid(child: Mapping[str, Any]) -> str | None:
    owners = child["metadata"].get("ownerReferences") or ()
    return next((owner["uid"] for owner in owners if owner.get("controller")), None)


def _foreign(service: InferenceService, kind: Kind, live: Mapping[str, Any]) -> Problem | None:
    """Why a live object of a child's name is not ours to write."""
    metadata = live["metadata"]
    owner = next((entry for entry in metadata.get("ownerReferences") or () if entry.get("controller")), None)
    what = f"{kind.kind} {service.key.namespace}/{metadata['name']}"
    if owner is None:
        text = f"{what} was not made for this service: delete or rename it, or give the service another name."
        return Problem("ChildConflict", text)
    if owner["uid"] == service.uid:
        return None
    if (owner["kind"], owner["name"]) == (names.INFERENCE_SERVICE.kind, service.key.name):
        text = f"{what} is of a deleted service of the same name and about to be removed."
        return Problem("WaitingForGarbageCollection", text, stalled=False)
    text = f"{what} is controlled by {owner['kind']} {owner['name']}: delete or rename it, or give the service another name."
    return Problem("ChildConflict", text)


def _refused(service: InferenceService, kind: Kind, name: str, error: ApiError) -> Problem:
    """Why the API server does not take a child, in the words of what a person can do."""
    if isinstance(error, ForbiddenError):
        return Problem("Forbidden", f"{kind.kind} {name} is refused: {error.message}")
    if kind == names.DEPLOYMENT and isinstance(service.model.source, ImageSource) and "volumes[" in error.message:
        text = "This cluster knows no image volumes (Kubernetes 1.35 and later do): use a configMap or a persistentVolumeClaim."
        return Problem("ImageVolumeUnsupported", text)
    return Problem("InvalidChild", f"{kind.kind} {name} is refused: {error.message}")


def _not_found(kind: str, namespace: str, name: str) -> Problem:
    text = f"{kind} {namespace}/{name} is not there: create it in this namespace, or correct spec.model.artifacts."
    return Problem("ArtifactsNotFound", text)


def _template_hash(deployment: Mapping[str, Any] | None) -> str | None:
    template = deployment["spec"]["template"] if deployment is not None else {}
    annotations: Mapping[str, str] = template.get("metadata", {}).get("annotations") or {}
    return annotations.get(names.ANNOTATION_TEMPLATE_HASH)


def _pod_hash(pod: Mapping[str, Any]) -> str | None:
    annotations: Mapping[str, str] = pod["metadata"].get("annotations") or {}
    return annotations.get(names.ANNOTATION_TEMPLATE_HASH)


def _age(copy: Mapping[str, Any]) -> tuple[str, int]:
    """Orders copies by their making; those of one second by their version, which is their first for good."""
    version = str(copy["metadata"]["resourceVersion"])
    return copy["metadata"]["creationTimestamp"], int(version) if version.isdecimal() else 0


def _version(config_map: Mapping[str, Any]) -> tuple[str, str]:
    return config_map["metadata"]["uid"], config_map["metadata"]["resourceVersion"]
