"""Small looks at live objects, as the API server hands them out; pure."""

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any, Final

from aiops_operator import names
from aiops_operator.api import ImageSource, InferenceService
from aiops_operator.conditions import Problem, condition_of, reason_or, said_by_pod
from aiops_operator.errors import ApiError, ForbiddenError
from aiops_operator.names import Key, Kind

CRASHES: Final = "CrashLoopBackOff"
PULLS: Final = "ImagePullBackOff"
FAILED_PULL: Final = "ErrImagePull"


def contains(live: object, wanted: object) -> bool:
    """Whether a live object has everything that is wanted of it; what others or defaults have added does not count.

    Values that the API server writes in another form (a quantity of 0.5) do not look equal: then the apply, which changes
    nothing, decides.
    """
    if live == wanted:
        return True
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
    return False


def container_problem(pod: Mapping[str, Any]) -> Problem | None:
    """What the kubelet or the scheduler says against a pod that is not ready."""
    pod_status = pod.get("status") or {}
    for container in pod_status.get("initContainerStatuses", ()):
        if ((container.get("state") or {}).get("terminated") or {}).get("exitCode") == 0:
            continue  # it is through
        fetches = container.get("name") == names.FETCH_CONTAINER
        problem = (_fetch_problem(pod, container) if fetches else None) or _problem(pod, container)
        if problem is not None:
            return problem
    for container in pod_status.get("containerStatuses", ()):
        problem = _problem(pod, container)
        if problem is not None:
            return problem
    for condition in pod_status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            text = condition.get("message", "no node takes it")
            return Problem("Unschedulable", f"Pod {pod['metadata']['name']}: {text}", stalled=False)
    return None


def _problem(pod: Mapping[str, Any], container: Mapping[str, Any]) -> Problem | None:
    """Why a container does not run, or how it ended where it is started again and again."""
    name, waiting = pod["metadata"]["name"], (container.get("state") or {}).get("waiting") or {}
    reason, ended = waiting.get("reason", ""), _crash(pod, container)
    if reason in {PULLS, FAILED_PULL}:
        # Tries and pauses take turns: what is said of the last try holds for both.
        said = waiting.get("message") or "its image cannot be pulled"
        return Problem(PULLS, f"Pod {name}: {said.rpartition(f': {FAILED_PULL}: ')[2]}", stalled=False)
    if reason and reason not in {CRASHES, "ContainerCreating", "PodInitializing"}:
        text = f"Pod {name}: {waiting.get('message') or 'is waiting'}"
        return Problem(reason_or(reason, "ContainerWaiting"), text, stalled=False)
    if ended.get("reason") == "OOMKilled":
        text = f"Pod {name} ran out of memory: raise spec.resources.limits.memory."
        return Problem("OOMKilled", text, stalled=False)
    if ended or reason == CRASHES:
        code = f" with exit code {ended['exitCode']}" if "exitCode" in ended else ""
        text = f"Pod {name}: container {container.get('name', '')} ended{code}, see kubectl logs {name} --previous"
        return Problem(CRASHES, text, stalled=False)
    return None


def _crash(pod: Mapping[str, Any], container: Mapping[str, Any]) -> Mapping[str, Any]:
    """How a container ended, empty where nothing is to be said of it.

    One that crashes again and again waits, runs and ends in turn: the same is said all the while, so that the status stands still.
    """
    state, last = container.get("state") or {}, (container.get("lastState") or {}).get("terminated") or {}
    if "running" not in state:
        found: Mapping[str, Any] = state.get("terminated") or last
        return found
    ready = condition_of(pod["status"], "Ready")
    # One that was ready since it was started has recovered: what it is not ready for now is something else.
    recovered = ready.get("lastTransitionTime", "") > (state["running"] or {}).get("startedAt", "")
    return last if container.get("restartCount", 0) > 1 and not recovered else {}


def _fetch_problem(pod: Mapping[str, Any], container: Mapping[str, Any]) -> Problem | None:
    """Why artifacts could not be fetched when that was last tried, or that they are being fetched; None for neither."""
    state = container.get("state") or {}
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated") or {}
    try:
        said = said_by_pod(json.loads(ended.get("message") or "null"))
    except (ValueError, RecursionError):
        said = None  # the end of its log, where it could not write a message
    if said is None and "running" in state:
        name = pod["metadata"]["name"]
        text = f"Pod {name} fetches its artifacts, see kubectl logs {name} -c {names.FETCH_CONTAINER}"
        return Problem(
            "FetchingArtifacts", f"{text}; for large ones raise spec.rollout.progressDeadlineSeconds.", stalled=False
        )
    return said


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is ready to be asked."""
    pod_status = pod.get("status") or {}
    conditions = pod_status.get("conditions") or ()
    ready = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
    return ready and bool(pod_status.get("podIP"))


def is_running(pod: Mapping[str, Any]) -> bool:
    """Whether a pod's server can be asked, ready or not."""
    pod_status = pod.get("status") or {}
    return pod_status.get("phase") == "Running" and bool(pod_status.get("podIP"))


def has_begun(pod: Mapping[str, Any], now: dt.datetime, seconds: float) -> bool:
    """Whether a pod's server was started in these last seconds, by the node's clock."""
    containers = (pod.get("status") or {}).get("containerStatuses") or ()
    states = [entry.get("state") or {} for entry in containers if entry.get("name") == names.CONTAINER]
    started = next((state["running"].get("startedAt") for state in states if state.get("running")), None)
    return started is not None and 0 <= (now - dt.datetime.fromisoformat(started)).total_seconds() < seconds


def restarts_of(pod: Mapping[str, Any]) -> int:
    """How often a pod's server was started again."""
    containers = (pod.get("status") or {}).get("containerStatuses") or ()
    return max(
        (entry.get("restartCount", 0) for entry in containers if entry.get("name") == names.CONTAINER), default=0
    )


def with_hash(body: Mapping[str, Any], unmeant: str = "") -> dict[str, Any]:
    """The body with a hash of itself: it tells a field that we no longer mean from one that was never there.

    `unmeant` is a field of its spec that has the value that it has already.
    """
    meant = body
    if unmeant and "spec" in body:
        meant = {**body, "spec": {name: value for name, value in body["spec"].items() if name != unmeant}}
    digest = names.fingerprint(json.dumps(meant, sort_keys=True))
    annotations = {**body["metadata"].get("annotations", {}), names.ANNOTATION_APPLIED: digest}
    return {**body, "metadata": {**body["metadata"], "annotations": annotations}}


def owner_uid(child: Mapping[str, Any]) -> str | None:
    """Uid of the controller of an object; None where it has none."""
    owners = child["metadata"].get("ownerReferences") or ()
    return next((owner["uid"] for owner in owners if owner.get("controller")), None)


def foreign_problem(service: InferenceService, kind: Kind, live: Mapping[str, Any]) -> Problem | None:
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


def refusal(service: InferenceService, kind: Kind, name: str, error: ApiError) -> Problem:
    """Why the API server does not take a child, in the words of what a person can do."""
    if isinstance(error, ForbiddenError):
        return Problem("Forbidden", f"{kind.kind} {name} is refused: {error.message}")
    if kind == names.DEPLOYMENT and isinstance(service.model.source, ImageSource) and "volumes[" in error.message:
        text = "This cluster knows no image volumes (Kubernetes 1.35 and later do): use a configMap or a persistentVolumeClaim."
        return Problem("ImageVolumeUnsupported", text)
    return Problem("InvalidChild", f"{kind.kind} {name} is refused: {error.message}")


def not_found(kind: str, namespace: str, name: str) -> Problem:
    """Why artifacts cannot be had: what the spec refers to is not there."""
    text = f"{kind} {namespace}/{name} is not there: create it in this namespace, or correct spec.model.artifacts."
    return Problem("ArtifactsNotFound", text)


def going(kind: str, namespace: str, name: str) -> Problem:
    """Why artifacts cannot be had for long: a claim that is deleted stays until no pod mounts it, and no new pod may."""
    text = f"{kind} {namespace}/{name} is being deleted and goes with the last pod that mounts it: create another, and name that"
    return Problem("ArtifactsNotFound", f"{text} in spec.model.artifacts.")


def template_hash(deployment: Mapping[str, Any] | None) -> str | None:
    """The hash of what a Deployment's pods were asked to be; None where it says nothing."""
    template = deployment["spec"]["template"] if deployment is not None else {}
    annotations: Mapping[str, str] = template.get("metadata", {}).get("annotations") or {}
    return annotations.get(names.ANNOTATION_TEMPLATE_HASH)


def pod_hash(pod: Mapping[str, Any]) -> str | None:
    """The hash of what a pod was asked to be; None where it says nothing."""
    annotations: Mapping[str, str] = pod["metadata"].get("annotations") or {}
    return annotations.get(names.ANNOTATION_TEMPLATE_HASH)


def age_of(copy: Mapping[str, Any]) -> tuple[str, int]:
    """Orders copies by their making; those of one second by their version, which is their first for good."""
    version = str(copy["metadata"]["resourceVersion"])
    return copy["metadata"]["creationTimestamp"], int(version) if version.isdecimal() else 0


def references_of(body: Mapping[str, Any]) -> frozenset[tuple[Kind, Key]]:
    """What an InferenceService refers to in its namespace, whatever else is wrong with it: none of it is made by the operator."""
    artifacts = ((body.get("spec") or {}).get("model") or {}).get("artifacts") or {}
    namespace = body["metadata"].get("namespace", "")
    named = (
        (names.CONFIG_MAP, (artifacts.get("configMap") or {}).get("name")),
        (names.CLAIM, (artifacts.get("persistentVolumeClaim") or {}).get("claimName")),
    )
    return frozenset((kind, Key(namespace, name)) for kind, name in named if name)


def version_of(config_map: Mapping[str, Any]) -> tuple[str, str]:
    """What changes whenever an object's content does, a new one of the same name included."""
    return config_map["metadata"]["uid"], config_map["metadata"]["resourceVersion"]
