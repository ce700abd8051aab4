"""What the chart renders, and what it refuses with which sentence."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

ARTIFACTS = ("model.pkl", "baseline.npy", "expectations.json", "manifest.json")
CLUSTER_NAME = "aiops-quality-operator-a2cf1094"  # the digits: SHA-256 of models/aiops-quality
OWN_LABELS = {"app", "aiops-quality.io/inferenceservice"}
PEERS = [
    {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "models"}},
        "podSelector": {
            "matchLabels": {
                "app.kubernetes.io/instance": "aiops-quality",
                "app.kubernetes.io/name": "aiops-operator",
            }
        },
    },
    {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}},
]  # the operator itself, and Prometheus
Objects = dict[tuple[str, str, str], dict[str, Any]]


def rendered(helm, chart: Path, *arguments: str, release: str = "aiops-quality") -> Objects:
    """Every object that a release would apply, by kind, namespace and name."""
    done = helm("template", release, str(chart), "--namespace", "models", *arguments)
    assert done.returncode == 0, done.stderr
    documents = [document for document in yaml.safe_load_all(done.stdout) if document]
    objects = {
        (found["kind"], found["metadata"].get("namespace", ""), found["metadata"]["name"]): found for found in documents
    }
    assert len(objects) == len(documents)
    return objects


def refusal(helm, chart: Path, *arguments: str, release: str = "aiops-quality") -> str:
    """What Helm says when it does not render."""
    done = helm("template", release, str(chart), "--namespace", "models", *arguments)
    assert done.returncode != 0
    said: str = done.stderr
    return said


@pytest.fixture(scope="module")
def default(helm, chart) -> Objects:
    """The release of the README: image.repository and image.tag are given, artifacts are there."""
    return rendered(helm, chart, "--set", "image.repository=ghcr.io/your-org/aiops-quality", "--set", "image.tag=1.2.3")


def test_the_default_is_an_operator_and_a_service(default) -> None:
    """The operator's objects are named after it, the service after the release."""
    assert set(default) == {
        ("ServiceAccount", "models", "aiops-quality-operator"),
        ("Role", "models", "aiops-quality-operator-lease"),
        ("RoleBinding", "models", "aiops-quality-operator-lease"),
        ("ClusterRole", "", CLUSTER_NAME),
        ("ClusterRoleBinding", "", CLUSTER_NAME),
        ("Service", "models", "aiops-quality-operator"),
        ("Deployment", "models", "aiops-quality-operator"),
        ("Pod", "models", "aiops-quality-operator-test"),
        ("ConfigMap", "models", "aiops-quality-artifacts"),
        ("InferenceService", "models", "aiops-quality"),
    }


def test_the_artifacts_arrive_byte_for_byte(default, chart) -> None:
    """The ConfigMap holds exactly the files that training wrote."""
    found = default["ConfigMap", "models", "aiops-quality-artifacts"]
    carried = {name: base64.b64decode(content) for name, content in found["binaryData"].items()}
    carried |= {name: content.encode() for name, content in found["data"].items()}

    assert carried == {name: (chart / "model_artifacts" / name).read_bytes() for name in ARTIFACTS}


def test_the_service_reads_that_config_map(default) -> None:
    """The InferenceService says no more than it has to."""
    assert default["InferenceService", "models", "aiops-quality"]["spec"] == {
        "model": {"artifacts": {"configMap": {"name": "aiops-quality-artifacts"}}},
        "imagePullPolicy": "IfNotPresent",
    }


def test_the_image_goes_to_the_operator(default) -> None:
    """image.* is what the operator gives to services that name no image; operatorImage.* is what it runs."""
    container = default["Deployment", "models", "aiops-quality-operator"]["spec"]["template"]["spec"]["containers"][0]

    assert container["image"] == "ghcr.io/your-org/aiops-quality-operator:1.2.3"
    assert {entry["name"]: entry["value"] for entry in container["env"]} == {
        "INFERENCE_IMAGE": "ghcr.io/your-org/aiops-quality:1.2.3",
        "WATCH_NAMESPACES": "",
        "OPERATOR_PORT": "8080",
        "LEASE_NAME": "aiops-quality-operator",
        "LEASE_NAMESPACE": "models",
        "POLL_INTERVAL": "5",
        "RESYNC_INTERVAL": "600",
        "LOG_LEVEL": "INFO",
        "LOG_FORMAT": "json",
        "NETWORK_POLICY_PEERS": json.dumps(PEERS, separators=(",", ":")),
    }


def test_an_image_can_be_a_digest(helm, chart) -> None:
    """A tag that is a digest is written with @."""
    digest = "sha256:" + "0f" * 32
    objects = rendered(helm, chart, "--set", f"operatorImage.tag={digest}")
    template = objects["Deployment", "models", "aiops-quality-operator"]["spec"]["template"]

    assert template["spec"]["containers"][0]["image"] == f"aiops-quality-operator@{digest}"


def test_an_operator_does_not_take_over_a_digest(helm, chart) -> None:
    """The digest of the inference image is not that of the operator's."""
    objects = rendered(helm, chart, "--set", f"image.tag=sha256:{'0f' * 32}")
    template = objects["Deployment", "models", "aiops-quality-operator"]["spec"]["template"]

    assert template["spec"]["containers"][0]["image"] == "aiops-quality-operator:0.1.0"


@pytest.mark.parametrize("flag", ["--set", "--set-string", "--set-json"])
def test_a_tag_of_digits_stays_as_it_is_written(helm, chart, flag) -> None:
    """A build number or a date is a tag, however Helm reads it."""
    value = '"20260102"' if flag == "--set-json" else "20260102"
    objects = rendered(helm, chart, flag, f"operatorImage.tag={value}")
    template = objects["Deployment", "models", "aiops-quality-operator"]["spec"]["template"]

    assert template["spec"]["containers"][0]["image"] == "aiops-quality-operator:20260102"


def test_a_tag_that_would_lose_its_digits_is_refused(helm, chart) -> None:
    """1.10 without quotes is the number 1.1: refused, where the tag 1.1 would have been pulled."""
    assert "at '/image/tag': got number, want" in refusal(helm, chart, "--set-json", "image.tag=1.10")


def test_the_operator_runs_restricted(default) -> None:
    """One pod, whose successor waits for the Lease, that the restricted Pod Security Standard admits."""
    spec = default["Deployment", "models", "aiops-quality-operator"]["spec"]
    pod = spec["template"]["spec"]
    container = pod["containers"][0]

    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert (spec["replicas"], spec["strategy"]) == (1, rolling)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert (container["livenessProbe"]["httpGet"], container["readinessProbe"]["httpGet"]) == (
        {"path": "/healthz", "port": "http"},
        {"path": "/readyz", "port": "http"},
    )
    assert container["ports"] == [{"name": "http", "containerPort": 8080}]
    assert container["resources"]["limits"] == {"memory": "512Mi"}


def test_prometheus_finds_the_operator_once(default) -> None:
    """The pod is annotated; the Service beside it is not, so that nothing is scraped twice."""
    template = default["Deployment", "models", "aiops-quality-operator"]["spec"]["template"]

    assert template["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "8080",
        "prometheus.io/path": "/metrics",
    }
    assert "annotations" not in default["Service", "models", "aiops-quality-operator"]["metadata"]


def test_a_pod_monitor_takes_the_place_of_the_annotations(helm, bare_chart) -> None:
    """One way of scraping at a time."""
    monitor = ("--set", "operator.podMonitor.enabled=true", "--set", "operator.podMonitor.labels.release=prometheus")
    objects = rendered(helm, bare_chart, "--set-json", "inferenceServices=[]", *monitor)
    pod = objects["Deployment", "models", "aiops-quality-operator"]["spec"]["template"]
    found = objects["PodMonitor", "models", "aiops-quality-operator"]

    assert "annotations" not in pod["metadata"]
    assert found["metadata"]["labels"]["release"] == "prometheus"
    assert found["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert found["spec"]["podMetricsEndpoints"] == [
        {"port": "http", "path": "/metrics", "interval": "15s", "honorLabels": True}
    ]


def test_the_tests_of_the_release_ask_the_operator_and_each_service(default) -> None:
    """In a pod that may do nothing else."""
    pod = default["Pod", "models", "aiops-quality-operator-test"]["spec"]

    assert pod["containers"][0]["command"][3:] == ["aiops-quality-operator 8080 /readyz", "aiops-quality 80 /health"]
    assert (pod["automountServiceAccountToken"], pod["securityContext"]["runAsNonRoot"]) == (False, True)


def test_the_operator_may_do_no_more_than_it_needs(default) -> None:
    """No Secrets, no wildcard, no exec, and of an InferenceService nothing but its status."""
    rules = default["ClusterRole", "", CLUSTER_NAME]["rules"]
    granted = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}

    assert not {resource for resource, _ in granted} & {"secrets", "pods/exec", "*"}
    assert "*" not in {verb for _, verb in granted}
    assert {verb for resource, verb in granted if resource == "inferenceservices"} == {"list", "watch"}
    assert {verb for resource, verb in granted if resource == "inferenceservices/status"} == {"patch"}
    assert {verb for resource, verb in granted if resource == "customresourcedefinitions"} == {"list", "watch"}


def test_watched_namespaces_get_roles(helm, chart) -> None:
    """With watchNamespaces nothing is granted cluster-wide."""
    objects = rendered(helm, chart, "--set", "watchNamespaces={models,fraud}")
    clusterwide = rendered(helm, chart)
    kinds = [(kind, namespace) for kind, namespace, _ in sorted(objects) if "Role" in kind]
    container = objects["Deployment", "models", "aiops-quality-operator"]["spec"]["template"]["spec"]["containers"][0]

    places = ["fraud", "models", "models"]  # the release's own namespace has the Lease, too
    assert kinds == [(kind, place) for kind in ("Role", "RoleBinding") for place in places]
    assert objects["RoleBinding", "fraud", "aiops-quality-operator"]["subjects"] == [
        {"kind": "ServiceAccount", "name": "aiops-quality-operator", "namespace": "models"}
    ]
    assert {"name": "WATCH_NAMESPACES", "value": "models,fraud"} in container["env"]
    assert (
        objects["Role", "fraud", "aiops-quality-operator"]["rules"]
        == clusterwide["ClusterRole", "", CLUSTER_NAME]["rules"][:-1]
    )


def test_two_releases_do_not_meet(helm, chart) -> None:
    """Releases of one name in two namespaces, and of two names in one, share no object."""
    here = set(rendered(helm, chart))
    elsewhere = {
        (found["kind"], found["metadata"].get("namespace", ""), found["metadata"]["name"])
        for found in yaml.safe_load_all(helm("template", "aiops-quality", str(chart), "--namespace", "other").stdout)
        if found
    }

    assert not here & elsewhere
    assert not here & set(rendered(helm, chart, release="iris"))


def test_cluster_wide_names_do_not_depend_on_where_a_hyphen_is(helm, chart) -> None:
    """Release x-operator in y and release x in operator-y, and long names that differ at their end, share no ClusterRole."""
    releases = [("x-operator", "y"), ("x", "operator-y"), ("l" * 52 + "a", "y"), ("l" * 52 + "b", "y")]
    names = [
        found["metadata"]["name"]
        for release, namespace in releases
        for found in yaml.safe_load_all(
            helm("template", release, str(chart), "--namespace", namespace, "--set", "inferenceServices=null").stdout
        )
        if found and found["kind"] == "ClusterRole"
    ]

    assert (len(names), len(set(names)), max(map(len, names))) == (4, 4, 63)


def test_operator_and_service_cannot_collide(default) -> None:
    """No object of the chart has the name or the labels of what the operator makes for the service."""
    children = {"aiops-quality", "aiops-quality-runtime"}
    named = {name for kind, _, name in default if kind != "InferenceService"}
    labelled = [
        label
        for found in default.values()
        for labels in (
            found["metadata"]["labels"],
            found.get("spec", {}).get("template", {}).get("metadata", {}).get("labels", {}),
        )
        for label in labels
    ]
    managers = {found["metadata"]["labels"]["app.kubernetes.io/managed-by"] for found in default.values()}
    selector = default["Deployment", "models", "aiops-quality-operator"]["spec"]["selector"]["matchLabels"]

    assert not named & children
    assert not [name for name in named if name.startswith("aiops-quality-model-")]
    assert not OWN_LABELS & set(labelled)
    assert managers == {"Helm"}
    assert selector == {"app.kubernetes.io/name": "aiops-operator", "app.kubernetes.io/instance": "aiops-quality"}
    assert default["Service", "models", "aiops-quality-operator"]["spec"]["selector"] == selector


def test_an_existing_config_map_needs_no_files(helm, bare_chart) -> None:
    """The chart as committed installs a service whose artifacts are already in the cluster."""
    objects = rendered(helm, bare_chart, "--set", "inferenceServices[0].artifacts.existingConfigMap=iris-artifacts")

    assert [key for key in objects if key[0] == "ConfigMap"] == []
    assert objects["InferenceService", "models", "aiops-quality"]["spec"]["model"] == {
        "artifacts": {"configMap": {"name": "iris-artifacts"}}
    }


@pytest.mark.parametrize(
    "source", [{"uri": "s3://models/iris"}, {"uri": "s3://models/iris", "secretRef": {"name": "reader"}}]
)
def test_artifacts_at_a_uri_need_no_files(helm, bare_chart, source) -> None:
    """The source reaches the resource as it stands."""
    objects = rendered(helm, bare_chart, "--set-json", f"inferenceServices[0].artifacts={json.dumps(source)}")

    assert [key for key in objects if key[0] == "ConfigMap"] == []
    assert objects["InferenceService", "models", "aiops-quality"]["spec"]["model"] == {"artifacts": source}


def test_a_spec_is_merged_into_the_service(helm, bare_chart) -> None:
    """What an entry's spec says wins over what the chart would say; its model keeps its other fields."""
    entry = {
        "name": "fraud",
        "annotations": {"aiops-quality.io/health-on-drift": "Degraded"},
        "artifacts": {"persistentVolumeClaim": {"claimName": "models", "path": "fraud/v3"}},
        "spec": {
            "model": {"modelFile": "model.joblib"},
            "imagePullPolicy": "Always",
            "replicas": 2,
            "podTemplate": {"labels": {"team": "fraud"}},
            "drift": {"zScoreThreshold": 4},
        },
    }
    objects = rendered(
        helm,
        bare_chart,
        "--set-json",
        f"inferenceServices=[{json.dumps(entry)}]",
        "--set",
        "imagePullSecrets[0].name=login",
    )

    service = objects["InferenceService", "models", "fraud"]
    assert service["metadata"]["annotations"] == {"aiops-quality.io/health-on-drift": "Degraded"}
    assert service["spec"] == {
        "model": {
            "artifacts": {"persistentVolumeClaim": {"claimName": "models", "path": "fraud/v3"}},
            "modelFile": "model.joblib",
        },
        "imagePullPolicy": "Always",
        "replicas": 2,
        "podTemplate": {"labels": {"team": "fraud"}, "imagePullSecrets": [{"name": "login"}]},
        "drift": {"zScoreThreshold": 4},
    }
    pod = objects["Deployment", "models", "aiops-quality-operator"]["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "login"}]


def test_several_services_of_one_release(helm, chart) -> None:
    """Each entry is a service; those without a source of their own share the files, each by its own ConfigMap."""
    services = [{}, {"name": "b", "artifacts": {"image": {"reference": "registry.example.com/b:1"}}}, {"name": "c"}]
    objects = rendered(helm, chart, "--set-json", f"inferenceServices={json.dumps(services)}")

    assert sorted(name for kind, _, name in objects if kind == "InferenceService") == ["aiops-quality", "b", "c"]
    assert sorted(name for kind, _, name in objects if kind == "ConfigMap") == [
        "aiops-quality-artifacts",
        "c-artifacts",
    ]


def test_the_operator_alone(helm, bare_chart) -> None:
    """With no services there is nothing to train first."""
    objects = rendered(helm, bare_chart, "--set-json", "inferenceServices=[]")

    assert {kind for kind, _, _ in objects} == {
        *("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Service", "Deployment", "Pod")
    }


def test_services_alone(helm, chart) -> None:
    """Without an operator of its own a release says in the resource which image it wants."""
    objects = rendered(helm, chart, "--set", "operator.enabled=false", "--set", "image.repository=example.com/a")

    assert {kind for kind, _, _ in objects} == {"ConfigMap", "InferenceService", "Pod"}
    assert objects["InferenceService", "models", "aiops-quality"]["spec"]["image"] == "example.com/a:0.1.0"


@pytest.mark.parametrize(
    ("values", "env"),
    [
        ({}, {}),
        ({"url": "https://e/x"}, {"DRIFT_SINK_URL": "https://e/x"}),
        ({"url": "https://e/x", "secretName": "s"}, {"DRIFT_SINK_URL": "https://e/x", "DRIFT_SINK_SECRET": "s/secret"}),
        ({"secretName": "s"}, {"DRIFT_SINK_URL": "s/url", "DRIFT_SINK_SECRET": "s/secret"}),
    ],
)
def test_the_operator_is_told_of_the_sink(helm, bare_chart, values, env) -> None:
    """By its URL or by a Secret, which the kubelet reads and the operator does not."""
    sink = ("--set-json", f"operator.driftSink={json.dumps(values)}")
    objects = rendered(helm, bare_chart, "--set-json", "inferenceServices=[]", *sink)
    container = objects["Deployment", "models", "aiops-quality-operator"]["spec"]["template"]["spec"]["containers"][0]
    found = {entry["name"]: entry for entry in container["env"] if entry["name"].startswith("DRIFT_SINK")}

    assert env == {name: entry.get("value") or referred(entry["valueFrom"]) for name, entry in found.items()}


def referred(source: dict[str, Any]) -> str:
    """The key of a Secret that a variable is taken from."""
    return f"{source['secretKeyRef']['name']}/{source['secretKeyRef']['key']}"


def test_the_operators_pod_can_be_placed(helm, bare_chart) -> None:
    """Where the pod runs, and what it carries, is the installer's to say."""
    values = {
        "podAnnotations": {"example.com/owner": "ops"},
        "podLabels": {"team": "ops"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "logLevel": "DEBUG",
        "pollInterval": 0.5,
    }
    objects = rendered(
        helm, bare_chart, "--set-json", "inferenceServices=[]", "--set-json", f"operator={json.dumps(values)}"
    )
    template = objects["Deployment", "models", "aiops-quality-operator"]["spec"]["template"]
    pod = template["spec"]
    env = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}

    assert template["metadata"]["annotations"]["example.com/owner"] == "ops"
    assert template["metadata"]["labels"]["team"] == "ops"
    assert [pod[key] for key in ("nodeSelector", "tolerations", "affinity", "priorityClassName")] == [
        values[key] for key in ("nodeSelector", "tolerations", "affinity", "priorityClassName")
    ]
    assert [env[name] for name in ("HTTPS_PROXY", "LOG_LEVEL", "POLL_INTERVAL")] == [
        "http://proxy:3128",
        "DEBUG",
        "0.5",
    ]


def test_missing_artifacts_say_what_to_run(helm, bare_chart) -> None:
    """The template error names the command, the value and the way to have the operator alone."""
    said = refusal(helm, bare_chart)

    assert (
        'no artifacts for the InferenceService "aiops-quality": model.pkl is not in the chart\'s model_artifacts/. Run '
        "`python training/train.py --output helm/model_artifacts`, or set "
        "inferenceServices[0].artifacts.existingConfigMap to a ConfigMap that holds them, or install the operator alone "
        "with --set-json inferenceServices=[]"
    ) in said


def test_the_model_of_another_format_is_found(helm, chart, tmp_path) -> None:
    """Training writes model.skops, and nobody has to say so: the server takes it where model.pkl is not there."""
    other = tmp_path / "helm"
    shutil.copytree(chart, other)
    (other / "model_artifacts" / "model.pkl").rename(other / "model_artifacts" / "model.skops")
    found = rendered(helm, other)

    assert {"model.skops", "baseline.npy"} == found["ConfigMap", "models", "aiops-quality-artifacts"][
        "binaryData"
    ].keys()
    assert "modelFile" not in found["InferenceService", "models", "aiops-quality"]["spec"]["model"]


def test_artifacts_that_do_not_fit_are_refused(helm, chart, tmp_path) -> None:
    """More bytes than a release can carry fail before anything is applied, and other ways are named."""
    large = tmp_path / "helm"
    shutil.copytree(chart, large)
    (large / "model_artifacts" / "model.pkl").write_bytes(bytes(330 * 1024))

    said = refusal(helm, large)

    assert "more than the 330 KiB that fit into a Helm release: put them into a ConfigMap of your own" in said
    assert rendered(helm, large, "--set", "artifactsMaxKiB=400")


def test_artifacts_of_several_services_are_counted_together(helm, chart, tmp_path) -> None:
    """Each service's ConfigMap takes its own room in the release."""
    large = tmp_path / "helm"
    shutil.copytree(chart, large)
    (large / "model_artifacts" / "model.pkl").write_bytes(bytes(200 * 1024))

    assert rendered(helm, large)
    assert "more than the 330 KiB" in refusal(helm, large, "--set-json", 'inferenceServices=[{}, {"name": "b"}]')


def test_the_manifest_that_training_writes_beside_is_not_packed(helm, chart, tmp_path) -> None:
    """`train.py --configmap` leaves the same bytes once more as configmap.yaml; the chart leaves it out."""
    beside = tmp_path / "helm"
    shutil.copytree(chart, beside)
    (beside / "model_artifacts" / "configmap.yaml").write_bytes(bytes(500 * 1024))

    assert rendered(helm, beside) == rendered(helm, chart)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--set", "inferenceServices[0].name=3iris"],
            (
                'inferenceServices[0]: the name "3iris" cannot be that of a Service: set inferenceServices[0].name to at most '
                "50 lower-case letters, digits and '-', with a letter first, such as iris"
            ),
        ),
        (
            ["--set-json", "inferenceServices=[{}, {}]"],
            'inferenceServices[1]: two services are called "aiops-quality": set inferenceServices[1].name to another',
        ),
        (
            ["--set", "inferenceServices[0].name=aiops-quality-operator"],
            'inferenceServices[0]: "aiops-quality-operator" is the name of the operator\'s own objects',
        ),
        (
            ["--set", "inferenceServices[0].spec.model.artifacts.configMap.name=a"],
            "inferenceServices[0].spec.model.artifacts: write it as inferenceServices[0].artifacts instead",
        ),
        (
            ["--set", "watchNamespaces={fraud}"],
            (
                "watchNamespaces: the operator would not see the InferenceServices of this release: add its namespace "
                '"models" to the list'
            ),
        ),
    ],
    ids=["name", "twice", "operator's name", "artifacts in the spec", "namespace not watched"],
)
def test_values_that_contradict_are_refused(helm, chart, arguments, sentence) -> None:
    """What the schema cannot see is refused by the templates."""
    assert sentence in refusal(helm, chart, *arguments)


def test_a_release_name_that_is_no_service_name_is_refused(helm, chart) -> None:
    """The release's name is the default of the service's."""
    assert "set inferenceServices[0].name" in refusal(helm, chart, release="7up")


@pytest.mark.parametrize(
    ("argument", "where"),
    [
        ("image.repositry=a", "additional properties 'repositry' not allowed"),
        ("imagePullPolicy=Always", "additional properties 'imagePullPolicy' not allowed"),
        ("image.repository=", "at '/image/repository'"),
        ("image.repository=a b", "at '/image/repository'"),
        ("image.pullPolicy=Sometimes", "at '/image/pullPolicy'"),
        ("operator.logLevel=verbose", "at '/operator/logLevel'"),
        ("operator.pollInterval=0", "at '/operator/pollInterval'"),
        ("operator.replicas=0", "at '/operator/replicas': minimum: got 0, want 1"),
        ("operator.podLabels.app=x", "at '/operator/podLabels/app'"),
        ("operator.extraEnv[0].name=INFERENCE_IMAGE", "at '/operator/extraEnv/0/name'"),
        ("operator.driftSink.url=ftp://a", "at '/operator/driftSink/url'"),
        ("operator.driftSink.secretName=A_B", "at '/operator/driftSink/secretName'"),
        ("watchNamespaces={Models}", "at '/watchNamespaces/0'"),
        ("artifactsMaxKiB=4000", "at '/artifactsMaxKiB'"),
        ("inferenceServices[0].replicas=2", "additional properties 'replicas' not allowed"),
        ("inferenceServices[0].artifacts.git=git://a", "additional properties 'git' not allowed"),
        ("inferenceServices[0].artifacts.uri=ftp://a", "at '/inferenceServices/0/artifacts/uri'"),
        (
            "inferenceServices[0].artifacts.existingConfigMap=A_B",
            "at '/inferenceServices/0/artifacts/existingConfigMap'",
        ),
    ],
)
def test_values_outside_the_schema_are_refused(helm, chart, argument, where) -> None:
    """A misspelt or impossible value is named, not ignored."""
    assert where in refusal(helm, chart, "--set", argument)


@pytest.mark.parametrize(
    "two",
    [
        {"existingConfigMap": "a", "image": {"reference": "b"}},
        {"existingConfigMap": "a", "uri": "s3://b"},
        {"secretRef": {"name": "a"}},
        {"existingConfigMap": "a", "secretRef": {"name": "b"}},
    ],
    ids=json.dumps,
)
def test_two_sources_of_artifacts_are_refused(helm, chart, two) -> None:
    """A service has one source of artifacts, and a Secret goes with a URI alone."""
    assert "at '/inferenceServices/0/artifacts'" in refusal(
        helm, chart, "--set-json", f"inferenceServices[0].artifacts={json.dumps(two)}"
    )


def test_every_value_is_in_the_schema_and_described(chart) -> None:
    """values.yaml and values.schema.json know the same values, each with a description."""
    schema = json.loads((chart / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((chart / "values.yaml").read_text(encoding="utf-8"))

    assert {*values, "global"} == set(schema["properties"])
    assert set(values["operator"]) == set(schema["properties"]["operator"]["properties"])
    assert undescribed("", schema["properties"]) == []


def undescribed(path: str, properties: dict[str, Any]) -> list[str]:
    """Paths of the values that have no description."""
    found = []
    for name, schema in properties.items():
        if not schema.get("description", "").endswith("."):
            found.append(f"{path}.{name}")
        found += undescribed(f"{path}.{name}", schema.get("properties", {}))
        found += undescribed(f"{path}.{name}[]", schema.get("items", {}).get("properties", {}))
    return found


def test_lint(helm, chart, bare_chart) -> None:
    """`helm lint --strict` has nothing to say, with artifacts and without."""
    assert [helm("lint", "--strict", str(path)).returncode for path in (chart, bare_chart)] == [0, 0]
