"""What Argo CD makes of an InferenceService's conditions, by Argo CD itself."""

from pathlib import Path

import pytest
import yaml

from aiops_localcluster import LocalClusterError, ensure
from aiops_localcluster.argocd import health

ARGOCD = Path(__file__).resolve().parents[3] / "argocd"
FIXTURES = Path(__file__).parent / "services"
KEY = "resource.customizations.health.aiops-quality.io_InferenceService"
DRIFT = "Drift: The rows of all pods have drifted from the baseline: score 28.1, threshold 5, from petal length (cm)"


@pytest.fixture(scope="session")
def argocd():
    """The program."""
    return ensure("argocd")["argocd"]


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("without-status", ("Progressing", "The operator has not seen this spec yet.")),
        (
            "without-operator",
            (
                "Progressing",
                (
                    "WaitingForOperator: No operator has seen this service yet; check that the aiops-quality operator runs "
                    "and watches this namespace."
                ),
            ),
        ),
        ("new-spec", ("Progressing", "The operator has not seen this spec yet.")),
        ("rollout", ("Progressing", "RolloutInProgress: 1 of 2 pods have the latest spec, 1 of 2 serve.")),
        ("ready", ("Healthy", "All 2 pods serve the latest spec.")),
        ("drift", ("Healthy", f"{DRIFT} (sequential rule).")),
        ("drift-degraded", ("Degraded", f"{DRIFT} (sequential rule).")),
        (
            "drift-acknowledged",
            (
                "Healthy",
                (
                    f"{DRIFT} (sequential rule). Acknowledged: spec.drift.acknowledgedEpisode names this episode, "
                    "1f3c9a52-20261125210000."
                ),
            ),
        ),
        ("no-drift-degraded", ("Healthy", "All 2 pods serve the latest spec.")),
        (
            "misspelt-annotation",
            (
                "Unknown",
                (
                    "annotation aiops-quality.io/health-on-drift: write Healthy (as without the annotation) or Degraded, "
                    "not degraded"
                ),
            ),
        ),
        ("stalled", ("Degraded", "DigestMismatch: model.pkl has another sha256 than spec.model.sha256.")),
        (
            "paused",
            (
                "Suspended",
                "Paused: spec.paused is true: Deployment, Service and ConfigMaps are left as they are.",
            ),
        ),
    ],
)
def test_the_health_of_a_service(argocd, service, expected):
    """Of what git asks for; of drift where the resource wants it to count."""
    assert expected == health(argocd, ARGOCD / "argocd-cm.yaml", FIXTURES / f"{service}.yaml")


def test_a_kind_without_a_script_has_no_health(argocd, tmp_path):
    """Argo CD itself ends with 0 then: that a script was there is not taken for granted."""
    path = tmp_path / "other.yaml"
    path.write_text("apiVersion: example.com/v1\nkind: Other\nmetadata: {name: other}\n")

    with pytest.raises(LocalClusterError, match="no health of"):
        health(argocd, ARGOCD / "argocd-cm.yaml", path)


def test_the_config_map_has_the_script():
    """The fragment that people apply is the file that people read."""
    found = yaml.safe_load((ARGOCD / "argocd-cm.yaml").read_text())["data"]

    assert {KEY: (ARGOCD / "health" / "inferenceservice.lua").read_text()} == found
