"""The main job on real pods: served, drift seen in the resource, drift seen to clear."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from waiting import until

from aiops_inference.expectations import MIN_BATCH_ROWS
from aiops_training import artifacts, configmap
from aiops_training.datasets import load_bundled
from aiops_training.model import fit

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = np.random.default_rng(5)
IRIS = load_bundled("iris")
PETAL_LENGTH = IRIS.features.index("petal length (cm)")


def rows(count, factor=1.0):
    """Real iris rows, shuffled; the petal length in another unit by a factor."""
    chosen = IRIS.rows[GENERATOR.integers(0, len(IRIS.rows), count)]
    chosen[:, PETAL_LENGTH] *= factor
    return chosen.round(3).tolist()


def service(name="iris", **spec):
    """An InferenceService on the iris ConfigMap."""
    return {
        "apiVersion": "aiops-quality.io/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {"model": {"artifacts": {"configMap": {"name": "iris-artifacts"}}}, **spec},
    }


def validates_later(namespace, pod):
    """Whether a pod has as many rows as it validates at a time, and has not yet validated them."""
    said = namespace.drift(pod["metadata"]["name"])
    return said["rows"] >= MIN_BATCH_ROWS and said["expectations"]["state"] == "pending"


def test_the_example_is_served_drifts_and_recovers(namespace, iris_configmap, measured):
    """One resource, two pods: Ready, DRIFT False on real rows, True on a unit error, False again; one Event each."""
    namespace.apply(iris_configmap)
    started = time.monotonic()
    namespace.apply((ROOT / "examples" / "iris-configmap.yaml").read_text())
    until(lambda: namespace.kubectl("get", "deployment", "iris", check=False), bool, 30)
    measured["seconds from kubectl apply to the Deployment"] = round(time.monotonic() - started, 2)
    namespace.wait("iris", "Ready", "True")
    measured["seconds from kubectl apply to Ready, two pods"] = round(time.monotonic() - started, 2)

    assert "InsufficientSamples" == namespace.wait("iris", "DriftDetected", "Unknown", "InsufficientSamples")["reason"]
    assert [0, 2] == namespace.predict("iris", [[5.1, 3.5, 1.4, 0.2], [6.5, 3.0, 5.5, 1.8]])["predictions"]

    namespace.send("iris", rows(298))
    namespace.wait("iris", "DriftDetected", "False")
    counted = [namespace.drift(pod["metadata"]["name"])["rows"] for pod in namespace.pods("iris")]
    assert (2, 300) == (len(counted), sum(counted))
    assert min(counted) > 0
    # Who still loads Great Expectations would validate these rows and the drifted ones in one batch.
    until(lambda: not any(validates_later(namespace, pod) for pod in namespace.pods("iris")), seconds=120)

    namespace.send("iris", rows(300, factor=10))
    drifted = namespace.wait("iris", "DriftDetected", "True", "ScoreAboveThreshold")
    assert "petal length (cm)" in drifted["message"]
    shown = namespace.get("inferenceservice", "iris")["status"]["drift"]
    assert ("petal length (cm)", True) == (shown["worstFeature"], float(shown["score"]) > 5)

    namespace.send("iris", rows(400))
    namespace.wait("iris", "DriftDetected", "False")
    # An Event is told after the status that it speaks of.
    until(lambda: namespace.events("DriftCleared"))
    assert (1, 1) == (len(namespace.events("DriftDetected")), len(namespace.events("DriftCleared")))

    logs = namespace.kubectl("logs", "--selector=app=iris", "--tail=-1")
    assert "Drift detected" in logs
    line = next(line for line in logs.splitlines() if line.startswith('INFO {"event": "prediction"'))
    assert {"event", "inputs_sample", "predictions_sample", "drift_detected", "drift_score"} <= set(
        json.loads(line.removeprefix("INFO "))
    )


def test_a_threshold_acts_without_a_rollout(namespace, iris_configmap, measured):
    """A threshold changed in the resource changes the verdict on the rows already seen; no pod is replaced."""
    namespace.apply(iris_configmap)
    # The mean alone: the calibrated rules need no threshold to see such rows, and about an eighth of them is beyond the
    # suite's range, which allows a tenth.
    namespace.apply(service(drift={"expectations": {"mode": "disabled"}, "falseAlarmInterval": "0s"}))
    namespace.wait("iris", "Ready", "True")
    shifted = [[a, b, c + 3.0, d] for a, b, c, d in rows(300)]
    namespace.send("iris", shifted)
    namespace.wait("iris", "DriftDetected", "False")
    pods = [pod["metadata"]["uid"] for pod in namespace.pods("iris")]

    started = time.monotonic()
    namespace.kubectl("patch", "infs", "iris", "--type=merge", "--patch", '{"spec":{"drift":{"zScoreThreshold":1}}}')
    namespace.wait("iris", "DriftDetected", "True", seconds=20)
    measured["seconds from a changed threshold to the verdict"] = round(time.monotonic() - started, 2)
    # The pods' own per-request rule follows when the kubelet has brought the changed file.
    until(lambda: namespace.predict("iris", shifted[:50])["drift_detected"], bool, 90)

    assert pods == [pod["metadata"]["uid"] for pod in namespace.pods("iris")]


def test_a_bad_model_never_takes_the_old_one_down(namespace, iris_configmap):
    """A digest that no file has: the reason is in the resource, and the old pods go on serving."""
    namespace.apply(iris_configmap)
    namespace.apply(service())
    namespace.wait("iris", "Ready", "True")
    model = {"artifacts": {"configMap": {"name": "iris-artifacts"}}, "sha256": "0" * 64}
    namespace.kubectl("patch", "infs", "iris", "--type=merge", "--patch", json.dumps({"spec": {"model": model}}))

    assert "sha256" in namespace.wait("iris", "Ready", "False", "DigestMismatch")["message"]
    assert "True" == namespace.condition("iris", "Available")["status"]
    assert [0] == namespace.predict("iris", [[5.1, 3.5, 1.4, 0.2]])["predictions"]


def test_new_artifacts_roll_out(namespace, iris_configmap):
    """Artifacts that change in the ConfigMap roll the pods, and the status names the model that they have loaded."""
    namespace.apply(iris_configmap)
    namespace.apply(service())
    namespace.wait("iris", "Ready", "True")
    before = namespace.get("inferenceservice", "iris")["status"]["model"]["digest"]
    wine = load_bundled("wine")
    files = artifacts.build(wine, *fit(wine))
    namespace.apply(configmap.manifest("iris-artifacts", files))
    manifest = json.loads(files["manifest.json"])
    digest = f"sha256:{manifest['files']['model.skops']['sha256']}"

    seen = until(
        lambda: namespace.get("inferenceservice", "iris")["status"]["model"],
        lambda model: (model.get("digest"), model.get("loaded")) == (digest, "1/1"),
        120,
    )
    assert (True, digest.removeprefix("sha256:")[:7]) == (before != digest, seen["shortDigest"])


def test_a_missing_configmap_is_named_and_waited_for(namespace, iris_configmap):
    """The reason is typed, and the service comes up by itself when the ConfigMap does."""
    namespace.apply(service())

    assert "iris-artifacts" in namespace.wait("iris", "Ready", "False", "ArtifactsNotFound")["message"]
    namespace.apply(iris_configmap)
    namespace.wait("iris", "Ready", "True")


def test_a_model_from_a_volume(namespace, iris_files):
    """A path in a PersistentVolumeClaim is mounted read-only and served."""
    folder = Path("/tmp") / f"aiops-e2e-{namespace.world.cluster.instance.name}"  # noqa: S108 - the node's own disk, as a volume's would be
    (folder / "iris" / "v3").mkdir(parents=True, exist_ok=True)
    artifacts.write(iris_files, folder / "iris" / "v3")
    volume = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadOnlyMany"], "storageClassName": "none"}
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": namespace.name},
            "spec": {**volume, "hostPath": {"path": str(folder)}},
        }
    )
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "models"},
            "spec": {
                "accessModes": ["ReadOnlyMany"],
                "storageClassName": "none",
                "volumeName": namespace.name,
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
    )
    source = {"persistentVolumeClaim": {"claimName": "models", "path": "iris/v3"}}
    namespace.apply(service(model={"artifacts": source}))
    namespace.wait("iris", "Ready", "True")

    assert [0, 2] == namespace.predict("iris", [[5.1, 3.5, 1.4, 0.2], [6.5, 3.0, 5.5, 1.8]])["predictions"]
    namespace.kubectl("delete", "pv", namespace.name, "--wait=false")


def test_a_model_from_an_oci_image(namespace, iris_files, tmp_path):
    """An image that holds nothing but artifacts is mounted and served, as the example says."""
    from aiops_localcluster import images  # noqa: PLC0415 - only this test builds a third image

    artifacts.write(iris_files, tmp_path / "model_artifacts")
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM scratch\nCOPY model_artifacts /\n")
    image = namespace.world.cluster.load(images.build(dockerfile, "localhost/iris-model", tmp_path))
    example = yaml.safe_load((ROOT / "examples" / "iris-oci-image.yaml").read_text())
    example["spec"]["model"]["artifacts"]["image"]["reference"] = image
    namespace.apply(example)
    namespace.wait("iris-oci", "Ready", "True")

    assert [0, 2] == namespace.predict("iris-oci", [[5.1, 3.5, 1.4, 0.2], [6.5, 3.0, 5.5, 1.8]])["predictions"]


def test_the_image_answers_with_nothing_mounted(namespace):
    """`docker run` of the image alone serves the iris model that was trained in the build; here as a bare pod."""
    security = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "inference",
        "image": namespace.world.inference_image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": security,
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 1},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - in the container
    }
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "alone"},
            "spec": {"containers": [container], "volumes": [{"name": "tmp", "emptyDir": {}}]},
        }
    )
    namespace.kubectl("wait", "--for=condition=Ready", "pod/alone", "--timeout=120s")
    path = f"/api/v1/namespaces/{namespace.name}/pods/alone:8000/proxy/predict"
    body = '{"inputs": [[5.1,3.5,1.4,0.2],[6.5,3.0,5.5,1.8]]}'
    answer = json.loads(namespace.kubectl("create", "--raw", path, "--filename=-", stdin=body))

    assert ([0, 2], False) == (answer["predictions"], answer["drift_detected"])


def test_drift_outlives_the_operator(namespace, iris_configmap):
    """An operator killed during drift comes back to the same episode: it neither forgets it nor tells it twice."""
    namespace.apply(iris_configmap)
    namespace.apply(service())
    namespace.wait("iris", "Ready", "True")
    namespace.send("iris", rows(300, factor=10))
    namespace.wait("iris", "DriftDetected", "True")
    episode = namespace.get("inferenceservice", "iris")["status"]["drift"]["episode"]
    until(lambda: namespace.events("DriftDetected"))  # told after the status; who is killed in between never tells
    before = namespace.world.operator_pods()
    namespace.kubectl(
        "delete",
        "pods",
        "--all",
        f"--namespace={namespace.world.operator_namespace}",
        "--grace-period=0",
        "--force",
        "--wait=false",
    )
    until(namespace.world.operator_pods, lambda pods: pods and not pods & before, 90)
    # Rows sent now are only seen by the new operator.
    namespace.send("iris", rows(32, factor=10))
    namespace.kubectl("patch", "infs", "iris", "--type=merge", "--patch", '{"spec":{"drift":{"minSamples":60}}}')
    generation = namespace.get("inferenceservice", "iris")["metadata"]["generation"]
    until(
        lambda: namespace.get("inferenceservice", "iris")["status"],
        lambda status: status["observedGeneration"] == generation,
        60,
    )

    assert "True" == namespace.condition("iris", "DriftDetected")["status"]
    assert episode == namespace.get("inferenceservice", "iris")["status"]["drift"]["episode"]
    assert 1 == len(namespace.events("DriftDetected"))
    namespace.send("iris", rows(300))
    namespace.wait("iris", "DriftDetected", "False")


def test_deleting_a_service_needs_no_operator(namespace, iris_configmap):
    """With the operator scaled to nothing, the children of a deleted service are gone all the same."""
    namespace.apply(iris_configmap)
    namespace.apply(service(replicas=2))
    namespace.wait("iris", "Ready", "True")
    with namespace.world.without_operator():
        namespace.kubectl("delete", "infs", "iris")
        children = "deployments,services,configmaps,poddisruptionbudgets,pods"
        selector = "app.kubernetes.io/managed-by=aiops-operator"
        until(
            lambda: namespace.kubectl("get", children, f"--selector={selector}", "--output=name"),
            lambda names: not names.strip(),
            90,
        )


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_the_operator_can_be_watched(world, path):
    """Its own endpoints answer through the API server's proxy."""
    pods = json.loads(world.run("kubectl", "get", "pods", f"--namespace={world.operator_namespace}", "--output=json"))
    name = next(pod["metadata"]["name"] for pod in pods["items"] if "deletionTimestamp" not in pod["metadata"])
    answer = world.run(
        "kubectl", "get", "--raw", f"/api/v1/namespaces/{world.operator_namespace}/pods/{name}:8080/proxy{path}"
    )

    assert ("aiops_operator_reconcile_total" in answer) if path == "/metrics" else answer
