"""The status: a pure function of what was observed, of what was written before, and of an injected clock.

Conditions, each with `observedGeneration`; `lastTransitionTime` moves only when the status flips:

- Ready: the latest spec is rolled out and every pod serves it. Available: at least one pod serves, and can be reached.
- Reconciling and Stalled (abnormal-true): work goes on, or a person must act. A paused service is neither, and its Ready
  stays as it was; Unknown where no operator had looked before.
- DriftDetected: the verdict on the rows of all pods; False is good. DataQuality: what Great Expectations and the schema say.
- MonitoringReady: whether Prometheus is told where to scrape.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiops_operator import names
from aiops_operator.api import InferenceService
from aiops_operator.conditions import MAX_MESSAGE, Condition, Problem, condition_of, is_new, reason_or, stamped
from aiops_operator.podsview import Finding, Mounted, pods_view
from aiops_operator.rollout import Rollout, progress_of

FIRST_STATUS: Final = 1.0  # seconds for which the first status waits for pods to be made


@dataclass(frozen=True)
class Observation:
    """Everything that the status is made from, besides the spec and the status before.

    Attributes:
        deployment: as the API server has it; None where there is none.
        ready_pods: names of the ready pods.
        mounted: what the pods are to load.
        problem: what keeps the spec from being applied.
        pod_problem: what keeps a pod of the newest template from being ready.
        finding: what the pods said.
        monitoring: the condition MonitoringReady.
        revision: the hash of the template that the Deployment has; None where there is none.
        reachable: whether the Service that leads to the pods is there.
    """

    deployment: Mapping[str, Any] | None
    ready_pods: Sequence[str]
    mounted: Mounted
    problem: Problem | None
    pod_problem: Problem | None
    finding: Finding
    monitoring: Condition
    revision: str | None = None
    reachable: bool = True


def build(service: InferenceService, seen: Observation, now: dt.datetime) -> dict[str, Any]:
    """The whole status; equal to the one before where nothing that it shows has changed."""
    pods = pods_view(service, seen.ready_pods, seen.mounted, seen.finding, now)
    progress = progress_of(service, seen.deployment)
    conditions = [
        *_progress(service, seen, progress),
        pods.drift_detected,
        pods.data_quality,
        seen.monitoring,
    ]
    live = (seen.deployment or {}).get("status") or {}
    # A rollout of no pods has shown nothing of its revision.
    proven = progress.complete and service.replicas and seen.revision
    good = seen.revision if proven else service.status.get("goodRevision")
    return {
        "observedGeneration": service.generation,
        "conditions": [stamped(condition, service, now) for condition in conditions],
        "url": names.url(service.key),
        "replicas": live.get("replicas", 0),
        "readyReplicas": live.get("readyReplicas", 0),
        "ready": f"{live.get('readyReplicas', 0)}/{service.replicas}",
        "selector": names.pod_selector(service.key.name),
        **({"goodRevision": good} if good else {}),
        **({"model": pods.model} if pods.model else {}),
        **({"drift": pods.drift} if pods.drift else {}),
    }


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two statuses say the same; the order of conditions is the API server's own."""

    def ordered(status: Mapping[str, Any]) -> dict[str, Any]:
        return {**status, "conditions": sorted(status.get("conditions") or (), key=lambda entry: str(entry["type"]))}

    return ordered(one) == ordered(other)


def pause(
    service: InferenceService, deployment: Mapping[str, Any] | None, problem: Problem | None, waited: float
) -> float:
    """Seconds for which a new service's first status can wait for its pods to be made, so that it is not written twice; 0 for none."""
    made = ((deployment or {}).get("status") or {}).get("replicas", 0) >= service.replicas
    if made or service.paused or problem is not None or not is_new(service.status):
        return 0.0
    return max(0.0, FIRST_STATUS - waited)


def _progress(service: InferenceService, seen: Observation, rollout: Rollout) -> list[Condition]:
    available = _available(service, seen)
    if service.paused:
        message = "spec.paused is true: Deployment, Service and ConfigMaps are left as they are."
        return [
            _ready_when_paused(service, message),
            available,
            Condition("Reconciling", "False", "Paused", message),
            Condition("Stalled", "False", "Paused", message),
        ]
    stalled = _stalled_by(service, seen, rollout)
    blocker = seen.problem or (None if rollout.complete else _pods_problem(service, seen) or stalled)
    if blocker is None and rollout.complete:
        reason = "RolledOut" if service.replicas else "ScaledToZero"
        message = rollout.message if service.replicas else "spec.replicas is 0: no pod is wanted."
        return [
            Condition("Ready", "True", reason, message),
            available,
            Condition("Reconciling", "False", reason, message),
            Condition("Stalled", "False", reason, message),
        ]
    if rollout.scaling and stalled is None and seen.problem is None:
        # Pods come and go with the load: nobody is to be alarmed by those that are on their way.
        message = f"{rollout.message} {blocker.message}"[:MAX_MESSAGE] if blocker else rollout.message
        return [
            Condition("Ready", "True", "Scaling", message),
            available,
            Condition("Reconciling", "False", "Scaling", message),
            Condition("Stalled", "False", "Scaling", message),
        ]
    reason, message = (blocker.reason, blocker.message) if blocker else ("RolloutInProgress", rollout.message)
    return [
        Condition("Ready", "False", reason, message),
        available,
        Condition("Reconciling", "False" if stalled else "True", reason, message),
        Condition("Stalled", "True" if stalled else "False", reason if stalled else "Progressing", message),
    ]


def _ready_when_paused(service: InferenceService, message: str) -> Condition:
    """Ready as it was; where no operator had seen the service before, there is nothing that it was."""
    past = condition_of(service.status, "Ready")
    if is_new(service.status) or past["reason"] == "Paused":
        return Condition("Ready", "Unknown", "Paused", message)
    return Condition("Ready", past["status"], past["reason"], past.get("message", ""))


def _stalled_by(service: InferenceService, seen: Observation, rollout: Rollout) -> Problem | None:
    if seen.problem is not None:
        return seen.problem if seen.problem.stalled else None
    if rollout.complete:
        return None
    problem = _pods_problem(service, seen)
    if problem is not None and (problem.stalled or rollout.exceeded):
        return problem
    if rollout.exceeded:
        return Problem("ProgressDeadlineExceeded", f"The rollout makes no progress: {rollout.message}")
    return None


def _pods_problem(service: InferenceService, seen: Observation) -> Problem | None:
    """What keeps pods from being ready: what one of them says, or else why a ReplicaSet cannot make them.

    A pod that is refused at its making (no such ServiceAccount or priority class, a quota, Pod Security) says nothing.
    Once all pods of the newest template are there, a failure is one of the template before and says nothing of them.
    """
    if seen.pod_problem is not None:
        return seen.pod_problem
    live = (seen.deployment or {}).get("status") or {}
    failure = condition_of(live, "ReplicaFailure")
    if failure.get("status") != "True" or live.get("updatedReplicas", 0) >= service.replicas:
        return None
    text = f"Pods cannot be made: {failure.get('message', 'no message')}"[:MAX_MESSAGE]
    return Problem(reason_or(failure.get("reason"), "ReplicaFailure"), text, stalled=False)


def _available(service: InferenceService, seen: Observation) -> Condition:
    ready = ((seen.deployment or {}).get("status") or {}).get("readyReplicas", 0)
    if ready and not seen.reachable:
        message = f"{service.key} has ready pods and no Service of its own: the condition Ready says why."
        return Condition("Available", "False", "NoService", message)
    if ready:
        return Condition("Available", "True", "PodsReady", f"{names.url(service.key)} is served.")
    reason = "NoReadyPods" if service.replicas else "ScaledToZero"
    return Condition("Available", "False", reason, "No pod is ready to serve.")
