"""The whole circle, on a real Kubernetes with a real Argo CD: drift, a Job that trains again, a commit, a rollout, no drift.

`python demo/gitops.py` exits 0 when all of it was seen, and 1 with the reason when not; `--down` removes the cluster.
"""

import argparse
import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import yaml

from aiops_localcluster import ArgoCD, LocalClusterError, argo_cd, images, open_cluster
from aiops_localcluster.cluster import LocalCluster
from aiops_localcluster.daemon import daemon, free_ports, listens
from aiops_localcluster.instance import default_instance
from aiops_training.__main__ import main as training
from aiops_training.datasets import load_bundled
from demo import ROOT, SENSOR, UNIT_ERROR, Demo, DemoError, Rows, stop

SYSTEM: Final = "aiops-system"
NAMESPACE: Final = "models"
SERVICE: Final = "iris"
APPLICATION: Final = "services"
ROWS: Final = 300
ROWS_A_REQUEST: Final = 20
SECONDS: Final = 180
IMAGES: Final = (
    ("Dockerfile.inference", "localhost/aiops-quality"),
    ("Dockerfile.operator", "localhost/aiops-quality-operator"),
    ("Dockerfile.training", "localhost/aiops-quality-training"),
)


class Circle(Demo):
    """One run."""

    namespace = NAMESPACE
    service = SERVICE

    def status(self) -> dict[str, object]:
        """The service's status, as far as there is one."""
        found: dict[str, object] = json.loads(self.kubectl("get", "infs", SERVICE, "--output", "json")).get(
            "status", {}
        )
        return found

    def until(self, what: str, look: Callable[[], bool], explain: Callable[[], str] = lambda: "") -> None:
        """Wait until something is so.

        Raises:
            DemoError: it was not in time.
        """
        deadline = time.monotonic() + SECONDS
        while not look():
            if time.monotonic() > deadline:
                message = f"{what}: not seen within {SECONDS} s\n{explain()}"
                raise DemoError(message)
            time.sleep(0.5)

    def application(self) -> str:
        """The Application in one line: synced, healthy, and at which commit."""
        document = json.loads(
            self.run("kubectl", ["-n", "argocd", "get", "application", APPLICATION, "-o", "json"], None)
        )
        status = document.get("status", {})
        sync, health = status.get("sync", {}), status.get("health", {})
        return f"{sync.get('status', '-')} {health.get('status', '-')} {sync.get('revision', '')[:7]}"

    def post(self, rows: Rows) -> None:
        """Send rows to the Service."""
        path = f"/api/v1/namespaces/{NAMESPACE}/services/{SERVICE}:http/proxy/predict"
        for start in range(0, len(rows), ROWS_A_REQUEST):
            body = json.dumps({"inputs": rows[start : start + ROWS_A_REQUEST].round(3).tolist()})
            self.kubectl("create", "--raw", path, "--filename", "-", stdin=body)


class Repository:
    """A bare git repository that a daemon serves, to Argo CD on this machine and to pods."""

    def __init__(self, place: Path, address: str, port: int) -> None:
        self.bare, self.tree = place / "models.git", place / "models"
        self.url = f"git://{address}:{port}/models.git"
        subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", self.bare], check=True)
        subprocess.run(["git", "clone", "--quiet", self.bare, self.tree], check=True, stderr=subprocess.DEVNULL)

    def git(self, *arguments: str) -> str:
        """Run git in the working tree."""
        who = ("-c", "user.name=demo", "-c", "user.email=demo@example.com", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", *who, *arguments], cwd=self.tree, check=True, capture_output=True, text=True
        ).stdout

    def publish(self, files: dict[str, str], message: str) -> None:
        """Commit files and push them."""
        for name, content in files.items():
            path = self.tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        self.git("push", "--quiet", "origin", "HEAD:main")

    def last(self) -> str:
        """Hash and first line of the last commit."""
        return subprocess.run(
            ["git", "log", "-1", "--format=%h %s"], cwd=self.bare, check=True, capture_output=True, text=True
        ).stdout.strip()


@contextlib.contextmanager
def served(place: Path, address: str) -> Iterator[Repository]:
    """A repository, and the daemon that serves it: anybody who reaches the address may push."""
    port = free_ports(1)[0]
    repository = Repository(place, address, port)
    command = ["git", "daemon", "--reuseaddr", "--export-all", f"--base-path={place}", "--enable=receive-pack"]
    command += [f"--listen={address}", "--listen=127.0.0.1", f"--port={port}", str(place)]
    with daemon(command, lambda: listens(port), place / "git-daemon.log"):
        yield repository


def data(factor: float) -> str:
    """Iris as a CSV file, with the sensor's unit changed by a factor."""
    iris = load_bundled("iris")
    rows = iris.rows.copy()
    rows[:, iris.features.index(SENSOR)] *= factor
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*iris.features, "species"])
    names = iris.classes or ()
    writer.writerows([*row, names[label]] for row, label in zip(rows.round(4).tolist(), iris.target, strict=True))
    return text.getvalue()


def manifests(repository: Repository, image: str) -> dict[str, str]:
    """What is in git beside the artifacts: the service, and the CronJob that trains it again."""
    command = ["python", "-m", "aiops_training", "retrain", "--csv=/data/rows.csv", "--target=species"]
    command += [f"--git={repository.url}", f"--file={SERVICE}/inferenceservice.yaml", "--output=/tmp/artifacts"]
    container = {
        "name": "retrain",
        "image": image,
        "imagePullPolicy": "Never",
        "command": command,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - a volume
    }
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "data", "configMap": {"name": "iris-data"}}, {"name": "tmp", "emptyDir": {}}],
    }
    job = {"spec": {"backoffLimit": 0, "template": {"spec": pod}}}
    cron = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "iris-retrain"},
        "spec": {"schedule": "0 0 1 1 *", "suspend": True, "jobTemplate": job},
    }
    service = {
        "apiVersion": "aiops-quality.io/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": SERVICE},
        "spec": {
            "model": {"artifacts": {"configMap": {"name": "iris-artifacts"}}},
            "replicas": 2,
            "drift": {"onDrift": {"cronJobRef": {"name": "iris-retrain"}}},
        },
    }
    return {
        f"{SERVICE}/inferenceservice.yaml": yaml.safe_dump(service, sort_keys=False),
        f"{SERVICE}/retraining.yaml": yaml.safe_dump(cron, sort_keys=False),
    }


def application(repository: Repository) -> str:
    """The Application of the repository's folder."""
    return yaml.safe_dump(
        {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Application",
            "metadata": {"name": APPLICATION, "namespace": "argocd"},
            "spec": {
                "project": "default",
                "source": {"repoURL": repository.url, "targetRevision": "main", "path": SERVICE},
                "destination": {"server": "https://kubernetes.default.svc", "namespace": NAMESPACE},
                "syncPolicy": {
                    "automated": {"prune": True, "selfHeal": True},
                    "syncOptions": ["CreateNamespace=true", "ServerSideApply=true"],
                },
            },
        }
    )


def run(demo: Circle, cluster: LocalCluster) -> None:
    """All phases, in order.

    Raises:
        DemoError: something that the demo promises was not seen.
        LocalClusterError: the cluster, an image or Argo CD could not be had.
    """
    with demo.phase("Build three images: inference, operator, training"):
        tags = [images.build(ROOT / dockerfile, name, ROOT) for dockerfile, name in IMAGES]
    with demo.phase("Bring up Kubernetes and the operator"):
        cluster.up()
        inference, operator, trainer = map(cluster.load, tags)
        install(demo, inference, operator)
    health = yaml.safe_load((ROOT / "argocd" / "argocd-cm.yaml").read_text(encoding="utf-8"))["data"]
    with tempfile.TemporaryDirectory() as folder, served(Path(folder), cluster.host_address) as repository:
        with demo.phase("Train a model on iris, and commit it with its InferenceService"):
            (Path(folder) / "rows.csv").write_text(data(1.0), encoding="utf-8")
            output = Path(folder) / "artifacts"
            options = ["--csv", str(Path(folder) / "rows.csv"), "--target", "species", "--output", str(output)]
            if training([*options, "--configmap", "iris-artifacts"]) != 0:
                message = "training failed; its error is above"
                raise DemoError(message)
            artifacts = (output / "configmap.yaml").read_text(encoding="utf-8")
            repository.publish(manifests(repository, trainer) | {f"{SERVICE}/artifacts.yaml": artifacts}, "Serve iris")
        with argo_cd(cluster, health) as argo:
            circle(demo, repository, argo)


def install(demo: Circle, inference: str, operator: str) -> None:
    """The chart, with the operator only."""
    settings = [
        f"{key}.{part}={value}"
        for key, image in (("image", inference), ("operatorImage", operator))
        for part, value in zip(("repository", "tag"), image.rsplit(":", 1), strict=True)
    ]
    where = ["--namespace", SYSTEM, "upgrade", "--install", "aiops-quality", str(ROOT / "helm"), "--create-namespace"]
    flags = [flag for setting in settings for flag in ("--set-string", setting)]
    waiting = ["--set-json", "inferenceServices=[]", "--wait", "--timeout", f"{SECONDS}s"]
    demo.run("helm", [*where, *waiting, *flags], None)


def circle(demo: Circle, repository: Repository, argo: ArgoCD) -> None:
    """From the first sync to the end of the drift."""
    generator = np.random.default_rng(2026)
    iris = load_bundled("iris")

    def sample(factor: float) -> Rows:
        rows = iris.rows[generator.integers(0, len(iris.rows), ROWS)]
        rows[:, iris.features.index(SENSOR)] *= factor
        return rows

    with demo.phase("Argo CD syncs the repository; the service gets ready"):
        demo.run("kubectl", ["apply", "--filename", "-"], application(repository))
        demo.until("Synced and Healthy", lambda: demo.application().startswith("Synced Healthy"), demo.application)
        print(f"  application: {demo.application()}; last commit: {repository.last()}")
    with demo.phase(f"{ROWS} healthy rows"):
        demo.post(sample(1.0))
        demo.wait("DriftDetected", "False", SECONDS)
        demo.show()
    with demo.phase(f"The world changes: {SENSOR} arrives in millimeters from now on, and the new data say so, too"):
        fresh = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "iris-data"}}
        demo.kubectl("apply", "--filename", "-", stdin=yaml.safe_dump(fresh | {"data": {"rows.csv": data(UNIT_ERROR)}}))
        before = repository.last()
        demo.post(sample(UNIT_ERROR))
        demo.wait("DriftDetected", "True", SECONDS)
        demo.show()
        print(f"  application: {demo.application()}: drift is no difference to git")
    with demo.phase("The operator makes a Job, which trains, compares, and commits"):
        logs = ("logs", "--selector", "batch.kubernetes.io/job-name", "--tail", "40", "--prefix=false")
        demo.until("a commit of the Job", lambda: repository.last() != before, lambda: demo.kubectl(*logs))
        print("".join(f"    {line}\n" for line in demo.kubectl(*logs).splitlines()), end="")
        print(f"  commit: {repository.last()}")
    with demo.phase("Argo CD rolls the new model out"):
        old = str(dict(demo.status()["model"])["digest"])  # type: ignore[call-overload]
        argo.run("app", "get", APPLICATION, "--refresh")

        def rolled_out() -> bool:
            model = demo.status().get("model", {})
            return isinstance(model, dict) and model.get("digest") != old and model.get("loaded") == "2/2"

        demo.until("both pods with the new model", rolled_out, demo.application)
        demo.until("Synced and Healthy", lambda: demo.application().startswith("Synced Healthy"), demo.application)
        print(f"  application: {demo.application()}")
    with demo.phase("The same rows as before are what the new model was trained on: drift is over"):
        demo.post(sample(UNIT_ERROR))
        demo.wait("DriftDetected", "False", SECONDS)
        demo.show()
        demo.until("the Job's outcome", lambda: "Succeeded" in json.dumps(demo.status().get("retraining", {})))
        print(f"  status.retraining: {json.dumps(demo.status().get('retraining'))}")
    print(f"\nThe whole circle in {time.monotonic() - demo.started:.0f} s. Done looking: make demo-gitops-down")


def main() -> int:
    """Run the demo, or take it down."""
    options = argparse.ArgumentParser(prog="make demo-gitops", description=__doc__)
    options.add_argument("--down", action="store_true", help="remove what the demo made")
    chosen = options.parse_args()
    signal.signal(signal.SIGTERM, stop)
    os.chdir(ROOT)
    # A cluster of its own: the programs of Argo CD end with the demo, and `make demo` has its own objects.
    cluster = open_cluster("local", f"{default_instance().name}-loop")
    if not isinstance(cluster, LocalCluster):
        print("the demo of the whole circle needs CLUSTER=local", file=sys.stderr)
        return 2
    try:
        if chosen.down:
            cluster.down()
        else:
            run(Circle(cluster), cluster)
    except (DemoError, LocalClusterError) as error:
        print(f"\n✗ the demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; `make demo-gitops` begins anew, `make demo-gitops-down` cleans up", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
