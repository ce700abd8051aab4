"""PodDisruptionBudget `<name>`: a drained node takes one pod at a time, where there is more than one."""

from typing import Any

from aiops_operator.api import InferenceService
from aiops_operator.names import POD_DISRUPTION_BUDGET
from aiops_operator.resources.metadata import object_metadata, pod_labels


def pod_disruption_budget(service: InferenceService) -> dict[str, Any]:
    """Wanted where `replicas` is more than 1: with a single pod it would only block drains."""
    return {
        "apiVersion": POD_DISRUPTION_BUDGET.api_version,
        "kind": POD_DISRUPTION_BUDGET.kind,
        "metadata": object_metadata(service, service.key.name),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": pod_labels(service.key.name)}},
    }
