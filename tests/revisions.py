"""Revisions of a service, and Deployments that have them, as the operator's unit tests make them."""

from aiops_operator import resources
from aiops_operator.resources import History, Stored

COPY = {"configMap": {"name": "iris-model-0123456789"}}


def revision(digest, volume=COPY, env=()):
    """A pod template and its hash."""
    template = {
        "metadata": {"annotations": {"aiops-quality.io/template-hash": digest}},
        "spec": {"containers": [{"env": list(env)}], "volumes": [{"name": "artifacts", **volume}]},
    }
    return Stored(digest, template)


def live(service, applied, history=None, *, complete=False, exceeded=False):
    """A Deployment with this template, its rollout done, failed or under way, while the pod before serves."""
    body = resources.with_template(service, applied.template, history or History())
    pods = {"replicas": 1, "availableReplicas": 1} | ({"updatedReplicas": 1} if complete else {})
    late = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}] if exceeded else []
    return body | {
        "metadata": body["metadata"] | {"generation": 1},
        "status": pods | {"observedGeneration": 1, "conditions": late},
    }
