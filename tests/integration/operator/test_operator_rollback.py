"""A revision that does not get ready gives way to the one before."""

from typing import Any

import pytest
from waiting import until

BAD = {"model.pkl": b"a bad model", "baseline.npy": b"rows"}
QUICK = {"rollout": {"progressDeadlineSeconds": 10}}


def mounted(api: Any) -> str:
    """The copy of the artifacts that the Deployment's pods mount."""
    volumes = api.get("Deployment", "iris")["spec"]["template"]["spec"]["volumes"]
    return next(volume["configMap"]["name"] for volume in volumes if volume["name"] == "artifacts")


def good(api: Any, pods: dict[str, Any]) -> str:
    """Roll out a service; the copy that its pods mount."""
    api.serve(QUICK)
    api.run_pods([next(iter(pods))])
    api.wait("Ready", "True", "RolledOut")
    return mounted(api)


def test_a_bad_model_never_takes_the_old_one_down(api, pods, start):
    """The last good revision is put back, the cause is told, and a restart of the operator changes nothing."""
    with start(api.namespace):
        before = good(api, pods)
        api.artifacts(files=BAD)
        until(lambda: mounted(api) != before)
        ready = api.wait("Ready", "False", "RolledBack", seconds=60)
        assert before == mounted(api)
        assert ("True", "True") == (api.condition("Available")["status"], api.condition("Stalled")["status"])
        assert "ProgressDeadlineExceeded" in ready["message"]
        until(api.reasons, lambda seen: "RolledBack" in seen)
        until(api.status, lambda seen: seen.get("replicas") == 1, 30)  # the bad pod is gone, and that is told
    versions = api.versions("InferenceService", "Deployment", "ConfigMap")
    with start(api.namespace, RESYNC_INTERVAL="1") as another:
        until(another.reconciles, lambda count: count >= 3)
        assert versions == api.versions("InferenceService", "Deployment", "ConfigMap")
        api.artifacts()
        api.wait("Ready", "True", "RolledOut")
    assert before == mounted(api)
    assert "aiops-quality.io/revisions" not in api.get("Deployment", "iris")["metadata"]["annotations"]


def test_what_is_remembered_outlives_the_labels(api, pods, start):
    """A revision that was rolled back stays so, whichever label of the Deployment is taken away, with the operator there or not."""
    labels = ("app.kubernetes.io/managed-by", "aiops-quality.io/inferenceservice")

    def unlabel(label):
        api.patch("Deployment", "iris", {"metadata": {"labels": {label: None}}})

    def mended():
        now = until(
            lambda: api.get("Deployment", "iris"), lambda seen: set(labels) <= seen["metadata"]["labels"].keys()
        )
        return now["metadata"]["annotations"], mounted(api), api.condition("Ready")["reason"]

    with start(api.namespace):
        good(api, pods)
        api.artifacts(files=BAD)
        api.wait("Ready", "False", "RolledBack", seconds=60)
        until(lambda: api.get("Deployment", "iris"), lambda seen: seen["status"].get("replicas") == 1, 30)
        before = mended()
        for label in labels:
            unlabel(label)
            assert before == mended()
    for label in labels:
        unlabel(label)
        with start(api.namespace):
            assert before == mended()


@pytest.mark.usefixtures("operator")
def test_what_cannot_be_put_back_is_not_pretended(api, pods):
    """The artifacts of a claim may have changed under the revision before."""
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    api.create("PersistentVolumeClaim", {"metadata": {"name": "disk"}, "spec": claim})
    api.serve(QUICK | {"model": {"artifacts": {"persistentVolumeClaim": {"claimName": "disk", "path": "v1"}}}})
    api.run_pods([next(iter(pods))])
    api.wait("Ready", "True", "RolledOut")
    api.change({"model": {"artifacts": {"persistentVolumeClaim": {"path": "v2"}}}})
    api.wait("Stalled", "True", "RollbackImpossible", seconds=60)
    assert "True" == api.condition("Available")["status"]
