"""A real Argo CD and a git repository: what is committed is served, and drift is no difference to git."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from waiting import until

from aiops_localcluster import argo_cd
from aiops_training import artifacts
from aiops_training.datasets import load_bundled
from aiops_training.model import fit

ROOT = Path(__file__).resolve().parents[2]
REST_SECONDS = float(os.environ.get("REST_SECONDS", "30"))
NAMESPACE = "argocd-models"
IRIS = load_bundled("iris")
ROWS = IRIS.rows[np.random.default_rng(5).integers(0, len(IRIS.rows), 200)].round(3)


class Repository:
    """A git repository with the chart, the Applications and the artifacts, as a team would have it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        shutil.copytree(ROOT / "argocd", place / "argocd")
        shutil.copytree(ROOT / "helm", place / "helm", ignore=shutil.ignore_patterns("model_artifacts"))
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments):
        """Run git in it."""
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *arguments], cwd=self.place, check=True, capture_output=True, timeout=60)

    def train(self, name):
        """Artifacts of a bundled dataset, where the chart takes them from; the digest of its model."""
        dataset = load_bundled(name)
        files = artifacts.build(dataset, *fit(dataset))
        folder = self.place / "helm" / "model_artifacts"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for file, content in files.items():
            (folder / file).write_bytes(content)
        return "sha256:" + json.loads(files["manifest.json"])["files"]["model.skops"]["sha256"]

    def values(self, image, services):
        """What argocd/values.yaml asks for."""
        repository, _, tag = image.rpartition(":")
        document = {
            "operator": {"enabled": False},
            "image": {"repository": repository, "tag": tag},
            "inferenceServices": services,
        }
        (self.place / "argocd" / "values.yaml").write_text(yaml.safe_dump(document))

    def commit(self, message):
        """All that has changed."""
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", f"--message={message}")


class Application:
    """An Application of argocd/, of this repository."""

    def __init__(self, world, name, file, repository, **changes):
        document = yaml.safe_load((ROOT / "argocd" / file).read_text())
        document["spec"]["source"]["repoURL"] = f"file://{repository.place}"
        document["spec"]["destination"]["namespace"] = changes.pop("namespace")
        document["spec"]["source"]["helm"] |= changes
        self.world, self.name = world, name
        world.run("kubectl", "apply", "--server-side", "--filename=-", stdin=yaml.safe_dump(document))

    def get(self):
        """The Application as Argo CD has it."""
        command = ("kubectl", "--namespace=argocd", "get", "application", self.name, "--output=json")
        return json.loads(self.world.run(*command))

    def refresh(self):
        """Look at git now; by itself it does every few minutes."""
        now = "argocd.argoproj.io/refresh=normal"
        self.world.run("kubectl", "--namespace=argocd", "annotate", "application", self.name, "--overwrite", now)

    def is_now(self, sync, health, seconds=120):
        """Wait until it is, and return it."""

        def seen(found):
            status = found.get("status", {})
            return (sync, health) == (
                status.get("sync", {}).get("status"),
                status.get("health", {}).get("status"),
            )

        return until(self.get, seen, seconds, every=0.3)

    def health_of(self, kind):
        """Status and message of the only resource of a kind."""
        found = [entry for entry in self.get()["status"]["resources"] if entry["kind"] == kind]
        return found[0]["health"]["status"], found[0]["health"].get("message", "")


@pytest.fixture(scope="module")
def argo(world):
    """Argo CD with our health script."""
    config = yaml.safe_load((ROOT / "argocd" / "argocd-cm.yaml").read_text())
    with argo_cd(world.cluster, config["data"]) as running:
        yield running
    world.run("kubectl", "delete", "namespace", "argocd", "--wait=false")


@pytest.fixture
def repository(tmp_path):
    """A repository of the test's own."""
    place = tmp_path / "repository"
    place.mkdir()
    return Repository(place)


def get(world, kind, name, namespace=NAMESPACE):
    """An object."""
    return json.loads(world.run("kubectl", f"--namespace={namespace}", "get", kind, name, "--output=json"))


def send(world, rows):
    """Rows to the service, through the API server."""
    path = f"/api/v1/namespaces/{NAMESPACE}/services/aiops-quality:http/proxy/predict"
    for start in range(0, len(rows), 20):
        body = json.dumps({"inputs": rows[start : start + 20].tolist()})
        world.run("kubectl", "create", "--raw", path, "--filename=-", stdin=body)


def digest(world):
    """Of the model that all pods have loaded."""
    model = get(world, "inferenceservice", "aiops-quality")["status"].get("model", {})
    return model.get("digest") if model.get("loaded") == "1/1" else None


def versions(world):
    """What is written when."""
    kinds = "inferenceservices,deployments,services,configmaps,replicasets,pods"
    listed = json.loads(world.run("kubectl", f"--namespace={NAMESPACE}", "get", kinds, "--output=json"))["items"]
    return {f"{e['kind']}/{e['metadata']['name']}": e["metadata"]["resourceVersion"] for e in listed}


def test_what_is_committed_is_served(world, argo, repository, measured):
    """Synced and healthy; drift is told and no difference; an edit by hand is healed; new, bad and removed models."""
    first = repository.train("iris")
    service = {"name": "aiops-quality", "spec": {"replicas": 1}}
    repository.values(world.inference_image, [service])
    repository.commit("Serve iris")
    started = time.monotonic()
    application = Application(world, "aiops-quality", "application.yaml", repository, namespace=NAMESPACE)
    application.is_now("Synced", "Healthy")
    measured["seconds from the Application to Synced and Healthy"] = round(time.monotonic() - started, 1)
    assert first == until(lambda: digest(world))

    # Drift is a fact about the data, not about git.
    send(world, ROWS * 10)
    until(lambda: application.health_of("InferenceService"), lambda seen: seen[1].startswith("Drift: "), 60)
    application.refresh()
    assert "Healthy" == application.health_of("InferenceService")[0]
    application.is_now("Synced", "Healthy")

    # An edit by hand is undone, and nobody writes when nothing happens.
    world.run("kubectl", f"--namespace={NAMESPACE}", "scale", "infs/aiops-quality", "--replicas=2")
    until(lambda: get(world, "inferenceservice", "aiops-quality")["spec"]["replicas"], lambda seen: seen == 1, 60)
    send(world, ROWS)
    send(world, ROWS)
    ready = until(application.get, lambda seen: seen["status"]["health"]["status"] == "Healthy", 60)
    assert "Synced" == ready["status"]["sync"]["status"]
    quiet = until(lambda: still(world), bool, 90)
    rest(lambda: versions(world), quiet)

    # New artifacts.
    second = repository.train("wine")
    repository.commit("Serve wine")
    started = time.monotonic()
    application.refresh()
    until(lambda: digest(world), lambda seen: seen == second, 120)
    measured["seconds from the commit to pods with the new model"] = round(time.monotonic() - started, 1)
    application.is_now("Synced", "Healthy")

    # A model that is not the one that was asked for: the old pods go on.
    bad = {"name": "aiops-quality", "spec": {"replicas": 1, "model": {"sha256": "0" * 64}}}
    repository.values(world.inference_image, [bad])
    repository.commit("Serve another model")
    application.refresh()
    application.is_now("Synced", "Degraded")
    assert "DigestMismatch" in application.health_of("InferenceService")[1]
    conditions = get(world, "inferenceservice", "aiops-quality")["status"]["conditions"]
    assert "True" == next(entry["status"] for entry in conditions if entry["type"] == "Available")
    repository.git("revert", "--no-edit", "HEAD")
    application.refresh()
    application.is_now("Synced", "Healthy")

    assert "aiops-quality" in argo.run("app", "sync", "aiops-quality")  # the seed's command

    # What is taken out of git goes.
    repository.values(world.inference_image, [])
    repository.commit("Serve nothing")
    application.refresh()
    until(
        lambda: "aiops-quality" not in world.run("kubectl", f"--namespace={NAMESPACE}", "get", "infs,deployments"),
        bool,
        60,
    )
    world.run("kubectl", "--namespace=argocd", "delete", "application", "aiops-quality", "--timeout=60s")
    world.run("kubectl", "delete", "namespace", NAMESPACE, "--wait=false")


def still(world):
    """What there is, if two looks with a second between them see the same."""
    before = versions(world)
    deadline = time.monotonic() + 3
    until(lambda: time.monotonic() > deadline, bool, 10)
    return before if before == versions(world) else None


def rest(look, expected):
    """Nothing changes for a while."""
    deadline = time.monotonic() + REST_SECONDS
    while time.monotonic() < deadline:
        assert expected == look()


@pytest.mark.usefixtures("argo")
def test_the_operator_is_an_application_of_its_own(world, repository):
    """It comes up, and when it goes the CRD and with it all services stay."""
    repository.commit("The chart")
    inference, operator = (image.rpartition(":") for image in (world.inference_image, world.operator_image))
    values = {
        "image": {"repository": inference[0], "tag": inference[2]},
        "operatorImage": {"repository": operator[0], "tag": operator[2]},
        "inferenceServices": [],
        "watchNamespaces": ["argocd-system"],  # the tests have an operator for the other ones
    }
    application = Application(
        *(world, "aiops-quality-operator", "operator.yaml", repository), namespace="argocd-system", valuesObject=values
    )
    application.is_now("Synced", "Healthy")
    resources = {(entry["kind"], entry["name"]) for entry in application.get()["status"]["resources"]}
    assert ("CustomResourceDefinition", "inferenceservices.aiops-quality.io") in resources
    uid = "--output=jsonpath={.metadata.uid}"
    before = world.run("kubectl", "get", "crd", "inferenceservices.aiops-quality.io", uid)
    world.run("kubectl", "--namespace=argocd", "delete", "application", application.name, "--timeout=60s")
    assert "" == world.run("kubectl", "--namespace=argocd-system", "get", "deployments", "--output=name")
    assert before == world.run("kubectl", "get", "crd", "inferenceservices.aiops-quality.io", uid)
    world.run("kubectl", "delete", "namespace", "argocd-system", "--wait=false")
