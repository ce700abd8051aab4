"""A changed model runs beside the one that serves, on copies of its requests, and is rolled out or not by what that shows."""

import json
from dataclasses import replace

import numpy as np
from waiting import until

from aiops_training import artifacts, configmap
from aiops_training.datasets import load_bundled
from aiops_training.model import fit

IRIS = load_bundled("iris")
GENERATOR = np.random.default_rng(5)
SERVICE = {
    "apiVersion": "aiops-quality.io/v1alpha1",
    "kind": "InferenceService",
    "metadata": {"name": "iris"},
    "spec": {
        "model": {"artifacts": {"configMap": {"name": "iris-artifacts"}}},
        "rollout": {"strategy": "Shadow", "shadow": {"minRows": 200, "maxDistance": 0.2}},
    },
}


def trained(rows=slice(None), classes=(0, 1, 2)):
    """Artifacts of a model that has seen these rows, with other names for the classes; and the model's digest."""
    dataset = replace(IRIS, rows=IRIS.rows[rows], target=np.array(classes)[IRIS.target[rows]])
    files = artifacts.build(dataset, *fit(dataset))
    digest = json.loads(files["manifest.json"])["files"]["model.skops"]["sha256"]
    return configmap.manifest("iris-artifacts", files), f"sha256:{digest}"


def shadowed(namespace):
    """What the serving pod has compared; None where it copies nothing, or is not ready."""
    pods = namespace.pods("iris")
    return namespace.drift(pods[0]["metadata"]["name"]).get("shadowed") if len(pods) == 1 else None


def compare(namespace, manifest):
    """Change the model, and wait until requests are copied to a shadow of it; its revision."""
    before = namespace.get("infs", "iris")["status"].get("shadow", {}).get("revision")
    namespace.apply(manifest)
    shown = until(
        lambda: namespace.get("infs", "iris")["status"].get("shadow", {}),
        lambda shown: shown.get("state") == "Comparing" and shown["revision"] != before,
        120,
        lambda: namespace.kubectl("describe", "infs", "iris") + namespace.kubectl("get", "pods"),
    )
    # Until then the pod may have the settings of the revision before.
    comparison = f"{shown['revision']}@{shown['since']}"
    until(lambda: (shadowed(namespace) or {}).get("revision") == comparison, seconds=90)
    return shown["revision"]


def fed(namespace):
    """Send real rows, as clients do all the while, until the revision is decided on; what is shown of it then."""

    def look():
        namespace.predict("iris", IRIS.rows[GENERATOR.integers(0, len(IRIS.rows), 50)].round(3).tolist())
        return namespace.get("infs", "iris")["status"]["shadow"]

    return until(look, lambda shown: shown["state"] in {"Promoted", "Rejected"}, 120, every=0.2)


def test_a_shadow_decides(namespace, iris_configmap, measured):
    """A model that says something else never serves; one that agrees is rolled out; nothing is left of either's shadow."""
    namespace.apply(iris_configmap)
    namespace.apply(SERVICE)
    namespace.wait("iris", "Ready", "True")
    first = namespace.get("infs", "iris")["status"]["model"]["digest"]
    pods = [pod["metadata"]["uid"] for pod in namespace.pods("iris")]

    wrong, _ = trained(classes=(1, 2, 0))
    revision = compare(namespace, wrong)
    shown = fed(namespace)
    ready = namespace.wait("iris", "Ready", "False", "ShadowRejected")
    assert (revision, "PredictionsDiffer", True) == (shown["revision"], shown["reason"], float(shown["distance"]) > 0.9)
    assert "The one before serves on" in ready["message"]
    assert [0, 2] == namespace.predict("iris", [[5.1, 3.5, 1.4, 0.2], [6.5, 3.0, 5.5, 1.8]])["predictions"]
    assert (first, pods) == (
        namespace.get("infs", "iris")["status"]["model"]["digest"],
        [pod["metadata"]["uid"] for pod in namespace.pods("iris")],
    )

    right, digest = trained(rows=slice(0, 149))
    compare(namespace, right)
    promoted = fed(namespace)
    measured["rows compared until a model was promoted"] = promoted["rows"]
    assert (digest, "Compared", False) == (
        promoted["model"]["digest"],
        promoted["reason"],
        promoted["drift"]["detected"],
    )
    until(lambda: namespace.loaded("iris"), lambda loaded: loaded == digest, 120)
    namespace.wait("iris", "Ready", "True", "RolledOut")
    until(
        lambda: namespace.get("deployments,services,pods", selector="app=iris-shadow")["items"],
        lambda left: not left,
        90,
    )
    assert (1, 1) == (len(namespace.events("ShadowRejected")), len(namespace.events("ShadowPromoted")))
