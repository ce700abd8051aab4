"""What a service is to have, given what there is; pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from aiops_operator import names, resources, rollback, shadow
from aiops_operator.api import InferenceService
from aiops_operator.conditions import Condition, Problem, condition_of
from aiops_operator.live import owner_uid, pod_hash
from aiops_operator.names import Kind
from aiops_operator.podsview import Mounted
from aiops_operator.resources import Mirror, Mount, Scrape, Stored
from aiops_operator.shadow import Comparison, Course

KEPT_COPIES: Final = 2


@dataclass(frozen=True)
class Capabilities:
    """What the cluster can do, as discovery last said."""

    service_monitors: bool = False
    prometheus_rules: bool = False


@dataclass(frozen=True)
class Found:
    """Artifacts that the pods can mount.

    Attributes:
        mount: as a volume.
        model: digest of the model's file, where the operator can know it.
        copy: the immutable ConfigMap to make of them; None where there is none to make.
    """

    mount: Mount
    model: str | None = None
    copy: dict[str, Any] | None = None


@dataclass(frozen=True)
class World:
    """What a reconcile sees of one service before it changes anything.

    Attributes:
        service: the resource.
        children: live objects by kind and name.
        copies: metadata of the copies of artifacts, newest first.
        pods: live pods.
        artifacts: what they are to mount, or why that is not known.
    """

    service: InferenceService
    children: Mapping[tuple[Kind, str], dict[str, Any]]
    copies: Sequence[dict[str, Any]]
    pods: Sequence[dict[str, Any]]
    artifacts: Found | Problem

    @property
    def deployment(self) -> dict[str, Any] | None:
        """The live Deployment, whoever made it."""
        return self.children.get((names.DEPLOYMENT, self.service.key.name))

    def own(self, kind: Kind, name: str = "") -> dict[str, Any] | None:
        """A live object of the service's own name or of another, unless somebody else made it."""
        live = self.children.get((kind, name or self.service.key.name))
        return live if live is not None and owner_uid(live) == self.service.uid else None

    def pods_of(self, app: str) -> list[dict[str, Any]]:
        """The live pods of the Deployment of this name that are not about to go, by name."""
        pods = (pod for pod in self.pods if (pod["metadata"].get("labels") or {}).get(names.LABEL_APP) == app)
        staying = (pod for pod in pods if "deletionTimestamp" not in pod["metadata"])
        return sorted(staying, key=lambda pod: str(pod["metadata"]["name"]))

    @property
    def shadow_url(self) -> str:
        """Where the shadow answers, by the address of its Service: pods need not resolve names; empty where there is none."""
        service = self.children.get((names.SERVICE, names.shadow(self.service.key.name)))
        address = str((service or {}).get("spec", {}).get("clusterIP") or "")
        return f"http://{names.host(address)}:{names.SERVICE_PORT}" if address not in {"", "None"} else ""


@dataclass(frozen=True)
class Desired:
    """What a service is to have.

    Attributes:
        children: bodies to apply, in this order.
        unwanted: kinds and names of those it is not to have.
        problem: why it cannot have what its spec says.
        revision: what the spec asks for; None where that is not known.
        course: what is done about it; None where it is not known.
    """

    children: Sequence[tuple[Kind, dict[str, Any]]]
    unwanted: Sequence[tuple[Kind, str]]
    problem: Problem | None
    revision: Stored | None = None
    course: Course | None = None


def desired(
    world: World, default_image: str, capabilities: Capabilities, peers: Sequence[Mapping[str, Any]] = ()
) -> Desired:
    """What a service is to have, given what there is; `peers` may send requests to every service that limits who may."""
    service, name = world.service, world.service.key.name
    children: list[tuple[Kind, dict[str, Any]]] = []
    unwanted: list[tuple[Kind, str]] = []
    asked, course, problem = None, None, None
    stored = resources.stored_template(world.deployment) if world.deployment is not None else None
    if isinstance(world.artifacts, Found):
        if world.artifacts.copy is not None:
            children.append((names.CONFIG_MAP, world.artifacts.copy))
        scrape = scraping(service, capabilities)
        image = service.image or default_image
        asked = resources.revision(service, world.artifacts.mount, image, scrape, stored)
        course = shadow.course(service, asked, world.deployment)
        decision = rollback.decide(service, asked if course == "roll" or stored is None else stored, world.deployment)
        body = resources.with_template(service, decision.revision.template, decision.history)
        children.append((names.DEPLOYMENT, body))
        problem = decision.problem
    else:
        problem = world.artifacts
        if world.deployment is not None and stored is not None:
            # The reference has gone bad: what was last rolled out stays as it is, and stays healed and scaled.
            history = resources.history_of(world.deployment)
            children.append((names.DEPLOYMENT, resources.with_template(service, stored.template, history)))
    children.append((names.SERVICE, resources.service(service)))
    for kind, optional in _optional(service, capabilities, peers).items():
        if optional is not None:
            children.append((kind, optional))
        else:
            unwanted.append((kind, name))
    beside = _shadow(service, asked, capabilities, peers) if asked is not None and course == "compare" else {}
    mirror = _mirror(world, shadow.going_on(service, course, asked), begins=bool(beside))
    runtime = (names.CONFIG_MAP, resources.runtime_config_map(service, mirror))
    gone = [known for known in world.children if known[1] == names.shadow(name) and known[0] not in beside]
    return Desired(
        children=[runtime, *children, *beside.items()],
        unwanted=[*unwanted, *(gone if course is not None else ())],
        problem=problem,
        revision=asked,
        course=course,
    )


def _mirror(world: World, comparison: Comparison | None, *, begins: bool) -> Mirror | None:
    """To whom the pods send copies of their requests, once the shadow has been seen to be ready; None where nothing is compared."""
    asked = world.service.shadow
    if asked is None or (comparison is None and not begins):
        return None
    url = world.shadow_url if comparison is not None and comparison.ready else ""
    return Mirror(comparison.name if comparison else "", asked.percent, url)


def _shadow(
    service: InferenceService, revision: Stored, capabilities: Capabilities, peers: Sequence[Mapping[str, Any]]
) -> dict[Kind, dict[str, Any]]:
    """What is there while a revision is compared with the one that serves."""
    app = names.shadow(service.key.name)
    children = {
        names.DEPLOYMENT: resources.shadow_deployment(service, revision.template),
        names.SERVICE: resources.service(service, app),
    }
    if service.network_policy is not None:
        children[names.NETWORK_POLICY] = resources.shadow_network_policy(service, peers)
    if _monitored(service, capabilities):
        children[names.SERVICE_MONITOR] = resources.service_monitor(service, app)
    return children


def _optional(
    service: InferenceService, capabilities: Capabilities, peers: Sequence[Mapping[str, Any]]
) -> dict[Kind, dict[str, Any] | None]:
    """What a service has only where it asks for it; None where it does not."""
    policy = service.network_policy
    alerted = capabilities.prometheus_rules and service.monitoring.alerts
    return {
        names.HORIZONTAL_POD_AUTOSCALER: resources.horizontal_pod_autoscaler(service, service.autoscaling)
        if service.autoscaling
        else None,
        names.NETWORK_POLICY: resources.network_policy(service, policy, peers) if policy is not None else None,
        names.POD_DISRUPTION_BUDGET: resources.pod_disruption_budget(service) if service.replicas > 1 else None,
        names.SERVICE_MONITOR: resources.service_monitor(service) if _monitored(service, capabilities) else None,
        names.PROMETHEUS_RULE: resources.prometheus_rule(service) if alerted else None,
    }


def _monitored(service: InferenceService, capabilities: Capabilities) -> bool:
    return capabilities.service_monitors and service.monitoring.mode in {"auto", "serviceMonitor"}


def scraping(service: InferenceService, capabilities: Capabilities) -> Scrape:
    """Whether pods carry the annotations: `auto` decides only for pods that are made anew, so that it rolls none."""
    mode = service.monitoring.mode
    if mode == "auto":
        return Scrape(annotated=not capabilities.service_monitors, forced=False)
    return Scrape(annotated=mode == "annotations", forced=True)


def monitoring(world: World, capabilities: Capabilities) -> Condition:
    """The condition MonitoringReady, of a world in which everything has been applied."""
    found, alerts = _scraped(world, capabilities), world.service.monitoring.alerts
    if not alerts or found.status != "True":
        return found
    if world.own(names.PROMETHEUS_RULE) is None:
        return _not_applied(names.PROMETHEUS_RULE, world.service)
    return replace(found, message=f"{found.message} PrometheusRule {world.service.key} has the alerts.")


def _scraped(world: World, capabilities: Capabilities) -> Condition:
    service, mode = world.service, world.service.monitoring.mode
    if service.monitoring.alerts and not capabilities.prometheus_rules:
        message = "The cluster serves no PrometheusRule: install the Prometheus Operator, or leave spec.monitoring.alerts out."
        return Condition("MonitoringReady", "False", "PrometheusRuleUnavailable", message)
    if mode == "none":
        return Condition(
            "MonitoringReady", "True", "Disabled", "spec.monitoring.mode is none: nothing is to be scraped."
        )
    if mode != "annotations" and capabilities.service_monitors:
        if world.own(names.SERVICE_MONITOR) is None:
            return _not_applied(names.SERVICE_MONITOR, service)
        message = f"ServiceMonitor {service.key} selects the pods."
        return Condition("MonitoringReady", "True", "ServiceMonitorApplied", message)
    if mode == "serviceMonitor":
        message = "The cluster serves no ServiceMonitor: install the Prometheus Operator, or set spec.monitoring.mode."
        return Condition("MonitoringReady", "False", "ServiceMonitorUnavailable", message)
    return _annotated(world)


def _annotated(world: World) -> Condition:
    deployment = world.own(names.DEPLOYMENT)
    if deployment is None:
        return _not_applied(names.DEPLOYMENT, world.service)
    stored = resources.stored_template(deployment)
    if stored is None or stored.scraped:
        message = "The pods carry the annotations prometheus.io/scrape, port and path."
        return Condition("MonitoringReady", "True", "PodsAnnotated", message)
    message = "The pods carry no annotations until they roll: set spec.monitoring.mode to annotations to roll them now."
    return Condition("MonitoringReady", "False", "AnnotationsPending", message)


def _not_applied(kind: Kind, service: InferenceService) -> Condition:
    """What tells Prometheus where to scrape was refused, is somebody else's, or is not to be made yet."""
    message = f"{service.key} has no {kind.kind} of its own: the condition Ready says why."
    return Condition("MonitoringReady", "False", "NotApplied", message)


def mounted_of(world: World, asked: Stored | None) -> Mounted:
    """What the pods are to load, and which do: those of the revision that is asked for."""
    if isinstance(world.artifacts, Problem) or asked is None:
        return Mounted()
    pods = (pod for pod in world.pods_of(world.service.key.name) if pod_hash(pod) == asked.hash)
    digest = world.service.model.sha256
    return Mounted(
        world.artifacts.mount.display,
        names.digest(digest) if digest else world.artifacts.model,
        frozenset(str(pod["metadata"]["name"]) for pod in pods),
    )


def superfluous_copies(world: World) -> list[dict[str, Any]]:
    """Copies of artifacts to delete: neither wanted, nor the newest of the others, nor mounted by a live pod."""
    if isinstance(world.artifacts, Problem):
        return []
    mounting = [volume for pod in world.pods for volume in pod["spec"].get("volumes", ())]
    if world.deployment is not None:
        mounting += world.deployment["spec"]["template"]["spec"].get("volumes", ())
        good = resources.history_of(world.deployment).good
        mounting += good.template["spec"].get("volumes", ()) if good is not None else ()
    mounted = {volume["configMap"].get("name") for volume in mounting if "configMap" in volume}
    wanted = world.artifacts.mount.display
    others = [copy for copy in world.copies if copy["metadata"]["name"] != wanted]  # newest first
    return [copy for copy in others[KEPT_COPIES - 1 :] if copy["metadata"]["name"] not in mounted]


def announcements(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    """The Events of a change of status, as type, reason and message: flips alone, never their repetition."""
    now = condition_of(after, "DriftDetected")
    episodes = [(entry.get("drift") or {}).get("episode") for entry in (before, after)]
    if episodes[1] and episodes[1] != episodes[0]:
        yield "Warning", "DriftDetected", now["message"]
    elif episodes[0] and not episodes[1]:
        # By rows that look like the baseline, or (then not False but Unknown) by another model, which begins anew.
        yield "Normal", "DriftCleared", now["message"]
    known = [(entry.get("drift") or {}).get("acknowledged", False) for entry in (before, after)]
    if known[1] and not known[0]:
        yield "Normal", "DriftAcknowledged", now["message"]
    was, now = (condition_of(entry, "Stalled") for entry in (before, after))
    if now["status"] == "True" and (was.get("status"), was.get("reason")) != ("True", now["reason"]):
        yield "Warning", now["reason"], now["message"]
    was, now = (condition_of(entry, "Ready") for entry in (before, after))
    if now["status"] == "True" and was.get("status") != "True":
        yield "Normal", "Ready", now["message"]
