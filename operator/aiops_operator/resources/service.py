"""Service `<name>`: where clients reach the pods."""

from typing import Any

from aiops_operator.api import InferenceService
from aiops_operator.names import PORT_NAME, SERVICE, SERVICE_PORT
from aiops_operator.resources.metadata import object_metadata, pod_labels


def service(inference_service: InferenceService, app: str = "") -> dict[str, Any]:
    """Port 80 to the pods' port 8000; `app` is for those beside it (`labels`)."""
    name = inference_service.key.name
    return {
        "apiVersion": SERVICE.api_version,
        "kind": SERVICE.kind,
        "metadata": object_metadata(inference_service, app or name, app),
        "spec": {
            "selector": pod_labels(name, app),
            "ports": [{"name": PORT_NAME, "port": SERVICE_PORT, "targetPort": PORT_NAME, "protocol": "TCP"}],
        },
    }
