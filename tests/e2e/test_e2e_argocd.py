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
from aiops_localcluster.errors import CommandError
from aiops_training import artifacts, configmap
from aiops_training.datasets import load_bundled
from aiops_training.model import fit

ROOT = Path(__file__).resolve().parents[2]
REST_SECONDS = float(os.environ.get("REST_SECONDS", "60"))
IRIS = load_bundled("iris")
GENERATOR = np.random.default_rng(5)
DEGRADED = {"aiops-quality.io/health-on-drift": "Degraded"}
CRD = "inferenceservices.aiops-quality.io"


class Repository:
    """A git repository with the chart, the Applications and the artifacts, as a team would have it."""

    def __init__(self, place: Path, image: str) -> None:
        self.place = place
        self._image = dict(zip(("repository", "tag"), image.rsplit(":", 1), strict=True))
        shutil.copytree(ROOT / "argocd", place / "argocd")
        shutil.copytree(ROOT / "helm", place / "helm", ignore=shutil.ignore_patterns("model_artifacts"))
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments):
        """Run git in it, and return what it printed."""
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false")
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=self.place, check=True, capture_output=True, text=True, timeout=60).stdout

    def train(self, name):
        """Artifacts of a bundled dataset, where the chart takes them from; the digest of its model."""
        files = trained(name)
        folder = self.place / "helm" / "model_artifacts"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for file, content in files.items():
            (folder / file).write_bytes(content)
        return "sha256:" + json.loads(files["manifest.json"])["files"]["model.skops"]["sha256"]

    def serve(self, *services):
        """What argocd/values.yaml asks for."""
        values = yaml.safe_load((ROOT / "argocd" / "values.yaml").read_text())
        values |= {"image": self._image, "inferenceServices": list(services)}
        (self.place / "argocd" / "values.yaml").write_text(yaml.safe_dump(values))

    def write(self, path, *documents):
        """Manifests."""
        (self.place / path).parent.mkdir(parents=True, exist_ok=True)
        (self.place / path).write_text(yaml.safe_dump_all(documents))

    def commit(self, message):
        """All that has changed; the commit's hash."""
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", f"--message={message}")
        return self.git("rev-parse", "HEAD").strip()


class Application:
    """An Application in the cluster."""

    def __init__(self, world, name) -> None:
        self.world, self.name = world, name

    def kubectl(self, *arguments):
        """Run kubectl in Argo CD's namespace."""
        return self.world.run("kubectl", "--namespace=argocd", *arguments)

    def get(self):
        """As Argo CD has it."""
        return json.loads(self.kubectl("get", "application", self.name, "--output=json"))

    def refresh(self):
        """Look at git now, as a webhook of the forge makes it."""
        refresh = "argocd.argoproj.io/refresh=normal"
        self.kubectl("annotate", "application", self.name, "--overwrite", refresh)

    def wait(self, health, revision, seconds=180):
        """Wait until a commit is synced, and its health is this."""

        def seen():
            status = self.get().get("status", {})
            return (
                status.get("sync", {}).get("status"),
                status.get("sync", {}).get("revision"),
                status.get("health", {}).get("status"),
            )

        until(seen, lambda found: found == ("Synced", revision, health), seconds, lambda: str(self.get()), every=0.3)

    def health(self, kind="InferenceService"):
        """Status and message of the only resource of a kind."""
        (found,) = [entry for entry in self.get()["status"]["resources"] if entry["kind"] == kind]
        return found["health"]["status"], found["health"].get("message", "")

    def last_sync(self):
        """When the last operation began."""
        return self.get()["status"]["operationState"]["startedAt"]

    def delete(self):
        """With what it has made."""
        self.kubectl("delete", "application", self.name, "--timeout=120s")


def trained(name):
    """Artifacts of a bundled dataset by file name."""
    dataset = load_bundled(name)
    return artifacts.build(dataset, *fit(dataset))


def rows(count, factor=1.0):
    """Real iris rows, shuffled; the petal length in another unit by a factor."""
    chosen = IRIS.rows[GENERATOR.integers(0, len(IRIS.rows), count)]
    chosen[:, IRIS.features.index("petal length (cm)")] *= factor
    return chosen.round(3).tolist()


def entry(annotations=None, name="aiops-quality", **spec):
    """A service in argocd/values.yaml."""
    return {"name": name, "annotations": annotations or {}, "spec": spec}


def applied(world, file, repository, change):
    """An Application of argocd/, of this repository."""
    document = yaml.safe_load((ROOT / "argocd" / file).read_text())
    document["spec"]["source"]["repoURL"] = f"file://{repository.place}"
    change(document["spec"])
    world.run("kubectl", "apply", "--filename=-", stdin=yaml.safe_dump(document))
    return Application(world, document["metadata"]["name"])


@pytest.fixture(scope="module")
def argo(world):
    """Argo CD, told our health script as docs/gitops.md says."""
    with argo_cd(world.cluster) as running:
        world.run("kubectl", "apply", "--server-side", f"--filename={ROOT / 'argocd' / 'argocd-cm.yaml'}")
        yield running
    world.run("kubectl", "delete", "namespace", "argocd", "--wait=false")


@pytest.fixture
def repository(world, tmp_path):
    """A repository of the test's own."""
    place = tmp_path / "repository"
    place.mkdir()
    return Repository(place, world.inference_image)


@pytest.fixture
def iris(argo, repository, namespace):  # noqa: ARG001 - it has to run
    """Iris as argocd/application.yaml serves it, rolled out: the Application, and the digest of the model."""
    digest = repository.train("iris")
    repository.serve(entry(replicas=1))
    revision = repository.commit("Serve iris")
    application = applied(
        namespace.world,
        "application.yaml",
        repository,
        lambda spec: spec["destination"].update(namespace=namespace.name),
    )
    try:
        application.wait("Healthy", revision)
        yield application, digest
    finally:
        application.delete()


def versions(namespace):
    """What has been written when, of all that belongs to a service."""
    kinds = "inferenceservices,deployments,replicasets,pods,services,configmaps,poddisruptionbudgets"
    return {
        f"{each['kind']}/{each['metadata']['name']}": each["metadata"]["resourceVersion"]
        for each in namespace.get(kinds)["items"]
    }


def after(namespace, before, seconds):
    """What there is when some seconds are over, or as soon as it is not what it was before."""
    deadline = time.monotonic() + seconds

    def over(now):
        return now != before or time.monotonic() > deadline

    return until(lambda: versions(namespace), over, seconds + 30, every=1.0)


def settled(namespace):
    """What there is, if it has not changed for ten seconds: the operator asks the pods every two."""
    before = versions(namespace)
    return before if after(namespace, before, 10) == before else None


def synced_by_hand(argo):
    """What `argocd app sync` says; nothing where it is refused, because Argo CD syncs by itself at this moment."""
    try:
        return argo.run("app", "sync", "aiops-quality")
    except CommandError as error:
        if "another operation is already in progress" not in str(error):
            raise
        return ""


def test_new_artifacts_in_git_are_rolled_out(argo, iris, repository, namespace, measured):
    """Synced and Healthy; a commit with another model is served; `argocd app sync` does it at once."""
    application, first = iris
    assert first == until(lambda: namespace.loaded("aiops-quality"))
    assert [] == application.get()["status"].get("conditions", [])
    assert {"InferenceService", "ConfigMap"} == {each["kind"] for each in application.get()["status"]["resources"]}

    second = repository.train("wine")
    revision = repository.commit("Serve wine")
    started = time.monotonic()
    application.refresh()
    until(lambda: namespace.loaded("aiops-quality"), lambda seen: seen == second, 180, every=0.3)
    measured["Argo CD: seconds from the commit to pods with the new model"] = round(time.monotonic() - started, 1)
    application.wait("Healthy", revision)

    third = repository.train("iris")
    revision = repository.commit("Serve iris again")
    said = until(lambda: synced_by_hand(argo))
    assert (True, True) == (revision in said, "Phase:              Succeeded" in said)
    argo.run("app", "wait", "aiops-quality", "--health", "--timeout", "120")
    assert (first, first) == (third, until(lambda: namespace.loaded("aiops-quality"), lambda seen: seen == first))


def test_drift_is_no_difference_to_git(iris, repository, namespace):
    """Drift leaves it Synced and Healthy, with a message and without a sync; Degraded where the resource asks for it."""
    application, _ = iris
    synced = application.last_sync()
    namespace.send("aiops-quality", rows(300, factor=10), per_request=30)
    drift = namespace.wait("aiops-quality", "DriftDetected", "True")
    application.refresh()
    until(application.health, lambda seen: seen[1].startswith("Drift: The rows of all pods"), 120, every=0.3)
    assert "petal length (cm)" in drift["message"]
    assert ("Healthy", "Synced", synced) == (
        application.health()[0],
        application.get()["status"]["sync"]["status"],
        application.last_sync(),
    )

    pods = [pod["metadata"]["uid"] for pod in namespace.pods("aiops-quality")]
    repository.serve(entry(DEGRADED, replicas=1))
    revision = repository.commit("Drift counts")
    application.refresh()
    application.wait("Degraded", revision)
    assert "Drift: " in application.health()[1]

    episode = namespace.get("infs", "aiops-quality")["status"]["drift"]["episode"]
    repository.serve(entry(DEGRADED, replicas=1, drift={"acknowledgedEpisode": episode}))
    revision = repository.commit("Accept the drift")
    application.refresh()
    application.wait("Healthy", revision)
    assert pods == [pod["metadata"]["uid"] for pod in namespace.pods("aiops-quality")]


def test_an_edit_by_hand_is_healed(iris, namespace, measured):
    """What is changed or deleted by hand is as git has it again: the resource by Argo CD, its children by the operator."""
    application, _ = iris
    started = time.monotonic()
    namespace.kubectl("patch", "infs", "aiops-quality", "--type=merge", "--patch", '{"spec":{"replicas":2}}')
    until(lambda: namespace.get("infs", "aiops-quality")["spec"]["replicas"], lambda seen: seen == 1, 120)
    measured["Argo CD: seconds until an edit by hand is undone"] = round(time.monotonic() - started, 1)

    synced = application.last_sync()
    namespace.kubectl("scale", "deployment/aiops-quality", "--replicas=2")
    until(lambda: namespace.get("deployment", "aiops-quality")["spec"]["replicas"], lambda seen: seen == 1, 120)
    assert synced == application.last_sync()

    uid = namespace.get("infs", "aiops-quality")["metadata"]["uid"]
    namespace.kubectl("delete", "infs", "aiops-quality")
    until(
        lambda: namespace.kubectl("get", "infs", "--output=jsonpath={.items[*].metadata.uid}"),
        lambda seen: seen not in {"", uid},
        120,
    )
    application.wait("Healthy", application.get()["status"]["sync"]["revision"])
    namespace.wait("aiops-quality", "Ready", "True")


def test_nobody_writes_at_rest(iris, namespace, measured):
    """Over many resyncs of Argo CD's and the operator's (5 s each) no version moves; REST_SECONDS says for how long."""
    application, _ = iris
    namespace.send("aiops-quality", rows(100), per_request=25)
    namespace.wait("aiops-quality", "DriftDetected", "False")
    namespace.wait("aiops-quality", "DataQuality", "True")  # Great Expectations come a moment later
    before = until(lambda: settled(namespace), bool, 180)
    compared, synced = application.get()["status"]["reconciledAt"], application.last_sync()

    changed = after(namespace, before, REST_SECONDS).items() ^ before.items()
    assert set() == changed
    assert synced == application.last_sync()
    assert compared < application.get()["status"]["reconciledAt"]
    measured["Argo CD: seconds at rest without a write"] = REST_SECONDS


def test_a_bad_model_is_degraded_and_the_old_pods_serve(iris, repository, namespace):
    """A digest that no file has: Synced, Degraded with the reason; what was served is served; a revert heals it."""
    application, digest = iris
    repository.serve(entry(replicas=1, model={"sha256": "0" * 64}))
    revision = repository.commit("Serve another model")
    application.refresh()
    application.wait("Degraded", revision)

    assert "DigestMismatch" in application.health()[1] or "RolledBack" in application.health()[1]
    assert "True" == namespace.condition("aiops-quality", "Available")["status"]
    assert [0, 2] == namespace.predict("aiops-quality", [[5.1, 3.5, 1.4, 0.2], [6.5, 3.0, 5.5, 1.8]])["predictions"]

    repository.git("revert", "--no-edit", "HEAD")
    application.refresh()
    application.wait("Healthy", repository.git("rev-parse", "HEAD").strip())
    assert digest == until(lambda: namespace.loaded("aiops-quality"))


def test_what_is_taken_out_of_git_goes(iris, repository, namespace):
    """The service, its artifacts, and with them all that the operator made; an empty list is not believed."""
    application, _ = iris
    repository.serve(entry(name="other", replicas=0))
    revision = repository.commit("Serve another one")
    application.refresh()
    application.wait("Healthy", revision)
    kinds = "inferenceservices,deployments,pods,services,configmaps"
    until(
        lambda: namespace.kubectl("get", kinds, "--output=name").split(),
        lambda seen: not [name for name in seen if "/aiops-quality" in name],
        90,
    )

    repository.serve()
    repository.commit("Serve nothing")
    application.refresh()
    until(
        lambda: [each["message"] for each in application.get()["status"].get("conditions", [])],
        lambda seen: any("wipe out all resources" in message for message in seen),
    )
    assert namespace.get("infs", "other")


@pytest.mark.usefixtures("argo")
def test_the_operator_is_an_application_of_its_own(world, repository, namespace):
    """It comes up, and when it goes the CRD and with it all services stay."""
    revision = repository.commit("The chart")
    inference, operator = (image.rsplit(":", 1) for image in (world.inference_image, world.operator_image))

    def change(spec):
        spec["destination"]["namespace"] = namespace.name
        spec["source"]["helm"]["valuesObject"] |= {
            "image": {"repository": inference[0], "tag": inference[1]},
            "operatorImage": {"repository": operator[0], "tag": operator[1]},
            "watchNamespaces": [namespace.name],  # the tests have an operator for the other ones
        }

    before = world.run("kubectl", "get", "crd", CRD, "--output=jsonpath={.metadata.uid}")
    application = applied(world, "operator.yaml", repository, change)
    application.wait("Healthy", revision)
    resources = {(each["kind"], each["name"]) for each in application.get()["status"]["resources"]}
    assert {("CustomResourceDefinition", CRD), ("Deployment", "aiops-quality-operator")} <= resources
    assert "InferenceService" not in {kind for kind, _ in resources}
    application.delete()

    until(lambda: namespace.kubectl("get", "deployments", "--output=name"), lambda seen: seen == "")
    assert before == world.run("kubectl", "get", "crd", CRD, "--output=jsonpath={.metadata.uid}")


@pytest.mark.usefixtures("argo")
def test_a_folder_of_the_application_set_is_a_namespace(world, repository):
    """Each folder under services/ becomes an Application that serves; one that is removed goes with all it had."""
    image = {"image": world.inference_image, "imagePullPolicy": "IfNotPresent"}
    files = yaml.safe_load(configmap.manifest("iris-artifacts", trained("iris")))
    service = yaml.safe_load((ROOT / "examples" / "iris-configmap.yaml").read_text())
    service["spec"] |= image | {"replicas": 1}
    for folder in ("argocd-set-a", "argocd-set-b"):
        repository.write(f"services/{folder}/iris.yaml", files, service)
    revision = repository.commit("Two teams")
    document = yaml.safe_load((ROOT / "argocd" / "applicationset.yaml").read_text())
    document["spec"]["generators"][0]["git"] |= {"repoURL": f"file://{repository.place}", "requeueAfterSeconds": 1}
    document["spec"]["template"]["spec"]["source"]["repoURL"] = f"file://{repository.place}"
    world.run("kubectl", "apply", "--filename=-", stdin=yaml.safe_dump(document))

    def applications():
        return world.run("kubectl", "--namespace=argocd", "get", "applications", "--output=name").split()

    both = {f"application.argoproj.io/services-argocd-set-{letter}" for letter in "ab"}
    until(applications, lambda seen: both <= set(seen), 120)
    for letter in "ab":
        Application(world, f"services-argocd-set-{letter}").wait("Healthy", revision)

    repository.git("rm", "-r", "--quiet", "services/argocd-set-b")
    repository.commit("One team less")
    until(applications, lambda seen: "application.argoproj.io/services-argocd-set-b" not in seen, 180)
    assert "" == world.run("kubectl", "--namespace=argocd-set-b", "get", "infs", "--output=name")
    assert "True" in world.run("kubectl", "--namespace=argocd-set-a", "get", "infs", "iris", "--no-headers")
    world.run("kubectl", "--namespace=argocd", "delete", "applicationset", "aiops-quality-services", "--timeout=60s")
    until(applications, lambda seen: not both & set(seen), 180)
    world.run("kubectl", "delete", "namespace", "argocd-set-a", "argocd-set-b", "--wait=false")
