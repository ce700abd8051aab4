"""Drift, from what pods answer to what the resource shows: real HTTP, real status, pods that say they run."""

import json

import pytest
from waiting import until

from aiops_drift import Expectations

pytestmark = pytest.mark.usefixtures("operator")
MODEL = "sha256:" + "3f9a1c2" + "0" * 57


@pytest.fixture
def iris(api, pods):
    """A service with two ready pods that have seen nothing yet."""
    api.serve({"replicas": 2})
    api.run_pods(list(pods))
    api.wait("Ready", "True", "RolledOut")
    return api


def send(pods, n, shift=0.0):
    """Rows to all pods."""
    for pod in pods.values():
        pod.receive(n, shift)


def test_drift_sets_in_and_clears_with_an_event_each_time(iris, pods):
    """Merged over both pods; the columns, the episode, and one Event a flip."""
    iris.wait("DriftDetected", "Unknown", "InsufficientSamples")
    send(pods, 16)
    assert iris.wait("DriftDetected", "Unknown", "InsufficientSamples")
    until(lambda: iris.condition("DriftDetected")["message"], lambda seen: seen == "32 of 50 rows.")
    send(pods, 64)
    iris.wait("DriftDetected", "False", "WithinThresholds")
    send(pods, 160, shift=9.0)
    iris.wait("DriftDetected", "True", "ScoreAboveThreshold")
    drift = until(iris.status, lambda seen: seen["drift"]["score"] == "9.0" or seen["drift"]["samples"] == 256)["drift"]
    assert (drift["detected"], drift["worstFeature"], drift["threshold"]) == (True, "length", "5")
    assert float(drift["score"]) > 5
    send(pods, 160)
    iris.wait("DriftDetected", "False", "WithinThresholds")
    assert "episode" not in iris.status()["drift"]
    until(iris.reasons, lambda seen: {"DriftDetected", "DriftCleared"} <= set(seen))
    events = [event for event in iris.all("Event") if event["reason"] in ("DriftDetected", "DriftCleared")]
    assert sorted((e["reason"], e["type"], e["count"]) for e in events) == [
        ("DriftCleared", "Normal", 1),
        ("DriftDetected", "Warning", 1),
    ]


def test_a_threshold_acts_at_once_on_the_rows_already_seen(iris, pods):
    """Both ways; the pods are not asked for it and do not roll."""
    iris.change(
        {"drift": {"falseAlarmInterval": "0s"}}
    )  # the mean alone: the calibrated rules need no threshold to see 3σ
    send(pods, 160, shift=3.0)
    iris.wait("DriftDetected", "False", "WithinThresholds")
    before = iris.get("Deployment", "iris")["metadata"]["generation"]
    iris.change({"drift": {"zScoreThreshold": 2}})
    iris.wait("DriftDetected", "True", "ScoreAboveThreshold", seconds=10)
    iris.change({"drift": {"zScoreThreshold": 8}})
    iris.wait("DriftDetected", "False", "WithinThresholds", seconds=10)
    assert iris.get("Deployment", "iris")["metadata"]["generation"] == before


def test_failed_expectations_are_drift_unless_disabled(iris, pods):
    """With a reason of their own, and DataQuality False."""
    send(pods, 64)
    iris.wait("DataQuality", "True", "ExpectationsPassed")
    next(iter(pods.values())).expectations = Expectations("failed", 50, 1, ("expect_x(length)",))
    iris.wait("DriftDetected", "True", "ExpectationsFailed")
    assert "expect_x(length)" in iris.wait("DataQuality", "False", "ExpectationsFailed")["message"]
    iris.change({"drift": {"expectations": {"mode": "disabled"}}})
    iris.wait("DriftDetected", "False", "WithinThresholds")
    iris.wait("DataQuality", "Unknown", "ExpectationsDisabled")


def test_the_model_that_pods_have_loaded_is_shown(iris):
    """Not the one that was asked for, and how many have loaded that."""
    model = until(lambda: iris.status().get("model", {}), lambda seen: "digest" in seen)
    assert (model["digest"], model["shortDigest"], model["loaded"]) == (MODEL, "3f9a1c2", "0/2")


def test_what_a_pod_says_against_itself_stalls_the_service(api, pods):
    """Its typed reason, on Ready and Stalled and in an Event; the pod is asked, not guessed at."""
    address, pod = next(iter(pods.items()))
    pod.health = {"status": "unavailable", "reason": "DigestMismatch", "message": "model.pkl has other bytes"}
    api.serve()
    api.settled()
    name = until(lambda: api.all("Pod", "app=iris"))[0]["metadata"]["name"]
    conditions = [{"type": "Ready", "status": "False"}]
    api.pod_status(name, {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions})
    assert api.wait("Ready", "False", "DigestMismatch")["message"] == "model.pkl has other bytes"
    api.wait("Stalled", "True", "DigestMismatch")
    until(api.reasons, lambda seen: "DigestMismatch" in seen)


def test_what_the_kubelet_says_is_carried(api):
    """An image that cannot be pulled is not yet a stall: the deadline decides."""
    api.serve()
    api.settled()
    name = until(lambda: api.all("Pod", "app=iris"))[0]["metadata"]["name"]
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    container = {"name": "inference", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": waiting}
    api.pod_status(name, {"containerStatuses": [container]})
    api.wait("Ready", "False", "ImagePullBackOff")
    api.wait("Stalled", "False", "Progressing")


def test_why_artifacts_could_not_be_fetched_is_carried(api):
    """The last words of the init container, with their reason: a stall where no waiting will mend it."""
    api.serve({"model": {"artifacts": {"uri": "s3://models/iris/v3", "secretRef": {"name": "reader"}}}})
    api.settled()
    name = until(lambda: api.all("Pod", "app=iris"))[0]["metadata"]["name"]
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    container = {"name": "fetch", "image": "i", "imageID": "", "ready": False, "restartCount": 1, "state": waiting}
    for reason, stalled in (("ArtifactUnreachable", "False"), ("ArtifactAccessDenied", "True")):
        said = json.dumps({"reason": reason, "message": "s3://models/iris/v3/model.pkl may not be read"})
        last = {"terminated": {"exitCode": 1, "message": said}}
        api.pod_status(name, {"initContainerStatuses": [container | {"lastState": last}]})
        assert "s3://models/iris/v3/model.pkl may not be read" == api.wait("Ready", "False", reason)["message"]
        assert stalled == api.condition("Stalled")["status"]
    until(api.reasons, lambda seen: "ArtifactAccessDenied" in seen)


def test_scaled_to_zero_there_is_nobody_to_ask(iris, pods):
    """Ready, not available, and drift unknown."""
    send(pods, 64)
    iris.wait("DriftDetected", "False", "WithinThresholds")
    iris.change({"replicas": 0})
    iris.wait("Ready", "True", "ScaledToZero", seconds=60)
    iris.wait("DriftDetected", "Unknown", "NoReadyPods")
