"""References that are good, bad, late or somebody else's."""

import pytest
from waiting import until

pytestmark = pytest.mark.usefixtures("operator")
FILES = {"model.pkl": b"a model", "baseline.npy": b"\x93NUMPY rows", "manifest.json": b"{}"}
FOREIGN = {
    "ConfigMap": ("iris-runtime", {"data": {"mine": "1"}}),
    "Service": ("iris", {"spec": {"ports": [{"port": 1}]}}),
    "PodDisruptionBudget": ("iris", {"spec": {"maxUnavailable": 1}}),
    "Deployment": (
        "iris",
        {
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"a": "b"}},
                "template": {
                    "metadata": {"labels": {"a": "b"}},
                    "spec": {"containers": [{"name": "c", "image": "i"}]},
                },
            }
        },
    ),
}


def template(deployment):
    """The pod template of a Deployment."""
    return deployment["spec"]["template"]


def copies(api):
    """Names of the immutable copies."""
    found = api.all("ConfigMap", "aiops-quality.io/inferenceservice=iris")
    return sorted(entry["metadata"]["name"] for entry in found if "-model-" in entry["metadata"]["name"])


def mounted(api):
    """The copy that the pods mount."""
    return template(api.settled())["spec"]["volumes"][0]["configMap"]["name"]


def test_a_config_map_that_is_not_there(api):
    """Said with its name and what to do; noticed when it comes."""
    api.serve({"model": {"artifacts": {"configMap": {"name": "later"}}}})
    ready = api.wait("Ready", "False", "ArtifactsNotFound")
    stalled = api.condition("Stalled")
    assert f"ConfigMap {api.namespace}/later is not there" in ready["message"]
    assert (stalled["status"], api.get("Deployment", "iris")) == ("True", None)
    until(api.reasons, lambda seen: seen == ["ArtifactsNotFound"])
    api.artifacts("later")
    until(lambda: api.get("Deployment", "iris"))
    api.wait("Ready", "False", "RolloutInProgress")


def test_a_config_map_without_the_model(api):
    """The key that is missing, and those that are there."""
    api.serve({"model": {"artifacts": {"configMap": {"name": "iris-artifacts"}}, "modelFile": "other.pkl"}})
    message = api.wait("Ready", "False", "ArtifactsIncomplete")["message"]
    assert "has no key other.pkl (it has: baseline.npy, manifest.json, model.pkl)" in message


def test_a_claim_that_is_not_there(api):
    """As a ConfigMap; with it the pods mount its directory read-only."""
    api.serve({"model": {"artifacts": {"persistentVolumeClaim": {"claimName": "models", "path": "iris/v3"}}}})
    assert "PersistentVolumeClaim" in api.wait("Ready", "False", "ArtifactsNotFound")["message"]
    spec = {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Mi"}}}
    api.create("PersistentVolumeClaim", {"metadata": {"name": "models"}, "spec": spec})
    pod = template(until(lambda: api.get("Deployment", "iris")))["spec"]
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    assert pod["containers"][0]["volumeMounts"][0]["subPath"] == "iris/v3"


def test_a_claim_that_is_about_to_go(api):
    """It stays as long as pods mount it, and none that comes later may: that is said while there is time."""
    spec = {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Mi"}}}
    held = {"name": "models", "finalizers": ["example.com/held"]}
    api.create("PersistentVolumeClaim", {"metadata": held, "spec": spec})
    api.serve({"model": {"artifacts": {"persistentVolumeClaim": {"claimName": "models"}}}})
    api.wait("Ready", "False", "RolloutInProgress")
    before = template(api.get("Deployment", "iris"))
    api.delete("PersistentVolumeClaim", "models")
    assert "is being deleted" in api.wait("Ready", "False", "ArtifactsNotFound")["message"]
    assert before == template(api.get("Deployment", "iris"))
    api.patch("PersistentVolumeClaim", "models", {"metadata": {"finalizers": None}})
    until(lambda: "is not there" in api.condition("Ready")["message"])


def test_an_image_is_mounted(api):
    """On a cluster that has image volumes."""
    api.serve({"model": {"artifacts": {"image": {"reference": "localhost/iris:1", "pullPolicy": "Never"}}}})
    pod = template(api.settled())["spec"]
    assert pod["volumes"][0]["image"] == {"reference": "localhost/iris:1", "pullPolicy": "Never"}
    assert until(api.status, lambda seen: "model" in seen)["model"]["artifacts"] == "localhost/iris:1"


def test_changed_artifacts_roll_onto_a_new_copy_and_two_are_kept(api):
    """The copies are immutable; the older of three goes."""
    api.serve()
    seen = [mounted(api)]
    for number in range(3):
        api.artifacts(files={**FILES, "model.pkl": f"model {number}".encode()})
        until(lambda: mounted(api) not in seen)
        seen.append(mounted(api))
    api.run_pods(["127.0.0.1"])  # the pods of earlier revisions, which never became ready, go now
    until(lambda: copies(api), lambda found: found == sorted(seen[-2:]))
    copy = api.get("ConfigMap", seen[-1])
    assert (copy["immutable"], set(copy["binaryData"])) == (True, set(FILES))


def test_the_copies_that_pods_mount_are_kept(api):
    """While a rollout is under way the old pods keep what they would be restarted with."""
    api.serve()
    first = mounted(api)
    api.run_pods(["127.0.0.1"])
    api.wait("Ready", "True", "RolledOut")
    seen = [first]
    for number in range(3):
        api.artifacts(files={**FILES, "model.pkl": f"model {number}".encode()})
        seen.append(until(lambda: mounted(api), lambda name: name not in seen))
        kept = set(copies(api))  # asked first: a pod, and then its copy, may go in between
        in_use = {pod["spec"]["volumes"][0]["configMap"]["name"] for pod in api.all("Pod", "app=iris")}
        assert in_use <= kept
    assert first in copies(api)


def test_when_a_reference_goes_bad_the_pods_keep_what_they_have(api):
    """The service stays available, is still scaled and healed, and says what is wrong."""
    api.serve()
    api.run_pods(["127.0.0.1"])
    api.wait("Ready", "True", "RolledOut")
    before = template(api.settled())
    api.delete("ConfigMap", "iris-artifacts")
    api.wait("Ready", "False", "ArtifactsNotFound")
    api.change({"replicas": 2})
    until(lambda: api.get("Deployment", "iris")["spec"]["replicas"], lambda seen: seen == 2)
    assert (template(api.settled()), api.condition("Available")["status"]) == (before, "True")


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_somebody_else_made_is_never_stolen(api, kind):
    """It is named, left as it is, and taken over by nobody; once it is gone, ours comes."""
    name, body = FOREIGN[kind]
    theirs = api.create(kind, {"metadata": {"name": name}, **body})
    api.serve({"replicas": 2})
    message = api.wait("Ready", "False", "ChildConflict")["message"]
    assert f"{kind} {api.namespace}/{name} was not made for this service" in message
    assert api.condition("Stalled")["status"] == "True"
    found = api.get(kind, name)
    assert ("ownerReferences" in found["metadata"], found["metadata"].get("labels")) == (False, None)
    assert found["spec" if "spec" in found else "data"].keys() >= body.get("spec", body.get("data")).keys()
    assert found["metadata"]["uid"] == theirs["metadata"]["uid"]
    api.delete(kind, name)
    until(lambda: api.get(kind, name), lambda seen: seen and "ownerReferences" in seen["metadata"])
    api.wait("Ready", "False", "RolloutInProgress")


def test_another_controllers_child_is_named_with_its_controller(api):
    """The message says whose it is."""
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "1-2-3", "controller": True}
    api.artifacts("other")
    owner["uid"] = api.get("ConfigMap", "other")["metadata"]["uid"]
    api.create("Service", {"metadata": {"name": "iris", "ownerReferences": [owner]}, "spec": {"ports": [{"port": 1}]}})
    api.serve()
    assert "is controlled by ConfigMap other" in api.wait("Ready", "False", "ChildConflict")["message"]


def test_a_child_that_the_api_server_refuses(api):
    """What only it can know is said in its words."""
    api.serve({"podTemplate": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}}})
    assert "Deployment iris is refused" in api.wait("Ready", "False", "InvalidChild")["message"]
