"""What the chart makes for Prometheus and Grafana, where it is asked to."""

import json
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]


def rendered(helm, chart, template, *arguments):
    """The objects that one template makes, by name."""
    values = ("--set-json", "inferenceServices=[]", *arguments)
    done = helm("template", "aiops-quality", str(chart), f"--show-only=templates/{template}", *values)
    assert 0 == done.returncode, done.stderr
    return {document["metadata"]["name"]: document for document in yaml.safe_load_all(done.stdout) if document}


def test_the_rules_arrive_as_they_are(helm, bare_chart):
    """A PrometheusRule of the very file that promtool has tested, with the labels that a Prometheus selects by."""
    values = ("--set=prometheusRule.enabled=true", "--set=prometheusRule.labels.release=prometheus")
    found = rendered(helm, bare_chart, "prometheusrule.yaml", *values)["aiops-quality-operator"]

    assert yaml.safe_load((ROOT / "prometheus" / "rules.yaml").read_text()) == found["spec"]
    assert "prometheus" == found["metadata"]["labels"]["release"]


def test_the_dashboards_arrive_as_they_are(helm, bare_chart):
    """Each in a ConfigMap with the label that the sidecar of Grafana looks for, and the folder that it is told."""
    values = ("--set=grafana.dashboards.enabled=true", "--set=grafana.dashboards.annotations.grafana_folder=AIOps")
    found = rendered(helm, bare_chart, "dashboards.yaml", *values)
    files = {path.stem: path.read_text() for path in (ROOT / "grafana").glob("*.json")}

    assert {f"aiops-quality-operator-grafana-{stem}" for stem in files} == found.keys()
    for stem, text in files.items():
        made = found[f"aiops-quality-operator-grafana-{stem}"]
        assert ("1", {"grafana_folder": "AIOps"}) == (
            made["metadata"]["labels"]["grafana_dashboard"],
            made["metadata"]["annotations"],
        )
        assert json.loads(text) == json.loads(made["data"][f"aiops-quality-{stem}.json"])
