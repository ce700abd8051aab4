"""Installing and uninstalling on a real API server; no node, so that nothing runs."""

import json
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from waiting import until

from aiops_localcluster import control_plane
from aiops_localcluster.binaries import ensure

ROOT = Path(__file__).resolve().parents[3]
CLUSTER_NAME = "aiops-quality-operator-a2cf1094"  # the digits: SHA-256 of models/aiops-quality
KINDS = (
    "deployments,services,serviceaccounts,configmaps,secrets,inferenceservices.aiops-quality.io,roles,rolebindings,"
    "clusterroles,clusterrolebindings"
)

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def kubeconfig() -> Iterator[Path]:
    """A control plane of this file's own: its CRD comes from the chart alone."""
    with control_plane() as running:
        yield running.kubeconfig


@pytest.fixture(scope="module")
def kubectl(kubeconfig) -> Run:
    """Runs kubectl; raises when it fails."""
    program = ensure("kubectl")["kubectl"]

    def run(*arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        command = [str(program), "--kubeconfig", str(kubeconfig), *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True, timeout=60)

    return run


@pytest.fixture
def installer(helm, kubeconfig, kubectl) -> Iterator[Run]:
    """Runs Helm on the cluster, in the namespace models, which is without releases and without the CRD again at the end."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        done = helm("--kubeconfig", str(kubeconfig), "--namespace", "models", *arguments)
        assert done.returncode == 0, done.stderr
        return done

    yield run
    for release in json.loads(run("list", "--output", "json").stdout):
        run("uninstall", release["name"])
    kubectl("delete", "crd", "--ignore-not-found", "inferenceservices.aiops-quality.io")


def ours(kubectl) -> set[str]:
    """Every object that was not there before: kind and name."""
    listed = kubectl("get", KINDS, "--all-namespaces", "--output", "name").stdout.split()
    return {name for name in listed if "aiops-quality" in name.partition("/")[2] or name.startswith("inferenceservice")}


def test_install_and_uninstall(installer, kubectl, chart) -> None:
    """All objects appear; uninstalling leaves the CRD, which Helm never removes, and nothing else."""
    image = ("--set", "image.repository=example.com/aiops-quality", "--set", "image.tag=1")

    notes = installer("install", "aiops-quality", str(chart), "--create-namespace", *image).stdout
    installed = ours(kubectl)
    service = json.loads(kubectl("-n", "models", "get", "infs", "aiops-quality", "-o", "json").stdout)
    installer("uninstall", "aiops-quality", "--wait")
    left = ours(kubectl)
    crds = kubectl("get", "crd", "--output", "name").stdout.split()

    assert installed == {
        "serviceaccount/aiops-quality-operator",
        f"clusterrole.rbac.authorization.k8s.io/{CLUSTER_NAME}",
        f"clusterrolebinding.rbac.authorization.k8s.io/{CLUSTER_NAME}",
        "role.rbac.authorization.k8s.io/aiops-quality-operator-lease",
        "rolebinding.rbac.authorization.k8s.io/aiops-quality-operator-lease",
        "service/aiops-quality-operator",
        "deployment.apps/aiops-quality-operator",
        "configmap/aiops-quality-artifacts",
        "inferenceservice.aiops-quality.io/aiops-quality",
        "secret/sh.helm.release.v1.aiops-quality.v1",
    }
    assert service["status"]["conditions"][0]["reason"] == "WaitingForOperator"
    assert (left, crds) == (set(), ["customresourcedefinition.apiextensions.k8s.io/inferenceservices.aiops-quality.io"])
    for line in (
        "kubectl -n models get inferenceservices.aiops-quality.io",
        "kubectl -n models port-forward svc/aiops-quality 8000:80",
        "kubectl apply --server-side --force-conflicts -f helm/crds/inferenceservice.yaml",
        "kubectl delete customresourcedefinition inferenceservices.aiops-quality.io",
    ):
        assert f"  {line}\n" in f"{notes}\n"


def test_the_operators_rights_are_those_of_its_role(installer, kubectl, chart) -> None:
    """The API server grants what the operator needs to its ServiceAccount, and refuses Secrets and the spec."""
    installer("install", "aiops-quality", str(chart), "--create-namespace")
    account = "--as=system:serviceaccount:models:aiops-quality-operator"
    # The authorizer hears of the roles a moment later.
    until(lambda: granted(kubectl, account, "patch", "deployments.apps", "-n", "default"))

    answers = {
        question: granted(kubectl, account, *question.split())
        for question in (
            "patch deployments.apps -n default",
            "create events -n default",
            "patch inferenceservices.aiops-quality.io --subresource=status -n default",
            "patch inferenceservices.aiops-quality.io -n default",
            "delete inferenceservices.aiops-quality.io -n default",
            "get secrets -n default",
            "create pods --subresource=exec -n default",
            "create clusterroles.rbac.authorization.k8s.io",
        )
    }

    assert list(answers.values()) == [True, True, True, False, False, False, False, False]


def granted(kubectl, *question: str) -> bool:
    """What `kubectl auth can-i` answers."""
    try:
        return bool(kubectl("auth", "can-i", *question).stdout.strip() == "yes")
    except subprocess.CalledProcessError as answer:
        if answer.stdout.strip() == "no":
            return False
        raise


def test_a_restricted_namespace_admits_the_operator(installer, kubectl, bare_chart) -> None:
    """With the restricted Pod Security Standard enforced the operator's pod is made, without a warning."""
    kubectl("create", "namespace", "restricted")
    kubectl("label", "namespace", "restricted", "pod-security.kubernetes.io/enforce=restricted")
    installer("install", "aiops-quality", str(bare_chart), "--create-namespace", "--set-json", "inferenceServices=[]")
    template = json.loads(
        kubectl("-n", "models", "get", "deployment", "aiops-quality-operator", "-o", "jsonpath={.spec.template}").stdout
    )
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "operator"},
        "spec": template["spec"] | {"serviceAccountName": "default", "serviceAccount": "default"},
    }
    kubectl("-n", "restricted", "wait", "--for=create", "--timeout=30s", "serviceaccount/default")

    created = kubectl("-n", "restricted", "create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))

    assert (created.stdout, created.stderr) == ("pod/operator created (server dry run)\n", "")


def test_a_namespaced_operator_sees_its_namespaces_alone(installer, kubectl, bare_chart) -> None:
    """With watchNamespaces its rights end at them."""
    kubectl("create", "namespace", "fraud")
    installer(
        *("install", "aiops-quality", str(bare_chart), "--create-namespace"),
        *("--set-json", "inferenceServices=[]", "--set", "watchNamespaces={fraud}"),
    )
    account = "--as=system:serviceaccount:models:aiops-quality-operator"
    until(lambda: granted(kubectl, account, "patch", "deployments.apps", "-n", "fraud"))

    assert [
        granted(kubectl, account, "patch", "deployments.apps", "-n", namespace) for namespace in ("fraud", "default")
    ] == [True, False]


def test_an_upgrade_keeps_the_crd_as_it_is(installer, kubectl, chart, tmp_path) -> None:
    """Helm does not upgrade a CRD; the line in the notes does, and takes the fields over."""
    crd = yaml.safe_load((ROOT / "crds" / "inferenceservice.yaml").read_text(encoding="utf-8"))
    crd["spec"]["names"]["shortNames"] = ["infs", "infsvc"]
    newer = tmp_path / "crd.yaml"
    newer.write_text(yaml.safe_dump(crd), encoding="utf-8")
    names = ("get", "crd", "inferenceservices.aiops-quality.io", "--output", "jsonpath={.spec.names.shortNames}")
    installer("install", "aiops-quality", str(chart), "--create-namespace")

    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(newer))
    upgraded = kubectl(*names).stdout
    installer("upgrade", "aiops-quality", str(chart), "--set", "inferenceServices[0].spec.replicas=2")
    kept = kubectl(*names).stdout

    assert (upgraded, kept) == ('["infs","infsvc"]',) * 2
    replicas = kubectl("-n", "models", "get", "infs", "aiops-quality", "-o", "jsonpath={.spec.replicas}").stdout
    assert replicas == "2"


def test_the_largest_artifacts_fit_into_a_release(installer, chart, tmp_path) -> None:
    """Bytes that do not compress, up to the default of artifactsMaxKiB, install."""
    full = tmp_path / "helm"
    shutil.copytree(chart, full)
    files = full / "model_artifacts"
    others = sum(path.stat().st_size for path in files.iterdir() if path.name != "model.pkl")
    (files / "model.pkl").write_bytes(random.Random(1).randbytes(330 * 1024 - others))  # noqa: S311 - not a secret

    assert "STATUS: deployed" in installer("install", "aiops-quality", str(full), "--create-namespace").stdout
