"""ServiceMonitor `<name>`: tells a Prometheus Operator to scrape the pods."""

from typing import Any

from aiops_operator.api import InferenceService
from aiops_operator.names import PORT_NAME, SERVICE_MONITOR
from aiops_operator.resources.metadata import object_metadata, pod_labels


def service_monitor(service: InferenceService) -> dict[str, Any]:
    """Scrapes /metrics of the Service's endpoints; `spec.monitoring.labels` are those a Prometheus selects by."""
    metadata = object_metadata(service, service.key.name)
    metadata["labels"] = {**service.monitoring.labels, **metadata["labels"]}
    return {
        "apiVersion": SERVICE_MONITOR.api_version,
        "kind": SERVICE_MONITOR.kind,
        "metadata": metadata,
        "spec": {
            "selector": {"matchLabels": pod_labels(service.key.name)},
            "endpoints": [{"port": PORT_NAME, "path": "/metrics", "interval": service.monitoring.interval}],
        },
    }
