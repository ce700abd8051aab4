"""A release on real pods: installed, tested, upgraded, rolled back, and gone without a trace."""

import contextlib
import json
from pathlib import Path

import pytest
from waiting import until

from aiops_localcluster import images
from aiops_localcluster.daemon import daemon

ROOT = Path(__file__).resolve().parents[2]
RELEASE = "aiops-quality"
OWN = {"configmap/kube-root-ca.crt", "serviceaccount/default"}  # what every namespace has
CRD = "customresourcedefinition.apiextensions.k8s.io/inferenceservices.aiops-quality.io"


@pytest.fixture
def helm(namespace):
    """Runs Helm in the namespace of the test."""
    return lambda *arguments: namespace.world.run("helm", f"--namespace={namespace.name}", *arguments)


@pytest.fixture
def image(world):
    """`--set image.repository=… --set image.tag=…`: the operator's image has the same tag, as CI pushes them."""
    repository, _, tag = world.inference_image.rpartition(":")
    world.cluster.load(images.build(ROOT / "Dockerfile.operator", f"{repository}-operator:{tag}", ROOT))
    return (f"--set=image.repository={repository}", f"--set-string=image.tag={tag}")


def digest(chart):
    """Of the model in a chart, as the status names it."""
    manifest = json.loads((chart / "model_artifacts" / "manifest.json").read_text())
    return f"sha256:{manifest['files']['model.skops']['sha256']}"


def objects(world, namespace=None):
    """Every object of every kind, in a namespace or outside of all; Events apart, which tell of what was."""
    kinds = world.run("kubectl", "api-resources", "--verbs=list", f"--namespaced={bool(namespace)}", "--output=name")
    where = (f"--namespace={namespace}",) if namespace else ()
    found = world.run("kubectl", *where, "get", ",".join(kinds.split()), "--output=name").split()
    return {name for name in found if not name.startswith("event")}


@contextlib.contextmanager
def available(world, namespace, log):
    """How many pods of the service were available at each change in the length of a with block: a list that fills."""
    path = f"--kubeconfig={world.cluster.kubeconfig}", f"--namespace={namespace}"
    show = '--output=jsonpath={.status.availableReplicas}{"\\n"}'
    command = [str(world.cluster.tool("kubectl")), *path, "get", f"deployment/{RELEASE}", "--watch", show]
    seen = []
    with daemon(command, log.read_text, log):
        yield seen
    seen += [int(line or "0") for line in log.read_text().splitlines()]


def test_a_release_comes_changes_and_goes(namespace, helm, image, packed, tmp_path):
    """Ready; `helm test` passes; another model and another pod, and back, with a pod that serves at all times; then nothing."""
    world, iris, wine = namespace.world, packed("iris"), packed("wine")
    with world.without_operator():
        before = objects(world)
        helm("install", RELEASE, str(iris), *image)
        namespace.wait(RELEASE, "Ready", "True")
        assert digest(iris) == until(lambda: namespace.loaded(RELEASE))
        assert [0, 2] == namespace.predict(RELEASE, [[5.1, 3.5, 1.4, 0.2], [6.5, 3.0, 5.5, 1.8]])["predictions"]
        assert "Phase:          Succeeded" in helm("test", RELEASE)

        with available(world, namespace.name, tmp_path / "upgrade.log") as upgraded:
            helm("upgrade", RELEASE, str(wine), *image, "--set=inferenceServices[0].spec.replicas=2")
            until(lambda: namespace.loaded(RELEASE), lambda seen: seen == digest(wine), 120)
            until(lambda: namespace.pods(RELEASE), lambda pods: len(pods) == 2)
        with available(world, namespace.name, tmp_path / "rollback.log") as rolled_back:
            helm("rollback", RELEASE)
            until(lambda: namespace.loaded(RELEASE), lambda seen: seen == digest(iris), 120)
            namespace.wait(RELEASE, "Ready", "True")
        assert [True, True] == [min(seen) >= 1 for seen in (upgraded, rolled_back)]
        assert [0, 2] == namespace.predict(RELEASE, [[5.1, 3.5, 1.4, 0.2], [6.5, 3.0, 5.5, 1.8]])["predictions"]

        assert f"lease.coordination.k8s.io/{RELEASE}-operator" in objects(world, namespace.name)
        assert {"clusterrole", "clusterrolebinding"} <= {name.partition(".")[0] for name in objects(world) - before}
        helm("uninstall", RELEASE)
        assert OWN == until(lambda: objects(world, namespace.name), lambda left: left == OWN, 90)
        left = until(lambda: objects(world), lambda left: left <= before, 90)
        assert CRD in left
