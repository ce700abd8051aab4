"""What the API server refuses, and the sentence that says what to write instead."""

import json
from copy import deepcopy
from typing import Any

import pytest

GOOD: dict[str, Any] = {
    "apiVersion": "aiops-quality.io/v1alpha1",
    "kind": "InferenceService",
    "metadata": {"name": "iris"},
    "spec": {"model": {"artifacts": {"configMap": {"name": "iris-artifacts"}}}},
}
REFERENCE = "an image reference without spaces, such as registry.example.com/"
ONE_SOURCE = "name exactly one source of artifacts: configMap, persistentVolumeClaim, image or uri"
THRESHOLD = "zScoreThreshold counts standard deviations: write a number greater than 0 and at most 15, such as 5"
DIGEST = (
    "sha256 must be 64 lower-case hexadecimal digits, as 'sha256sum model.pkl' prints them, with or without the prefix "
    "sha256:"
)
FILE_NAME = (
    "write a file name alone: letters, digits, '.', '_' and '-', without '/' or '..'; the directory belongs to "
    "spec.model.artifacts"
)
EXTENSION = "modelFile must end in .skops, .onnx, .pkl or .joblib: its ending says how it is loaded"
NAME = (
    "metadata.name becomes the name of a Service: write lower-case letters, digits and '-', with a letter first and no "
    "'-' last, such as iris-v2"
)
URL = "url must begin with http:// or https:// and name a host, such as https://hooks.example.com/drift"
COOLDOWN = "cooldown is a duration in hours, minutes and seconds: write it as 30s, 5m or 1h30m"
INTERVAL = "interval is a duration in hours, minutes and seconds: write it as 15s, 1m or 1h30m"
OWN_LABELS = (
    "the labels app, app.kubernetes.io/name, app.kubernetes.io/instance, app.kubernetes.io/managed-by and "
    "aiops-quality.io/* select the pods and belong to the operator: write a label of your own, such as team"
)
LABEL_VALUE = (
    "write each value with letters, digits, '-', '_' and '.' only, with a letter or digit first and last, such as "
    "fraud-detection"
)
KEY = (
    "write each key as a name of at most 63 letters, digits, '-', '_' and '.', with an optional DNS prefix, such as team "
    "or example.com/team"
)
OWN_CONFIGMAP = (
    "the operator itself writes the ConfigMaps <name>-runtime and <name>-model-<digest>: keep the artifacts in a "
    "ConfigMap of another name, such as <name>-artifacts"
)
SECRET = {"name": "hook", "key": "url"}
SOURCES = {
    "configMap": {"name": "iris-artifacts"},
    "persistentVolumeClaim": {"claimName": "models"},
    "image": {"reference": "registry.example.com/iris:1"},
    "uri": "s3://models/iris/v3",
}
URI_FIELD = "spec.model.artifacts.uri"
SCHEME = "uri must begin with s3://, gs://, az://, abfs://, abfss:// or https://, such as s3://models/iris/v3"
URI_HOST = "after the scheme uri names a bucket, a container or a host, such as s3://models/iris/v3"
URI_PATH = "write the path in uri with letters, digits and '.', '_', '-', '~', '+', '=', ':', '@' and ',' between single slashes"
USERINFO = "write uri without a user name or password: name a Secret that has them in spec.model.artifacts.secretRef"
SIGNATURE = "write uri without '?' and '#': everybody who may read this resource would read a signature there"
NO_FILE = "uri names the directory that holds the files: leave the file's name to spec.model.modelFile"
URIS = (
    ("", SCHEME),
    ("/models/iris", SCHEME),
    ("http://models.example.com/iris", SCHEME),
    ("file:///etc", SCHEME),
    ("S3://models/iris", SCHEME),
    ("s3://", URI_HOST),
    ("s3:///iris", URI_HOST),
    ("https://-host/iris", URI_HOST),
    ("https://host:port/iris", URI_HOST),
    ("abfss://account.dfs.core.windows.net/iris", URI_HOST),
    ("https://me:secret@models.example.com/iris", USERINFO),
    ("s3://key@models/iris", USERINFO),
    ("https://models.example.com/iris?X-Amz-Signature=abc", SIGNATURE),
    ("az://models/iris#a", SIGNATURE),
    ("s3://models/iris v3", URI_PATH),
    ("s3://models/iris\nv3", URI_PATH),
    ("s3://models/iris\n", URI_PATH),
    ("s3://models/%2e%2e/iris", URI_PATH),
    ("s3://models//iris", URI_PATH),
    ("s3://models/../iris", URI_PATH),
    ("s3://models/.", URI_PATH),
    ("s3://models/iris/v3/model.pkl", NO_FILE),
    ("s3://models/" + "a" * 1024, "Too long"),
)

PEER = "name who may: namespaceSelector, podSelector or both"

# id: (path, value to put there, path that the refusal names, its sentence)
CASES: dict[str, tuple[str, Any, str, str]] = {
    "no source": ("spec.model.artifacts", {}, "spec.model.artifacts", ONE_SOURCE),
    "two sources": (
        "spec.model.artifacts",
        {key: SOURCES[key] for key in ("configMap", "image")},
        "spec.model.artifacts",
        ONE_SOURCE,
    ),
    "ConfigMap and uri": (
        "spec.model.artifacts",
        {key: SOURCES[key] for key in ("configMap", "uri")},
        "spec.model.artifacts",
        ONE_SOURCE,
    ),
    **{f"uri {uri[:60]!r}": ("spec.model.artifacts", {"uri": uri}, URI_FIELD, sentence) for uri, sentence in URIS},
    "secretRef without uri": (
        "spec.model.artifacts",
        {"configMap": {"name": "a"}, "secretRef": {"name": "reader"}},
        "spec.model.artifacts.secretRef",
        "secretRef holds the credentials for uri, which is not given: leave secretRef out",
    ),
    "name of the uri's Secret": (
        "spec.model.artifacts",
        {"uri": "s3://models", "secretRef": {"name": "Reader"}},
        "spec.model.artifacts.secretRef.name",
        "write the name of a Secret in this namespace: lower-case letters, digits, '-' and '.', such as models-reader",
    ),
    "three sources": ("spec.model.artifacts", SOURCES, "spec.model.artifacts", ONE_SOURCE),
    "no artifacts": ("spec.model", {}, "spec.model.artifacts", "Required value"),
    "no model": ("spec", {}, "spec.model", "Required value"),
    "ConfigMap name": (
        "spec.model.artifacts.configMap.name",
        "Iris Artifacts",
        "spec.model.artifacts.configMap.name",
        (
            "write the name of a ConfigMap in this namespace: lower-case letters, digits, '-' and '.', such as "
            "iris-artifacts"
        ),
    ),
    "ConfigMap of the runtime": (
        "spec.model.artifacts.configMap.name",
        "iris-runtime",
        "spec.model.artifacts.configMap.name",
        OWN_CONFIGMAP,
    ),
    "ConfigMap of a copy": (
        "spec.model.artifacts.configMap.name",
        "iris-model-0123456789",
        "spec.model.artifacts.configMap.name",
        OWN_CONFIGMAP,
    ),
    "claim name": (
        "spec.model.artifacts",
        {"persistentVolumeClaim": {"claimName": "models/iris"}},
        "spec.model.artifacts.persistentVolumeClaim.claimName",
        (
            "write the name of a PersistentVolumeClaim in this namespace: lower-case letters, digits, '-' and '.', such as "
            "models"
        ),
    ),
    "absolute path": (
        "spec.model.artifacts",
        {"persistentVolumeClaim": {"claimName": "models", "path": "/iris"}},
        "spec.model.artifacts.persistentVolumeClaim.path",
        "path is relative to the root of the volume: leave the first '/' out, such as iris/v3",
    ),
    "path out of the volume": (
        "spec.model.artifacts",
        {"persistentVolumeClaim": {"claimName": "models", "path": "iris/../../etc"}},
        "spec.model.artifacts.persistentVolumeClaim.path",
        "path must stay inside the volume: write it without '..', such as iris/v3",
    ),
    "empty artifact image": (
        "spec.model.artifacts",
        {"image": {"reference": ""}},
        "spec.model.artifacts.image.reference",
        REFERENCE,
    ),
    "artifact image with a space": (
        "spec.model.artifacts",
        {"image": {"reference": "registry.example.com/iris :1"}},
        "spec.model.artifacts.image.reference",
        REFERENCE,
    ),
    "artifact pull policy": (
        "spec.model.artifacts",
        {"image": {"reference": "iris:1", "pullPolicy": "Sometimes"}},
        "spec.model.artifacts.image.pullPolicy",
        'supported values: "Always", "IfNotPresent", "Never"',
    ),
    "model file with a directory": ("spec.model.modelFile", "v3/model.pkl", "spec.model.modelFile", FILE_NAME),
    "model file above": ("spec.model.modelFile", "..model.pkl", "spec.model.modelFile", FILE_NAME),
    "model file of another format": ("spec.model.modelFile", "model.h5", "spec.model.modelFile", EXTENSION),
    "baseline file with a directory": ("spec.model.baselineFile", "../b.npy", "spec.model.baselineFile", FILE_NAME),
    "baseline file of another format": (
        "spec.model.baselineFile",
        "baseline.csv",
        "spec.model.baselineFile",
        "baselineFile must end in .npy: save the rows with numpy.save('baseline.npy', rows)",
    ),
    "expectations file": (
        "spec.model.expectationsFile",
        "manifest.json",
        "spec.model.expectationsFile",
        (
            "expectationsFile must end in .json and must not be manifest.json: write the name of the Great Expectations "
            "suite, such as expectations.json"
        ),
    ),
    "short digest": ("spec.model.sha256", "abc123", "spec.model.sha256", DIGEST),
    "digest in capitals": ("spec.model.sha256", "A" * 64, "spec.model.sha256", DIGEST),
    "digest of another kind": ("spec.model.sha256", "sha512:" + "a" * 64, "spec.model.sha256", DIGEST),
    "long name": (
        "metadata.name",
        "i" * 51,
        "metadata.name",
        (
            "metadata.name is too long: write at most 50 characters, because Services, ConfigMaps and pods are named after "
            "it"
        ),
    ),
    "name with a digit first": ("metadata.name", "3iris", "metadata.name", NAME),
    "name with a dot": ("metadata.name", "iris.v3", "metadata.name", NAME),
    "empty image": ("spec.image", "", "spec.image", REFERENCE),
    "blank image": ("spec.image", "  ", "spec.image", REFERENCE),
    "peer of no name": ("spec.networkPolicy.from", [{}], "spec.networkPolicy.from[0]", PEER),
    "label of a peer": (
        "spec.networkPolicy.from",
        [{"podSelector": {"matchLabels": {"a": "b c"}}}],
        "spec.networkPolicy.from[0].podSelector.matchLabels",
        LABEL_VALUE,
    ),
    "skew": (
        "spec.podTemplate.topologySpreadConstraints",
        [{"maxSkew": 0, "topologyKey": "a", "whenUnsatisfiable": "ScheduleAnyway"}],
        "spec.podTemplate.topologySpreadConstraints[0].maxSkew",
        "should be greater than or equal to 1",
    ),
    "negative replicas": (
        "spec.replicas",
        -1,
        "spec.replicas",
        "spec.replicas in body should be greater than or equal to 0",
    ),
    "too many replicas": (
        "spec.replicas",
        101,
        "spec.replicas",
        "spec.replicas in body should be less than or equal to 100",
    ),
    "quantity": ("spec.resources", {"requests": {"cpu": "lots"}}, "spec.resources.requests.cpu", "should match"),
    "request over limit": (
        "spec.resources",
        {"requests": {"memory": "2Gi"}, "limits": {"memory": "1024Mi"}},
        "spec.resources",
        "a request is larger than its limit: write requests that are at most the limits of the same name",
    ),
    "misspelt resource": (
        "spec.resources",
        {"limits": {"memroy": "1Gi"}},
        "spec.resources.limits",
        "write cpu, memory, ephemeral-storage, or an extended resource with its domain, such as nvidia.com/gpu",
    ),
    "label app": ("spec.podTemplate", {"labels": {"app": "x"}}, "spec.podTemplate.labels", OWN_LABELS),
    "label of ours": (
        "spec.podTemplate",
        {"labels": {"aiops-quality.io/inferenceservice": "x"}},
        "spec.podTemplate.labels",
        OWN_LABELS,
    ),
    "label managed-by": (
        "spec.podTemplate",
        {"labels": {"app.kubernetes.io/managed-by": "me"}},
        "spec.podTemplate.labels",
        OWN_LABELS,
    ),
    "label value": ("spec.podTemplate", {"labels": {"team": "a b"}}, "spec.podTemplate.labels", LABEL_VALUE),
    "label key": ("spec.podTemplate", {"labels": {"my team": "a"}}, "spec.podTemplate.labels", KEY),
    "annotation of ours": (
        "spec.podTemplate",
        {"annotations": {"aiops-quality.io/template-hash": "0"}},
        "spec.podTemplate.annotations",
        (
            "the annotations aiops-quality.io/* belong to the operator: write one with a prefix of your own, such as "
            "example.com/owner"
        ),
    ),
    "annotation of monitoring": (
        "spec.podTemplate",
        {"annotations": {"prometheus.io/scrape": "true"}},
        "spec.podTemplate.annotations",
        (
            "the annotations prometheus.io/scrape, prometheus.io/port and prometheus.io/path are set by the operator: write "
            "spec.monitoring.mode annotations instead"
        ),
    ),
    "node selector": (
        "spec.podTemplate",
        {"nodeSelector": {"zone": "-"}},
        "spec.podTemplate.nodeSelector",
        LABEL_VALUE,
    ),
    "toleration": (
        "spec.podTemplate",
        {"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]},
        "spec.podTemplate.tolerations[0]",
        "a toleration with operator Exists has no value: leave value out, or write operator Equal",
    ),
    "service account": (
        "spec.podTemplate",
        {"serviceAccountName": "Model Reader"},
        "spec.podTemplate.serviceAccountName",
        (
            "write the name of a ServiceAccount in this namespace: lower-case letters, digits, '-' and '.', such as "
            "model-reader"
        ),
    ),
    "variable's name": (
        "spec.podTemplate",
        {"env": [{"name": "LOG LEVEL", "value": "INFO"}]},
        "spec.podTemplate.env[0].name",
        "write the name of an environment variable with letters, digits and '_', with no digit first, such as LOG_LEVEL",
    ),
    "variable given twice": (
        "spec.podTemplate",
        {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
        "spec.podTemplate.env[1]",
        "Duplicate value",
    ),
    "variable with two values": (
        "spec.podTemplate",
        {"env": [{"name": "A", "value": "1", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}]},
        "spec.podTemplate.env[0]",
        "give the variable either value or valueFrom, not both",
    ),
    "variable from nowhere": (
        "spec.podTemplate",
        {"env": [{"name": "A", "valueFrom": {}}]},
        "spec.podTemplate.env[0].valueFrom",
        "name exactly one source of the value: secretKeyRef, configMapKeyRef or fieldRef",
    ),
    "threshold zero": ("spec.drift", {"zScoreThreshold": 0}, "spec.drift.zScoreThreshold", THRESHOLD),
    "threshold below zero": ("spec.drift", {"zScoreThreshold": -1.5}, "spec.drift.zScoreThreshold", THRESHOLD),
    "threshold above 15": ("spec.drift", {"zScoreThreshold": 15.01}, "spec.drift.zScoreThreshold", THRESHOLD),
    "feature's threshold": (
        "spec.drift",
        {"features": [{"name": "petal length (cm)", "zScoreThreshold": 16}]},
        "spec.drift.features[0].zScoreThreshold",
        THRESHOLD,
    ),
    "feature without a name": (
        "spec.drift",
        {"features": [{"name": "", "zScoreThreshold": 4}]},
        "spec.drift.features[0].name",
        "write the name of a feature as the manifest has it, such as petal length (cm)",
    ),
    "feature given twice": (
        "spec.drift",
        {"features": [{"name": "a", "zScoreThreshold": 4}, {"name": "a", "zScoreThreshold": 5}]},
        "spec.drift.features[1]",
        'Duplicate value: {"name":"a"}',
    ),
    "too few samples": (
        "spec.drift",
        {"minSamples": 15},
        "spec.drift.minSamples",
        "spec.drift.minSamples in body should be greater than or equal to 16",
    ),
    "expectations mode": (
        "spec.drift",
        {"expectations": {"mode": "on"}},
        "spec.drift.expectations.mode",
        'supported values: "auto", "disabled"',
    ),
    "required webhook without an address": (
        "spec.drift",
        {"webhook": {"required": True}},
        "spec.drift.webhook",
        "a required webhook needs an address: write url or urlSecretRef, or leave required out",
    ),
    "webhook with two addresses": (
        "spec.drift",
        {"webhook": {"url": "https://hooks.example.com/", "urlSecretRef": SECRET}},
        "spec.drift.webhook",
        "give the webhook's address once: url, or urlSecretRef where it carries a token, not both",
    ),
    "webhook of another scheme": ("spec.drift", {"webhook": {"url": "ftp://x/"}}, "spec.drift.webhook.url", URL),
    "webhook without a host": ("spec.drift", {"webhook": {"url": "https://"}}, "spec.drift.webhook.url", URL),
    "cooldown without a unit": (
        "spec.drift",
        {"webhook": {"cooldown": "300"}},
        "spec.drift.webhook.cooldown",
        COOLDOWN,
    ),
    "empty cooldown": ("spec.drift", {"webhook": {"cooldown": ""}}, "spec.drift.webhook.cooldown", COOLDOWN),
    "cooldown in words": (
        "spec.drift",
        {"webhook": {"cooldown": "5 minutes"}},
        "spec.drift.webhook.cooldown",
        COOLDOWN,
    ),
    "interval in milliseconds": ("spec.monitoring", {"interval": "500ms"}, "spec.monitoring.interval", INTERVAL),
    "interval of nothing": (
        "spec.monitoring",
        {"interval": "0s"},
        "spec.monitoring.interval",
        "interval must be at least one second: write 1s or more, such as 15s",
    ),
    "monitoring mode": (
        "spec.monitoring",
        {"mode": "podMonitor"},
        "spec.monitoring.mode",
        'supported values: "auto", "serviceMonitor", "annotations", "none"',
    ),
    "shadow without its strategy": (
        "spec.rollout",
        {"shadow": {"minRows": 10}},
        "spec.rollout.shadow",
        "shadow says what a changed revision must show before it is rolled out: set strategy to Shadow, or leave shadow out",
    ),
    "rollout strategy": (
        "spec.rollout",
        {"strategy": "Canary"},
        "spec.rollout.strategy",
        'supported values: "RollingUpdate", "Shadow"',
    ),
    "distance below zero": (
        "spec.rollout",
        {"strategy": "Shadow", "shadow": {"maxDistance": -0.1}},
        "spec.rollout.shadow.maxDistance",
        "maxDistance is a distance between predictions: write a number from 0 to 1000000, such as 0.1",
    ),
    "no rows to compare": (
        "spec.rollout",
        {"strategy": "Shadow", "shadow": {"minRows": 0}},
        "spec.rollout.shadow.minRows",
        "should be greater than or equal to 1",
    ),
    "more copies than requests": (
        "spec.rollout",
        {"strategy": "Shadow", "shadow": {"percent": 101}},
        "spec.rollout.shadow.percent",
        "should be less than or equal to 100",
    ),
    "monitoring label": ("spec.monitoring", {"labels": {"release": "a/b"}}, "spec.monitoring.labels", LABEL_VALUE),
    "monitoring label of ours": (
        "spec.monitoring",
        {"labels": {"app": "x"}},
        "spec.monitoring.labels",
        (
            "the labels app, app.kubernetes.io/name, app.kubernetes.io/instance, app.kubernetes.io/managed-by and "
            "aiops-quality.io/* belong to the operator: write those that your Prometheus selects by, such as release"
        ),
    ),
}
INSTEAD = {
    "MODEL_PATH": "write spec.model.modelFile instead",
    "BASELINE_PATH": "write spec.model.baselineFile instead",
    "EXPECTATIONS_PATH": "write spec.model.expectationsFile instead",
    "MODEL_SHA256": "write spec.model.sha256 instead",
    "DRIFT_WEBHOOK": "write spec.drift.webhook.url or urlSecretRef instead",
    "DRIFT_WEBHOOK_SECRET": "write spec.drift.webhook.signingSecretRef instead",
    "REQUIRE_WEBHOOK": "write spec.drift.webhook.required instead",
    "DRIFT_THRESHOLD": "write spec.drift.zScoreThreshold instead",
    "RUNTIME_CONFIG": "write spec.drift instead, from which the file is made",
    "HOST": "leave it out, the pods listen on every address",
    "PORT": "leave it out, the pods listen on 8000 and the Service on 80",
}


@pytest.mark.parametrize(("path", "value", "where", "sentence"), CASES.values(), ids=CASES)
def test_a_malformed_resource_is_refused_with_its_sentence(kubectl, path, value, where, sentence) -> None:
    """Refused, at the place that is wrong, in words that help."""
    refused = kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(changed(path, value)))

    assert refused.returncode == 1
    assert [line for line in refused.stderr.splitlines() if f"{where}: " in line and sentence in line], refused.stderr


@pytest.mark.parametrize(("variable", "instead"), INSTEAD.items(), ids=INSTEAD)
def test_a_variable_of_the_operator_is_refused(kubectl, variable, instead) -> None:
    """Each variable that the operator sets is refused with the field that it is set from."""
    resource = changed("spec.podTemplate", {"env": [{"name": variable, "value": "x"}]})

    refused = kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(resource))

    assert refused.returncode == 1
    assert (
        f"spec.podTemplate.env[0].name: Invalid value: {variable} is set by the operator: {instead}" in refused.stderr
    )


@pytest.mark.parametrize(
    "path",
    [
        "spec.drift.zScoreTreshold",
        "spec.replica",
        "spec.model.artifacts.configMap.key",
        "spec.podTemplate.node_selector",
    ],
)
def test_a_misspelt_field_is_refused(kubectl, path) -> None:
    """The strict validation of kubectl names the field that the CRD does not know."""
    refused = kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(changed(path, 4)))

    assert refused.returncode == 1
    assert f'unknown field "{path}"' in refused.stderr


def test_several_mistakes_are_told_at_once(kubectl) -> None:
    """Nobody has to apply three times to hear of three mistakes."""
    resource = changed("spec.drift", {"zScoreThreshold": 0, "webhook": {"required": True}})
    resource["spec"]["image"] = " "

    refused = kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(resource)).stderr

    assert [part in refused for part in (THRESHOLD, "a required webhook needs an address", REFERENCE)] == [True] * 3


def changed(path: str, value: object) -> dict[str, Any]:
    """GOOD with one value replaced."""
    resource = deepcopy(GOOD)
    at = resource
    *parents, last = path.split(".")
    for parent in parents:
        at = at.setdefault(parent, {})
    at[last] = value
    return resource
