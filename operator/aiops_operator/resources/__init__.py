"""What a service becomes in the cluster: one pure builder a kind, spec in, dict out."""

from aiops_operator.resources.deployment import (
    Failed,
    History,
    Scrape,
    Stored,
    history_of,
    revision,
    stored_template,
    template_hash,
    with_template,
)
from aiops_operator.resources.horizontal_pod_autoscaler import horizontal_pod_autoscaler
from aiops_operator.resources.metadata import labels, object_metadata
from aiops_operator.resources.model_configmap import Artifacts, artifacts_of, model_config_map, model_key
from aiops_operator.resources.network_policy import network_policy, shadow_network_policy
from aiops_operator.resources.pod_disruption_budget import pod_disruption_budget
from aiops_operator.resources.prometheus_rule import prometheus_rule
from aiops_operator.resources.runtime_configmap import Mirror, runtime_config_map
from aiops_operator.resources.service import service
from aiops_operator.resources.service_monitor import service_monitor
from aiops_operator.resources.shadow import shadow_deployment
from aiops_operator.resources.volume import Mount, claim_mount, config_map_mount, image_mount, uri_mount

__all__ = [
    "Artifacts",
    "Failed",
    "History",
    "Mirror",
    "Mount",
    "Scrape",
    "Stored",
    "artifacts_of",
    "claim_mount",
    "config_map_mount",
    "history_of",
    "horizontal_pod_autoscaler",
    "image_mount",
    "labels",
    "model_config_map",
    "model_key",
    "network_policy",
    "object_metadata",
    "pod_disruption_budget",
    "prometheus_rule",
    "revision",
    "runtime_config_map",
    "service",
    "service_monitor",
    "shadow_deployment",
    "shadow_network_policy",
    "stored_template",
    "template_hash",
    "uri_mount",
    "with_template",
]
