"""A changed revision is compared with the one that serves, and is rolled out by what that shows."""

import signal
from dataclasses import replace
from typing import Any

import pytest
import yaml
from operatorprocess import running, template
from waiting import until

from aiops_drift import Agreement, Shadowed

OTHER = {"model.pkl": b"another model", "baseline.npy": b"rows"}
SHADOW = {"rollout": {"strategy": "Shadow", "shadow": {"minRows": 100}, "progressDeadlineSeconds": 30}}
BESIDE = ("Deployment", "Service")


def mounted(api: Any) -> str:
    """The copy of the artifacts that the serving pods mount."""
    volumes = template(api.get("Deployment", "iris"))["spec"]["volumes"]
    return next(volume["configMap"]["name"] for volume in volumes if volume["name"] == "artifacts")


def served(api: Any, address: str, spec: dict[str, Any] | None = None) -> str:
    """Roll out a service; the copy that its pods mount."""
    api.serve(SHADOW | (spec or {}))
    api.run_pods([address])
    api.wait("Ready", "True", "RolledOut")
    return mounted(api)


def shadow_runs(api: Any, address: str) -> None:
    """Say of the shadow's pod that it runs."""
    pods = until(lambda: api.all("Pod", "app=iris-shadow"), lambda seen: len(seen) == 1, 30)
    api.pod_status(pods[0]["metadata"]["name"], running(address))
    api.wait("Ready", "False", "ShadowComparing")


def comparing(api: Any, pods: dict[str, Any]) -> str:
    """A service of one pod, whose changed model is compared with the one that serves; the copy that the pod mounts."""
    first, second = pods
    before = served(api, first)
    api.artifacts(files=OTHER)
    shadow_runs(api, second)
    return before


def copying(api: Any) -> dict[str, Any]:
    """Whom the pods send copies to."""
    runtime = api.get("ConfigMap", "iris-runtime")["data"]["runtime.yaml"]
    copied: dict[str, Any] = yaml.safe_load(runtime).get("shadow")
    return copied


def told(api: Any, pods: dict[str, Any], agreement: Agreement) -> None:
    """Let the serving pod say what it has compared, and the shadow's that its rows look like the baseline."""
    serving, own = pods.values()
    own.receive(160)
    serving.shadowed = Shadowed("of a process", until(lambda: copying(api))["revision"], agreement)


def shown(api: Any, rows: int) -> dict[str, Any]:
    """What the status says of a comparison, once it has heard of so many rows from the serving pod, and from the shadow's own.

    A poll asks both at once: one that comes while they are told may hear of one alone, and the next then has news.
    """
    status: dict[str, Any] = until(
        lambda: api.status()["shadow"], lambda seen: seen.get("rows") == rows and "drift" in seen
    )
    return status


def superseded(api: Any, compared: str) -> None:
    """Change the model to a third while a revision is compared, and wait until the shadow's pod is one of the third."""
    api.artifacts(files=OTHER | {"model.pkl": b"a third"})
    until(lambda: api.status()["shadow"]["revision"] != compared)
    until(
        lambda: api.all("Pod", "app=iris-shadow"),
        lambda seen: len(seen) == 1 and seen[0]["status"]["phase"] == "Pending",
        30,
    )


def revision_of(pod: dict[str, Any]) -> str:
    """Of a pod, or of a pod template."""
    revision: str = pod["metadata"]["annotations"]["aiops-quality.io/template-hash"]
    return revision


def gone(api: Any) -> bool:
    """Whether nothing is left of a shadow."""
    return all(api.get(kind, "iris-shadow") is None for kind in BESIDE)


@pytest.mark.usefixtures("operator")
def test_a_revision_that_agrees_is_rolled_out(api, pods):
    """It runs beside the one that serves until enough rows were compared, and leaves nothing behind."""
    first, second = pods
    before = served(api, first)
    api.artifacts(files=OTHER)
    api.wait("Ready", "False", "ShadowStarting")
    assert ("True", "False") == (api.condition("Available")["status"], api.condition("Stalled")["status"])
    assert copying(api) is None
    shadow_runs(api, second)
    url = f"http://{api.get('Service', 'iris-shadow')['spec']['clusterIP']}:80"
    comparison = f"{revision_of(template(api.get('Deployment', 'iris-shadow')))}@{api.status()['shadow']['since']}"
    assert {"url": url, "revision": comparison, "percent": 100} == until(lambda: copying(api))
    told(api, pods, Agreement(99, 1))
    compared = shown(api, 90)
    assert ("Comparing", "0.0101", before) == (compared["state"], compared["distance"], mounted(api))
    told(api, pods, Agreement(120, 1))
    until(lambda: mounted(api) != before)
    assert ("Promoted", 120, False) == tuple(
        (api.status()["shadow"] | api.status()["shadow"].get("drift", {})).get(name)
        for name in ("state", "rows", "detected")
    )
    until(lambda: gone(api))
    assert copying(api) is None
    api.run_pods([second])
    api.wait("Ready", "True", "RolledOut")
    assert "Promoted" == api.status()["shadow"]["state"]
    assert {"ShadowStarting", "ShadowPromoted", "Ready"} <= set(api.reasons())
    # Who wants the one before back has it at once.
    api.artifacts()
    until(lambda: mounted(api) == before)
    assert gone(api)


def test_a_revision_that_disagrees_never_serves(api, pods, start):
    """Until the spec asks for less: the status remembers, whatever becomes of the operator, and a revert is done at once."""
    with start(api.namespace):
        before = comparing(api, pods)
        told(api, pods, Agreement(100, 30))
        ready = api.wait("Ready", "False", "ShadowRejected")
        until(lambda: gone(api))
        assert (before, "True") == (mounted(api), api.condition("Available")["status"])
        assert "distance of 0.3, beyond spec.rollout.shadow.maxDistance, 0.1" in ready["message"]
        until(api.reasons, lambda seen: "ShadowRejected" in seen)
    versions = api.versions("InferenceService", "Deployment", "ConfigMap")
    with start(api.namespace, RESYNC_INTERVAL="1") as another:
        until(another.reconciles, lambda count: count >= 3)
        assert versions == api.versions("InferenceService", "Deployment", "ConfigMap")
        api.change({"rollout": {"shadow": {"maxDistance": 0.5}}})
        api.wait("Ready", "False", "ShadowStarting")
        api.artifacts()
        api.wait("Ready", "True", "RolledOut")
        until(lambda: gone(api))
    assert (before, None) == (mounted(api), api.status().get("shadow"))


def test_an_operator_that_is_killed_loses_no_comparison(api, pods, start):
    """The pods count, and the next operator reads them."""
    with start(api.namespace) as operator:
        before = comparing(api, pods)
        told(api, pods, Agreement(60))
        shown(api, 60)
        operator.stop(signal.SIGKILL)
    version = api.get("InferenceService", "iris")["metadata"]["resourceVersion"]
    with start(api.namespace) as another:
        until(lambda: another.metric("aiops_operator_drift_poll_seconds_count"), lambda seen: seen >= 2)
        # Nor does it show less meanwhile.
        assert version == api.get("InferenceService", "iris")["metadata"]["resourceVersion"]
        told(api, pods, Agreement(100))
        until(lambda: mounted(api) != before)


@pytest.mark.usefixtures("operator")
def test_artifacts_that_are_away_for_a_while_end_no_comparison(api, pods):
    """What was compared stays counted, and copies are sent all the while."""
    before = comparing(api, pods)
    told(api, pods, Agreement(60))
    compared, copied = shown(api, 60), copying(api)
    api.delete("ConfigMap", "iris-artifacts")
    api.wait("Ready", "False", "ArtifactsNotFound")
    assert (compared, copied) == (api.status()["shadow"], copying(api))
    api.artifacts(files=OTHER)
    api.wait("Ready", "False", "ShadowComparing")
    assert (compared, copied) == (api.status()["shadow"], copying(api))
    told(api, pods, Agreement(100))
    until(lambda: mounted(api) != before)


@pytest.mark.usefixtures("operator")
def test_a_revision_that_comes_back_is_compared_anew(api, pods):
    """What a pod that has not heard of the change still counts for it may be the answers of another."""
    first, second = pods
    before = comparing(api, pods)
    told(api, pods, Agreement(60))
    compared = shown(api, 60)["revision"]
    superseded(api, compared)
    pods[first].shadowed = replace(pods[first].shadowed, agreement=Agreement(60, 0, 60))
    api.artifacts(files=OTHER)
    until(lambda: api.status()["shadow"]["revision"] == compared)
    (pod,) = until(
        lambda: [pod for pod in api.all("Pod", "app=iris-shadow") if revision_of(pod) == compared],
        lambda seen: len(seen) == 1 and seen[0]["status"]["phase"] == "Pending",
        30,
    )
    api.pod_status(pod["metadata"]["name"], running(second))
    api.wait("Ready", "False", "ShadowComparing")
    until(lambda: copying(api))
    told(api, pods, Agreement(50))
    again = until(lambda: api.status()["shadow"], lambda seen: seen.get("rows"))
    assert ("Comparing", 50, False, before) == (again["state"], again["rows"], "failedRows" in again, mounted(api))


@pytest.mark.usefixtures("operator")
def test_a_service_that_is_scaled_to_zero_and_back_runs_what_it_ran(api, pods):
    """A rejected revision is not rolled out where there are no pods either."""
    before = comparing(api, pods)
    told(api, pods, Agreement(100, 30))
    api.wait("Ready", "False", "ShadowRejected")
    for replicas in (0, 1):
        api.change({"replicas": replicas})
        until(lambda wanted=replicas: api.get("Deployment", "iris")["spec"]["replicas"] == wanted)
        api.settled()
        assert (before, "ShadowRejected") == (mounted(api), api.condition("Ready")["reason"])


@pytest.mark.usefixtures("operator")
def test_a_shadow_that_does_not_start_is_rejected(api, pods):
    """After the deadline of a rollout, with what its pod says of itself."""
    first, second = pods
    before = served(api, first, {"rollout": SHADOW["rollout"] | {"progressDeadlineSeconds": 10}})
    pods[second].health = {"status": "unavailable", "reason": "DigestMismatch", "message": "it has other bytes"}
    api.artifacts(files=OTHER)
    (pod,) = until(lambda: api.all("Pod", "app=iris-shadow"), lambda seen: len(seen) == 1, 30)
    api.pod_status(pod["metadata"]["name"], running(second, ready=False))
    until(lambda: "it has other bytes" in api.status().get("shadow", {}).get("message", ""), seconds=20)
    ready = api.wait("Ready", "False", "ShadowRejected", seconds=60)
    assert ("DigestMismatch", before) == (api.status()["shadow"]["reason"], mounted(api))
    assert "its pod does not get ready: it has other bytes" in ready["message"]


@pytest.mark.usefixtures("operator")
def test_a_change_that_is_taken_back_leaves_nothing(api, pods):
    """The shadow goes; so does what the status said of it, and a change that follows has a shadow of its own."""
    before = comparing(api, pods)
    compared = api.status()["shadow"]["revision"]
    superseded(api, compared)
    api.artifacts()
    api.wait("Ready", "True", "RolledOut")
    until(lambda: gone(api))
    assert (before, None) == (mounted(api), api.status().get("shadow"))


@pytest.mark.usefixtures("operator")
def test_what_has_a_shadows_name_is_left_alone(api, pods):
    """A service of that name is served as ever; who wants a shadow is told why there is none."""
    first, _ = pods
    before = served(api, first)
    api.serve(name="iris-shadow")
    api.settled("iris-shadow")
    versions = {name: version for name, version in api.versions("Deployment", "Service").items() if "shadow" in name}
    api.artifacts("other-artifacts", OTHER)
    api.change({"model": {"artifacts": {"configMap": {"name": "other-artifacts"}}}})
    ready = api.wait("Ready", "False", "ChildConflict")
    assert "iris-shadow is controlled by InferenceService iris-shadow" in ready["message"]
    assert before == mounted(api)
    assert versions.keys() == {"Deployment/iris-shadow", "Service/iris-shadow"}
    assert versions["Service/iris-shadow"] == api.versions("Service")["Service/iris-shadow"]


@pytest.mark.usefixtures("operator")
def test_without_the_strategy_any_more_it_is_rolled_out(api, pods):
    """Who does not want to wait says so in the spec."""
    before = comparing(api, pods)
    api.change({"rollout": {"strategy": "RollingUpdate", "shadow": None}})
    until(lambda: mounted(api) != before)
    until(lambda: gone(api))
    until(lambda: "shadow" not in api.status())
