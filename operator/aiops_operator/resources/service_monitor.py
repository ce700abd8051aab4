"""ServiceMonitor `<name>`: tells a Prometheus Operator to scrape the pods."""

from typing import Any

from aiops_operator.api import InferenceService
from aiops_operator.names import PORT_NAME, SERVICE_MONITOR
from aiops_operator.resources.metadata import object_metadata, pod_labels


def service_monitor(service: InferenceService, app: str = "") -> dict[str, Any]:
    """Scrapes /metrics of the Service's endpoints; `spec.monitoring.labels` are those a Prometheus selects by.

    `app` is for the Service beside it (`labels`).
    """
    metadata = object_metadata(service, app or service.key.name, app)
    metadata["labels"] = {**service.monitoring.labels, **metadata["labels"]}
    return {
        "apiVersion": SERVICE_MONITOR.api_version,
        "kind": SERVICE_MONITOR.kind,
        "metadata": metadata,
        "spec": {
            "selector": {"matchLabels": pod_labels(service.key.name, app)},
            "endpoints": [{"port": PORT_NAME, "path": "/metrics", "interval": service.monitoring.interval}],
        },
    }
