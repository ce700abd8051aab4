"""Autoscaling, alerts and who may send requests, on a real API server; the test is the autoscaler."""

import pytest
from waiting import until

pytestmark = pytest.mark.usefixtures("operator")


def replicas(api):
    """Of the Deployment."""
    return api.get("Deployment", "iris")["spec"]["replicas"]


def test_the_autoscaler_decides_within_the_bounds(api):
    """What is there is kept when it comes, what it says is left alone, and spec.replicas counts again when it goes."""
    api.serve({"replicas": 3})
    api.settled()
    until(lambda: replicas(api), lambda seen: seen == 3)
    api.change({"autoscaling": {"minReplicas": 2, "maxReplicas": 5}})
    found = until(lambda: api.get("HorizontalPodAutoscaler", "iris"))
    assert (2, 5) == (found["spec"]["minReplicas"], found["spec"]["maxReplicas"])
    assert 3 == replicas(api)
    api.patch("Deployment", "iris", {"spec": {"replicas": 4}}, "scale")
    until(api.status, lambda seen: seen.get("ready") == "0/4")
    assert 4 == replicas(api)
    versions = api.versions("HorizontalPodAutoscaler", "ConfigMap", "Service")
    api.change({"replicas": 1})
    api.settled()
    assert (4, versions) == (replicas(api), api.versions("HorizontalPodAutoscaler", "ConfigMap", "Service"))
    api.change({"autoscaling": None})
    until(lambda: api.get("HorizontalPodAutoscaler", "iris") is None)
    until(lambda: replicas(api), lambda seen: seen == 1)


def test_bounds_are_kept(api):
    """A service that begins with an autoscaler has the fewest pods."""
    api.serve({"autoscaling": {"minReplicas": 2, "maxReplicas": 5}})
    api.settled()
    assert 2 == replicas(api)
    api.change({"autoscaling": {"minReplicas": 4}})
    until(lambda: replicas(api), lambda seen: seen == 4)


def test_bounds_that_contradict_each_other_are_refused(api):
    """With a sentence."""
    with pytest.raises(AssertionError, match="minReplicas is more than maxReplicas"):
        api.serve({"autoscaling": {"minReplicas": 3, "maxReplicas": 2}})


@pytest.mark.usefixtures("monitors")
def test_alerts_come_and_go(api):
    """A PrometheusRule where it is asked for; an edit by hand is undone."""
    api.serve({"monitoring": {"alerts": True, "labels": {"release": "prometheus"}}})
    rule = until(lambda: api.get("PrometheusRule", "iris"), seconds=60)
    alerts = [entry["alert"] for entry in rule["spec"]["groups"][0]["rules"]]
    assert [f"InferenceService{kind}" for kind in ("Drift", "Errors", "Latency", "NoData")] == alerts
    assert "prometheus" == rule["metadata"]["labels"]["release"]
    api.patch("PrometheusRule", "iris", {"spec": {"groups": []}})
    until(lambda: api.get("PrometheusRule", "iris")["spec"]["groups"])
    api.change({"monitoring": {"alerts": False}})
    until(lambda: api.get("PrometheusRule", "iris") is None)


def test_alerts_that_cannot_be_had_are_missed(api):
    """The condition says what to do."""
    api.serve({"monitoring": {"alerts": True}})
    api.wait("MonitoringReady", "False", "PrometheusRuleUnavailable")


def test_a_network_policy_comes_and_goes(api):
    """With those whom the service names; an edit by hand is undone, and the pods stay."""
    api.serve({"networkPolicy": {"from": [{"podSelector": {"matchLabels": {"app": "shop"}}}]}})
    found = until(lambda: api.get("NetworkPolicy", "iris"))
    assert [{"podSelector": {"matchLabels": {"app": "shop"}}}] == found["spec"]["ingress"][0]["from"]
    deployment = api.settled()
    api.patch("NetworkPolicy", "iris", {"spec": {"ingress": [{}]}})
    until(lambda: api.get("NetworkPolicy", "iris")["spec"]["ingress"], lambda seen: seen == found["spec"]["ingress"])
    api.change({"networkPolicy": {"from": None}})
    until(lambda: "ingress" in api.get("NetworkPolicy", "iris")["spec"], lambda seen: not seen)
    api.change({"networkPolicy": None})
    until(lambda: api.get("NetworkPolicy", "iris") is None)
    assert deployment["spec"]["template"] == api.settled()["spec"]["template"]


def test_ready_stays_while_an_autoscaler_adds_pods(api):
    """What is rolled out serves; the pods that come are told of."""
    api.serve({"autoscaling": {"minReplicas": 1, "maxReplicas": 3}})
    api.run_pods(["127.0.0.1"])
    api.wait("Ready", "True", "RolledOut")
    api.patch("Deployment", "iris", {"spec": {"replicas": 3}}, "scale")
    assert "1 of 3 pods serve" in api.wait("Ready", "True", "Scaling")["message"]
    assert ("False", "False") == (api.condition("Stalled")["status"], api.condition("Reconciling")["status"])
