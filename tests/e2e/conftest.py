"""A cluster of the tests' own with our two images and the chart's operator; taken down at the end."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from waiting import until

from aiops_localcluster import Cluster, images, open_cluster
from aiops_localcluster.instance import default_instance
from aiops_training import artifacts, configmap
from aiops_training.datasets import load_bundled
from aiops_training.model import fit

ROOT = Path(__file__).resolve().parents[2]
POLL_SECONDS = 2


@dataclass(frozen=True)
class World:
    """What a test works with: a cluster, and our images in it."""

    cluster: Cluster
    inference_image: str
    operator_image: str
    operator_namespace: str = "aiops-system"

    def run(self, tool: str, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl or helm and return its output."""
        command = [str(self.cluster.tool(tool)), f"--kubeconfig={self.cluster.kubeconfig}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=300)
        if check and done.returncode:
            pytest.fail(f"{tool} {' '.join(arguments)}: {done.stderr or done.stdout}")
        return done.stdout

    def operator_pods(self) -> set[str]:
        """UIDs of the operator's pods that are ready."""
        found = json.loads(
            self.run("kubectl", "get", "pods", f"--namespace={self.operator_namespace}", "--output=json")
        )
        return {pod["metadata"]["uid"] for pod in found["items"] if is_ready(pod)}

    @contextlib.contextmanager
    def without_operator(self) -> Iterator[None]:
        """Scale the operator to nothing for the length of a with block."""
        scale = ("scale", "deployment", "aiops-operator", f"--namespace={self.operator_namespace}")
        try:
            self.run("kubectl", *scale, "--replicas=0")
            until(self.operator_pods, lambda pods: not pods)
            yield
        finally:
            self.run("kubectl", *scale, "--replicas=1")
            until(self.operator_pods, bool, 90)


def is_ready(pod: dict) -> bool:
    """Whether a pod says so."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


@dataclass(frozen=True)
class Namespace:
    """A namespace of one test, which enforces the restricted Pod Security Standard."""

    world: World
    name: str

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl in this namespace and return its output."""
        return self.world.run("kubectl", f"--namespace={self.name}", *arguments, stdin=stdin, check=check)

    def apply(self, document: object) -> None:
        """Apply an object, server-side."""
        text = document if isinstance(document, str) else yaml.safe_dump(document)
        self.kubectl("apply", "--server-side", "--filename=-", stdin=text)

    def get(self, kind: str, name: str = "", **options: str) -> dict:
        """Read an object, or a list by label selector."""
        arguments = [name] if name else []
        arguments += [f"--{key}={value}" for key, value in options.items()]
        return json.loads(self.kubectl("get", kind, *arguments, "--output=json"))

    def condition(self, service: str, kind: str) -> dict:
        """One condition of a service."""
        status = self.get("inferenceservice", service).get("status", {})
        return next((c for c in status.get("conditions", []) if c["type"] == kind), {})

    def wait(self, service: str, kind: str, status: str, reason: str | None = None, seconds: float = 120) -> dict:
        """Wait until a condition has a status (and a reason), and return it."""
        return until(
            lambda: self.condition(service, kind),
            lambda c: c.get("status") == status and reason in (None, c.get("reason")),
            seconds,
            lambda: self.kubectl("describe", "inferenceservice", service) + self.kubectl("get", "pods", "-o", "wide"),
            every=0.3,
        )

    def pods(self, service: str) -> list[dict]:
        """Pods of a service that are ready and stay."""
        found = self.get("pods", selector=f"app={service}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"] and is_ready(pod)]

    def loaded(self, service: str) -> str | None:
        """Digest of the model that all pods of a service have loaded, where they have."""
        model = self.get("infs", service)["status"].get("model", {})
        loaded, _, wanted = model.get("loaded", "").partition("/")
        return model.get("digest") if loaded and loaded == wanted else None

    def predict(self, service: str, rows: object) -> dict:
        """Send rows to the Service, through the API server's proxy: each request meets any of the pods."""
        path = f"/api/v1/namespaces/{self.name}/services/{service}:http/proxy/predict"
        return json.loads(self.kubectl("create", "--raw", path, "--filename=-", stdin=json.dumps({"inputs": rows})))

    def send(self, service: str, rows: list, per_request: int = 10) -> None:
        """Send many rows, a few a request."""
        for start in range(0, len(rows), per_request):
            self.predict(service, rows[start : start + per_request])

    def drift(self, pod: str) -> dict:
        """What a pod answers to `GET /drift`."""
        return json.loads(self.kubectl("get", "--raw", f"/api/v1/namespaces/{self.name}/pods/{pod}:8000/proxy/drift"))

    def events(self, reason: str) -> list[str]:
        """Messages of the events with this reason."""
        return [event["message"] for event in self.get("events")["items"] if event["reason"] == reason]


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """The cluster (of CLUSTER's kind) with the operator installed by the chart, watching all namespaces."""
    cluster = open_cluster(os.environ.get("CLUSTER", "local"), f"{default_instance().name}-e2e")
    cluster.down()  # what an earlier run that was killed may have left
    try:
        inference, operator = (
            images.build(ROOT / dockerfile, name, ROOT)
            for dockerfile, name in (
                ("Dockerfile.inference", "localhost/aiops-quality"),
                ("Dockerfile.operator", "localhost/aiops-quality-operator"),
            )
        )
        cluster.up()
        made = World(cluster, cluster.load(inference), cluster.load(operator))
        install(made)
        yield made
        # A cluster that is not ours to remove is left as it was found, but for the CRD, which Helm never removes.
        made.run("helm", f"--namespace={made.operator_namespace}", "uninstall", "aiops", "--wait", "--timeout=60s")
        made.run("kubectl", "delete", "namespace", made.operator_namespace, "--wait=false")
    finally:
        cluster.down()


def install(world: World) -> None:
    """Install the chart with the operator only."""
    settings = {
        "image.repository": world.inference_image.rpartition(":")[0],
        "image.tag": world.inference_image.rpartition(":")[2],
        "operatorImage.repository": world.operator_image.rpartition(":")[0],
        "operatorImage.tag": world.operator_image.rpartition(":")[2],
        "operator.pollInterval": str(POLL_SECONDS),
        "operator.resyncInterval": "5",
    }
    world.run("kubectl", "create", "namespace", world.operator_namespace)
    world.run(
        "kubectl", "label", "namespace", world.operator_namespace, "pod-security.kubernetes.io/enforce=restricted"
    )
    world.run(
        "helm",
        f"--namespace={world.operator_namespace}",
        "install",
        "aiops",
        str(ROOT / "helm"),
        "--wait",
        "--timeout=120s",
        "--set-json=inferenceServices=[]",
        *(f"--set-string={key}={value}" for key, value in settings.items() if not key.endswith("Interval")),
        *(f"--set={key}={value}" for key, value in settings.items() if key.endswith("Interval")),
    )


@pytest.fixture
def namespace(world, request) -> Iterator[Namespace]:
    """A namespace of the test's own, deleted after it."""
    name = request.node.name.replace("_", "-").removeprefix("test-")[:50].strip("-[]").lower()
    world.run("kubectl", "create", "namespace", name)
    world.run("kubectl", "label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield Namespace(world, name)
    world.run("kubectl", "delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def iris_files() -> dict[str, bytes]:
    """The iris artifacts by file name."""
    dataset = load_bundled("iris")
    return artifacts.build(dataset, *fit(dataset))


@pytest.fixture(scope="session")
def iris_configmap(iris_files) -> str:
    """The manifest that training writes for the examples."""
    return configmap.manifest("iris-artifacts", iris_files)


@pytest.fixture(scope="session")
def packed(tmp_path_factory) -> Callable[[str], Path]:
    """Makes a chart with the artifacts of a bundled dataset, where training writes them."""

    def make(name: str) -> Path:
        chart = tmp_path_factory.mktemp(name) / "helm"
        shutil.copytree(ROOT / "helm", chart, ignore=shutil.ignore_patterns("model_artifacts"))
        dataset = load_bundled(name)
        artifacts.write(artifacts.build(dataset, *fit(dataset)), chart / "model_artifacts")
        return chart

    return make
