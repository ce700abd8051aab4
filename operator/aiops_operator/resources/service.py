"""Service `<name>`: where clients reach the pods."""

from typing import Any

from aiops_operator.api import InferenceService
from aiops_operator.names import PORT_NAME, SERVICE, SERVICE_PORT
from aiops_operator.resources.metadata import object_metadata, pod_labels


def service(inference_service: InferenceService) -> dict[str, Any]:
    """Port 80 to the pods' port 8000."""
    return {
        "apiVersion": SERVICE.api_version,
        "kind": SERVICE.kind,
        "metadata": object_metadata(inference_service, inference_service.key.name),
        "spec": {
            "selector": pod_labels(inference_service.key.name),
            "ports": [{"name": PORT_NAME, "port": SERVICE_PORT, "targetPort": PORT_NAME, "protocol": "TCP"}],
        },
    }
