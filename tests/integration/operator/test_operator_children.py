"""What a running operator makes of InferenceServices."""

import logging
import time

import pytest
from waiting import until

pytestmark = pytest.mark.usefixtures("operator")
REVISION = "deployment.kubernetes.io/revision"  # the Deployment controller's own
CHILDREN = ("ConfigMap", "Service", "Deployment", "PodDisruptionBudget")


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


@pytest.mark.parametrize("kind", CHILDREN)
def test_a_deleted_child_comes_back(api, kind):
    """On the watch's event."""
    api.serve({"replicas": 2})
    api.settled()
    selector = "app.kubernetes.io/managed-by=aiops-operator"
    lost = until(lambda: api.all(kind, selector), lambda seen: len(seen) == (2 if kind == "ConfigMap" else 1))
    for child in lost:
        api.delete(kind, child["metadata"]["name"])
    gone = {child["metadata"]["uid"] for child in lost}
    names = {child["metadata"]["name"] for child in lost}
    until(
        lambda: {c["metadata"]["name"]: c["metadata"]["uid"] for c in api.all(kind, selector)},
        lambda seen: set(seen) == names and not gone & set(seen.values()),
    )


@pytest.mark.parametrize(
    ("kind", "name", "edit", "look"),
    [
        ("Service", "iris", {"spec": {"selector": {"app": "other"}}}, lambda o: o["spec"]["selector"]["app"] == "iris"),
        ("Deployment", "iris", {"spec": {"replicas": 5}}, lambda o: o["spec"]["replicas"] == 2),
        (
            "Deployment",
            "iris",
            {"spec": {"template": {"spec": {"containers": [{"name": "inference", "image": "evil:1"}]}}}},
            lambda o: template(o)["spec"]["containers"][0]["image"] == "localhost/aiops-quality:test",
        ),
        (
            "ConfigMap",
            "iris-runtime",
            {"data": {"runtime.yaml": "drift: {}"}},
            lambda o: "zScoreThreshold" in o["data"]["runtime.yaml"],
        ),
        ("PodDisruptionBudget", "iris", {"spec": {"maxUnavailable": 2}}, lambda o: o["spec"]["maxUnavailable"] == 1),
        (
            "Deployment",
            "iris",
            {"metadata": {"labels": {"app": "x"}}},
            lambda o: o["metadata"]["labels"]["app"] == "iris",
        ),
    ],
)
def test_an_edit_by_hand_is_undone(api, kind, name, edit, look):
    """On the watch's event."""
    api.serve({"replicas": 2})
    api.settled()
    until(lambda: api.get(kind, name))
    api.patch(kind, name, edit)
    until(lambda: api.get(kind, name), look)


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


def test_what_others_add_is_left_alone(api, operator):
    """An annotation of somebody else's stays, and is not fought over."""
    api.serve()
    api.settled()
    api.patch("Deployment", "iris", {"metadata": {"annotations": {"example.com/note": "mine"}}})
    done = operator.reconciles()
    until(operator.reconciles, lambda seen: seen >= done + 2)
    assert api.get("Deployment", "iris")["metadata"]["annotations"]["example.com/note"] == "mine"


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


def test_a_paused_service_is_left_as_it_is(api, operator):
    """Nothing is applied, not even healing; taken up again afterwards."""
    api.serve()
    api.settled()
    api.change({"paused": True})
    api.wait("Reconciling", "False", "Paused")
    api.change({"replicas": 3})
    api.delete("Service", "iris")
    done = operator.reconciles()
    until(operator.reconciles, lambda seen: seen >= done + 3)
    assert (api.get("Deployment", "iris")["spec"]["replicas"], api.get("Service", "iris")) == (1, None)
    api.change({"paused": False})
    until(lambda: api.get("Service", "iris"))
    until(lambda: api.get("Deployment", "iris")["spec"]["replicas"], lambda seen: seen == 3)
