"""Every manifest that is shipped, by kubeconform: of built-in kinds, of ours, and of Prometheus' and Argo CD's operators."""

import json
import subprocess
from pathlib import Path

import manifestschemas
import pytest
import yaml

from aiops_localcluster.binaries import ensure, module_folder
from aiops_localcluster.commands import output

ROOT = Path(__file__).resolve().parents[3]
MANIFESTS = [
    path
    for folder in ("argocd", "examples")
    for path in sorted((ROOT / folder).glob("*.yaml"))
    if path.name != "values.yaml"
]


def crds():
    """Files with the kinds that no API server brings."""
    argo = module_folder("argocd") / "manifests" / "crds"
    prometheus = module_folder("prometheus-config-reloader") / "example" / "prometheus-operator-crd"
    return [
        ROOT / "crds" / "inferenceservice.yaml",
        *(argo / f"{kind}-crd.yaml" for kind in ("application", "applicationset")),
        *(prometheus / f"monitoring.coreos.com_{kind}.yaml" for kind in ("podmonitors", "prometheusrules")),
    ]


@pytest.fixture(scope="module")
def verdicts(cluster, tmp_path_factory):
    """What kubeconform says of each manifest of a text: kind, name, and why it is refused, if it is."""
    programs = ensure("kubeconform", "kubectl")
    kubectl = [programs["kubectl"], f"--kubeconfig={cluster.kubeconfig}"]
    folder = tmp_path_factory.mktemp("schemas")
    openapi = json.loads(output([*kubectl, "get", "--raw=/openapi/v2"]))
    manifestschemas.write(folder, openapi, (yaml.safe_load(path.read_text()) for path in crds()))
    command = [programs["kubeconform"], "-strict", "-verbose", "-output=json", "-schema-location"]
    command.append(folder / manifestschemas.LOCATION)

    def run(text):
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
        assert "" == done.stderr
        return sorted((found["kind"], found["name"], found["msg"]) for found in json.loads(done.stdout)["resources"])

    return run


def accepted(text):
    """What kubeconform says when it takes all."""
    return sorted((found["kind"], found["metadata"]["name"], "") for found in yaml.safe_load_all(text) if found)


def test_what_the_chart_renders_is_accepted(verdicts, render):
    """Each set of values under renders/."""
    assert accepted(render) == verdicts(render)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_people_apply_is_accepted(verdicts, path):
    """Examples, and Applications of Argo CD."""
    text = path.read_text()
    assert accepted(text) == verdicts(text)


@pytest.mark.parametrize(
    ("kind", "fields", "misspelt"),
    [
        ("v1 Service", {"spec": {"ports": [{"port": 80, "tragetPort": 8000}]}}, "tragetPort"),
        ("apps/v1 Deployment", {"metadata": {"name": "a", "lables": {}}}, "lables"),
        ("aiops-quality.io/v1alpha1 InferenceService", {"spec": {"model": {}, "drift": {"webhok": {}}}}, "webhok"),
        ("aiops-quality.io/v1alpha1 InferenceService", {"metadata": {"name": "a", "anotations": {}}}, "anotations"),
        (
            "monitoring.coreos.com/v1 PodMonitor",
            {"spec": {"selector": {}, "podMetricsEndpoint": []}},
            "podMetricsEndpoint",
        ),
        ("monitoring.coreos.com/v1 PrometheusRule", {"spec": {"groups": [{"name": "a", "rule": []}]}}, "rule"),
        ("argoproj.io/v1alpha1 Application", {"spec": {"project": "a", "syncPolcy": {}}}, "syncPolcy"),
    ],
)
def test_a_misspelt_field_is_refused(verdicts, kind, fields, misspelt):
    """In each group of kinds, in metadata and below the spec."""
    version, name = kind.split()
    manifest = {"apiVersion": version, "kind": name, "metadata": {"name": "a"}} | fields
    ((_, _, said),) = verdicts(yaml.safe_dump(manifest))

    assert f"additional properties '{misspelt}' not allowed" in said


def test_a_kind_that_nobody_knows_is_refused(verdicts):
    """What has no schema is not taken for good."""
    said = "could not find schema for Widget"
    assert [("Widget", "a", said)] == verdicts("apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: a}")
