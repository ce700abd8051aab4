"""A real Prometheus, with the Prometheus Operator and without: what is scraped, what the dashboards show, what alerts."""

import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import monitoring
import numpy as np
import pytest
import yaml
from waiting import until

from aiops_training.datasets import load_bundled

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "monitoring"
NAMES = ("selected", "annotated")
IRIS = load_bundled("iris")
HEALTHY = IRIS.rows[np.random.default_rng(5).integers(0, len(IRIS.rows), 300)].round(3)
MILLIMETERS = [1.0, 1.0, 10.0, 1.0]  # what the petal length is multiplied by
DASHBOARDS = {path.name: json.loads(path.read_text()) for path in sorted((ROOT / "grafana").glob("*.json"))}
PANELS = [(name, panel) for name, board in DASHBOARDS.items() for panel in board["panels"] if "targets" in panel]
# What Grafana puts in place of its variables: more than four scrapes, and everything that is selected.
VARIABLES = {"$__rate_interval": "1m"}


@dataclass(frozen=True)
class Monitored:
    """Two services, each scraped in its own way, and two Prometheuses.

    Attributes:
        namespace: Where all of them are.
        managed: The Prometheus Operator's, with additionalScrapeConfigs.yaml beside the ServiceMonitors.
        plain: One that knows additionalScrapeConfigs.yaml alone.
    """

    namespace: object
    managed: monitoring.Prometheus
    plain: monitoring.Prometheus

    def names(self, service):
        """The pods of a service."""
        return {pod["metadata"]["name"] for pod in self.namespace.pods(service)}

    def up(self, prometheus):
        """For each pod of ours: job, service and value of each target that it is."""
        found: dict[str, list[tuple[str, str, str]]] = {}
        for sample in prometheus.query("up"):
            labels = sample["metric"]
            seen = (labels["job"], labels.get("service", ""), sample["value"][1])
            found.setdefault(labels["pod"], []).append(seen)
        return found


def service(name, mode, **spec):
    """An InferenceService on the iris ConfigMap that is scraped every two seconds."""
    return {
        "apiVersion": "aiops-quality.io/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {
            "model": {"artifacts": {"configMap": {"name": "iris-artifacts"}}},
            "monitoring": {"mode": mode, "interval": monitoring.SECONDS, "alerts": True},
            **spec,
        },
    }


def operators(world):
    """The names of the operator's pods."""
    listed = world.run("kubectl", f"--namespace={world.operator_namespace}", "get", "pods", "--output=json")
    return {pod["metadata"]["name"] for pod in json.loads(listed)["items"]}


@pytest.fixture(scope="module")
def monitored(world, namespace_of, iris_configmap, tmp_path_factory):
    """Both services ready and both Prometheuses running."""
    folder = tmp_path_factory.mktemp("monitoring")
    scrape = yaml.safe_load((ROOT / "prometheus" / "additionalScrapeConfigs.yaml").read_text())[
        "additionalScrapeConfigs"
    ]
    with namespace_of(NAMESPACE) as namespace, monitoring.prometheus_operator(world, NAMESPACE, folder):
        namespace.apply(iris_configmap)
        # What `auto` does depends on whether the cluster has ServiceMonitors, which it has since a moment ago.
        namespace.apply(service("selected", "auto", replicas=2))
        namespace.apply(service("annotated", "annotations"))
        namespace.wait("selected", "MonitoringReady", "True", "ServiceMonitorApplied")
        for name in NAMES:
            namespace.wait(name, "Ready", "True")
        chart = ("template", "rules", str(ROOT / "helm"), "--show-only=templates/prometheusrule.yaml")
        values = ("--set-json=inferenceServices=[]", "--set=prometheusRule.enabled=true")
        namespace.apply(world.run("helm", *chart, *values))
        configuration = {"global": {"scrape_interval": monitoring.SECONDS}, "scrape_configs": scrape}
        for kind, name, data in (
            ("Secret", "additional", {"scrape.yaml": yaml.safe_dump(scrape)}),
            ("ConfigMap", "plain", {"prometheus.yml": yaml.safe_dump(configuration)}),
        ):
            content = {"stringData" if kind == "Secret" else "data": data}
            namespace.apply({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **content})
        for document in monitoring.permissions(NAMESPACE):
            namespace.apply(document)
        image = monitoring.load_program(world, "prometheus", folder)
        namespace.apply(monitoring.plain(image))
        namespace.apply(monitoring.managed(image, {"name": "additional", "key": "scrape.yaml"}))
        base = f"/api/v1/namespaces/{NAMESPACE}"
        yield Monitored(
            namespace,
            monitoring.Prometheus(world, f"{base}/services/prometheus-operated:web/proxy"),
            monitoring.Prometheus(world, f"{base}/pods/plain:9090/proxy"),
        )
        for document in monitoring.permissions(NAMESPACE)[1:]:
            namespace.kubectl("delete", document["kind"], document["metadata"]["name"])


@pytest.fixture(scope="module")
def drifted(monitored):
    """Both services have seen healthy rows, then millimeters, and a request that is none."""
    for name in NAMES:
        monitored.namespace.send(name, HEALTHY.tolist(), per_request=20)
        monitored.namespace.wait(name, "DriftDetected", "False")
        monitored.namespace.send(name, (HEALTHY * MILLIMETERS).tolist(), per_request=20)
        monitored.namespace.wait(name, "DriftDetected", "True")
    return monitored


def test_every_pod_is_scraped_once(monitored, world, measured):
    """By the ServiceMonitor that our operator made, or by annotations, with the same labels; never by both."""
    selected, annotated = monitored.names("selected"), monitored.names("annotated")
    expected = {
        **{pod: [("selected", "selected", "1")] for pod in selected},
        **{pod: [("aiops-quality", "annotated", "1")] for pod in annotated},
        **{pod: [("aiops-quality", "", "1")] for pod in operators(world)},
    }
    assert (2, 1) == (len(selected), len(annotated))

    seen = until(lambda: monitored.up(monitored.managed), lambda found: expected == found, 120, every=0.5)
    assert expected == seen
    measured["targets of the managed Prometheus"] = dict(Counter(targets[0][0] for targets in seen.values()))


def test_a_plain_prometheus_sees_what_is_annotated(monitored, world):
    """It knows of no ServiceMonitor: those pods are none of its targets."""
    expected = {
        **{pod: [("aiops-quality", "annotated", "1")] for pod in monitored.names("annotated")},
        **{pod: [("aiops-quality", "", "1")] for pod in operators(world)},
    }
    assert expected == until(lambda: monitored.up(monitored.plain), lambda found: expected == found, 60, every=0.5)


def test_the_namespace_is_that_of_the_service(monitored):
    """Although the operator, which tells of it, is a pod of another namespace."""
    counted = "count by (namespace, exported_namespace, name) (inferenceservice_monitored_pods)"
    ours = {("monitoring", "", "selected"), ("monitoring", "", "annotated")}

    def seen():
        found = [sample["metric"] for sample in monitored.managed.query(counted)]
        return {tuple(labels.get(key, "") for key in ("namespace", "exported_namespace", "name")) for labels in found}

    assert ours == until(seen, lambda found: ours == found, 60, every=0.5)


@pytest.mark.parametrize(("file", "panel"), PANELS, ids=[f"{name}: {panel['title']}" for name, panel in PANELS])
def test_every_panel_shows_something(drifted, file, panel):
    """Each of its queries has a number for each service that it is about, while there is traffic, drift and an error."""
    services = "selected|annotated"
    namespaces = NAMESPACE if "service" in variables(file) else ".*"

    def look():
        drifted.namespace.send("selected", HEALTHY[:5].tolist())
        drifted.namespace.send("annotated", (HEALTHY[:5] * MILLIMETERS).tolist())
        for name in NAMES:
            path = f"/api/v1/namespaces/{NAMESPACE}/services/{name}:http/proxy/predict"
            drifted.namespace.kubectl("create", "--raw", path, "--filename=-", stdin='{"inputs": "none"}', check=False)
        return [samples(drifted.managed, target["expr"], namespaces, services) for target in panel["targets"]]

    until(look, lambda found: all(each and all(map(math.isfinite, each)) for each in found), 30, every=0.5)


@pytest.mark.parametrize("file", DASHBOARDS)
def test_every_variable_has_values(drifted, file):
    """Those that Grafana lists for a person to choose from."""
    for query in variables(file).values():
        metric, label = re.fullmatch(r"label_values\((.+), (\w+)\)", query).groups()
        metric = metric.replace("$namespace", ".+")
        until(lambda m=metric, by=label: drifted.managed.query(f"count by ({by}) ({m})"), seconds=30, every=0.5)


def test_drift_raises_an_alert(drifted, measured):
    """By the rules of the chart, for both services, and by the rule that our operator made for each."""
    expected = {(rule, name) for rule in ("InferenceDriftDetected", "InferenceServiceDrift") for name in NAMES}

    def firing():
        found = [sample["metric"] for sample in drifted.managed.query('ALERTS{alertstate="firing"}')]
        return {(each["alertname"], each.get("name") or each.get("inferenceservice")) for each in found}

    seen = until(firing, lambda found: expected <= found, 120, every=1)
    assert expected == {alert for alert in seen if "Drift" in alert[0]}
    measured["alerts that fire"] = sorted(seen)


def variables(file):
    """Name and query of each variable of a dashboard."""
    listed = DASHBOARDS[file].get("templating", {}).get("list", [])
    return {each["name"]: each["query"] for each in listed if each["type"] == "query"}


def samples(prometheus, expression, namespaces, services):
    """The numbers that a query of a panel gives."""
    values = VARIABLES | {"$namespace": namespaces, "$service": services}
    for variable, value in values.items():
        expression = expression.replace(variable, value)
    return [float(sample["value"][1]) for sample in prometheus.query(expression)]
