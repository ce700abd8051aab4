"""How far a service's Deployment is; pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiops_operator import names
from aiops_operator.api import InferenceService
from aiops_operator.conditions import condition_of


@dataclass(frozen=True)
class Rollout:
    """How far a Deployment is.

    Attributes:
        complete: all pods of its template serve.
        exceeded: the deadline has passed.
        message: the same in a sentence.
        scaling: nothing is rolled out; an autoscaler changes the number of pods, of which the fewest that may be serve.
    """

    complete: bool
    exceeded: bool
    message: str
    scaling: bool = False


def progress_of(service: InferenceService, deployment: Mapping[str, Any] | None) -> Rollout:
    """How far a service's Deployment is."""
    if deployment is None:
        return Rollout(complete=False, exceeded=False, message="There is no Deployment yet.")
    live, wanted = deployment.get("status") or {}, service.replicas
    current = live.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    updated, total = live.get("updatedReplicas", 0), live.get("replicas", 0)
    available = live.get("availableReplicas", 0)
    complete = current and updated == wanted and total == wanted and available == wanted
    if complete:
        return Rollout(complete=True, exceeded=False, message=f"{_pods(wanted)} the latest spec.")
    if _scales(service, deployment):
        message = f"{available} of {wanted} pods serve the latest spec, at least spec.autoscaling.minReplicas."
        return Rollout(complete=False, exceeded=False, message=message, scaling=True)
    progressing = condition_of(live, "Progressing")
    exceeded = current and progressing.get("reason") == "ProgressDeadlineExceeded"
    message = f"{updated} of {wanted} pods have the latest spec, {available} of {total} serve."
    return Rollout(complete=False, exceeded=exceeded, message=message)


def _scales(service: InferenceService, deployment: Mapping[str, Any]) -> bool:
    """Whether nothing but the number of pods differs from a revision that was rolled out before.

    What the autoscaler writes is for a moment not observed by the Deployment's controller; that the template is the good
    one tells it from a rollout.
    """
    if service.autoscaling is None:
        return False
    live = deployment.get("status") or {}
    annotations = deployment["spec"].get("template", {}).get("metadata", {}).get("annotations") or {}
    revision = annotations.get(names.ANNOTATION_TEMPLATE_HASH)
    rolled_out = revision is not None and revision == service.status.get("goodRevision")
    one_revision = live.get("updatedReplicas", 0) == live.get("replicas", 0)
    return rolled_out and one_revision and live.get("availableReplicas", 0) >= service.autoscaling.least


def _pods(count: int) -> str:
    return "The only pod serves" if count == 1 else f"All {count} pods serve"
