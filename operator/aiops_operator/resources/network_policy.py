"""NetworkPolicy `<name>`: who may send requests to the pods, where `spec.networkPolicy` says so."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiops_operator.api import InferenceService, NetworkPolicy, Peer
from aiops_operator.names import NETWORK_POLICY, PORT_NAME
from aiops_operator.names import shadow as shadow_name
from aiops_operator.resources.metadata import object_metadata, pod_labels


def network_policy(
    service: InferenceService, policy: NetworkPolicy, always: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Lets in, to the pods' one port, those that the service names, and always the operator and Prometheus.

    Args:
        service: whose pods are meant.
        policy: who may send requests.
        always: who may for every service, as a NetworkPolicy writes them.
    """
    return _policy(service, [*map(_peer, policy.peers), *map(dict, always)])


def shadow_network_policy(service: InferenceService, always: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Lets in, to the shadow's pods, the service's own, and always the operator and Prometheus."""
    own = {"podSelector": {"matchLabels": pod_labels(service.key.name)}}
    return _policy(service, [own, *map(dict, always)], shadow_name(service.key.name))


def _policy(service: InferenceService, peers: Sequence[Mapping[str, Any]], app: str = "") -> dict[str, Any]:
    # A rule whose `from` is empty lets everybody in: where nobody is to be let in there is no rule.
    rules = {"ingress": [{"from": list(peers), "ports": [{"port": PORT_NAME, "protocol": "TCP"}]}]} if peers else {}
    return {
        "apiVersion": NETWORK_POLICY.api_version,
        "kind": NETWORK_POLICY.kind,
        "metadata": object_metadata(service, app or service.key.name, app),
        "spec": {
            "podSelector": {"matchLabels": pod_labels(service.key.name, app)},
            "policyTypes": ["Ingress"],
            **rules,
        },
    }


def _peer(peer: Peer) -> dict[str, Any]:
    selectors = {"namespaceSelector": peer.namespace, "podSelector": peer.pod}
    return {name: _selector(labels) for name, labels in selectors.items() if labels is not None}


def _selector(labels: Mapping[str, str]) -> dict[str, Any]:
    return {"matchLabels": dict(labels)} if labels else {}  # the API server keeps no empty ones
