"""What the API server accepts, fills in, prints, scales and explains."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
WAITING = {
    "status": "Unknown",
    "reason": "WaitingForOperator",
    "message": "No operator has seen this service yet; check that the aiops-quality operator runs and watches this "
    "namespace.",
    "lastTransitionTime": "1970-01-01T00:00:00Z",
}
STATUS = {
    "observedGeneration": 1,
    "conditions": [
        {**WAITING, "type": "Ready", "status": "True", "reason": "RolledOut"},
        {**WAITING, "type": "DriftDetected", "status": "True", "reason": "ThresholdExceeded"},
    ],
    "url": "http://iris.models.svc:80",
    "replicas": 2,
    "readyReplicas": 2,
    "ready": "2/2",
    "selector": "app=iris,aiops-quality.io/inferenceservice=iris",
    "model": {"digest": "sha256:" + "3f9a1c2" * 9 + "0", "shortDigest": "3f9a1c2", "loaded": "2/2"},
    "shadow": {
        "state": "Rejected",
        "reason": "PredictionsDiffer",
        "message": "Revision 0123456789abcdef is not rolled out.",
        "revision": "0123456789abcdef",
        "since": "2026-01-02T03:04:05Z",
        "decidedAt": "2026-01-02T03:14:05Z",
        "rows": 500,
        "minRows": 500,
        "failedRows": 1,
        "distance": "0.2",
        "maxDistance": "0.1",
        "model": {"digest": "sha256:" + "3f9a1c2" * 9 + "0", "shortDigest": "3f9a1c2"},
        "drift": {
            "detected": False,
            "score": "1.2",
            "threshold": "5",
            "worstFeature": "petal length (cm)",
            "criteria": "0123456789abcdef",
        },
    },
    "drift": {
        "detected": True,
        "score": "7.4",
        "threshold": "5",
        "worstFeature": "petal length (cm)",
        "samples": 1800,
        "episode": "1",
        "acknowledged": True,
        "since": "2026-01-02T03:04:05Z",
        "features": [{"name": "petal length (cm)", "score": "7.4", "threshold": "5"}],
    },
}


def resource(**spec: Any) -> str:
    """A service called iris with further fields of its spec."""
    return json.dumps(
        {
            "apiVersion": "aiops-quality.io/v1alpha1",
            "kind": "InferenceService",
            "metadata": {"name": "iris"},
            "spec": {"model": {"artifacts": {"configMap": {"name": "iris-artifacts"}}}, **spec},
        }
    )


@pytest.fixture
def iris(kubectl, namespace) -> str:
    """The namespace of a service that no operator has seen."""
    created = kubectl("-n", namespace, "create", "-f", "-", stdin=resource())
    assert created.returncode == 0, created.stderr
    return namespace


def read(kubectl, namespace) -> dict[str, Any]:
    """The service as the API server has it."""
    found: dict[str, Any] = json.loads(kubectl("-n", namespace, "get", "infs", "iris", "-o", "json").stdout)
    return found


def test_the_defaults_are_filled_in(kubectl, iris) -> None:
    """A service that names its artifacts alone is complete."""
    assert read(kubectl, iris)["spec"] == {
        "model": {
            "artifacts": {"configMap": {"name": "iris-artifacts"}},
            "modelFile": "model.pkl",
            "baselineFile": "baseline.npy",
            "expectationsFile": "expectations.json",
        },
        "replicas": 1,
        "drift": {
            "zScoreThreshold": 5,
            "minSamples": 50,
            "falseAlarmInterval": "720h",
            "expectations": {"mode": "auto"},
        },
        "monitoring": {"mode": "auto", "interval": "15s"},
        "paused": False,
    }


def test_a_webhook_gets_its_defaults(kubectl, namespace) -> None:
    """A webhook that is not required and waits five minutes."""
    kubectl("-n", namespace, "create", "-f", "-", stdin=resource(drift={"webhook": {"url": "http://hook/"}}))

    assert read(kubectl, namespace)["spec"]["drift"]["webhook"] == {
        "url": "http://hook/",
        "required": False,
        "cooldown": "5m",
    }


def test_a_shadow_gets_its_defaults(kubectl, namespace) -> None:
    """A strategy that is not named is the one there always was; one that is, has its bounds."""
    kubectl("-n", namespace, "create", "-f", "-", stdin=resource(rollout={"strategy": "Shadow", "shadow": {}}))

    assert read(kubectl, namespace)["spec"]["rollout"] == {
        "strategy": "Shadow",
        "shadow": {"minRows": 500, "maxDistance": 0.1, "percent": 100},
    }


def test_a_service_that_no_operator_has_seen_says_so(kubectl, iris) -> None:
    """Ready and DriftDetected are Unknown for the reason WaitingForOperator."""
    assert read(kubectl, iris)["status"] == {
        "conditions": [{**WAITING, "type": "Ready"}, {**WAITING, "type": "DriftDetected"}]
    }


@pytest.mark.parametrize(
    "spec",
    [
        {"drift": {"zScoreThreshold": 15}},
        {"drift": {"zScoreThreshold": 0.01, "minSamples": 16}},
        {"drift": {"acknowledgedEpisode": "1f0c9a3e-20300102030405"}},
        {"drift": {"webhook": {"cooldown": "0s", "url": "https://user@hooks.example.com:8443/a?b=c"}}},
        {"drift": {"webhook": {"cooldown": "1h30m", "required": True, "urlSecretRef": {"name": "a", "key": "b"}}}},
        {"drift": {"features": [{"name": f"feature {n}", "zScoreThreshold": 4} for n in range(256)]}},
        {"rollout": {"strategy": "Shadow"}},
        {"rollout": {"strategy": "Shadow", "shadow": {"minRows": 1, "maxDistance": 0, "percent": 1}}},
        {"monitoring": {"interval": "1s", "mode": "serviceMonitor", "labels": {"release": "prometheus"}}},
        {"replicas": 0, "image": "localhost/aiops-quality:dev"},
        {"image": "registry.example.com:5000/team/aiops_quality@sha256:" + "0" * 64},
        {"resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"cpu": "1000m", "nvidia.com/gpu": 1}}},
        {"podTemplate": {"labels": {"app.kubernetes.io/version": "3", "empty": ""}, "env": [{"name": "LOG_LEVEL"}]}},
        {"model": {"artifacts": {"persistentVolumeClaim": {"claimName": "a", "path": "iris..v3/x"}}}},
        {"model": {"artifacts": {"image": {"reference": "iris"}}, "sha256": "sha256:" + "0f" * 32}},
        {"model": {"artifacts": {"uri": "s3://models/iris/v3"}}},
        {
            "model": {
                "artifacts": {"uri": "s3://my_models.v1/team=a/2026-01-02T03:04/", "secretRef": {"name": "reader"}}
            }
        },
        {"model": {"artifacts": {"uri": "gs://models"}}},
        {"model": {"artifacts": {"uri": "az://models/iris"}}},
        {"model": {"artifacts": {"uri": "abfss://models@account.dfs.core.windows.net/iris/v3"}}},
        {"model": {"artifacts": {"uri": "https://models.example.com:8443/iris/@main/.v3/x..y"}}},
    ],
    ids=lambda spec: json.dumps(spec)[:60],
)
def test_a_good_resource_is_accepted(kubectl, spec) -> None:
    """What is unusual and right is not refused."""
    accepted = kubectl("create", "--dry-run=server", "-f", "-", stdin=resource(**spec))

    assert (accepted.returncode, accepted.stderr) == (0, "")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_accepted(kubectl, path) -> None:
    """Every manifest under examples/ is valid, its misspellings included."""
    accepted = kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(path))

    assert (accepted.returncode, accepted.stderr) == (0, "")


def test_the_example_of_every_field_has_every_field() -> None:
    """No field of the spec is missing in examples/every-field.yaml, in use or in a comment."""
    crd = yaml.safe_load((ROOT / "crds" / "inferenceservice.yaml").read_text(encoding="utf-8"))
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    words = {
        line.strip(" #-").split(":")[0]
        for line in (ROOT / "examples" / "every-field.yaml").read_text(encoding="utf-8").splitlines()
    }

    assert names(spec) - words == set()


def names(schema: dict[str, Any]) -> set[str]:
    """Names of all fields in a schema."""
    children = {**schema.get("properties", {}), **schema.get("items", {}).get("properties", {})}
    return set(children).union(*(names(child) for child in children.values()))


def test_the_columns_of_a_new_service(kubectl, iris) -> None:
    """Unknown, and why under -o wide."""
    wide = kubectl("-n", iris, "get", "inferenceservices", "-o", "wide").stdout.splitlines()

    assert wide[0].split() == [
        *("NAME", "READY", "DRIFT", "SCORE", "FEATURE", "MODEL", "REPLICAS", "AGE", "URL", "REASON"),
    ]
    assert [wide[1].split()[n] for n in (0, 1, 2, -1)] == ["iris", "Unknown", "Unknown", "WaitingForOperator"]


def test_the_columns_of_a_service_that_has_drifted(kubectl, iris) -> None:
    """READY, DRIFT, SCORE, FEATURE, MODEL, REPLICAS and AGE tell the story in one line."""
    patched = kubectl(
        *("-n", iris, "patch", "infs", "iris", "--subresource=status", "--type=merge"),
        "-p",
        json.dumps({"status": STATUS}),
    )
    assert patched.returncode == 0, patched.stderr

    header, line = kubectl("-n", iris, "get", "infs").stdout.splitlines()

    assert header.split() == ["NAME", "READY", "DRIFT", "SCORE", "FEATURE", "MODEL", "REPLICAS", "AGE"]
    assert line.split()[:-1] == ["iris", "True", "True", "7.4", "petal", "length", "(cm)", "3f9a1c2", "2/2"]
    assert read(kubectl, iris)["status"] == STATUS


def test_the_spec_cannot_write_the_status(kubectl, iris) -> None:
    """Status is written through its subresource alone, which in turn leaves the spec alone."""
    kubectl("-n", iris, "patch", "infs", "iris", "--type=merge", "-p", '{"status": {"ready": "9/9"}}')
    kubectl(
        *("-n", iris, "patch", "infs", "iris", "--subresource=status", "--type=merge"),
        *("-p", '{"spec": {"replicas": 9}}'),
    )

    found = read(kubectl, iris)

    assert ("ready" in found["status"], found["spec"]["replicas"]) == (False, 1)


def test_the_scale_subresource(kubectl, iris) -> None:
    """`kubectl scale` and an autoscaler read and write replicas, within bounds."""
    kubectl(
        *("-n", iris, "patch", "infs", "iris", "--subresource=status", "--type=merge"),
        "-p",
        json.dumps({"status": STATUS}),
    )

    scaled = kubectl("-n", iris, "scale", "infs/iris", "--replicas=3")
    scale = json.loads(
        kubectl(
            "get", "--raw", f"/apis/aiops-quality.io/v1alpha1/namespaces/{iris}/inferenceservices/iris/scale"
        ).stdout
    )
    refused = kubectl("-n", iris, "scale", "infs/iris", "--replicas=101")

    assert (scaled.returncode, scale["spec"], scale["status"]) == (
        0,
        {"replicas": 3},
        {"replicas": 2, "selector": STATUS["selector"]},
    )
    assert "should be less than or equal to 100" in refused.stderr


def test_explain_reads_well(kubectl) -> None:
    """`kubectl explain` tells what each field of spec.drift is for, with bounds and defaults."""
    explained = " ".join(kubectl("explain", "inferenceservice.spec.drift").stdout.split())

    for sentence in (
        "When the input counts as drifted: the statistical rule, the Great Expectations suite, and who is told.",
        "in standard deviations of the baseline. Greater than 0, at most 15. Default: 5.",
        "How many rows the verdict needs, 16 to 100000. With fewer DriftDetected is Unknown. Default: 50.",
        "Thresholds of single features, in place of zScoreThreshold. At most 256.",
        "A URL that the pods POST to when they detect drift.",
    ):
        assert sentence in explained


def test_explain_tells_of_sources(kubectl) -> None:
    """Each source of artifacts, and what it is for."""
    explained = " ".join(kubectl("explain", "inferenceservice.spec.model.artifacts").stdout.split())

    for sentence in (
        "Exactly one of configMap, persistentVolumeClaim, image and uri.",
        "uri <string> The files are in a directory of an object store or a web server, such as s3://models/iris/v3",
        "secretRef <Object> A Secret in this namespace whose keys the init container that fetches has",
    ):
        assert sentence in explained


def test_explain_lists_every_field_of_drift(kubectl) -> None:
    """The recursive form shows names, types, what is required and what may be chosen."""
    lines = [
        line.strip()
        for line in kubectl("explain", "inferenceservice.spec.drift", "--recursive")
        .stdout.split("FIELDS:")[1]
        .splitlines()
        if line.strip()
    ]

    assert lines == [
        "acknowledgedEpisode\t<string>",
        "averageRunLength\t<integer>",
        "expectations\t<Object>",
        "mode\t<string>",
        "enum: auto, disabled",
        "falseAlarmInterval\t<string>",
        "features\t<[]Object>",
        "name\t<string> -required-",
        "zScoreThreshold\t<number> -required-",
        "minSamples\t<integer>",
        "onDrift\t<Object>",
        "cooldown\t<string>",
        "cronJobRef\t<Object> -required-",
        "name\t<string> -required-",
        "maxAttempts\t<integer>",
        "webhook\t<Object>",
        "cooldown\t<string>",
        "required\t<boolean>",
        "signingSecretRef\t<Object>",
        "key\t<string> -required-",
        "name\t<string> -required-",
        "url\t<string>",
        "urlSecretRef\t<Object>",
        "key\t<string> -required-",
        "name\t<string> -required-",
        "zScoreThreshold\t<number>",
    ]
