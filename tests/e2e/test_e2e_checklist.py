"""The verification checklist of the document that this project implements, line by line, as people type it."""

import json
import re
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest
from waiting import until

from aiops_localcluster.daemon import daemon, free_ports, listens
from aiops_training.datasets import load_bundled

ROOT = Path(__file__).resolve().parents[2]
IRIS = load_bundled("iris")
ROWS = IRIS.rows[np.random.default_rng(5).integers(0, len(IRIS.rows), 200)].round(3)


@pytest.fixture(scope="module")
def installed(world, packed):
    """`helm install aiops-quality ./helm --set image.repository=… --set image.tag=…`, beside the operator that is there."""
    repository, _, tag = world.inference_image.rpartition(":")
    namespace = ("--namespace=checklist",)
    image = (f"--set=image.repository={repository}", f"--set-string=image.tag={tag}")
    alone = ("--set=operator.enabled=false",)
    world.run("helm", *namespace, "install", "aiops-quality", str(packed("iris")), "--create-namespace", *image, *alone)
    world.run("kubectl", *namespace, "wait", "--for=condition=Ready", "infs/aiops-quality", "--timeout=120s")
    yield namespace
    world.run("helm", *namespace, "uninstall", "aiops-quality", "--wait")
    world.run("kubectl", "delete", "namespace", "checklist", "--wait=false")


@pytest.fixture(scope="module")
def url(world, installed, tmp_path_factory):
    """`kubectl port-forward svc/aiops-quality 8000:80`, at a port that is free."""
    port = free_ports(1)[0]
    command = [str(world.cluster.tool("kubectl")), f"--kubeconfig={world.cluster.kubeconfig}", *installed]
    command += ["port-forward", "svc/aiops-quality", f"{port}:80"]
    with daemon(command, lambda: listens(port), tmp_path_factory.mktemp("forward") / "kubectl.log"):
        yield f"http://127.0.0.1:{port}"


def curl(*arguments):
    """What curl prints."""
    done = subprocess.run(
        ["curl", "--silent", "--noproxy", "*", *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_health_check_answers(url):
    """`curl localhost:8000/health`."""
    assert "ok" == json.loads(curl(f"{url}/health"))["status"]


def test_a_prediction_is_answered(url):
    """`curl -X POST localhost:8000/predict …`: the fields of the document's example, and its classes."""
    body = '{"inputs": [[5.1,3.5,1.4,0.2],[6.5,3.0,5.5,1.8]]}'
    answer = json.loads(curl("-X", "POST", f"{url}/predict", "-H", "Content-Type: application/json", "-d", body))
    assert ([0, 2], False) == (answer["predictions"], answer["drift_detected"])
    assert answer["drift_score"] >= 0


def test_logs_include_drift(world, installed, url):
    """`kubectl logs -l app=aiops-quality`: the event of a request and of drift, in the document's form."""
    httpx.post(f"{url}/predict", json={"inputs": (ROWS * 10).tolist()}, trust_env=False).raise_for_status()
    logs = until(
        lambda: world.run("kubectl", *installed, "logs", "-l", "app=aiops-quality", "--tail=-1"),
        lambda seen: "Drift detected" in seen,
    )
    line = next(line for line in logs.splitlines() if line.startswith('INFO {"event": "prediction"'))
    fields = ("inputs_sample", "predictions_sample", "drift_detected", "drift_score")
    assert set(fields) <= set(json.loads(line.removeprefix("INFO ")))


def test_prometheus_can_scrape(url):
    """/metrics has the three metrics of the document."""
    metrics = curl(f"{url}/metrics")
    found = ["inference_requests_total", "inference_latency_seconds_bucket", "drift_events_total"]
    assert found == [name for name in found if re.search(rf"^{name}\{{", metrics, re.MULTILINE)]


def test_the_dashboard_has_the_name():
    """Its panels are asked of a real Prometheus in test_e2e_monitoring.py."""
    assert (
        "AIOps Quality - Inference Overview" == json.loads((ROOT / "grafana" / "dashboards.json").read_text())["title"]
    )
