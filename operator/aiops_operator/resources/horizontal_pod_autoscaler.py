"""HorizontalPodAutoscaler `<name>`: as many pods as the load needs, within the bounds of `spec.autoscaling`."""

from typing import Any

from aiops_operator.api import Autoscaling, InferenceService
from aiops_operator.names import DEPLOYMENT, HORIZONTAL_POD_AUTOSCALER
from aiops_operator.resources.metadata import object_metadata


def horizontal_pod_autoscaler(service: InferenceService, bounds: Autoscaling) -> dict[str, Any]:
    """Scales the Deployment by the CPU that its pods use of what they request."""
    target = {"type": "Utilization", "averageUtilization": bounds.cpu_utilization}
    return {
        "apiVersion": HORIZONTAL_POD_AUTOSCALER.api_version,
        "kind": HORIZONTAL_POD_AUTOSCALER.kind,
        "metadata": object_metadata(service, service.key.name),
        "spec": {
            "scaleTargetRef": {
                "apiVersion": DEPLOYMENT.api_version,
                "kind": DEPLOYMENT.kind,
                "name": service.key.name,
            },
            "minReplicas": bounds.least,
            "maxReplicas": bounds.most,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    }
