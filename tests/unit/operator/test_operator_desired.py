"""What is wanted, what is superfluous, what is told."""

import pytest
import yaml

from aiops_operator import desired, names, resources
from aiops_operator.conditions import Problem
from aiops_operator.desired import Capabilities, Found, World

DIGEST = "sha256:" + "ab" * 32
COPY = "iris-model-ababababab"
FOUND = Found(resources.config_map_mount(COPY, DIGEST), DIGEST, {"metadata": {"name": COPY}})
MISSING = Problem("ArtifactsNotFound", "…")


def world(service, artifacts=FOUND, children=None, copies=(), pods=()):
    """What a reconcile sees."""
    return World(service, children or {}, list(copies), list(pods), artifacts)


def deployment(service, *, annotated):
    """A Deployment as it was once applied."""
    scrape = resources.Scrape(annotated=annotated, forced=False)
    revision = resources.revision(service, FOUND.mount, "i:1", scrape, None)
    return resources.with_template(service, revision.template, resources.History())


def wanted(service, artifacts=FOUND, *, monitors=False, **more):
    """Kinds that are applied, kinds that are pruned, and the problem."""
    found = desired.desired(world(service, artifacts, **more), "i:1", Capabilities(monitors))
    return [kind.kind for kind, _ in found.children], [kind.kind for kind, _ in found.unwanted], found.problem


def test_the_least_service(make):
    """One pod, no budget, no monitor; what pods mount comes before the pods."""
    expected = (
        ["ConfigMap", "ConfigMap", "Deployment", "Service"],
        ["HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "ServiceMonitor", "PrometheusRule"],
        None,
    )
    assert wanted(make()) == expected


def test_more_pods_and_a_prometheus_operator(make):
    """A budget and a ServiceMonitor, nothing to prune."""
    expected = (
        ["ConfigMap", "ConfigMap", "Deployment", "Service", "PodDisruptionBudget", "ServiceMonitor"],
        ["HorizontalPodAutoscaler", "NetworkPolicy", "PrometheusRule"],
        None,
    )
    assert wanted(make({"replicas": 2}), monitors=True) == expected


def test_a_network_policy_is_made_where_it_is_asked_for(make):
    """With those who always may; an empty one is one, too."""
    peer = {"podSelector": {}}
    found = desired.desired(world(make({"networkPolicy": {}})), "i:1", Capabilities(), [peer])
    body = next(body for kind, body in found.children if kind == names.NETWORK_POLICY)
    assert [peer] == body["spec"]["ingress"][0]["from"]
    assert names.NETWORK_POLICY not in [kind for kind, _ in found.unwanted]


@pytest.mark.parametrize(
    ("mode", "monitors", "monitor", "annotated"),
    [
        ("auto", True, True, False),
        ("auto", False, False, True),
        ("serviceMonitor", True, True, False),
        ("serviceMonitor", False, False, False),
        ("annotations", True, False, True),
        ("annotations", False, False, True),
        ("none", True, False, False),
        ("none", False, False, False),
    ],
)
def test_pods_are_scraped_in_one_way_only(make, mode, monitors, monitor, annotated):
    """A ServiceMonitor or annotations, never both."""
    found = desired.desired(world(make({"monitoring": {"mode": mode}})), "i:1", Capabilities(monitors))
    kinds = {kind.kind: body for kind, body in found.children}
    annotations = kinds["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert ("ServiceMonitor" in kinds, "prometheus.io/scrape" in annotations) == (monitor, annotated)


def owned(service, uid, *kinds):
    """Children of its name that a controller with this uid has, for `world`."""
    metadata = {"name": service.key.name, "ownerReferences": [{"uid": uid, "controller": True}]}
    return {(kind, service.key.name): {"metadata": metadata} for kind in kinds}


@pytest.mark.parametrize(
    ("mode", "monitors", "expected", "otherwise"),
    [
        ("auto", True, ("True", "ServiceMonitorApplied"), ("False", "NotApplied")),
        ("auto", False, ("True", "PodsAnnotated"), ("False", "NotApplied")),
        ("serviceMonitor", False, ("False", "ServiceMonitorUnavailable"), ("False", "ServiceMonitorUnavailable")),
        ("annotations", True, ("True", "PodsAnnotated"), ("False", "NotApplied")),
        ("none", True, ("True", "Disabled"), ("True", "Disabled")),
    ],
)
def test_monitoring_ready(make, mode, monitors, expected, otherwise):
    """Says which way it is, or what is missing: what somebody else has made tells Prometheus nothing of these pods."""
    service = make({"monitoring": {"mode": mode}})
    for uid, wanted in ((service.uid, expected), ("another", otherwise)):
        children = owned(service, uid, names.DEPLOYMENT, names.SERVICE_MONITOR)
        condition = desired.monitoring(world(service, children=children), Capabilities(monitors))
        assert wanted == (condition.status, condition.reason)


def test_alerts_are_there_where_their_rule_is(make):
    """Both kinds are told of."""
    service = make({"monitoring": {"alerts": True}})
    capable = Capabilities(service_monitors=True, prometheus_rules=True)
    kinds = (names.SERVICE_MONITOR, names.PROMETHEUS_RULE)
    alone, both = (
        desired.monitoring(world(service, children=owned(service, service.uid, *kinds[:n])), capable) for n in (1, 2)
    )
    assert ("NotApplied", f"{service.key} has no PrometheusRule of its own: the condition Ready says why.") == (
        alone.reason,
        alone.message,
    )
    assert ("ServiceMonitorApplied", True) == (
        both.reason,
        both.message.endswith("PrometheusRule models/iris has the alerts."),
    )


def test_pods_without_annotations_say_so_until_they_roll(make):
    """`auto` rolls nothing when a ServiceMonitor kind goes away."""
    service = make()
    live = owned(service, service.uid, names.DEPLOYMENT)[names.DEPLOYMENT, "iris"]
    built = deployment(service, annotated=False)
    built["metadata"] |= live["metadata"]
    condition = desired.monitoring(world(service, children={(names.DEPLOYMENT, "iris"): built}), Capabilities())
    assert ("False", "AnnotationsPending") == (condition.status, condition.reason)


@pytest.mark.parametrize("digest", ["ab" * 32, f"sha256:{'ab' * 32}"])
def test_what_the_pods_are_to_load_is_what_the_spec_names(make, digest):
    """Its digest counts for each kind of source, and pods of another revision are not among those that are to."""
    service = make({"model": {"artifacts": {"persistentVolumeClaim": {"claimName": "c"}}, "sha256": digest}})
    artifacts = Found(resources.claim_mount(service.model.source))
    asked = desired.desired(world(service, artifacts), "i:1", Capabilities()).revision
    labels = {names.LABEL_APP: "iris"}
    pods = [
        {"metadata": {"name": name, "labels": labels, "annotations": {names.ANNOTATION_TEMPLATE_HASH: hash_}}}
        for name, hash_ in (("new", asked.hash), ("old", "another"))
    ]
    found = desired.mounted_of(world(service, artifacts, pods=pods), asked)
    assert (DIGEST, frozenset({"new"})) == (found.model, found.pods)


def test_artifacts_that_are_away_for_a_while_end_no_comparison(make):
    """The pods go on sending copies; the shadow stays as it is."""
    spec = {"rollout": {"strategy": "Shadow"}}
    shown = {"revision": "b", "state": "Comparing", "since": "2030-01-02T03:04:05Z"}
    service = make(spec, {"goodRevision": "a", "shadow": shown})
    name = (names.SERVICE, names.shadow("iris"))
    beside = {name: {"metadata": {"name": name[1]}, "spec": {"clusterIP": "10.96.0.7"}}}
    found = desired.desired(world(service, MISSING, beside), "i:1", Capabilities())
    runtime = found.children[0][1]["data"]
    copied = {"url": "http://10.96.0.7:80", "revision": "b@2030-01-02T03:04:05Z", "percent": 100}
    assert (copied, True, False) == (
        yaml.safe_load(runtime["runtime.yaml"])["shadow"],
        "shadow.yaml" in runtime,
        name in found.unwanted,
    )


def test_without_artifacts_no_pods_are_made(make):
    """The rest is there already when they come."""
    expected = (
        ["ConfigMap", "Service"],
        ["HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "ServiceMonitor", "PrometheusRule"],
        MISSING,
    )
    assert wanted(make(), MISSING) == expected


def test_when_a_reference_goes_bad_the_pods_stay_as_they_are(make):
    """What was rolled out is kept and scaled; nothing else of a bad spec reaches it."""
    live = deployment(make(), annotated=True)
    service = make({"replicas": 3, "image": "other:2"})
    children = {(names.DEPLOYMENT, "iris"): live}
    found = desired.desired(world(service, MISSING, children), "i:1", Capabilities())
    body = next(body for kind, body in found.children if kind == names.DEPLOYMENT)
    assert (body["spec"]["replicas"], body["spec"]["template"]) == (3, live["spec"]["template"])


def copies_of(*hexes, owner="uid-1"):
    """Metadata of copies, newest first."""
    owners = [{"uid": owner, "controller": True}]
    return [{"metadata": {"name": f"iris-model-{digits * 10}", "ownerReferences": owners}} for digits in hexes]


def pod_with(copy_name):
    """A pod that mounts a copy."""
    return {
        "spec": {"volumes": [{"name": "artifacts", "configMap": {"name": copy_name}}, {"name": "tmp", "emptyDir": {}}]}
    }


@pytest.mark.parametrize(
    ("copies", "new", "mounted", "deleted"),
    [
        ("", True, [], ""),
        ("1", True, [], ""),
        ("21", True, [], "1"),
        ("21", False, [], ""),
        ("321", False, [], "1"),
        ("4321", False, ["iris-model-1111111111"], "2"),
        ("4321", True, ["iris-model-1111111111", "iris-model-2222222222"], "3"),
    ],
)
def test_two_copies_are_kept_and_those_that_pods_mount(make, copies, new, mounted, deleted):
    """The wanted one is the newest of those that exist, or about to be made."""
    digits = copies[0] if copies and not new else "9"
    name = f"iris-model-{digits * 10}"
    artifacts = Found(resources.config_map_mount(name, DIGEST), DIGEST, {} if new else None)
    seen = world(make(), artifacts, copies=copies_of(*copies), pods=[pod_with(name) for name in mounted])
    assert [entry["metadata"]["name"][-1] for entry in desired.superfluous_copies(seen)] == list(deleted)


def test_nothing_is_pruned_while_artifacts_are_missing(make):
    """The last good revisions are all there is."""
    assert desired.superfluous_copies(world(make(), MISSING, copies=copies_of("3", "2", "1"))) == []


def status_with(drift=None, **conditions):
    """A status with some conditions."""
    entries = {"DriftDetected": ("Unknown", "A"), "Stalled": ("False", "A"), "Ready": ("False", "A")} | conditions
    return {
        "conditions": [
            {"type": type_, "status": value, "reason": reason, "message": f"{type_} {reason}"}
            for type_, (value, reason) in entries.items()
        ],
        "drift": drift or {},
    }


CALM, DRIFTING = status_with(DriftDetected=("False", "B")), status_with({"episode": "e1"}, DriftDetected=("True", "B"))

KNOWN = status_with({"episode": "e1", "acknowledged": True}, DriftDetected=("True", "B"))


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({}, CALM, []),
        (CALM, DRIFTING, [("Warning", "DriftDetected")]),
        (DRIFTING, DRIFTING, []),
        (DRIFTING, CALM, [("Normal", "DriftCleared")]),
        (DRIFTING, status_with({"episode": "e1"}), []),
        (DRIFTING, KNOWN, [("Normal", "DriftAcknowledged")]),
        (KNOWN, KNOWN, []),
        (KNOWN, DRIFTING, []),
        (KNOWN, CALM, [("Normal", "DriftCleared")]),
        (KNOWN, status_with({"episode": "e2"}, DriftDetected=("True", "B")), [("Warning", "DriftDetected")]),
        (status_with({"episode": "e1"}), DRIFTING, []),
        (status_with({"episode": "e1"}), CALM, [("Normal", "DriftCleared")]),
        (DRIFTING, status_with({"episode": "e2"}, DriftDetected=("True", "B")), [("Warning", "DriftDetected")]),
        (DRIFTING, status_with(), [("Normal", "DriftCleared")]),
        (status_with({"episode": "e1"}), status_with(), [("Normal", "DriftCleared")]),
        (status_with(), CALM, []),
        ({}, status_with(Stalled=("True", "ChildConflict")), [("Warning", "ChildConflict")]),
        (status_with(Stalled=("True", "X")), status_with(Stalled=("True", "X")), []),
        (status_with(Stalled=("True", "X")), status_with(Stalled=("True", "Y")), [("Warning", "Y")]),
        ({}, status_with(Ready=("True", "RolledOut")), [("Normal", "Ready")]),
        (status_with(Ready=("True", "A")), status_with(Ready=("True", "A")), []),
    ],
)
def test_events_are_for_flips_alone(before, after, told):
    """An episode is announced once, however often the operator or the pods go and come."""
    assert [(type_, reason) for type_, reason, _ in desired.announcements(before, after)] == told


def shadowed(make, spec=None, **shown):
    """A service that serves one model while its spec asks for another, and what a reconcile then sees and wants."""
    scrape = resources.Scrape(annotated=True, forced=False)
    good, asked = (resources.revision(make(), FOUND.mount, image, scrape, None) for image in ("i:0", "i:1"))
    before = resources.with_template(make(), good.template, resources.History())
    status = {"goodRevision": good.hash} | ({"shadow": {"revision": asked.hash, **shown}} if shown else {})
    service = make({"rollout": {"strategy": "Shadow"}} | (spec or {}), status)
    children = {
        (names.DEPLOYMENT, "iris"): before,
        (names.SERVICE, "iris-shadow"): {"spec": {"clusterIP": "10.96.0.7"}},
        (names.DEPLOYMENT, "iris-shadow"): {},
    }
    return service, children


def of_shadow(found):
    """Kinds of the shadow's objects that are applied and pruned, and the image of what serves."""
    applied = [kind.kind for kind, body in found.children if body["metadata"]["name"] == "iris-shadow"]
    pruned = [kind.kind for kind, name in found.unwanted if name == "iris-shadow"]
    template = next(body for kind, body in found.children if kind == names.DEPLOYMENT)["spec"]["template"]
    return applied, pruned, template["spec"]["containers"][0]["image"]


@pytest.mark.parametrize(
    ("shown", "applied", "pruned", "image", "copied"),
    [
        ({}, ["Deployment", "Service"], [], "i:0", False),
        ({"state": "Starting"}, ["Deployment", "Service"], [], "i:0", False),
        ({"state": "Comparing"}, ["Deployment", "Service"], [], "i:0", True),
        ({"state": "Promoted"}, [], ["Service", "Deployment"], "i:1", False),
        ({"state": "Rejected", "minRows": 500, "maxDistance": "0.1"}, [], ["Service", "Deployment"], "i:0", False),
    ],
)
def test_a_shadow_is_there_until_it_is_decided_on(make, shown, applied, pruned, image, copied):
    """What serves stays as it is meanwhile; requests are copied once the shadow was seen to be ready."""
    service, children = shadowed(make, **shown)
    found = desired.desired(world(service, children=children), "i:1", Capabilities())

    assert (applied, pruned, image) == of_shadow(found)
    assert copied == ("http://10.96.0.7:80" in found.children[0][1]["data"]["runtime.yaml"])


def test_a_shadow_has_what_the_service_has(make):
    """A policy and a monitor, where the service has them."""
    service, children = shadowed(make, {"networkPolicy": {}})
    found = desired.desired(world(service, children=children), "i:1", Capabilities(service_monitors=True))

    assert ["Deployment", "Service", "NetworkPolicy", "ServiceMonitor"] == of_shadow(found)[0]


@pytest.mark.parametrize(("address", "url"), [("fd00::7", "http://[fd00::7]:80"), ("None", ""), ("", "")])
def test_a_shadow_is_reached_by_its_address(make, address, url):
    """No name is resolved; where it has no address yet, nothing is copied."""
    children = {(names.SERVICE, "iris-shadow"): {"spec": {"clusterIP": address}}}

    assert url == world(make(), children=children).shadow_url
    assert "" == world(make()).shadow_url


def test_artifacts_that_are_gone_leave_a_shadow_as_it_is(make):
    """What is wanted is not known then."""
    service, children = shadowed(make, state="Comparing")
    found = desired.desired(world(service, MISSING, children=children), "i:1", Capabilities())

    assert ([], [], "i:0") == of_shadow(found)
    assert (None, None) == (found.revision, found.course)


def test_pods_of_a_service_and_of_its_shadow_are_told_apart(make):
    """By the label that selects them; those that are about to go are left out."""
    pods = [
        {
            "metadata": {"name": name, "labels": {"app": app}}
            | ({"deletionTimestamp": "2030-01-02T03:04:05Z"} if gone else {})
        }
        for name, app, gone in (
            ("b", "iris", False),
            ("a", "iris", False),
            ("c", "iris", True),
            ("s", "iris-shadow", False),
        )
    ]
    found = world(make(), pods=[*pods, {"metadata": {"name": "unlabelled"}}])

    assert ["a", "b"] == [pod["metadata"]["name"] for pod in found.pods_of("iris")]
    assert ["s"] == [pod["metadata"]["name"] for pod in found.pods_of("iris-shadow")]
