"""What a running operator makes of InferenceServices."""

import logging
import time

import pytest
from waiting import until

pytestmark = pytest.mark.usefixtures("operator")
REVISION = "deployment.kubernetes.io/revision"  # the Deployment controller's own
CHILDREN = ("ConfigMap", "Service", "Deployment", "PodDisruptionBudget")
OPTIONAL = ("ServiceMonitor", "PrometheusRule")
EVERYTHING = {
    "autoscaling": {"minReplicas": 2, "maxReplicas": 5},
    "networkPolicy": {"from": [{"podSelector": {"matchLabels": {"app": "shop"}}}]},
    "monitoring": {"alerts": True},
}
HEALED = 2  # seconds: long before a listing would find it


def template(deployment):
    """The pod template of a Deployment."""
    return deployment["spec"]["template"]


def test_a_deployment_is_there_within_a_second(api):
    """Of the apply; the bound here is generous, the time is in the log (`--log-cli-level=INFO`)."""
    started = time.monotonic()
    api.serve()
    until(lambda: api.get("Deployment", "iris"), seconds=10)
    logging.getLogger(__name__).info("Deployment after %.3f s", time.monotonic() - started)


def test_all_children_are_labelled_and_owned(api):
    """They are found by their labels, and go with their owner."""
    owner = api.serve({"replicas": 2})["metadata"]["uid"]
    api.settled()
    children = until(
        lambda: [child for kind in CHILDREN for child in api.all(kind, "app.kubernetes.io/managed-by=aiops-operator")],
        lambda seen: len(seen) == 5,
    )
    found = {child["metadata"]["name"].replace("-model-", " model ")[:10]: child["metadata"] for child in children}
    assert sorted(found) == ["iris", "iris model", "iris-runti"]
    for metadata in (child["metadata"] for child in children):
        assert [entry["uid"] for entry in metadata["ownerReferences"]] == [owner]
        assert metadata["labels"]["app"] == "iris"
        assert [entry["manager"] for entry in metadata["managedFields"] if entry["operation"] == "Apply"] == [
            "aiops-operator"
        ]


def test_nothing_is_written_to_the_resource_but_its_status(api):
    """No finalizer, no annotation, no label; the spec's generation stays 1."""
    api.serve()
    api.settled()
    metadata = api.get("InferenceService", "iris")["metadata"]
    assert (
        metadata["generation"],
        metadata.get("annotations"),
        metadata.get("labels"),
        metadata.get("finalizers"),
    ) == (
        1,
        None,
        None,
        None,
    )
    managers = {(entry["manager"], entry.get("subresource")) for entry in metadata["managedFields"]}
    assert [entry for entry in managers if entry[0] == "aiops-operator"] == [("aiops-operator", "status")]


def children(api, kind):
    """What is meant by each child of a kind, by name; and the uids of all."""
    found = api.all(kind, "app.kubernetes.io/managed-by=aiops-operator")
    meant = {
        child["metadata"]["name"]: (
            child["metadata"]["labels"],
            {name: value for name, value in child.get("spec", {}).items() if not name.startswith("clusterIP")},
            child.get("data"),
            child.get("binaryData"),
        )
        for child in found
    }
    return meant, {child["metadata"]["uid"] for child in found}


@pytest.fixture
def before(request, api, kind):
    """The children of a kind of a service that has one of every kind, as `children` has them."""
    if kind in OPTIONAL:
        request.getfixturevalue("monitors")
    api.serve(EVERYTHING)
    api.settled()
    number = 2 if kind == "ConfigMap" else 1
    return until(lambda: children(api, kind), lambda seen: len(seen[0]) == number)


@pytest.mark.parametrize("kind", [*CHILDREN, "HorizontalPodAutoscaler", "NetworkPolicy", *OPTIONAL])
def test_a_deleted_child_comes_back(api, kind, before, measured):
    """On the watch's event, within two seconds of the deletion's answer."""
    meant, gone = before
    for name in meant:
        api.delete(kind, name)
    answered = time.monotonic()
    until(lambda: children(api, kind), lambda seen: seen[0] == meant and not gone & seen[1], HEALED)
    measured[f"deleted {kind} is back"] = f"{time.monotonic() - answered:.2f} s"


@pytest.mark.parametrize(
    ("kind", "name", "edit"),
    [
        ("Service", "iris", {"spec": {"selector": {"app": "other"}}}),
        ("Deployment", "iris", {"spec": {"progressDeadlineSeconds": 77}}),
        (
            "Deployment",
            "iris",
            {"spec": {"template": {"spec": {"containers": [{"name": "inference", "image": "evil:1"}]}}}},
        ),
        ("Deployment", "iris", {"metadata": {"labels": {"app": "x"}}}),
        ("Service", "iris", {"metadata": {"labels": {"aiops-quality.io/inferenceservice": "other"}}}),
        ("ConfigMap", "iris-runtime", {"metadata": {"labels": {"aiops-quality.io/inferenceservice": None}}}),
        ("Deployment", "iris", {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}),
        ("Deployment", "iris", {"metadata": {"labels": {"aiops-quality.io/inferenceservice": None}}}),
        ("ConfigMap", "iris-runtime", {"data": {"runtime.yaml": "drift: {}"}}),
        ("PodDisruptionBudget", "iris", {"spec": {"maxUnavailable": 2}}),
        ("HorizontalPodAutoscaler", "iris", {"spec": {"maxReplicas": 9}}),
        ("NetworkPolicy", "iris", {"spec": {"ingress": [{}]}}),
        ("ServiceMonitor", "iris", {"spec": {"endpoints": []}}),
        ("PrometheusRule", "iris", {"spec": {"groups": []}}),
    ],
)
def test_an_edit_by_hand_is_undone(api, kind, before, name, edit, measured):
    """On the watch's event, within two seconds of the edit's answer."""
    api.patch(kind, name, edit)
    answered = time.monotonic()
    until(lambda: children(api, kind), lambda seen: seen == before, HEALED)
    measured[f"{kind} with {edit} is mended"] = f"{time.monotonic() - answered:.2f} s"


def test_an_edit_of_replicas_is_undone(api):
    """Where no autoscaler decides on their number."""
    api.serve({"replicas": 2})
    api.settled()
    api.patch("Deployment", "iris", {"spec": {"replicas": 5}})
    until(lambda: api.get("Deployment", "iris")["spec"]["replicas"], lambda seen: seen == 2, HEALED)


def test_an_edit_of_the_remembered_template_is_undone(api):
    """Together with an edit of the template itself, which alone it would seem to justify."""
    api.serve()
    before, name = api.settled(), "aiops-quality.io/applied-template"
    evil = before["metadata"]["annotations"][name].replace("localhost/aiops-quality:test", "evil:1")
    pods = {"template": {"spec": {"containers": [{"name": "inference", "image": "evil:1"}]}}}
    api.patch("Deployment", "iris", {"metadata": {"annotations": {name: evil}}, "spec": pods})
    after = until(
        lambda: api.get("Deployment", "iris"),
        lambda seen: (
            seen["metadata"]["annotations"] | {REVISION: ""} == before["metadata"]["annotations"] | {REVISION: ""}
        ),
    )
    assert template(after) == template(before)


def test_what_others_add_is_left_alone(api):
    """An annotation of somebody else's stays where what is ours is mended."""
    api.serve()
    api.settled()
    note = {"metadata": {"annotations": {"example.com/note": "mine"}}}
    api.patch("Deployment", "iris", note | {"spec": {"replicas": 5}})
    healed = until(lambda: api.get("Deployment", "iris"), lambda seen: seen["spec"]["replicas"] == 1)
    assert "mine" == healed["metadata"]["annotations"]["example.com/note"]


def test_a_budget_comes_and_goes_with_the_replicas(api):
    """It is there for more than one pod."""
    api.serve({"replicas": 2})
    until(lambda: api.get("PodDisruptionBudget", "iris"))
    api.change({"replicas": 1})
    until(lambda: api.get("PodDisruptionBudget", "iris") is None)


def test_a_field_that_is_taken_back_is_taken_away(api):
    """A node selector, a label and a threshold that are no longer asked for are gone."""
    pods = {"nodeSelector": {"disk": "ssd"}, "labels": {"team": "a"}}
    api.serve({"podTemplate": pods, "imagePullPolicy": "Never"})
    assert template(api.settled())["spec"]["nodeSelector"] == {"disk": "ssd"}
    api.change({"podTemplate": None, "imagePullPolicy": None})
    until(
        lambda: template(api.settled()),
        lambda seen: "nodeSelector" not in seen["spec"] and "team" not in seen["metadata"]["labels"],
    )


@pytest.mark.parametrize(
    "change",
    [
        {"drift": {"zScoreThreshold": 3}},
        {"drift": {"minSamples": 100, "features": [{"name": "a", "zScoreThreshold": 4}]}},
        {"drift": {"expectations": {"mode": "disabled"}}},
        {"monitoring": {"interval": "30s", "labels": {"release": "prometheus"}}},
        {"replicas": 3},
        {"drift": {"webhook": {"url": "http://hook.example", "cooldown": "1m"}}},
    ],
)
def test_what_does_not_roll(api, change):
    """The pod template stays, to the last field."""
    hook = {"url": "http://hook.example"}
    api.serve({"drift": {"webhook": hook}})
    before = template(api.settled())
    api.change(change)
    assert template(api.settled()) == before


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"sha256": "0" * 64}},
        {"model": {"expectationsFile": "other.json"}},
        {"image": "localhost/other:1"},
        {"resources": {"requests": {"cpu": "100m"}}},
        {"podTemplate": {"annotations": {"example.com/a": "b"}}},
        {"drift": {"webhook": {"url": "http://hook.example"}}},
    ],
)
def test_what_rolls(api, change):
    """Another template hash, and so another ReplicaSet."""
    api.serve()
    digest = template(api.settled())["metadata"]["annotations"]["aiops-quality.io/template-hash"]
    api.change(change)
    after = until(
        lambda: template(api.settled())["metadata"]["annotations"]["aiops-quality.io/template-hash"],
        lambda seen: seen != digest,
    )
    assert len(after) == 16


def test_a_threshold_reaches_the_pods_file_at_once(api):
    """The ConfigMap that the pods read again."""
    api.serve()
    api.settled()
    api.change({"drift": {"zScoreThreshold": 2.5}})
    until(
        lambda: api.get("ConfigMap", "iris-runtime")["data"]["runtime.yaml"],
        lambda seen: "zScoreThreshold: 2.5" in seen,
    )


def test_the_scale_subresource_works(api):
    """As kubectl scale uses it: replicas in, selector and replicas out."""
    api.serve()
    api.settled()
    api.patch("InferenceService", "iris", {"spec": {"replicas": 3}}, "scale")
    until(lambda: api.get("Deployment", "iris")["spec"]["replicas"], lambda seen: seen == 3)
    answer = api.client.get(api.path("InferenceService", "iris", "scale")).json()
    assert answer["status"]["selector"] == "app=iris,aiops-quality.io/inferenceservice=iris"


def test_a_service_that_is_made_paused_says_so(api):
    """An operator has seen it, and makes nothing of it."""
    api.serve({"paused": True})
    api.wait("Ready", "Unknown", "Paused")
    assert api.get("Deployment", "iris") is None
    api.change({"paused": False})
    api.wait("Ready", "False", "RolloutInProgress")


def test_pods_that_cannot_be_made_say_why(api):
    """The ReplicaSet's controller knows; taken back as soon as it can."""
    api.serve({"podTemplate": {"serviceAccountName": "nobody"}})
    message = api.wait("Ready", "False", "FailedCreate")["message"]
    assert message.startswith("Pods cannot be made: ")
    assert 'serviceaccount "nobody" not found' in message
    api.wait("Stalled", "False", "Progressing")
    api.change({"podTemplate": None})
    api.wait("Ready", "False", "RolloutInProgress")


def test_a_paused_service_is_left_as_it_is(api):
    """Nothing is applied, not even healing; taken up again afterwards."""
    api.serve()
    api.settled()
    api.change({"paused": True})
    api.wait("Reconciling", "False", "Paused")
    api.delete("Service", "iris")
    for replicas in (2, 3):  # by the second, the operator has heard of the deletion too
        api.change({"replicas": replicas})
        api.settled()
    assert (api.get("Deployment", "iris")["spec"]["replicas"], api.get("Service", "iris")) == (1, None)
    api.change({"paused": False})
    until(lambda: api.get("Service", "iris"))
    until(lambda: api.get("Deployment", "iris")["spec"]["replicas"], lambda seen: seen == 3)
