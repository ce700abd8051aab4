"""What Argo CD makes of an InferenceService's conditions, by Argo CD itself."""

from pathlib import Path

import pytest
import yaml

from aiops_localcluster import ensure
from aiops_localcluster.argocd import health

ARGOCD = Path(__file__).resolve().parents[3] / "argocd"
KEY = "resource.customizations.health.aiops-quality.io_InferenceService"
DEGRADED = {"aiops-quality.io/health-on-drift": "Degraded"}


def condition(kind, status, reason, message):
    """One condition."""
    return {"type": kind, "status": status, "reason": reason, "message": message}


READY = condition("Ready", "True", "RolledOut", "All 2 pods serve the latest spec.")
COMING = condition("Ready", "False", "RolloutInProgress", "1 of 2 pods have the latest spec, 1 of 1 serve.")
BAD = condition("Ready", "False", "DigestMismatch", "sha256 is another")
STALLED = condition("Stalled", "True", "DigestMismatch", "sha256 is another")
DRIFT = condition("DriftDetected", "True", "ScoreAboveThreshold", "petal length (cm) has a score of 27.1")
CALM = condition("DriftDetected", "False", "WithinThresholds", "No feature is beyond its threshold.")
PAUSED = condition("Ready", "True", "Paused", "spec.paused is true")
DEFAULT = condition("Ready", "Unknown", "WaitingForOperator", "No operator has seen this service yet")


@pytest.mark.parametrize(
    ("conditions", "more", "expected"),
    [
        ((), {"seen": 0}, ("Progressing", "The operator has not seen this spec yet.")),
        ((DEFAULT,), {"seen": 0}, ("Progressing", "The operator has not seen this spec yet.")),
        ((READY,), {"generation": 3}, ("Progressing", "The operator has not seen this spec yet.")),
        ((READY, CALM), {}, ("Healthy", "All 2 pods serve the latest spec.")),
        ((COMING,), {}, ("Progressing", "RolloutInProgress: 1 of 2 pods have the latest spec, 1 of 1 serve.")),
        ((BAD, STALLED), {}, ("Degraded", "DigestMismatch: sha256 is another")),
        ((READY, DRIFT), {}, ("Healthy", "Drift: petal length (cm) has a score of 27.1")),
        ((READY, DRIFT), {"annotations": DEGRADED}, ("Degraded", "Drift: petal length (cm) has a score of 27.1")),
        (
            (READY, DRIFT),
            {"annotations": DEGRADED, "status": {"drift": {"acknowledged": True}}},
            ("Healthy", "Drift: petal length (cm) has a score of 27.1"),
        ),
        ((READY, CALM), {"annotations": DEGRADED}, ("Healthy", "All 2 pods serve the latest spec.")),
        ((PAUSED,), {"paused": True}, ("Suspended", "Paused: spec.paused is true")),
    ],
)
def test_health(tmp_path, conditions, more, expected):
    """Of the spec in git, and of drift where the resource asks for it."""
    document = {
        "apiVersion": "aiops-quality.io/v1alpha1",
        "kind": "InferenceService",
        "metadata": {
            "name": "iris",
            "namespace": "models",
            "generation": more.get("generation", 2),
            "annotations": more.get("annotations", {}),
        },
        "spec": {"paused": more.get("paused", False)},
        "status": {"observedGeneration": more.get("seen", 2), "conditions": list(conditions)} | more.get("status", {}),
    }
    path = tmp_path / "service.yaml"
    path.write_text(yaml.safe_dump(document))

    assert expected == health(ensure("argocd")["argocd"], ARGOCD / "argocd-cm.yaml", path)


def test_the_config_map_has_the_script():
    """The fragment that people apply is the file that people read."""
    found = yaml.safe_load((ARGOCD / "argocd-cm.yaml").read_text())["data"]

    assert {KEY: (ARGOCD / "health" / "inferenceservice.lua").read_text()} == found
