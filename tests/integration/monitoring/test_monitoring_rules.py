"""The rules and the scrape configuration, by Prometheus' own tool; the dashboards are what their code makes."""

import runpy
from pathlib import Path

import pytest
import yaml

from aiops_localcluster import ensure
from aiops_localcluster.commands import output

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def promtool():
    """Prometheus' tool, of the version that the e2e tests run."""
    return ensure("promtool")["promtool"]


def test_rules(promtool):
    """Each alert fires where it should, and not where it should not; the linter has nothing to say."""
    rules = ROOT / "prometheus" / "rules.yaml"
    assert "SUCCESS" in output([promtool, "check", "rules", "--lint=all", "--lint-fatal", rules])
    assert "SUCCESS" in output([promtool, "test", "rules", ROOT / "prometheus" / "rules_test.yaml"], timeout=60)


def test_every_alert_is_tested():
    """No rule is there that nobody has seen to fire."""
    rules = yaml.safe_load((ROOT / "prometheus" / "rules.yaml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    tests = yaml.safe_load((ROOT / "prometheus" / "rules_test.yaml").read_text())["tests"]
    fired = {entry["alertname"] for test in tests for entry in test.get("alert_rule_test", ()) if entry["exp_alerts"]}
    assert alerts == fired


def test_scrape_configuration(promtool, tmp_path):
    """The entries are those of a Prometheus of one's own, too."""
    entries = yaml.safe_load((ROOT / "prometheus" / "additionalScrapeConfigs.yaml").read_text())
    path = tmp_path / "prometheus.yml"
    path.write_text(yaml.safe_dump({"scrape_configs": entries["additionalScrapeConfigs"]}))
    assert "SUCCESS" in output([promtool, "check", "config", path])


def test_the_dashboards_are_what_their_code_makes():
    """`python grafana/generate.py` changes nothing."""
    made = runpy.run_path(str(ROOT / "grafana" / "generate.py"))["dashboards"]()
    assert made == {name: (ROOT / "grafana" / name).read_text() for name in made}
