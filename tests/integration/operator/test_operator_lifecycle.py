"""Operators that start, stop, are killed and come back; each watches the namespace of its test alone, by a Role."""

import signal
from dataclasses import replace

import pytest
from waiting import until

CHILDREN = ("ConfigMap", "Service", "Deployment", "PodDisruptionBudget")
MANY = 50  # more than the workers, and few enough to be told of within the second that a first status waits
RESYNCING = {"RESYNC_INTERVAL": "1"}  # for tests that count resyncs


def template(deployment):
    """The pod template of a Deployment."""
    return deployment["spec"]["template"]


def monitor_crd():
    """The kind ServiceMonitor, with a schema that takes anything."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": "ServiceMonitor", "listKind": "ServiceMonitorList", "plural": "servicemonitors"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "servicemonitors.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": {**names, "singular": "servicemonitor"},
            "versions": [version],
        },
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(api, start, number):
    """Exit code 0, no trace, within seconds."""
    with start(api.namespace) as operator:
        api.serve()
        api.settled()
        assert operator.stop(number) == 0
        log = operator.log.read_text()
    assert [line for line in log.splitlines() if '"ERROR"' in line or "Traceback" in line or "Hung" in line] == []


def test_a_restart_rolls_nothing_and_writes_nothing(api, start):
    """Nor does a crash: what is there is found as it should be."""
    with start(api.namespace) as operator:
        at_rest(api, operator)
        operator.stop(signal.SIGKILL)
    before, hashes = api.versions(*CHILDREN), template(api.settled())
    with start(api.namespace, **RESYNCING) as operator:
        until(operator.reconciles, lambda seen: seen >= 3)
    assert (api.versions(*CHILDREN), template(api.settled())) == (before, hashes)


def test_other_settings_of_the_operator_roll_only_what_they_are_for(api, start):
    """Another default image rolls; nothing else of an installation does."""
    with start(api.namespace):
        api.serve()
        before = template(api.settled())
    with start(api.namespace, LOG_LEVEL="WARNING", **RESYNCING) as operator:
        until(operator.reconciles, lambda seen: seen >= 2)
        assert template(api.settled()) == before
    with start(api.namespace, INFERENCE_IMAGE="localhost/aiops-quality:next"):
        until(lambda: template(api.settled())["spec"]["containers"][0]["image"], lambda seen: seen.endswith(":next"))


def test_deletion_needs_no_operator(api, start):
    """Garbage collection takes every child along."""
    with start(api.namespace):
        api.serve({"replicas": 2})
        api.settled()
        selector = "app.kubernetes.io/managed-by=aiops-operator"
        until(lambda: sum(len(api.all(kind, selector)) for kind in CHILDREN), lambda seen: seen == 5)
    api.delete("InferenceService", "iris")
    assert api.get("InferenceService", "iris") is None  # no finalizer held it
    until(
        lambda: [entry for kind in (*CHILDREN, "Pod") for entry in api.all(kind, selector)], lambda seen: not seen, 90
    )


def test_a_service_of_the_same_name_waits_for_what_the_one_before_leaves(api, start):
    """Its children are not adopted; they go, and new ones come."""
    with start(api.namespace):
        api.serve()
        api.settled()
        first = api.get("Deployment", "iris")["metadata"]["uid"]
        api.delete("InferenceService", "iris")
        second = api.serve()["metadata"]["uid"]
        found = until(
            lambda: api.get("Deployment", "iris"), lambda seen: seen and seen["metadata"]["uid"] != first, seconds=90
        )
        assert found["metadata"]["ownerReferences"][0]["uid"] == second
        api.wait("Ready", "False", "RolloutInProgress", seconds=90)


def test_what_happened_while_it_was_away_is_made_up_for(api, start):
    """Services that came, changed and went."""
    with start(api.namespace):
        api.serve()
        api.serve(name="gone")
        api.settled()
        api.settled("gone")
    api.change({"replicas": 3})
    api.delete("InferenceService", "gone")
    api.serve(name="new")
    with start(api.namespace):
        assert api.settled()["spec"]["replicas"] == 3
        assert api.settled("new")["spec"]["replicas"] == 1


def test_other_namespaces_are_left_alone(api, start, admin):
    """An operator of one namespace neither sees nor touches another's."""
    name = f"{api.namespace}-other"
    assert admin.post("/api/v1/namespaces", json={"metadata": {"name": name}}).is_success
    other = replace(api, namespace=name)
    with start(api.namespace, **RESYNCING) as operator:
        other.artifacts()
        other.serve()
        api.serve()
        api.settled()
        until(operator.reconciles, lambda seen: seen >= 3)
        waiting = other.condition("Ready")["reason"]
        assert (waiting, other.get("Deployment", "iris")) == ("WaitingForOperator", None)
    assert admin.delete(f"/api/v1/namespaces/{name}").is_success


def test_it_serves_its_health_and_its_metrics(api, start):
    """Live while its watches are, with the metrics that controllers have."""
    with start(api.namespace) as operator:
        api.serve()
        api.settled()
        live = operator.client.get(f"http://127.0.0.1:{operator.port}/healthz")
        text = operator.client.get(f"http://127.0.0.1:{operator.port}/metrics").text
    assert (live.status_code, live.json()) == (200, {"status": "ok"})
    wanted = [
        "aiops_operator_reconcile_total{",
        "aiops_operator_reconcile_errors_total ",
        "aiops_operator_reconcile_time_seconds_bucket{",
        "aiops_operator_active_workers ",
        "aiops_operator_queue_depth ",
        'aiops_operator_api_requests_total{result="200",verb="GET"}',
        'aiops_operator_watch_event_timestamp_seconds{kind="inferenceservices"}',
        "process_resident_memory_bytes ",
    ]
    assert [name for name in wanted if f"\n{name}" not in text] == []


@pytest.mark.parametrize("namespaced", [True, False])
def test_service_monitors_that_come_later_are_noticed(api, start, admin, apply_crd, namespaced):
    """Without a restart and without rolling a pod; taken away again where they are not wanted; gone with their kind."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/servicemonitors.monitoring.coreos.com"
    with start(*([api.namespace] if namespaced else [])):
        try:
            api.serve({"monitoring": {"labels": {"release": "prometheus"}}})
            before = template(api.settled())
            api.wait("MonitoringReady", "True", "PodsAnnotated")
            apply_crd(monitor_crd())
            api.wait("MonitoringReady", "True", "ServiceMonitorApplied", seconds=60)
            monitor = api.get("ServiceMonitor", "iris")
            assert (monitor["metadata"]["labels"]["release"], monitor["spec"]["endpoints"][0]["interval"]) == (
                "prometheus",
                "15s",
            )
            api.change({"monitoring": {"mode": "annotations"}})
            until(lambda: api.get("ServiceMonitor", "iris") is None)
            api.change({"monitoring": {"mode": "auto"}})
            until(lambda: api.get("ServiceMonitor", "iris"))
        finally:
            admin.delete(path)
        api.wait("MonitoringReady", "True", "PodsAnnotated", seconds=60)
        assert template(api.settled()) == before


def at_rest(api, operator, spec=None):
    """A service whose pods are ready and unreachable, with all that is written of them; how many resyncs there were by then."""
    api.serve({"replicas": 2} | (spec or {}))
    api.run_pods(["127.0.0.1", "127.0.0.1"])
    api.wait("Ready", "True", "RolledOut")
    api.wait("DriftDetected", "Unknown", "PodsUnreachable")
    until(api.reasons, lambda seen: "Ready" in seen)
    # Kubernetes counts the pods for the budget at a time of its own.
    until(lambda: (api.get("PodDisruptionBudget", "iris").get("status") or {}).get("currentHealthy") == 2)
    return operator.reconciles()


def test_a_resync_of_an_unchanged_world_changes_nothing(api, start):
    """Not one resourceVersion in four resyncs, a quantity that the API server writes in its own way included."""
    with start(api.namespace, **RESYNCING) as operator:
        done = at_rest(api, operator, {"resources": {"requests": {"cpu": "0.5"}}})
        kinds = (*CHILDREN, "InferenceService", "Pod", "ReplicaSet")
        before, told = api.versions(*kinds), api.reasons()
        until(operator.reconciles, lambda seen: seen >= done + 4)
        assert (api.versions(*kinds), api.reasons()) == (before, told)


def test_a_resync_reads_and_does_not_write(api, start):
    """Where nothing differs there is nothing to apply, and no status to write."""
    with start(api.namespace, **RESYNCING) as operator:
        done = at_rest(api, operator)
        writes = [
            operator.metric(f'aiops_operator_api_requests_total{{result="{code}",verb="PATCH"}}') for code in (200, 201)
        ]
        until(operator.reconciles, lambda seen: seen >= done + 4)
        assert writes == [
            operator.metric(f'aiops_operator_api_requests_total{{result="{code}",verb="PATCH"}}') for code in (200, 201)
        ]


def send(pods, n, shift=0.0):
    """Rows to all pods."""
    for pod in pods.values():
        pod.receive(n, shift)


def test_a_takeover_neither_forgets_an_episode_nor_announces_it_again(api, start, pods):
    """The operator is killed in the middle of one; the next goes on with it and sees it end."""
    with start(api.namespace) as first:
        api.serve({"replicas": 2})
        api.run_pods(list(pods))
        send(pods, 160, shift=9.0)
        api.wait("DriftDetected", "True", "ScoreAboveThreshold")
        episode = api.status()["drift"]["episode"]
        until(api.reasons, lambda seen: "DriftDetected" in seen)
        first.stop(9)
    with start(api.namespace) as second:
        until(lambda: second.metric("aiops_operator_drift_poll_seconds_count"), lambda seen: seen >= 3)
        assert (api.status()["drift"]["episode"], api.condition("DriftDetected")["status"]) == (episode, "True")
        send(pods, 160)
        api.wait("DriftDetected", "False", "WithinThresholds")
        until(api.reasons, lambda seen: "DriftCleared" in seen)
    assert [event["count"] for event in api.all("Event") if event["reason"] == "DriftDetected"] == [1]


def test_traffic_at_rest_writes_nothing(api, start, pods):
    """Rows like the ones before, poll after poll."""
    with start(api.namespace) as operator:
        api.serve({"replicas": 2})
        api.run_pods(list(pods))
        api.wait("Ready", "True", "RolledOut")
        send(pods, 160)
        api.wait("DriftDetected", "False", "WithinThresholds")
        for first in (True, False, False, False, False, False):
            send(pods, 160)  # the same rows again: 16 of them are no fair sample, and would move the score
            polls = operator.metric("aiops_operator_drift_poll_seconds_count")
            # The first may have begun before, and the last is still being told of.
            until(
                lambda: operator.metric("aiops_operator_drift_poll_seconds_count"),
                lambda seen, past=polls: seen >= past + 3,
            )
            if first:  # the longest window has 384 rows, and is full now
                until(lambda: api.status()["drift"]["samples"], lambda seen: seen == 256)
                before = api.versions("InferenceService")
        assert api.versions("InferenceService") == before


def test_of_many_new_services_all_have_their_children_before_any_has_its_status(api, start, proxy):
    """What serves comes first; each has its status all the same, and is written no more for it."""
    names = [f"iris-{number}" for number in range(MANY)]
    for name in names:
        api.serve(name=name)
    with start(api.namespace, through=proxy):
        until(lambda: all(api.condition("Ready", name).get("reason") == "RolloutInProgress" for name in names))
    written = [entry.path for entry in proxy.passed if entry.method == "PATCH"]
    first = next(number for number, path in enumerate(written) if path.endswith("/status"))
    assert MANY == sum("/deployments/" in path for path in written)
    # Those that were under way when the first came up again.
    assert 16 > sum("/deployments/" in path for path in written[first:])
