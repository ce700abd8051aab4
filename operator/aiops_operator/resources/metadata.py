"""What the metadata of all children has in common: labels that find them, and the owner that takes them along."""

from typing import Any

from aiops_operator.api import InferenceService
from aiops_operator.names import (
    FIELD_MANAGER,
    INFERENCE_SERVICE,
    LABEL_APP,
    LABEL_INSTANCE,
    LABEL_MANAGED_BY,
    LABEL_NAME,
    LABEL_SERVICE,
)


def labels(name: str, app: str = "") -> dict[str, str]:
    """Labels of everything made for the service of this name; none of the resource's own labels are copied.

    `app` is what the objects are called that run beside it, such as its shadow: what selects the service does not select them.
    """
    return {
        LABEL_APP: app or name,
        LABEL_NAME: "inferenceservice",
        LABEL_INSTANCE: app or name,
        LABEL_MANAGED_BY: FIELD_MANAGER,
        LABEL_SERVICE: name,
    }


def pod_labels(name: str, app: str = "") -> dict[str, str]:
    """The labels by which Deployment, Service, PodDisruptionBudget and ServiceMonitor select; they never change."""
    return {LABEL_APP: app or name, LABEL_SERVICE: name}


def owner_reference(service: InferenceService) -> dict[str, Any]:
    """The reference by which garbage collection removes a child with its service, the operator running or not.

    Deletion is not blocked on children, so that no right on the service's finalizers is needed.
    """
    return {
        "apiVersion": INFERENCE_SERVICE.api_version,
        "kind": INFERENCE_SERVICE.kind,
        "name": service.key.name,
        "uid": service.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def object_metadata(service: InferenceService, name: str, app: str = "") -> dict[str, Any]:
    """Metadata of a child of this name."""
    return {
        "name": name,
        "namespace": service.key.namespace,
        "labels": labels(service.key.name, app),
        "ownerReferences": [owner_reference(service)],
    }
