"""Names that others rely on: kinds, labels, annotations, and what the children of a service are called."""

import hashlib
from dataclasses import dataclass
from typing import Final, NamedTuple

GROUP: Final = "aiops-quality.io"
VERSION: Final = "v1alpha1"
FIELD_MANAGER: Final = "aiops-operator"
COMPONENT: Final = "aiops-operator"

LABEL_APP: Final = "app"
LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_INSTANCE: Final = "app.kubernetes.io/instance"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_SERVICE: Final = f"{GROUP}/inferenceservice"

ANNOTATION_TEMPLATE_HASH: Final = f"{GROUP}/template-hash"
ANNOTATION_TEMPLATE: Final = f"{GROUP}/applied-template"
ANNOTATION_TEMPLATE_DIGEST: Final = f"{GROUP}/applied-template-digest"
ANNOTATION_HISTORY: Final = f"{GROUP}/revisions"
ANNOTATION_HISTORY_DIGEST: Final = f"{GROUP}/revisions-digest"
ANNOTATION_APPLIED: Final = f"{GROUP}/applied-hash"
ANNOTATION_SCRAPE: Final = "prometheus.io/scrape"
ANNOTATION_SCRAPE_PORT: Final = "prometheus.io/port"
ANNOTATION_SCRAPE_PATH: Final = "prometheus.io/path"

# What every watch of children asks the API server for; a cluster's other objects never reach the operator.
CHILD_SELECTOR: Final = f"{LABEL_MANAGED_BY}={FIELD_MANAGER}"

CONTAINER: Final = "inference"
FETCH_CONTAINER: Final = "fetch"
CONTAINER_PORT: Final = 8000
SERVICE_PORT: Final = 80
PORT_NAME: Final = "http"
MODELS_DIRECTORY: Final = "/models"
RUNTIME_DIRECTORY: Final = "/etc/aiops"
RUNTIME_KEY: Final = "runtime.yaml"
SHADOW_KEY: Final = "shadow.yaml"
COPY_DIGITS: Final = 10
SHORT_DIGITS: Final = 7
FINGERPRINT_DIGITS: Final = 16


class Key(NamedTuple):
    """Which service: what the queue, the poller and the metrics speak of."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Kind:
    """A kind of object and where the API server serves it.

    Attributes:
        group: API group, empty for the core.
        version: API version within the group.
        plural: the path segment.
        kind: the name in manifests.
    """

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        """As manifests write it, such as apps/v1."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """Path of the group and version: also where discovery answers."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Path of one object, of a namespace's objects, or of all."""
        segments = [self.root, *(("namespaces", namespace) if namespace else ()), self.plural, name, subresource]
        return "/".join(segment for segment in segments if segment)


INFERENCE_SERVICE: Final = Kind(GROUP, VERSION, "inferenceservices", "InferenceService")
DEPLOYMENT: Final = Kind("apps", "v1", "deployments", "Deployment")
CONFIG_MAP: Final = Kind("", "v1", "configmaps", "ConfigMap")
SERVICE: Final = Kind("", "v1", "services", "Service")
POD: Final = Kind("", "v1", "pods", "Pod")
EVENT: Final = Kind("", "v1", "events", "Event")
CLAIM: Final = Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
HORIZONTAL_POD_AUTOSCALER: Final = Kind("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
PROMETHEUS_RULE: Final = Kind("monitoring.coreos.com", "v1", "prometheusrules", "PrometheusRule")
JOB: Final = Kind("batch", "v1", "jobs", "Job")
CRON_JOB: Final = Kind("batch", "v1", "cronjobs", "CronJob")
LEASE: Final = Kind("coordination.k8s.io", "v1", "leases", "Lease")
POD_DISRUPTION_BUDGET: Final = Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
NETWORK_POLICY: Final = Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
SERVICE_MONITOR: Final = Kind("monitoring.coreos.com", "v1", "servicemonitors", "ServiceMonitor")

CHILD_KINDS: Final = (
    CONFIG_MAP,
    SERVICE,
    DEPLOYMENT,
    POD_DISRUPTION_BUDGET,
    HORIZONTAL_POD_AUTOSCALER,
    NETWORK_POLICY,
    SERVICE_MONITOR,
    PROMETHEUS_RULE,
)


def runtime_config_map(name: str) -> str:
    """The ConfigMap with the runtime's settings."""
    return f"{name}-runtime"


def shadow(name: str) -> str:
    """What the objects are called that are there while a revision is compared with the one that serves."""
    return f"{name}-shadow"


def model_config_map(name: str, digest: str) -> str:
    """The immutable copy of artifacts with this digest (`sha256:<hex>` or bare hex)."""
    return f"{name}-model-{digest.removeprefix('sha256:')[:COPY_DIGITS]}"


def is_model_config_map(name: str, candidate: str) -> bool:
    """Whether a ConfigMap's name is that of a copy made for this service."""
    prefix, digits = f"{name}-model-", candidate.removeprefix(f"{name}-model-")
    return candidate.startswith(prefix) and len(digits) == COPY_DIGITS and set(digits) <= set("0123456789abcdef")


def digest(text: str) -> str:
    """`sha256:<hex>`, of a digest that may be bare hex."""
    return f"sha256:{text.removeprefix('sha256:')}"


def short_digest(digest: str) -> str:
    """The first seven hexadecimal digits, for the MODEL column."""
    return digest.removeprefix("sha256:")[:SHORT_DIGITS]


def fingerprint(text: str) -> str:
    """Sixteen hexadecimal digits that tell one text from another, for annotations."""
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_DIGITS]


def url(key: Key) -> str:
    """Where a service answers inside the cluster."""
    return f"http://{key.name}.{key.namespace}.svc:{SERVICE_PORT}"


def host(address: str) -> str:
    """An IP address as a URL has it."""
    return f"[{address}]" if ":" in address else address


def service_selector(name: str) -> str:
    """Label selector of everything that was made for a service (within its namespace)."""
    return f"{CHILD_SELECTOR},{LABEL_SERVICE}={name}"


def pod_selector(name: str) -> str:
    """Label selector of a service's pods, as the scale subresource shows it."""
    return f"{LABEL_APP}={name},{LABEL_SERVICE}={name}"
