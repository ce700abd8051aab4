"""The pure parts of a reconcile: what is wanted, what is superfluous, what is told."""

import copy

import kopf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_operator import handlers, names, reconcile, resources
from aiops_operator.reconcile import Capabilities, Found, World
from aiops_operator.status import Problem

DIGEST = "sha256:" + "ab" * 32
COPY = "iris-model-ababababab"
FOUND = Found(resources.config_map_mount(COPY, DIGEST), DIGEST, {"metadata": {"name": COPY}})
MISSING = Problem("ArtifactsNotFound", "…")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


def world(service, artifacts=FOUND, children=None, copies=(), pods=()):
    """What a reconcile sees."""
    return World(service, children or {}, list(copies), list(pods), artifacts)


def wanted(service, artifacts=FOUND, *, monitors=False, **more):
    """Kinds that are applied, kinds that are pruned, and the problem."""
    found = reconcile.desired(world(service, artifacts, **more), "i:1", Capabilities(monitors))
    return [kind.kind for kind, _ in found.children], [kind.kind for kind, _ in found.unwanted], found.problem


def test_the_least_service(make):
    """One pod, no budget, no monitor; what pods mount comes before the pods."""
    expected = (
        ["ConfigMap", "ConfigMap", "Deployment", "Service"],
        ["PodDisruptionBudget", "ServiceMonitor"],
        None,
    )
    assert wanted(make()) == expected


def test_more_pods_and_a_prometheus_operator(make):
    """A budget and a ServiceMonitor, nothing to prune."""
    expected = (["ConfigMap", "ConfigMap", "Deployment", "Service", "PodDisruptionBudget", "ServiceMonitor"], [], None)
    assert wanted(make({"replicas": 2}), monitors=True) == expected


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
    found = reconcile.desired(world(make({"monitoring": {"mode": mode}})), "i:1", Capabilities(monitors))
    kinds = {kind.kind: body for kind, body in found.children}
    annotations = kinds["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert ("ServiceMonitor" in kinds, "prometheus.io/scrape" in annotations) == (monitor, annotated)


@pytest.mark.parametrize(
    ("mode", "monitors", "expected"),
    [
        ("auto", True, ("True", "ServiceMonitorApplied")),
        ("auto", False, ("True", "PodsAnnotated")),
        ("serviceMonitor", False, ("False", "ServiceMonitorUnavailable")),
        ("annotations", True, ("True", "PodsAnnotated")),
        ("none", True, ("True", "Disabled")),
    ],
)
def test_monitoring_ready(make, mode, monitors, expected):
    """Says which way it is, or what is missing."""
    condition = reconcile.monitoring(make({"monitoring": {"mode": mode}}), Capabilities(monitors), None)
    assert (condition.status, condition.reason) == expected


def test_pods_without_annotations_say_so_until_they_roll(make):
    """`auto` rolls nothing when a ServiceMonitor kind goes away."""
    service = make()
    built = resources.deployment(service, FOUND.mount, "i:1", resources.Scrape(annotated=False, forced=False), None)
    condition = reconcile.monitoring(service, Capabilities(), built)
    assert (condition.status, condition.reason) == ("False", "AnnotationsPending")


def test_without_artifacts_no_pods_are_made(make):
    """The rest is there already when they come."""
    expected = (["ConfigMap", "Service"], ["PodDisruptionBudget", "ServiceMonitor"], MISSING)
    assert wanted(make(), MISSING) == expected


def test_when_a_reference_goes_bad_the_pods_stay_as_they_are(make):
    """What was rolled out is kept and scaled; nothing else of a bad spec reaches it."""
    live = resources.deployment(make(), FOUND.mount, "i:1", resources.Scrape(annotated=True, forced=False), None)
    service = make({"replicas": 3, "image": "other:2"})
    children = {(names.DEPLOYMENT, "iris"): live}
    found = reconcile.desired(world(service, MISSING, children), "i:1", Capabilities())
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
    assert [entry["metadata"]["name"][-1] for entry in reconcile.superfluous_copies(seen)] == list(deleted)


def test_nothing_is_pruned_while_artifacts_are_missing(make):
    """The last good revisions are all there is."""
    assert reconcile.superfluous_copies(world(make(), MISSING, copies=copies_of("3", "2", "1"))) == []


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


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({}, CALM, []),
        (CALM, DRIFTING, [("Warning", "DriftDetected")]),
        (DRIFTING, DRIFTING, []),
        (DRIFTING, CALM, [("Normal", "DriftCleared")]),
        (DRIFTING, status_with({"episode": "e1"}), []),
        (status_with({"episode": "e1"}), DRIFTING, []),
        (status_with({"episode": "e1"}), CALM, [("Normal", "DriftCleared")]),
        (DRIFTING, status_with({"episode": "e2"}, DriftDetected=("True", "B")), [("Warning", "DriftDetected")]),
        (DRIFTING, status_with(), []),
        ({}, status_with(Stalled=("True", "ChildConflict")), [("Warning", "ChildConflict")]),
        (status_with(Stalled=("True", "X")), status_with(Stalled=("True", "X")), []),
        (status_with(Stalled=("True", "X")), status_with(Stalled=("True", "Y")), [("Warning", "Y")]),
        ({}, status_with(Ready=("True", "RolledOut")), [("Normal", "Ready")]),
        (status_with(Ready=("True", "A")), status_with(Ready=("True", "A")), []),
    ],
)
def test_events_are_for_flips_alone(before, after, told):
    """An episode is announced once, however often the operator or the pods go and come."""
    assert [(type_, reason) for type_, reason, _ in reconcile.announcements(before, after)] == told


@given(JSON)
def test_what_is_applied_is_contained_in_what_it_becomes(wanted_value):
    """Defaults of the server beside our fields do not count."""
    live = copy.deepcopy(wanted_value)
    if isinstance(live, dict):
        live |= {"added by a default": 1}
    assert reconcile.contains(live, wanted_value)


@given(JSON, JSON)
def test_containment_in_both_directions_is_equality(one, other):
    """Whatever is taken away or edited is seen."""
    both = reconcile.contains(one, other) and reconcile.contains(other, one)
    assert both == (one == other)


def pod_status(**status):
    """A pod that is not ready."""
    return {"metadata": {"name": "iris-1"}, "status": status}


def waiting(reason, message="", last=None):
    """A container that waits."""
    entry = {"state": {"waiting": {"reason": reason, "message": message}}}
    return pod_status(containerStatuses=[entry | ({"lastState": {"terminated": last}} if last else {})])


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (waiting("ContainerCreating"), None),
        (waiting("ImagePullBackOff", "no such image"), ("ImagePullBackOff", "Pod iris-1: no such image")),
        (
            waiting("CreateContainerConfigError", 'secret "hook" not found'),
            ("CreateContainerConfigError", 'Pod iris-1: secret "hook" not found'),
        ),
        (waiting("CrashLoopBackOff", "", {"exitCode": 2}), ("CrashLoopBackOff", "Pod iris-1: exit code 2")),
        (
            waiting("CrashLoopBackOff", "", {"exitCode": 137, "reason": "OOMKilled"}),
            ("OOMKilled", "Pod iris-1 ran out of memory: raise spec.resources.limits.memory."),
        ),
        (
            pod_status(conditions=[{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]),
            ("Unschedulable", "Pod iris-1: 0/1 nodes"),
        ),
        (pod_status(conditions=[{"type": "PodScheduled", "status": "True"}]), None),
        (pod_status(), None),
    ],
)
def test_what_kubelet_and_scheduler_say(pod, expected):
    """Carried word for word, and never final."""
    problem = reconcile.container_problem(pod)
    assert (problem and (problem.reason, problem.message)) == expected
    assert problem is None or not problem.stalled


def test_kopf_is_told_to_watch_narrowly_and_to_write_nothing():
    """Server-side selectors for every kind of child, none for the resource itself; no Events; no end of trying."""
    settings = kopf.OperatorSettings()
    handlers.apply_settings(settings, scanning=False)
    selectors = {f"{key.group}/{key.any_name}": value for key, value in settings.watching.label_selectors.items()}
    assert selectors == dict.fromkeys(
        [
            "/configmaps",
            "/services",
            "apps/deployments",
            "policy/poddisruptionbudgets",
            "monitoring.coreos.com/servicemonitors",
            "/pods",
        ],
        "app.kubernetes.io/managed-by=aiops-operator",
    )
    backoffs = iter(settings.networking.error_backoffs)
    assert [next(backoffs) for _ in range(8)] == [1, 1, 2, 3, 5, 8, 10, 10]
    assert (settings.posting.enabled, settings.scanning.disabled) == (False, True)
