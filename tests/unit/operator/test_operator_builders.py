"""Golden objects of the builders: the whole dict, so that no field slips in or out."""

import hashlib
import json

import pytest
import yaml

from aiops_operator import resources, rollback
from aiops_operator.resources import Mount, Scrape

LABELS = {
    "app": "iris",
    "app.kubernetes.io/name": "inferenceservice",
    "app.kubernetes.io/instance": "iris",
    "app.kubernetes.io/managed-by": "aiops-operator",
    "aiops-quality.io/inferenceservice": "iris",
}
SELECTOR = {"app": "iris", "aiops-quality.io/inferenceservice": "iris"}
SPREAD = {
    "maxSkew": 1,
    "topologyKey": "kubernetes.io/hostname",
    "whenUnsatisfiable": "ScheduleAnyway",
    "labelSelector": {"matchLabels": SELECTOR},
    "matchLabelKeys": ["pod-template-hash"],
}
DIGEST = "sha256:" + "ab" * 32
MOUNT = resources.config_map_mount("iris-model-ababababab", DIGEST)
AS_NEEDED = Scrape(annotated=True, forced=False)


def metadata(name: str = "iris", **more: object) -> dict[str, object]:
    """Metadata that all children share."""
    owner = {
        "apiVersion": "aiops-quality.io/v1alpha1",
        "kind": "InferenceService",
        "name": "iris",
        "uid": "uid-1",
        "controller": True,
        "blockOwnerDeletion": False,
    }
    return {"name": name, "namespace": "models", "labels": LABELS, "ownerReferences": [owner], **more}


def build(service, mount: Mount = MOUNT, image: str = "i:1", scrape: Scrape = AS_NEEDED, stored=None):
    """A Deployment."""
    revision = resources.revision(service, mount, image, scrape, stored)
    return resources.with_template(service, revision.template, resources.History())


def test_service(make):
    """Port 80 to the pods' http port."""
    assert resources.service(make()) == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(),
        "spec": {
            "selector": SELECTOR,
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def test_pod_disruption_budget(make):
    """One pod at a time."""
    assert resources.pod_disruption_budget(make({"replicas": 2})) == {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": SELECTOR}},
    }


@pytest.mark.parametrize(
    ("policy", "peers"),
    [
        ({}, []),
        ({"from": [{"podSelector": {}}]}, [{"podSelector": {}}]),
        (
            {
                "from": [
                    {"namespaceSelector": {"matchLabels": {"team": "web"}}, "podSelector": {"matchLabels": {"a": "b"}}}
                ]
            },
            [{"namespaceSelector": {"matchLabels": {"team": "web"}}, "podSelector": {"matchLabels": {"a": "b"}}}],
        ),
        ({"from": [{"namespaceSelector": {"matchLabels": {}}}]}, [{"namespaceSelector": {}}]),
    ],
)
def test_network_policy(make, policy, peers):
    """To the one port, for those who are named and those who always may."""
    service = make({"networkPolicy": policy})
    always = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    assert resources.network_policy(service, service.network_policy, [always]) == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(),
        "spec": {
            "podSelector": {"matchLabels": SELECTOR},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [*peers, always], "ports": [{"port": "http", "protocol": "TCP"}]}],
        },
    }


def test_a_network_policy_that_names_nobody_lets_nobody_in(make):
    """A rule without peers would let everybody in."""
    service = make({"networkPolicy": {}})
    spec = resources.network_policy(service, service.network_policy, [])["spec"]
    assert spec == {"podSelector": {"matchLabels": SELECTOR}, "policyTypes": ["Ingress"]}


def test_pods_are_spread_over_nodes_unless_the_service_says_otherwise(make):
    """By its own constraints, by an affinity, or by an empty list."""
    zone = {"maxSkew": 2, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
    found = [
        build(make({"podTemplate": given}))["spec"]["template"]["spec"].get("topologySpreadConstraints")
        for given in (
            {},
            {"topologySpreadConstraints": [zone]},
            {"topologySpreadConstraints": []},
            {"affinity": {"nodeAffinity": {}}},
        )
    ]
    assert found == [[SPREAD], [zone], None, None]


def test_service_monitor(make):
    """The user's labels are added, ours win."""
    monitoring = {"interval": "7s", "labels": {"release": "prometheus", "app": "mine"}}
    assert resources.service_monitor(make({"monitoring": monitoring})) == {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": metadata(labels={**LABELS, "release": "prometheus"}),
        "spec": {
            "selector": {"matchLabels": SELECTOR},
            "endpoints": [{"port": "http", "path": "/metrics", "interval": "7s"}],
        },
    }


def test_runtime_config_map(make):
    """What the pods read again without a restart, with the cooldown in seconds."""
    drift = {
        "zScoreThreshold": 4.5,
        "features": [{"name": "petal length (cm)", "zScoreThreshold": 4}],
        "expectations": {"mode": "disabled"},
        "webhook": {"url": "http://hook", "cooldown": "90s"},
    }
    built = resources.runtime_config_map(make({"drift": drift}))
    assert yaml.safe_load(built["data"].pop("runtime.yaml")) == {
        "drift": {
            "zScoreThreshold": 4.5,
            "features": [{"name": "petal length (cm)", "zScoreThreshold": 4.0}],
            "minSamples": 50,
            "falseAlarmInterval": 30 * 86400,
            "expectations": {"mode": "disabled"},
            "webhook": {"cooldown": 90},
        }
    }
    assert built == {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("iris-runtime"), "data": {}}


def test_the_run_length_asked_for_reaches_the_pods(make):
    """In rows where it was asked for so, and in seconds."""
    built = resources.runtime_config_map(
        make({"drift": {"averageRunLength": 20000, "falseAlarmInterval": "1h", "minSamples": 80}})
    )
    drift = yaml.safe_load(built["data"]["runtime.yaml"])["drift"]
    assert (20000, 3600, 80) == (drift["averageRunLength"], drift["falseAlarmInterval"], drift["minSamples"])


@pytest.mark.parametrize(
    ("keys", "model_file", "found"),
    [
        (["model.pkl", "model.skops"], "model.pkl", "model.pkl"),
        (["model.onnx", "model.skops"], "model.pkl", "model.skops"),
        (["model.joblib", "model.pkl"], "model.skops", None),
        (["model.onnx", "model.pkl"], "model.skops", "model.onnx"),
        (["v1.2.onnx"], "v1.2.pkl", "v1.2.onnx"),
        (["model.skops"], "other.pkl", None),
        (["model.h5", "baseline.npy"], "model.pkl", None),
    ],
)
def test_the_model_is_found_as_the_pods_find_it(keys, model_file, found):
    """Under its own name, or in a known format beside it."""
    assert found == resources.model_key(dict.fromkeys(keys, "sha256:0"), model_file)


def test_model_config_map(make):
    """An immutable copy of both data and binaryData, named by the digest of the content."""
    source = {"data": {"manifest.json": "{}"}, "binaryData": {"model.pkl": "AAEC"}}
    digest = resources.artifacts_of(source).digest
    assert resources.model_config_map(make(), source) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(f"iris-model-{digest[7:17]}"),
        "immutable": True,
        **source,
    }


def test_artifacts_are_digested_by_content():
    """Text and base64 of the same bytes are the same artifacts; a digest a file is that of its bytes."""
    as_text, as_base64 = ({"data": {"a": "hi"}}, {"binaryData": {"a": "aGk="}})
    hi = "sha256:8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4"
    assert resources.artifacts_of(as_text) == resources.artifacts_of(as_base64)
    assert resources.artifacts_of(as_text).files == {"a": hi}


@pytest.mark.parametrize("other", [{"a": "h", "b": "i"}, {"b": "hi"}, {"a": "hi "}, {}])
def test_other_artifacts_have_another_digest(other):
    """Keys count as well as bytes, and bytes do not move from one file to the next unnoticed."""
    assert resources.artifacts_of({"data": other}).digest != resources.artifacts_of({"data": {"a": "hi"}}).digest


def test_deployment(make):
    """The whole Deployment of the least spec."""
    service = make()
    digest = resources.template_hash(service, MOUNT, "i:1")
    health = {"path": "/health", "port": "http"}
    template = {
        "metadata": {
            "labels": LABELS,
            "annotations": {
                "aiops-quality.io/template-hash": digest,
                "prometheus.io/scrape": "true",
                "prometheus.io/port": "8000",
                "prometheus.io/path": "/metrics",
            },
        },
        "spec": {
            "topologySpreadConstraints": [SPREAD],
            "serviceAccountName": "default",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 30,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "inference",
                    "image": "i:1",
                    "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"}],
                    "env": [
                        {"name": "SERVICE_NAME", "value": "iris"},
                        {"name": "MODEL_PATH", "value": "/models/model.pkl"},
                        {"name": "BASELINE_PATH", "value": "/models/baseline.npy"},
                        {"name": "EXPECTATIONS_PATH", "value": "/models/expectations.json"},
                    ],
                    "resources": {"requests": {"cpu": "50m", "memory": "448Mi"}, "limits": {"memory": "1Gi"}},
                    "volumeMounts": [
                        {"name": "artifacts", "mountPath": "/models", "readOnly": True},
                        {"name": "runtime", "mountPath": "/etc/aiops", "readOnly": True},
                        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  a path in the container
                    ],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "startupProbe": {
                        "httpGet": health,
                        "periodSeconds": 1,
                        "timeoutSeconds": 2,
                        "failureThreshold": 120,
                    },
                    "readinessProbe": {
                        "httpGet": health,
                        "periodSeconds": 5,
                        "timeoutSeconds": 3,
                        "failureThreshold": 2,
                    },
                    "livenessProbe": {
                        "httpGet": {"path": "/livez", "port": "http"},
                        "periodSeconds": 10,
                        "timeoutSeconds": 5,
                        "failureThreshold": 6,
                    },
                    "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
                }
            ],
            "volumes": [
                {"name": "artifacts", "configMap": {"name": "iris-model-ababababab"}},
                {"name": "runtime", "configMap": {"name": "iris-runtime"}},
                {"name": "tmp", "emptyDir": {}},
            ],
        },
    }
    built = build(service)
    remembered = built["metadata"]["annotations"].pop("aiops-quality.io/applied-template")
    digest = built["metadata"]["annotations"].pop("aiops-quality.io/applied-template-digest")
    assert (json.loads(remembered), digest) == (template, hashlib.sha256(remembered.encode()).hexdigest()[:16])
    assert built == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(annotations={}),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": SELECTOR},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "progressDeadlineSeconds": 120,
            "revisionHistoryLimit": 3,
            "template": template,
        },
    }


def test_what_the_pod_template_asks_for_reaches_the_pods(make):
    """Labels and annotations are added, ours win; the rest is passed on; an empty part is left out."""
    given = {
        "labels": {"team": "a", "app": "mine"},
        "annotations": {"example.com/owner": "b"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "serviceAccountName": "reader",
        "imagePullSecrets": [{"name": "pull"}],
        "priorityClassName": "high",
        "env": [{"name": "LOG_LEVEL", "value": "DEBUG"}, {"name": "MODEL_PATH", "value": "/mine"}],
    }
    service = make({"podTemplate": given, "imagePullPolicy": "Never", "resources": {"limits": {"cpu": 1}}})
    template = build(service)["spec"]["template"]
    container = template["spec"]["containers"][0]
    passed_on = (
        "nodeSelector",
        "tolerations",
        "affinity",
        "serviceAccountName",
        "imagePullSecrets",
        "priorityClassName",
    )
    assert {name: template["spec"][name] for name in passed_on} == {name: given[name] for name in passed_on}
    assert template["metadata"]["labels"] == {"team": "a", **LABELS}
    assert template["metadata"]["annotations"]["example.com/owner"] == "b"
    assert (container["imagePullPolicy"], container["resources"]) == ("Never", {"limits": {"cpu": 1}})
    assert {entry["name"]: entry["value"] for entry in container["env"]} == {
        "SERVICE_NAME": "iris",
        "MODEL_PATH": "/mine",
        "BASELINE_PATH": "/models/baseline.npy",
        "EXPECTATIONS_PATH": "/models/expectations.json",
        "LOG_LEVEL": "DEBUG",
    }
    assert "nodeSelector" not in build(make({"podTemplate": {"nodeSelector": {}}}))["spec"]["template"]["spec"]


def test_the_webhook_and_the_digest_reach_the_pods(make):
    """An address in a Secret is referred to and never read."""
    webhook = {"urlSecretRef": {"name": "hook", "key": "url"}, "required": True}
    model = {"artifacts": {"configMap": {"name": "a"}}, "sha256": "ab", "modelFile": "m.joblib"}
    container = build(make({"model": model, "drift": {"webhook": webhook}}))["spec"]["template"]["spec"]["containers"][
        0
    ]
    assert container["env"] == [
        {"name": "SERVICE_NAME", "value": "iris"},
        {"name": "MODEL_PATH", "value": "/models/m.joblib"},
        {"name": "BASELINE_PATH", "value": "/models/baseline.npy"},
        {"name": "EXPECTATIONS_PATH", "value": "/models/expectations.json"},
        {"name": "MODEL_SHA256", "value": "ab"},
        {"name": "DRIFT_WEBHOOK", "valueFrom": {"secretKeyRef": {"name": "hook", "key": "url"}}},
        {"name": "REQUIRE_WEBHOOK", "value": "true"},
    ]
    plain = build(make({"drift": {"webhook": {"url": "http://hook"}}}))["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "DRIFT_WEBHOOK", "value": "http://hook"} in plain["env"]


@pytest.mark.parametrize(
    ("artifacts", "volume", "sub_path"),
    [
        (
            {"persistentVolumeClaim": {"claimName": "c"}},
            {"persistentVolumeClaim": {"claimName": "c", "readOnly": True}},
            None,
        ),
        (
            {"persistentVolumeClaim": {"claimName": "c", "path": "iris/v3"}},
            {"persistentVolumeClaim": {"claimName": "c", "readOnly": True}},
            "iris/v3",
        ),
        ({"image": {"reference": "r/i:1"}}, {"image": {"reference": "r/i:1"}}, None),
        (
            {"image": {"reference": "r/i:1", "pullPolicy": "Never"}},
            {"image": {"reference": "r/i:1", "pullPolicy": "Never"}},
            None,
        ),
    ],
)
def test_other_sources_are_mounted_read_only(make, artifacts, volume, sub_path):
    """A claim with its directory, an image as a volume."""
    service = make({"model": {"artifacts": artifacts}})
    source = service.model.source
    mount = resources.claim_mount(source) if "persistentVolumeClaim" in artifacts else resources.image_mount(source)
    pod = build(service, mount)["spec"]["template"]["spec"]
    found = pod["containers"][0]["volumeMounts"][0]
    assert (pod["volumes"][0], found.get("subPath"), found["readOnly"]) == (
        {"name": "artifacts", **volume},
        sub_path,
        True,
    )


URI = {"artifacts": {"uri": "s3://models/iris/v3", "secretRef": {"name": "reader"}}, "sha256": "ab"}


def fetching(service):
    """The pods of a service whose artifacts are at a URI."""
    return build(service, resources.uri_mount(service, service.model.source))["spec"]["template"]["spec"]


def test_what_is_at_a_uri_is_fetched_by_an_init_container(make):
    """As confined as the server, with its resources, and with a Secret that the kubelet alone reads."""
    given = {"env": [{"name": "AWS_REGION", "value": "eu-west-1"}]}
    pod = fetching(make({"model": URI, "imagePullPolicy": "Never", "podTemplate": given}))
    server = pod["containers"][0]
    assert pod["initContainers"] == [
        {
            "name": "fetch",
            "image": "i:1",
            "imagePullPolicy": "Never",
            "command": ["python", "-m", "aiops_inference.fetch"],
            "env": [
                {"name": "ARTIFACTS_URI", "value": "s3://models/iris/v3"},
                {"name": "MODEL_PATH", "value": "/models/model.pkl"},
                {"name": "BASELINE_PATH", "value": "/models/baseline.npy"},
                {"name": "EXPECTATIONS_PATH", "value": "/models/expectations.json"},
                {"name": "MODEL_SHA256", "value": "ab"},
                {"name": "AWS_REGION", "value": "eu-west-1"},
            ],
            "envFrom": [{"secretRef": {"name": "reader"}}],
            "resources": server["resources"],
            "volumeMounts": [{"name": "artifacts", "mountPath": "/models"}],
            "securityContext": server["securityContext"],
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }
    ]
    assert pod["volumes"][0] == {"name": "artifacts", "emptyDir": {"sizeLimit": "2112Mi"}}
    assert server["volumeMounts"][0] == {"name": "artifacts", "mountPath": "/models", "readOnly": True}
    assert "envFrom" not in server


def test_what_is_at_a_uri_is_pinned_by_its_digest_alone(make):
    """Without it the last good revision cannot be put back: it may fetch something else."""
    loose = {key: value for key, value in URI.items() if key != "sha256"}
    templates = [{"spec": fetching(make({"model": model}))} for model in (URI, loose)]
    assert [rollback.pinned(template) for template in templates] == [True, False]


def test_no_secret_no_reference(make):
    """Where everybody may read."""
    assert "envFrom" not in fetching(make({"model": {"artifacts": {"uri": "s3://models"}}}))["initContainers"][0]


@pytest.mark.parametrize(
    ("entry", "volume"),
    [
        ({"value": "1048576"}, {"sizeLimit": "65Mi"}),
        ({"value": "much"}, {}),
        ({"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}, {}),
    ],
)
def test_the_room_for_artifacts_is_what_may_be_fetched(make, entry, volume):
    """MAX_MODEL_BYTES and a little more; no bound where only the pod knows it."""
    given = {"env": [{"name": "MAX_MODEL_BYTES"} | entry]}
    pod = fetching(make({"model": URI, "podTemplate": given}))
    assert pod["volumes"][0] == {"name": "artifacts", "emptyDir": volume}


def test_another_uri_or_secret_rolls_the_pods(make):
    """Each is in the hash."""
    artifacts = [
        {"uri": "s3://models"},
        {"uri": "s3://models/iris"},
        {"uri": "s3://models", "secretRef": {"name": "a"}},
    ]
    services = [make({"model": {"artifacts": each}}) for each in artifacts]
    hashes = {
        resources.template_hash(service, resources.uri_mount(service, service.model.source), "i:1")
        for service in services
    }
    assert len(hashes) == 3


MODEL = {"artifacts": {"configMap": {"name": "a"}}}


@pytest.mark.parametrize(
    "spec",
    [
        {"model": MODEL | {"modelFile": "other.pkl"}},
        {"model": MODEL | {"baselineFile": "other.npy"}},
        {"model": MODEL | {"expectationsFile": "other.json"}},
        {"model": MODEL | {"sha256": "ab"}},
        {"imagePullPolicy": "Always"},
        {"resources": {"requests": {"cpu": "1"}}},
        {"podTemplate": {"labels": {"team": "a"}}},
        {"podTemplate": {"topologySpreadConstraints": []}},
        {"drift": {"webhook": {"url": "http://hook"}}},
        {"drift": {"webhook": {"urlSecretRef": {"name": "s", "key": "k"}}}},
        {"drift": {"webhook": {"required": True}}},
    ],
)
def test_what_rolls(make, spec):
    """Each of these makes another template."""
    assert resources.template_hash(make(spec), MOUNT, "i:1") != resources.template_hash(make(), MOUNT, "i:1")


def test_the_artifacts_and_the_image_roll(make):
    """Other bytes under the same name roll too."""
    digests = {
        resources.template_hash(make(), mount, image)
        for mount in (MOUNT, resources.config_map_mount("iris-model-ababababab", "sha256:other"))
        for image in ("i:1", "i:2")
    }
    assert len(digests) == 4


@pytest.mark.parametrize(
    "spec",
    [
        {"replicas": 7},
        {"paused": True},
        {"drift": {"zScoreThreshold": 2}},
        {"drift": {"minSamples": 500}},
        {"drift": {"features": [{"name": "a", "zScoreThreshold": 1}]}},
        {"drift": {"expectations": {"mode": "disabled"}}},
        {"monitoring": {"interval": "1s", "labels": {"release": "b"}}},
        {"monitoring": {"mode": "none"}},
        {"networkPolicy": {}},
    ],
)
def test_what_does_not_roll(make, spec):
    """None of these makes another template."""
    assert resources.template_hash(make(spec), MOUNT, "i:1") == resources.template_hash(make(), MOUNT, "i:1")


def test_the_cooldown_does_not_roll(make):
    """Only the webhook's address and whether it is required do."""
    long, short = ({"drift": {"webhook": {"url": "http://hook", "cooldown": time}}} for time in ("1h", "1s"))
    assert resources.template_hash(make(long), MOUNT, "i:1") == resources.template_hash(make(short), MOUNT, "i:1")


def test_an_acknowledged_episode_mutes_the_webhooks_and_does_not_roll(make):
    """While the status shows the episode that the spec names; another is told."""
    spec = {"drift": {"acknowledgedEpisode": "e1", "webhook": {"url": "http://hook"}}}
    muted = []
    for shown in ({"episode": "e1"}, {"episode": "e2"}, {}):
        built = resources.runtime_config_map(make(spec, {"drift": shown}))
        muted.append(yaml.safe_load(built["data"]["runtime.yaml"])["drift"]["webhook"].get("muted"))
    assert muted == [True, None, None]
    without = make({"drift": {"webhook": {"url": "http://hook"}}})
    acknowledged = make(spec, {"drift": {"episode": "e1"}})
    assert resources.template_hash(acknowledged, MOUNT, "i:1") == resources.template_hash(without, MOUNT, "i:1")


def test_an_upgraded_operator_keeps_the_template_of_the_one_before(make):
    """Same question, same answer, whatever this operator would have built; until the question changes."""
    service = make()
    live = build(service)
    stored = resources.stored_template(live)
    old = json.loads(json.dumps(stored.template))
    old["spec"]["terminationGracePeriodSeconds"] = 99  # as an operator before this one built it
    kept = build(service, stored=resources.Stored(stored.hash, old))
    rolled = build(make({"imagePullPolicy": "Always"}), stored=resources.Stored(stored.hash, old))
    grace = [entry["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] for entry in (live, kept, rolled)]
    assert grace == [30, 99, 30]


@pytest.mark.parametrize(
    ("scrape", "annotated"),
    [
        (Scrape(annotated=False, forced=False), True),
        (Scrape(annotated=False, forced=True), False),
        (Scrape(annotated=True, forced=True), True),
    ],
)
def test_pods_roll_for_their_annotations_only_where_they_must(make, scrape, annotated):
    """A ServiceMonitor kind that comes later rolls nothing; a mode that says so does."""
    stored = resources.stored_template(build(make()))
    template = build(make(), scrape=scrape, stored=stored)["spec"]["template"]
    assert ("prometheus.io/scrape" in template["metadata"]["annotations"]) == annotated


@pytest.mark.parametrize("annotation", [None, "", "{", "[]", '{"metadata": {}}', "null"])
def test_a_deployment_that_remembers_nothing_of_use(annotation):
    """A broken annotation is as good as none."""
    annotations = {}
    if annotation is not None:
        annotations["aiops-quality.io/applied-template"] = annotation
        annotations["aiops-quality.io/applied-template-digest"] = hashlib.sha256(annotation.encode()).hexdigest()[:16]
    assert resources.stored_template({"metadata": {"annotations": annotations}}) is None


@pytest.mark.parametrize(
    "edit",
    [
        lambda remembered, digest: (remembered.replace('"terminationGracePeriodSeconds":30', '"x":30'), digest),
        lambda remembered, digest: (remembered, digest[::-1]),
        lambda remembered, _: (remembered, None),
        lambda remembered, _: (remembered, 7),
    ],
)
def test_a_template_that_was_edited_where_it_is_remembered_is_built_anew(make, edit):
    """An edit by hand of the annotation is undone like any other."""
    live = build(make())
    names = ("aiops-quality.io/applied-template", "aiops-quality.io/applied-template-digest")
    edited = edit(*(live["metadata"]["annotations"][name] for name in names))
    annotations = dict(zip(names, edited, strict=True))
    stored = resources.stored_template(live | {"metadata": live["metadata"] | {"annotations": annotations}})
    assert (stored, build(make(), stored=stored)) == (None, live)


BESIDE = {**LABELS, "app": "iris-shadow", "app.kubernetes.io/instance": "iris-shadow"}
BESIDE_SELECTOR = {"app": "iris-shadow", "aiops-quality.io/inferenceservice": "iris"}


def test_shadow_deployment(make):
    """One pod as a rollout would make it, but that nobody outside notices: not behind the Service, and without a webhook."""
    webhook = {
        "url": "https://hooks.example.com",
        "required": True,
        "signingSecretRef": {"name": "hook", "key": "sign"},
    }
    service = make({"drift": {"webhook": webhook}, "podTemplate": {"labels": {"team": "fraud"}}})
    template = resources.revision(service, MOUNT, "i:1", AS_NEEDED, None).template
    expected = json.loads(json.dumps(template))
    expected["metadata"]["labels"] |= BESIDE
    (container,) = expected["spec"]["containers"]
    container["env"] = [entry for entry in container["env"] if "WEBHOOK" not in entry["name"]]
    container["env"].append({"name": "RUNTIME_CONFIG", "value": "/etc/aiops/shadow.yaml"})

    assert resources.shadow_deployment(service, template) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata("iris-shadow", labels=BESIDE),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": BESIDE_SELECTOR},
            "strategy": {"type": "Recreate"},
            "progressDeadlineSeconds": 120,
            "revisionHistoryLimit": 3,
            "template": expected,
        },
    }


def test_a_shadow_keeps_its_own_settings_though_the_service_names_others(make):
    """The variables of spec.podTemplate win over the operator's everywhere else."""
    given = [
        {"name": "RUNTIME_CONFIG", "value": "/x"},
        {"name": "DRIFT_WEBHOOK", "value": "https://x"},
        {"name": "A", "value": "b"},
    ]
    service = make({"podTemplate": {"env": given}})
    template = resources.revision(service, MOUNT, "i:1", AS_NEEDED, None).template
    env = resources.shadow_deployment(service, template)["spec"]["template"]["spec"]["containers"][0]["env"]

    assert {"A": "b", "RUNTIME_CONFIG": "/etc/aiops/shadow.yaml"} == {
        entry["name"]: entry["value"] for entry in env if entry["name"] in {"A", "RUNTIME_CONFIG", "DRIFT_WEBHOOK"}
    }


def test_what_a_shadow_is_reached_and_scraped_by(make):
    """Its own Service and ServiceMonitor; what selects the service's pods does not select its."""
    service = make({"monitoring": {"labels": {"release": "prometheus"}}})
    reached, scraped = resources.service(service, "iris-shadow"), resources.service_monitor(service, "iris-shadow")

    assert metadata("iris-shadow", labels=BESIDE) == reached["metadata"]
    assert BESIDE_SELECTOR == reached["spec"]["selector"]
    assert metadata("iris-shadow", labels={"release": "prometheus", **BESIDE}) == scraped["metadata"]
    assert {"matchLabels": BESIDE_SELECTOR} == scraped["spec"]["selector"]


def test_shadow_network_policy(make):
    """The service's own pods are let in, and who always is; not those whom the service lets in."""
    service = make({"networkPolicy": {"from": [{"podSelector": {"matchLabels": {"app": "shop"}}}]}})
    peers = [{"podSelector": {"matchLabels": SELECTOR}}, {"namespaceSelector": {}}]

    assert resources.shadow_network_policy(service, [{"namespaceSelector": {}}]) == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata("iris-shadow", labels=BESIDE),
        "spec": {
            "podSelector": {"matchLabels": BESIDE_SELECTOR},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": peers, "ports": [{"port": "http", "protocol": "TCP"}]}],
        },
    }


def test_pods_copy_requests_once_the_shadow_is_there(make):
    """The shadow's own settings name nobody, or it would send copies to itself."""
    service = make()
    plain = resources.runtime_config_map(service)["data"]
    waiting = resources.runtime_config_map(service, resources.Mirror("abc", 50))["data"]
    copying = resources.runtime_config_map(service, resources.Mirror("abc", 50, "http://10.96.0.7:80"))["data"]

    assert plain | {"shadow.yaml": plain["runtime.yaml"]} == waiting
    assert waiting["shadow.yaml"] == copying["shadow.yaml"]
    assert yaml.safe_load(plain["runtime.yaml"]) | {
        "shadow": {"url": "http://10.96.0.7:80", "revision": "abc", "percent": 50}
    } == yaml.safe_load(copying["runtime.yaml"])
