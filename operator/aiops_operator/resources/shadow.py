"""Deployment `<name>-shadow`: one pod of a revision that is compared with the one that serves, before it is rolled out.

Its pod is the one that a rollout would make, but for what would be noticed outside: it is not behind the service, calls no
webhook, and has runtime settings of its own, by which it copies no requests.
"""

from collections.abc import Mapping
from typing import Any, Final

from aiops_operator.api import InferenceService
from aiops_operator.names import CONTAINER, DEPLOYMENT, RUNTIME_DIRECTORY, SHADOW_KEY
from aiops_operator.names import shadow as shadow_name
from aiops_operator.resources.deployment import PROGRESS_DEADLINE, REVISIONS
from aiops_operator.resources.metadata import labels, object_metadata, pod_labels

# Drift of a model that serves nobody is for the verdict to weigh, and for nobody to be called about.
SILENCED: Final = frozenset({"DRIFT_WEBHOOK", "DRIFT_WEBHOOK_SECRET", "REQUIRE_WEBHOOK", "RUNTIME_CONFIG"})


def shadow_deployment(service: InferenceService, template: Mapping[str, Any]) -> dict[str, Any]:
    """The Deployment of a revision's pod template."""
    name, app = service.key.name, shadow_name(service.key.name)
    metadata, spec = template["metadata"], template["spec"]
    return {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.kind,
        "metadata": object_metadata(service, app, app),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": pod_labels(name, app)},
            "strategy": {"type": "Recreate"},  # nobody waits for its answers
            "progressDeadlineSeconds": service.progress_deadline or PROGRESS_DEADLINE,
            "revisionHistoryLimit": REVISIONS,
            "template": {
                "metadata": {**metadata, "labels": {**metadata["labels"], **labels(name, app)}},
                "spec": {**spec, "containers": [_silenced(container) for container in spec["containers"]]},
            },
        },
    }


def _silenced(container: Mapping[str, Any]) -> dict[str, Any]:
    if container["name"] != CONTAINER:
        return dict(container)
    kept = [entry for entry in container["env"] if entry["name"] not in SILENCED]
    settings = {"name": "RUNTIME_CONFIG", "value": f"{RUNTIME_DIRECTORY}/{SHADOW_KEY}"}
    return {**container, "env": [*kept, settings]}
