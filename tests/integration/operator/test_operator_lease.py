"""Several operators, of which one writes."""

import signal
import time

import pytest
from waiting import until

LEASES = "/apis/coordination.k8s.io/v1"
DEPLOYMENTS = "/apis/apps/v1"
MADE = 'aiops_operator_api_requests_total{result="201",verb="POST"}'


def leading(operator):
    """Whether an operator says that it is the one that writes."""
    return operator.metric("aiops_operator_leader ") == 1


def test_one_of_two_writes_and_the_other_takes_over_when_it_is_killed(api, start, pods, measured):
    """Within 20 s, without a second Event of the episode of drift under way; what came meanwhile is made up for."""
    with start(api.namespace, elected=True) as first, start(api.namespace, elected=True) as second:
        until(lambda: leading(first))
        assert (True, False) == (second.ready(), leading(second))
        api.serve({"replicas": 2})
        api.run_pods(list(pods))
        for pod in pods.values():
            pod.receive(160, 9.0)
        api.wait("DriftDetected", "True", "ScoreAboveThreshold")
        until(api.reasons, lambda seen: "DriftDetected" in seen)
        killed = time.monotonic()
        first.stop(signal.SIGKILL)
        api.serve(name="another")
        until(lambda: leading(second), seconds=20)
        assert time.monotonic() - killed < 20
        measured["takeover after a kill"] = f"{time.monotonic() - killed:.1f} s"
        until(lambda: api.get("Deployment", "another"))
        until(lambda: second.metric("aiops_operator_drift_poll_seconds_count"), lambda seen: seen >= 3)
    assert [1] == [event["count"] for event in api.all("Event") if event["reason"] == "DriftDetected"]


def test_one_that_ends_in_order_lets_go_at_once(api, start):
    """The other need not wait for the lease to run out."""
    with start(api.namespace, elected=True) as first, start(api.namespace, elected=True) as second:
        until(lambda: leading(first))
        assert 0 == first.stop()
        until(lambda: leading(second), seconds=10)
        api.serve()
        api.settled()


def test_a_renewal_that_was_under_way_delays_nobody(api, start, proxy):
    """Whose Lease changes while it lets go looks again."""
    refused = []

    def rule(method, path, _watch):
        if method == "PUT" and "/leases/" in path and not refused:
            refused.append(path)
            return 409
        return None

    with start(api.namespace, elected=True, through=proxy) as first, start(api.namespace, elected=True) as second:
        until(lambda: leading(first))
        proxy.rule = rule
        assert 0 == first.stop()
        until(lambda: leading(second), seconds=10)
    assert 1 == len(refused)


def test_one_that_was_stopped_for_a_while_writes_nothing_more(api, start):
    """It ends with an error, because another may write by now."""
    with start(api.namespace, elected=True) as first, start(api.namespace, elected=True) as second:
        until(lambda: leading(first))
        first.process.send_signal(signal.SIGSTOP)
        until(lambda: leading(second), seconds=30)
        api.serve()
        api.settled()
        versions = api.versions("ConfigMap", "Service")
        assert 1 == first.stop(signal.SIGCONT)
        assert "the lease is lost" in first.log.read_text()
    assert versions == api.versions("ConfigMap", "Service")


@pytest.mark.parametrize(
    "spec", [{"holderIdentity": "somebody", "leaseDurationSeconds": 3}, {"holderIdentity": ""}, None]
)
def test_a_lease_of_others_is_waited_for(api, admin, start, spec):
    """As long as it says; one that says nothing is free."""
    with start(api.namespace, elected=True) as first:
        until(lambda: leading(first))
        home = first.log_line("holds the lease").partition("the lease ")[2].split("/")[0]
    lease = f"{LEASES}/namespaces/{home}/leases/{home}-operator"
    body = admin.get(lease).json()
    admin.put(lease, json=body | {"spec": spec}).raise_for_status()
    with start(api.namespace, elected=True) as second:
        until(lambda: leading(second), seconds=10)
        assert (spec or {}).get("holderIdentity", "") in second.log.read_text()


def test_the_lease_goes_with_the_deployment_of_its_name(api, admin, start):
    """Though an operator that still runs makes it anew; one without a Deployment has a Lease all the same."""
    with start(api.namespace, elected=True) as alone:
        until(lambda: leading(alone))
        home = alone.release
    lease = f"{LEASES}/namespaces/{home}/leases/{home}-operator"
    deployments = f"{DEPLOYMENTS}/namespaces/{home}/deployments"
    assert "ownerReferences" not in admin.get(lease).json()["metadata"]
    admin.delete(lease).raise_for_status()
    template = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "a"}}, "template": template}
    body = {"metadata": {"name": f"{home}-operator"}, "spec": spec}
    admin.post(deployments, json=body).raise_for_status()
    with start(api.namespace, elected=True) as owned:
        until(lambda: leading(owned))
        made = owned.metric(MADE)
        admin.delete(f"{deployments}/{home}-operator").raise_for_status()
        until(lambda: owned.metric(MADE) > made)

    until(lambda: admin.get(lease).status_code == 404)
