"""A real Prometheus: every pod is scraped once, in either way; the dashboards show something; drift raises an alert."""

import contextlib
import json
import math
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from waiting import until

from aiops_localcluster import images
from aiops_localcluster.binaries import module_folder
from aiops_localcluster.daemon import daemon, free_ports
from aiops_training.datasets import load_bundled

ROOT = Path(__file__).resolve().parents[2]
CRDS = ("prometheuses", "servicemonitors", "podmonitors", "probes", "prometheusrules")
IRIS = load_bundled("iris")
ROWS = IRIS.rows[np.random.default_rng(5).integers(0, len(IRIS.rows), 300)].round(3)
ENDLESS = {"strategy": "Shadow", "shadow": {"minRows": 10_000_000}}
ANOTHER = {"annotations": {"example.com/revision": "another"}}
PICTURE = ROOT / "grafana" / "picture.py"
filled = runpy.run_path(str(PICTURE))["filled"]


def service(**spec):
    """An InferenceService of two pods on the iris ConfigMap."""
    return {
        "apiVersion": "aiops-quality.io/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": "iris"},
        "spec": {"model": {"artifacts": {"configMap": {"name": "iris-artifacts"}}}, "replicas": 2, **spec},
    }


def image(world, tmp_path, program, workdir=""):
    """An image with one program and nothing else."""
    folder = tmp_path / program
    folder.mkdir()
    shutil.copy(world.cluster.tool(program), folder / program)
    lines = ["FROM scratch", f"COPY {program} /bin/{program}", *([f"WORKDIR {workdir}"] if workdir else [])]
    (folder / "Dockerfile").write_text("\n".join([*lines, f'ENTRYPOINT ["/bin/{program}"]', ""]))
    return world.cluster.load(images.build(folder / "Dockerfile", f"localhost/{program}", folder))


def scrape_configs():
    """The entries of prometheus/additionalScrapeConfigs.yaml."""
    return yaml.safe_load((ROOT / "prometheus" / "additionalScrapeConfigs.yaml").read_text())["additionalScrapeConfigs"]


class Prometheus:
    """What a Prometheus answers; `ask` gets a path of its API, and `url` is where it can be reached directly."""

    def __init__(self, ask, url=""):
        self.ask = ask
        self.url = url

    def query(self, expr):
        """Samples of now."""
        return self.ask(f"query?{httpx.QueryParams(query=expr)}")["data"]["result"]

    def up(self, **labels):
        """Value of `up` by pod; a pod that is scraped twice is there twice."""
        selector = ",".join(f'{name}="{value}"' for name, value in labels.items())
        found = self.query(f"up{{{selector}}}")
        return sorted((entry["metric"]["pod"], entry["value"][1]) for entry in found)


@pytest.fixture
def plain(world, tmp_path):
    """A Prometheus of one's own with prometheus/additionalScrapeConfigs.yaml and the rules."""
    entries = scrape_configs()
    for entry in entries:
        for discovery in entry["kubernetes_sd_configs"]:
            discovery["kubeconfig_file"] = str(world.cluster.kubeconfig)
    config = {
        # A scrape that takes longer than its interval is none, and an alert that is pending begins anew.
        "global": {"scrape_interval": "3s", "evaluation_interval": "1s"},
        "rule_files": [str(ROOT / "helm" / "files" / "rules.yaml")],
        "scrape_configs": entries,
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_ports(1)[0]
    url = f"http://127.0.0.1:{port}"
    command = [
        str(world.cluster.tool("prometheus")),
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with httpx.Client(trust_env=False) as client:

        def ready():
            with contextlib.suppress(httpx.TransportError):
                return client.get(f"{url}/-/ready").is_success
            return False

        with daemon(command, ready, tmp_path / "prometheus.log"):
            yield Prometheus(lambda path: client.get(f"{url}/api/v1/{path}").json(), url)


def expected(namespace):
    """What `up` says when each ready pod is scraped once."""
    return sorted((pod["metadata"]["name"], "1") for pod in namespace.pods("iris"))


def queries():
    """Every query of both dashboards by what it is for: panels, and the values of variables; with the variables filled in."""
    for path in sorted((ROOT / "grafana").glob("*.json")):
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{path.name}: {panel['title']}: {target.get('legendFormat', '')}", filled(target["expr"])
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                metric, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]).groups()
                yield f"{path.name}: ${variable['name']}", filled(f"count by ({label}) ({metric})")


def shows(samples):
    """Whether there is anything to draw: 0/0 is not."""
    return any(math.isfinite(float(sample["value"][1])) for sample in samples)


def test_annotated_pods_are_scraped_and_every_panel_shows_something(namespace, iris_configmap, plain, tmp_path):
    """With an error, drift and a shadow in the traffic; the alert on drift fires, and a picture is drawn of what is seen."""
    namespace.apply(iris_configmap)
    namespace.apply(service(monitoring={"mode": "annotations"}, rollout=ENDLESS))
    namespace.wait("iris", "Ready", "True")
    until(lambda: plain.up(namespace=namespace.name), lambda seen: len(seen) == 2 and seen == expected(namespace), 60)
    operator = {"namespace": namespace.world.operator_namespace}
    until(lambda: plain.up(**operator), lambda seen: [value for _, value in seen] == ["1"], 60)

    namespace.apply(service(monitoring={"mode": "annotations"}, rollout=ENDLESS, podTemplate=ANOTHER))
    path = f"/api/v1/namespaces/{namespace.name}/services/iris:http/proxy/predict"

    wanted = dict(queries())

    def traffic():
        namespace.send("iris", (ROWS * [1, 1, 10, 1]).tolist(), 20)
        namespace.kubectl("create", "--raw", path, "--filename=-", stdin="{}", check=False)
        return [title for title, expr in wanted.items() if not shows(plain.query(expr))]

    until(traffic, lambda empty: not empty, 180)
    firing = until(
        lambda: plain.query(
            f'ALERTS{{alertname="InferenceDriftDetected",alertstate="firing",namespace="{namespace.name}"}}'
        ),
        bool,
        400,
    )
    assert ["iris"] == [entry["metric"]["name"] for entry in firing]
    assert [] == [rule for rule in all_rules(plain) if rule["health"] != "ok"]
    picture = tmp_path / "dashboard.png"
    subprocess.run([sys.executable, PICTURE, plain.url, picture, "--minutes=3"], check=True, timeout=120)
    assert b"\x89PNG" == picture.read_bytes()[:4]


def all_rules(prometheus):
    """Every rule as Prometheus has it."""
    return [rule for group in prometheus.ask("rules")["data"]["groups"] for rule in group["rules"]]


@pytest.fixture
def prometheus_operator(world, tmp_path):
    """The Prometheus Operator: its kinds, and its program on this machine."""
    folder = module_folder("prometheus-config-reloader") / "example" / "prometheus-operator-crd"
    files = [f"--filename={folder / f'monitoring.coreos.com_{kind}.yaml'}" for kind in CRDS]
    world.run("kubectl", "apply", "--server-side", *files)
    reloader = image(world, tmp_path, "prometheus-config-reloader")
    port = free_ports(1)[0]
    command = [
        str(world.cluster.tool("operator")),
        f"--web.listen-address=127.0.0.1:{port}",
        f"--prometheus-config-reloader={reloader}",
        "--config-reloader-cpu-request=0",
        "--config-reloader-cpu-limit=0",
        "--log-level=warn",
    ]
    environment = os.environ | {"KUBECONFIG": str(world.cluster.kubeconfig)}
    with httpx.Client(trust_env=False) as client:

        def ready():
            with contextlib.suppress(httpx.TransportError):
                return client.get(f"http://127.0.0.1:{port}/healthz").is_success
            return False

        with daemon(command, ready, tmp_path / "operator.log", environment):
            yield
    world.run("kubectl", "delete", "--wait=false", *(f"crd/{kind}.monitoring.coreos.com" for kind in CRDS))
    world.run("kubectl", "delete", "--ignore-not-found", "clusterrole,clusterrolebinding", "prometheus-of-a-test")


ACCESS = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: prometheus}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: prometheus-of-a-test}
rules:
- {apiGroups: [""], resources: [services, endpoints, pods], verbs: [get, list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: prometheus-of-a-test}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: prometheus-of-a-test}
subjects: [{kind: ServiceAccount, name: prometheus, namespace: NAMESPACE}]
"""


@pytest.mark.usefixtures("prometheus_operator")
def test_the_prometheus_operator_takes_our_monitor(namespace, iris_configmap, tmp_path, plain):
    """The ServiceMonitor that our operator makes leads to one scrape of each pod; the annotations are not there."""
    world = namespace.world
    namespace.apply(iris_configmap)
    namespace.apply(service(monitoring={"mode": "serviceMonitor", "interval": "2s", "alerts": True}))
    namespace.wait("iris", "Ready", "True")
    namespace.wait("iris", "MonitoringReady", "True", "ServiceMonitorApplied", seconds=120)
    binary = image(world, tmp_path, "prometheus", "/prometheus")
    version = re.search(r"v(\d+)\.(\d+)\.(\d+)$", module_folder("prometheus").name)
    namespace.apply(ACCESS.replace("NAMESPACE", namespace.name))
    entries = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "additional"}}
    namespace.apply(entries | {"stringData": {"entries": yaml.safe_dump(scrape_configs())}})
    namespace.apply(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "Prometheus",
            "metadata": {"name": "p"},
            "spec": {
                "image": binary,
                "version": f"v3.{int(version[2]) % 100}.{version[3]}",
                "serviceAccountName": "prometheus",
                "serviceMonitorSelector": {},
                "ruleSelector": {},
                "serviceDiscoveryRole": "EndpointSlice",
                "additionalScrapeConfigs": {"name": "additional", "key": "entries"},
                "scrapeInterval": "2s",
                "resources": {"requests": {"memory": "100Mi"}},
                "securityContext": {
                    "runAsUser": 1000,
                    "runAsGroup": 2000,
                    "fsGroup": 2000,
                    "runAsNonRoot": True,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [
                    {
                        "name": "prometheus",
                        "startupProbe": {"periodSeconds": 1, "failureThreshold": 60},
                        "readinessProbe": {"periodSeconds": 1},
                    }
                ],
            },
        }
    )
    proxy = f"/api/v1/namespaces/{namespace.name}/services/prometheus-operated:web/proxy/api/v1/"

    def ask(path):
        said = namespace.kubectl("get", "--raw", proxy + path, check=False)
        return json.loads(said) if said else {"data": {"result": [], "groups": []}}

    selected = Prometheus(ask)

    def scraped_once():
        until(
            lambda: selected.up(namespace=namespace.name, service="iris"),
            lambda seen: len(seen) == 2 and seen == expected(namespace),
            120,
            every=0.5,
        )

    scraped_once()
    # The annotation-driven job is at work in the same Prometheus: it has the operator's pod, and leaves these alone.
    operator = {"namespace": world.operator_namespace, "job": "aiops-quality"}
    until(lambda: selected.up(**operator), lambda seen: [value for _, value in seen] == ["1"], 60, every=0.5)
    scraped_once()
    alerts = until(lambda: [rule["name"] for rule in all_rules(selected)], bool, 90, every=1)
    assert [f"InferenceService{kind}" for kind in ("Drift", "Errors", "Latency", "NoData")] == alerts
    assert [] == plain.up(namespace=namespace.name)
