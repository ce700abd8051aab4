"""Deployment `<name>`: the pods, and what makes them roll."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from aiops_operator.api import InferenceService, UriSource
from aiops_operator.names import (
    ANNOTATION_HISTORY,
    ANNOTATION_HISTORY_DIGEST,
    ANNOTATION_SCRAPE,
    ANNOTATION_SCRAPE_PATH,
    ANNOTATION_SCRAPE_PORT,
    ANNOTATION_TEMPLATE,
    ANNOTATION_TEMPLATE_DIGEST,
    ANNOTATION_TEMPLATE_HASH,
    CONTAINER,
    CONTAINER_PORT,
    DEPLOYMENT,
    FETCH_CONTAINER,
    MODELS_DIRECTORY,
    PORT_NAME,
    RUNTIME_DIRECTORY,
    fingerprint,
    runtime_config_map,
)
from aiops_operator.resources.metadata import labels, object_metadata, pod_labels
from aiops_operator.resources.volume import Mount

USER: Final = 65532
PROGRESS_DEADLINE: Final = 120  # seconds without progress until the rollout counts as stalled
GRACE_PERIOD: Final = 30
# A pod leaves the Service's endpoints while it shuts down, and the nodes hear of it a moment later than the pod.
DRAIN_SECONDS: Final = 3
REVISIONS: Final = 3
DEPLOYMENT_REVISION: Final = (
    "pod-template-hash"  # the label by which the Deployment controller tells its ReplicaSets apart
)
DEFAULT_SERVICE_ACCOUNT: Final = "default"  # what a pod gets that names none
# The server takes some 180 MiB and the process that checks expectations some 200 MiB, with an iris model.
DEFAULT_RESOURCES: Final = {
    "requests": {"cpu": "50m", "memory": "448Mi"},
    "limits": {"memory": "1Gi"},
}
CONFINED: Final[Mapping[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
SCRAPE_ANNOTATIONS: Final = {
    ANNOTATION_SCRAPE: "true",
    ANNOTATION_SCRAPE_PORT: str(CONTAINER_PORT),
    ANNOTATION_SCRAPE_PATH: "/metrics",
}


@dataclass(frozen=True)
class Scrape:
    """Whether pods carry the annotations prometheus.io/*.

    Attributes:
        annotated: whether a template that is built anew has them.
        forced: whether pods roll for it; otherwise those that run keep what they have until something else rolls them.
    """

    annotated: bool
    forced: bool


@dataclass(frozen=True)
class Stored:
    """The template that a Deployment was last given, kept in an annotation of it.

    It is why an operator upgrade rolls nothing: as long as a service asks for the same (same hash), its pods keep the
    template that some earlier operator built, and edits by hand are still undone.
    """

    hash: str
    template: Mapping[str, Any]

    @property
    def scraped(self) -> bool:
        """Whether its pods carry the annotations prometheus.io/*."""
        annotations: Mapping[str, str] = self.template["metadata"].get("annotations") or {}
        return annotations.get(ANNOTATION_SCRAPE) == "true"


@dataclass(frozen=True)
class Failed:
    """A revision that was not rolled out in time: its hash, and why."""

    hash: str
    reason: str
    message: str


@dataclass(frozen=True)
class History:
    """What a Deployment remembers beside its present template.

    Attributes:
        good: the last revision that was rolled out in full, where it is another than the present one.
        failed: the revision that was asked for in vain.
    """

    good: Stored | None = None
    failed: Failed | None = None


def stored_template(live: Mapping[str, Any]) -> Stored | None:
    """What a live Deployment says it was given; None where it says nothing that can be used.

    An annotation that was edited by hand does not match its digest any more and is of no use: the template is built anew.
    """
    try:
        annotations = live["metadata"]["annotations"]
        remembered = annotations[ANNOTATION_TEMPLATE]
        if annotations[ANNOTATION_TEMPLATE_DIGEST] != fingerprint(remembered):
            return None
        return _stored(json.loads(remembered))
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def history_of(live: Mapping[str, Any]) -> History:
    """What a live Deployment remembers; nothing where it was edited by hand, as for `stored_template`."""
    try:
        annotations = live["metadata"]["annotations"]
        remembered = annotations[ANNOTATION_HISTORY]
        if annotations[ANNOTATION_HISTORY_DIGEST] != fingerprint(remembered):
            return History()
        document = json.loads(remembered)
        good, failed = document.get("good"), document.get("failed")
        return History(_stored(good) if good else None, Failed(**failed) if failed else None)
    except (AttributeError, KeyError, TypeError, ValueError):
        return History()


def _stored(template: Mapping[str, Any]) -> Stored:
    return Stored(template["metadata"]["annotations"][ANNOTATION_TEMPLATE_HASH], template)


def template_hash(service: InferenceService, mount: Mount, image: str) -> str:
    """A digest of everything that rolls the pods, and of nothing else.

    In it: the artifacts' digest or reference, file names, `sha256`, the image, resources, podTemplate, the webhook's
    address. Not in it: thresholds, cooldown, monitoring, replicas, and what this operator's builder looks like.
    """
    webhook = service.drift.webhook
    secret = webhook.url_secret if webhook else None
    signing = webhook.signing_secret if webhook else None
    asked = {
        "artifacts": mount.identity,
        "files": [service.model.model_file, service.model.baseline_file, service.model.expectations_file],
        "sha256": service.model.sha256,
        "image": image,
        "imagePullPolicy": service.image_pull_policy,
        "resources": service.resources,
        "podTemplate": service.pod_template,
        "webhook": [webhook.url, [secret.name, secret.key] if secret else None, webhook.required] if webhook else None,
        # Only where there is one: pods of a service without it must not roll because operators have learnt of it.
        **({"signing": [signing.name, signing.key]} if signing else {}),
        **({"progressDeadline": service.progress_deadline} if service.progress_deadline else {}),
    }
    return fingerprint(json.dumps(asked, sort_keys=True))


def revision(service: InferenceService, mount: Mount, image: str, scrape: Scrape, stored: Stored | None) -> Stored:
    """The pod template that the spec asks for.

    Args:
        service: what is asked for.
        mount: where the artifacts are.
        image: the inference image, defaults resolved.
        scrape: whether the pods are annotated for Prometheus.
        stored: the template that the live Deployment was given; it stays where nothing that rolls has changed.
    """
    digest = template_hash(service, mount, image)
    if stored is not None and stored.hash == digest and (stored.scraped == scrape.annotated or not scrape.forced):
        return stored
    return Stored(digest, _template(service, mount, image, digest, scrape=scrape.annotated))


def with_template(service: InferenceService, template: Mapping[str, Any], history: History) -> dict[str, Any]:
    """The Deployment around a pod template, which it remembers in an annotation, as it does others."""
    metadata = object_metadata(service, service.key.name)
    remembered = json.dumps(template, sort_keys=True, separators=(",", ":"))
    metadata["annotations"] = {ANNOTATION_TEMPLATE: remembered, ANNOTATION_TEMPLATE_DIGEST: fingerprint(remembered)}
    if history != History():
        document = {
            "good": history.good.template if history.good else None,
            "failed": asdict(history.failed) if history.failed else None,
        }
        kept = json.dumps(document, sort_keys=True, separators=(",", ":"))
        metadata["annotations"] |= {ANNOTATION_HISTORY: kept, ANNOTATION_HISTORY_DIGEST: fingerprint(kept)}
    return {
        "apiVersion": DEPLOYMENT.api_version,
        "kind": DEPLOYMENT.kind,
        "metadata": metadata,
        "spec": {
            "replicas": service.replicas,
            "selector": {"matchLabels": pod_labels(service.key.name)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "progressDeadlineSeconds": service.progress_deadline or PROGRESS_DEADLINE,
            "revisionHistoryLimit": REVISIONS,
            "template": dict(template),
        },
    }


def _template(service: InferenceService, mount: Mount, image: str, digest: str, *, scrape: bool) -> dict[str, Any]:
    given = service.pod_template
    annotations = {**given.get("annotations", {}), ANNOTATION_TEMPLATE_HASH: digest}
    passed_on = (
        "nodeSelector",
        "tolerations",
        "affinity",
        "topologySpreadConstraints",
        "imagePullSecrets",
        "priorityClassName",
    )
    return {
        "metadata": {
            "labels": {**given.get("labels", {}), **labels(service.key.name)},
            "annotations": annotations | (SCRAPE_ANNOTATIONS if scrape else {}),
        },
        "spec": {
            **_spread(service),
            **{field: given[field] for field in passed_on if given.get(field)},
            # Always said: the API server keeps its old alias of it, `serviceAccount`, and fills a field that is taken
            # back from there.
            "serviceAccountName": given.get("serviceAccountName") or DEFAULT_SERVICE_ACCOUNT,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": GRACE_PERIOD,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            **({"initContainers": [_fetch_container(service, mount.fetched, image)]} if mount.fetched else {}),
            "containers": [_container(service, mount, image)],
            "volumes": [
                {"name": "artifacts", **mount.volume},
                {"name": "runtime", "configMap": {"name": runtime_config_map(service.key.name)}},
                {"name": "tmp", "emptyDir": {}},
            ],
        },
    }


def _spread(service: InferenceService) -> dict[str, Any]:
    """Over nodes as far as there are any, unless the service says itself where its pods run (an empty list: anywhere)."""
    given = service.pod_template
    if given.get("affinity") or given.get("topologySpreadConstraints") is not None:
        return {}
    constraint = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": pod_labels(service.key.name)},
        # Counted are pods of the same revision: those that are about to go would keep new ones off their nodes.
        "matchLabelKeys": [DEPLOYMENT_REVISION],
    }
    return {"topologySpreadConstraints": [constraint]}


def _container(service: InferenceService, mount: Mount, image: str) -> dict[str, Any]:
    artifacts = {"name": "artifacts", "mountPath": MODELS_DIRECTORY, "readOnly": True}
    health = {"path": "/health", "port": PORT_NAME}
    return {
        "name": CONTAINER,
        "image": image,
        **({"imagePullPolicy": service.image_pull_policy} if service.image_pull_policy else {}),
        "ports": [{"name": PORT_NAME, "containerPort": CONTAINER_PORT, "protocol": "TCP"}],
        "env": _environment(service),
        "resources": dict(service.resources or DEFAULT_RESOURCES),
        "volumeMounts": [
            artifacts | ({"subPath": mount.sub_path} if mount.sub_path else {}),
            {"name": "runtime", "mountPath": RUNTIME_DIRECTORY, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  a path in the container, on its own emptyDir
        ],
        "securityContext": dict(CONFINED),
        # The startup probe bounds loading, the readiness probe decides on traffic, and only a server that no longer
        # answers at all is restarted.
        "startupProbe": {
            "httpGet": health,
            "periodSeconds": 1,
            "timeoutSeconds": 2,
            "failureThreshold": service.progress_deadline or PROGRESS_DEADLINE,
        },
        "readinessProbe": {"httpGet": health, "periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 2},
        "livenessProbe": {
            "httpGet": {"path": "/livez", "port": PORT_NAME},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "lifecycle": {"preStop": {"sleep": {"seconds": DRAIN_SECONDS}}},
    }


def _fetch_container(service: InferenceService, source: UriSource, image: str) -> dict[str, Any]:
    """Fills the volume before the server starts; what it says at its end reaches the status.

    Its resources are the server's: it ends before that begins, so that the pod asks for no more.
    """
    own = [{"name": "ARTIFACTS_URI", "value": source.uri}, *_files(service)]
    return {
        "name": FETCH_CONTAINER,
        "image": image,
        **({"imagePullPolicy": service.image_pull_policy} if service.image_pull_policy else {}),
        "command": ["python", "-m", "aiops_inference.fetch"],
        "env": _with_given(service, own),
        # What is said above wins over the Secret.
        **({"envFrom": [{"secretRef": {"name": source.secret}}]} if source.secret else {}),
        "resources": dict(service.resources or DEFAULT_RESOURCES),
        "volumeMounts": [{"name": "artifacts", "mountPath": MODELS_DIRECTORY}],
        "securityContext": dict(CONFINED),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _files(service: InferenceService) -> list[dict[str, Any]]:
    """The variables that name the artifacts."""
    model = service.model
    return [
        {"name": "MODEL_PATH", "value": f"{MODELS_DIRECTORY}/{model.model_file}"},
        {"name": "BASELINE_PATH", "value": f"{MODELS_DIRECTORY}/{model.baseline_file}"},
        {"name": "EXPECTATIONS_PATH", "value": f"{MODELS_DIRECTORY}/{model.expectations_file}"},
        *([{"name": "MODEL_SHA256", "value": model.sha256}] if model.sha256 else []),
    ]


def _environment(service: InferenceService) -> list[dict[str, Any]]:
    webhook = service.drift.webhook
    own = [{"name": "SERVICE_NAME", "value": service.key.name}, *_files(service)]
    if webhook and webhook.url:
        own.append({"name": "DRIFT_WEBHOOK", "value": webhook.url})
    if webhook and webhook.url_secret:
        reference = {"name": webhook.url_secret.name, "key": webhook.url_secret.key}
        own.append({"name": "DRIFT_WEBHOOK", "valueFrom": {"secretKeyRef": reference}})
    if webhook and webhook.signing_secret:
        reference = {"name": webhook.signing_secret.name, "key": webhook.signing_secret.key}
        own.append({"name": "DRIFT_WEBHOOK_SECRET", "valueFrom": {"secretKeyRef": reference}})
    if webhook and webhook.required:
        own.append({"name": "REQUIRE_WEBHOOK", "value": "true"})
    return _with_given(service, own)


def _with_given(service: InferenceService, own: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry a name: server-side apply refuses a list with two, and the user's is the one that counts."""
    return list({entry["name"]: entry for entry in (*own, *service.pod_template.get("env", ()))}.values())
