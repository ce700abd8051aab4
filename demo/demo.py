"""The main job, watched on a real Kubernetes: a model is served, drift is seen in its resource, and seen to clear.

`python demo/demo.py` exits 0 when all of it was seen, and 1 with the reason when not; `--down` removes what it made.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from aiops_localcluster import Cluster, LocalClusterError, images, open_cluster
from aiops_training.__main__ import main as train
from aiops_training.datasets import load_bundled

ROOT = Path(__file__).resolve().parent.parent
RELEASE = "aiops-quality"
NAMESPACE = "aiops-demo"
ROWS = 300
ROWS_A_REQUEST = 5
SENSOR = "petal length (cm)"
UNIT_ERROR = 10.0  # the sensor reports millimeters
SECONDS_TO_READY = 180
SECONDS_TO_VERDICT = 60

Rows = npt.NDArray[np.float64]


class DemoError(Exception):
    """Something that the demo promises was not seen; its text says what."""


class Demo:
    """One run against one cluster."""

    namespace = NAMESPACE
    service = RELEASE

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.started = time.monotonic()
        self.phases = 0

    @contextmanager
    def phase(self, title: str) -> Iterator[None]:
        """Announce a step before it starts, and say how long it took."""
        self.phases += 1
        print(f"\n▸ {self.phases}. {title}", flush=True)
        start = time.monotonic()
        yield
        print(f"  ✓ {time.monotonic() - start:.1f} s", flush=True)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in the demo's namespace and return its output.

        Raises:
            DemoError: kubectl failed; with what it said.
        """
        return self.run("kubectl", ["--namespace", self.namespace, *arguments], stdin)

    def helm(self, *arguments: str) -> str:
        """Run helm in the demo's namespace and return its output.

        Raises:
            DemoError: helm failed; with what it said.
        """
        return self.run("helm", ["--namespace", self.namespace, *arguments], None)

    def run(self, tool: str, arguments: Sequence[str], stdin: str | None = None) -> str:
        """Run kubectl or helm against the cluster and return its output.

        Raises:
            DemoError: it failed; with what it said.
        """
        environment = {**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig)}
        done = subprocess.run(
            [str(self.cluster.tool(tool)), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        if done.returncode:
            message = f"{tool} {' '.join(arguments)} failed: {done.stderr.strip() or done.stdout.strip()}"
            raise DemoError(message)
        return done.stdout

    def install(self, tags: dict[str, str]) -> None:
        """Install or upgrade the chart with these images; a release that was cut off half-way is taken away first."""
        if RELEASE in self.helm("list", "--pending", "--short").split():
            print("  an earlier installation was cut off; removing it")
            self.helm("uninstall", RELEASE, "--wait", "--timeout", "60s")
        chart = ROOT / "helm"
        settings = [
            *(f"{key}.{part}={value}" for key, tag in tags.items() for part, value in _image(tag)),
            "inferenceServices[0].spec.replicas=2",
        ]
        self.helm(
            "upgrade",
            "--install",
            RELEASE,
            str(chart),
            "--create-namespace",
            "--wait",
            "--timeout",
            f"{SECONDS_TO_READY}s",
            *(argument for setting in settings for argument in ("--set", setting)),
        )

    def wait_for_rollout(self, image: str) -> None:
        """Wait until all pods run this image: after an upgrade the service is Ready with the old one for a moment.

        Raises:
            DemoError: they did not in time.
        """
        path = "jsonpath={.spec.template.spec.containers[0].image}"
        timeout = f"--timeout={SECONDS_TO_READY}s"
        self.kubectl("wait", f"--for={path}={image}", f"deployment/{RELEASE}", timeout)
        self.kubectl("rollout", "status", f"deployment/{RELEASE}", timeout)

    def wait(self, condition: str, status: str, seconds: int) -> None:
        """Wait until a condition of the service has a status.

        Raises:
            DemoError: it did not in time; with the conditions as they are.
        """
        try:
            self.kubectl(
                "wait",
                f"--for=condition={condition}={status}",
                f"inferenceservice/{self.service}",
                f"--timeout={seconds}s",
            )
        except DemoError as error:
            path = '{range .status.conditions[*]}{.type}={.status} {.reason}: {.message}{"\\n"}{end}'
            seen = self.kubectl("get", "inferenceservice", self.service, "--output", f"jsonpath={path}")
            message = f"{condition} did not become {status} within {seconds} s; the conditions are\n{seen}"
            raise DemoError(message) from error

    def wait_for_all_rows(self) -> None:
        """Wait until the operator has seen all that was sent: drift shows before the last row has arrived.

        Raises:
            DemoError: the score did not come above its threshold in time.
        """
        deadline = time.monotonic() + SECONDS_TO_VERDICT
        path = "jsonpath={.status.drift.score} {.status.drift.threshold}"
        while True:
            score, threshold = self.kubectl("get", "inferenceservice", RELEASE, "--output", path).split()
            if float(score) > float(threshold):
                return
            if time.monotonic() > deadline:
                message = f"DRIFT is True, but the score is {score} and its threshold {threshold}"
                raise DemoError(message)
            time.sleep(0.5)

    def show(self) -> str:
        """Print `kubectl get inferenceservices` as it is, and return it."""
        table = self.kubectl("get", "inferenceservices")
        print("\n    $ kubectl get inferenceservices")
        print("".join(f"    {line}\n" for line in table.splitlines()), flush=True)
        return table

    def pods(self) -> list[str]:
        """Names of the ready pods of the service."""
        found = json.loads(self.kubectl("get", "pods", "--selector", f"app={RELEASE}", "--output", "json"))
        return sorted(
            pod["metadata"]["name"]
            for pod in found["items"]
            if "deletionTimestamp" not in pod["metadata"]
            and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
        )

    def rows_seen(self) -> dict[str, int]:
        """How many rows each pod has counted, by its own `/drift`."""
        return {pod: self._drift(pod)["rows"] for pod in self.pods()}

    def _drift(self, pod: str) -> dict[str, Any]:
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}:8000/proxy/drift"
        document: dict[str, Any] = json.loads(self.kubectl("get", "--raw", path))
        return document

    def send(self, rows: Rows) -> None:
        """Send rows to the Service, a few a request; the pods behind it share them.

        Raises:
            DemoError: a pod has not counted any, or not all were counted.
        """
        path = f"/api/v1/namespaces/{NAMESPACE}/services/{RELEASE}:http/proxy/predict"
        before = self.rows_seen()
        answer = ""
        for start in range(0, len(rows), ROWS_A_REQUEST):
            body = json.dumps({"inputs": rows[start : start + ROWS_A_REQUEST].round(3).tolist()})
            answer = self.kubectl("create", "--raw", path, "--filename", "-", stdin=body)
        counted = {pod: seen - before.get(pod, 0) for pod, seen in self.rows_seen().items()}
        print(f"  the last answer: {answer.strip()}")
        print(f"  rows counted: {', '.join(f'{pod} {count}' for pod, count in counted.items())}")
        if len(counted) < 2 or min(counted.values()) == 0:  # noqa: PLR2004 - the demo asks for two replicas
            message = f"the {len(rows)} rows were not spread over both pods: {counted}"
            raise DemoError(message)
        if sum(counted.values()) != len(rows):
            message = f"{len(rows)} rows were sent, but the pods counted {sum(counted.values())}"
            raise DemoError(message)


def run(demo: Demo) -> None:
    """All phases, in order.

    Raises:
        DemoError: something that the demo promises was not seen.
        LocalClusterError: the cluster or an image could not be made.
    """
    with demo.phase("Train a model on iris"):
        if train(["--output", "helm/model_artifacts"]) != 0:
            message = "training failed; its error is above"
            raise DemoError(message)
    with demo.phase("Build both images from their Dockerfiles"):
        tags = {
            key: images.build(dockerfile, name, ROOT)
            for key, dockerfile, name in (
                ("image", ROOT / "Dockerfile.inference", "localhost/aiops-quality"),
                ("operatorImage", ROOT / "Dockerfile.operator", "localhost/aiops-quality-operator"),
            )
        }
    with demo.phase(f"Bring up Kubernetes ({demo.cluster.kind})"):
        demo.cluster.up()
        tags = {key: demo.cluster.load(tag) for key, tag in tags.items()}
    with demo.phase("helm install: the operator, and one InferenceService with two replicas"):
        demo.install(tags)
    with demo.phase("Wait until both pods serve the model"):
        demo.wait_for_rollout(tags["image"])
        demo.wait("Ready", "True", SECONDS_TO_READY)
        demo.show()
    _watch(demo)
    print(f"All seen in {time.monotonic() - demo.started:.0f} s.\n")
    _next(demo)


def _watch(demo: Demo) -> None:
    generator = np.random.default_rng(2026)
    iris = load_bundled("iris")
    column = iris.features.index(SENSOR)

    def sample(factor: float) -> Rows:
        rows = iris.rows[generator.integers(0, len(iris.rows), ROWS)]
        rows[:, column] *= factor
        return rows

    tables = []
    for title, factor, drift in (
        (f"Send {ROWS} real iris rows", 1.0, "False"),
        (f"Break a sensor: {SENSOR} arrives in millimeters, {ROWS} rows", UNIT_ERROR, "True"),
        (f"Mend it: {ROWS} healthy rows again", 1.0, "False"),
    ):
        with demo.phase(title):
            demo.send(sample(factor))
            demo.wait("DriftDetected", drift, SECONDS_TO_VERDICT)
            if drift == "True":
                demo.wait_for_all_rows()
            tables.append(demo.show())
    if SENSOR not in tables[1]:
        message = f"DRIFT is True, but FEATURE does not name {SENSOR!r}"
        raise DemoError(message)


def _next(demo: Demo) -> None:
    print(f"""Look around:
  eval "$(.venv/bin/python -m aiops_localcluster env --cluster {demo.cluster.kind})"   # kubectl, helm, this cluster
  kubectl -n {NAMESPACE} get inferenceservices,pods,events
  kubectl -n {NAMESPACE} describe inferenceservice {RELEASE}
  kubectl -n {NAMESPACE} port-forward svc/{RELEASE} 8000:80
  curl -s localhost:8000/predict -d '{{"inputs": [[5.1,3.5,1.4,0.2],[6.5,3.0,5.5,1.8]]}}'
Done looking: make demo-down""")


def down(demo: Demo) -> None:
    """Remove what the demo made: on a local or kind cluster the cluster itself, else the release and its namespace."""
    if demo.cluster.kind != "current":
        demo.cluster.down()
        return
    try:
        demo.helm("uninstall", RELEASE, "--ignore-not-found", "--wait", "--timeout", "60s")
    finally:
        demo.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")


def _image(reference: str) -> Iterator[tuple[str, str]]:
    repository, _, tag = reference.rpartition(":")
    yield "repository", repository
    yield "tag", tag


def stop(signum: int, _frame: object) -> NoReturn:
    """End as a program does that a signal ends, with everything cleaned up."""
    sys.exit(128 + signum)


def main() -> int:
    """Run the demo, or take it down."""
    options = argparse.ArgumentParser(prog="make demo", description=__doc__)
    options.add_argument("--down", action="store_true", help="remove what the demo made")
    options.add_argument(
        "--cluster",
        choices=("local", "kind", "current"),
        default=os.environ.get("CLUSTER", "local"),
        help="default: local",
    )
    chosen = options.parse_args()
    signal.signal(signal.SIGTERM, stop)
    os.chdir(ROOT)
    demo = Demo(open_cluster(chosen.cluster))
    try:
        (down if chosen.down else run)(demo)
    except (DemoError, LocalClusterError) as error:
        print(f"\n✗ the demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; `make demo` goes on from here, `make demo-down` cleans up", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
