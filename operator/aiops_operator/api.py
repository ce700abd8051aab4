"""An InferenceService as the operator sees it: typed, frozen, with the CRD's defaults where a field is left out."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from aiops_drift import Thresholds
from aiops_operator.errors import SpecError
from aiops_operator.names import Key

MonitoringMode = Literal["auto", "serviceMonitor", "annotations", "none"]

_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


@dataclass(frozen=True)
class ConfigMapSource:
    """Artifacts as keys of a ConfigMap in the service's namespace."""

    name: str


@dataclass(frozen=True)
class ClaimSource:
    """Artifacts in a directory of a volume; an empty path is its root."""

    claim_name: str
    path: str = ""


@dataclass(frozen=True)
class ImageSource:
    """Artifacts at the root of an OCI image."""

    reference: str
    pull_policy: str | None = None


@dataclass(frozen=True)
class UriSource:
    """Artifacts in a directory that the pods fetch.

    Attributes:
        uri: of the directory, without a slash at its end.
        secret: name of the Secret with the credentials, which only the kubelet reads; None for none.
    """

    uri: str
    secret: str | None = None


Source = ConfigMapSource | ClaimSource | ImageSource | UriSource


@dataclass(frozen=True)
class Model:
    """`spec.model`.

    Attributes:
        source: where the files are.
        model_file: name of the model's file.
        baseline_file: name of the training rows' file.
        expectations_file: name of the Great Expectations suite's file, which may be missing.
        sha256: digest that the model's bytes must have, as the spec writes it; None for any.
    """

    source: Source
    model_file: str = "model.pkl"
    baseline_file: str = "baseline.npy"
    expectations_file: str = "expectations.json"
    sha256: str | None = None


@dataclass(frozen=True)
class SecretKey:
    """A key of a Secret, which only the kubelet reads."""

    name: str
    key: str


@dataclass(frozen=True)
class Webhook:
    """`spec.drift.webhook`; `cooldown` in seconds."""

    url: str | None = None
    url_secret: SecretKey | None = None
    signing_secret: SecretKey | None = None
    required: bool = False
    cooldown: int = 300


@dataclass(frozen=True)
class Autoscaling:
    """`spec.autoscaling`: the fewest and most pods, and the part of the requested CPU to aim at, in percent."""

    least: int
    most: int
    cpu_utilization: int = 80


@dataclass(frozen=True)
class Peer:
    """Of `spec.networkPolicy.from`: pods with all these labels, in namespaces with all those.

    Attributes:
        namespace: labels of the namespaces; None for the service's own alone.
        pod: labels of the pods; None for all.
    """

    namespace: Mapping[str, str] | None = None
    pod: Mapping[str, str] | None = None


@dataclass(frozen=True)
class NetworkPolicy:
    """`spec.networkPolicy`: who may send requests, besides the operator and whom its administrator has named."""

    peers: tuple[Peer, ...] = ()


@dataclass(frozen=True)
class OnDrift:
    """`spec.drift.onDrift`: the CronJob of whose template a Job is made; `cooldown` in seconds between two episodes' Jobs."""

    cron_job: str
    cooldown: int = 6 * 3600
    max_attempts: int = 3


@dataclass(frozen=True)
class Drift:
    """`spec.drift`.

    Attributes:
        thresholds: what the verdict compares with; its run length follows from the last two.
        expectations_mode: `auto` or `disabled`.
        webhook: whom the pods tell; None for nobody.
        average_run_length: rows between two false alarms; None where `false_alarm_interval` says it in time.
        false_alarm_interval: seconds between two false alarms; 0 where only the mean is watched.
        on_drift: what an episode leads to; None for nothing.
        acknowledged_episode: the episode of drift that a person has seen and accepts; None for none.
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    expectations_mode: str = "auto"
    webhook: Webhook | None = None
    average_run_length: int | None = None
    false_alarm_interval: int = 30 * 86400
    acknowledged_episode: str | None = None
    on_drift: OnDrift | None = None


@dataclass(frozen=True)
class Monitoring:
    """`spec.monitoring`; `interval` as Prometheus writes it; `alerts`: whether there is a PrometheusRule."""

    mode: MonitoringMode = "auto"
    interval: str = "15s"
    labels: Mapping[str, str] = field(default_factory=dict)
    alerts: bool = False


@dataclass(frozen=True)
class Shadow:
    """`spec.rollout.shadow`: what a changed revision must show before it is rolled out.

    Attributes:
        min_rows: rows of the traffic that both models must have been given.
        max_distance: how far their predictions may be apart, as `aiops_drift.Agreement.distance` has it.
        percent: of the requests, how many are copied.
    """

    min_rows: int = 500
    max_distance: float = 0.1
    percent: int = 100


@dataclass(frozen=True)
class InferenceService:
    """One object of the kind, as far as the operator acts on it.

    Attributes:
        key: namespace and name.
        uid: identity; children name it as their owner.
        generation: of the spec.
        deleting: whether it is on its way out.
        image: the inference image; None for the operator's.
        image_pull_policy: None for Kubernetes' own default.
        replicas: wanted pods; where there is `autoscaling`, as many as the autoscaler says (`autoscaled`).
        resources: of the container, as a pod writes them; None for the operator's default.
        pod_template: `spec.podTemplate` as written: its parts are those of a pod.
        autoscaling: the bounds; None where `replicas` decides.
        network_policy: who may send requests; None for everybody.
        progress_deadline: seconds that a rollout may stand still; None for the operator's default.
        shadow: what a changed revision must show first; None where it is rolled out at once.
        status: as last written.
    """

    key: Key
    uid: str
    generation: int
    deleting: bool
    model: Model
    image: str | None
    image_pull_policy: str | None
    replicas: int
    resources: Mapping[str, Any] | None
    pod_template: Mapping[str, Any]
    drift: Drift
    monitoring: Monitoring
    paused: bool
    progress_deadline: int | None
    shadow: Shadow | None
    autoscaling: Autoscaling | None
    network_policy: NetworkPolicy | None
    status: Mapping[str, Any]

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> "InferenceService":
        """Read what the API server sent.

        Raises:
            SpecError: a spec that the CRD of this version would have refused (an older CRD is installed).
        """
        metadata, spec = body["metadata"], body.get("spec") or {}
        rollout = spec.get("rollout") or {}
        return cls(
            key=Key(metadata["namespace"], metadata["name"]),
            uid=metadata["uid"],
            generation=metadata.get("generation", 0),
            deleting="deletionTimestamp" in metadata,
            model=_model(spec.get("model") or {}),
            image=spec.get("image"),
            image_pull_policy=spec.get("imagePullPolicy"),
            replicas=spec.get("replicas", 1),
            resources=spec.get("resources") or None,
            pod_template=spec.get("podTemplate") or {},
            drift=_drift(spec.get("drift") or {}),
            monitoring=_monitoring(spec.get("monitoring") or {}),
            paused=bool(spec.get("paused", False)),
            progress_deadline=rollout.get("progressDeadlineSeconds"),
            shadow=_shadow(rollout.get("shadow") or {}) if rollout.get("strategy") == "Shadow" else None,
            autoscaling=_autoscaling(spec["autoscaling"]) if spec.get("autoscaling") else None,
            # An empty one closes: it must not be taken for one that is left out.
            network_policy=_network_policy(spec["networkPolicy"]) if spec.get("networkPolicy") is not None else None,
            status=body.get("status") or {},
        )

    def autoscaled(self, live: int | None) -> "InferenceService":
        """With as many replicas as the Deployment has now, within the bounds: they are the autoscaler's to change.

        The number that is there is thereby kept when `spec.autoscaling` comes, until the autoscaler has another.
        """
        if self.autoscaling is None:
            return self
        wanted = self.autoscaling.least if live is None else live
        return replace(self, replicas=min(max(wanted, self.autoscaling.least), self.autoscaling.most))


def seconds(duration: str) -> int:
    """Seconds of a duration such as 30s, 5m or 1h30m.

    Raises:
        SpecError: anything else.
    """
    match = _DURATION.fullmatch(duration)
    if match is None or not duration:
        message = f"{duration!r} is not a duration such as 30s, 5m or 1h30m"
        raise SpecError(message)
    hours, minutes, rest = (int(group or 0) for group in match.groups())
    return hours * 3600 + minutes * 60 + rest


def _model(spec: Mapping[str, Any]) -> Model:
    return Model(
        source=_source(spec.get("artifacts") or {}),
        model_file=spec.get("modelFile", Model.model_file),
        baseline_file=spec.get("baselineFile", Model.baseline_file),
        expectations_file=spec.get("expectationsFile", Model.expectations_file),
        sha256=spec.get("sha256"),
    )


def _source(artifacts: Mapping[str, Any]) -> Source:
    match artifacts:
        case {"configMap": {"name": str(name)}}:
            return ConfigMapSource(name)
        case {"persistentVolumeClaim": {"claimName": str(name)} as claim}:
            return ClaimSource(name, claim.get("path", "").strip("/"))
        case {"image": {"reference": str(reference)} as image}:
            return ImageSource(reference, image.get("pullPolicy"))
        case {"uri": str(uri)}:
            return UriSource(uri.rstrip("/"), (artifacts.get("secretRef") or {}).get("name"))
        case _:
            message = "spec.model.artifacts names none of configMap, persistentVolumeClaim, image and uri"
            raise SpecError(message)


def _drift(spec: Mapping[str, Any]) -> Drift:
    features = {entry["name"]: float(entry["zScoreThreshold"]) for entry in spec.get("features") or ()}
    webhook = spec.get("webhook")
    return Drift(
        thresholds=Thresholds(
            z_score=float(spec.get("zScoreThreshold", 5.0)),
            features=features,
            min_samples=int(spec.get("minSamples", 50)),
        ),
        average_run_length=spec.get("averageRunLength"),
        false_alarm_interval=seconds(spec.get("falseAlarmInterval", "720h")),
        acknowledged_episode=spec.get("acknowledgedEpisode"),
        expectations_mode=(spec.get("expectations") or {}).get("mode", "auto"),
        webhook=_webhook(webhook) if webhook else None,
        on_drift=_on_drift(spec["onDrift"]) if spec.get("onDrift") else None,
    )


def _autoscaling(spec: Mapping[str, Any]) -> Autoscaling:
    return Autoscaling(
        least=int(spec.get("minReplicas", 1)),
        most=int(spec["maxReplicas"]),
        cpu_utilization=int(spec.get("targetCPUUtilizationPercentage", Autoscaling.cpu_utilization)),
    )


def _shadow(spec: Mapping[str, Any]) -> Shadow:
    return Shadow(
        min_rows=int(spec.get("minRows", Shadow.min_rows)),
        max_distance=float(spec.get("maxDistance", Shadow.max_distance)),
        percent=int(spec.get("percent", Shadow.percent)),
    )


def _network_policy(spec: Mapping[str, Any]) -> NetworkPolicy:
    return NetworkPolicy(
        tuple(
            Peer(_labels(entry.get("namespaceSelector")), _labels(entry.get("podSelector")))
            for entry in spec.get("from") or ()
        )
    )


def _labels(selector: Mapping[str, Any] | None) -> Mapping[str, str] | None:
    return dict(selector.get("matchLabels") or {}) if selector is not None else None


def _on_drift(spec: Mapping[str, Any]) -> OnDrift:
    return OnDrift(
        cron_job=spec["cronJobRef"]["name"],
        cooldown=seconds(spec.get("cooldown", "6h")),
        max_attempts=int(spec.get("maxAttempts", 3)),
    )


def _webhook(spec: Mapping[str, Any]) -> Webhook:
    return Webhook(
        url=spec.get("url"),
        url_secret=_secret_key(spec.get("urlSecretRef")),
        signing_secret=_secret_key(spec.get("signingSecretRef")),
        required=bool(spec.get("required", False)),
        cooldown=seconds(spec.get("cooldown", "5m")),
    )


def _secret_key(reference: Mapping[str, Any] | None) -> SecretKey | None:
    return SecretKey(reference["name"], reference["key"]) if reference else None


def _monitoring(spec: Mapping[str, Any]) -> Monitoring:
    return Monitoring(
        mode=spec.get("mode", "auto"),
        interval=spec.get("interval", "15s"),
        labels=dict(spec.get("labels") or {}),
        alerts=bool(spec.get("alerts", False)),
    )
