"""The CRD on a real API server."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from aiops_localcluster.binaries import ensure

CRD = Path(__file__).resolve().parents[3] / "crds" / "inferenceservice.yaml"

Kubectl = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def kubectl(cluster: Any) -> Kubectl:
    """Runs kubectl with the CRD in place: `kubectl("get", "infs", stdin="")`; never raises."""
    program = ensure("kubectl")["kubectl"]

    def run(*arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        command = [str(program), "--kubeconfig", str(cluster.kubeconfig), *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)

    for arguments in (
        ("apply", "--server-side", "--force-conflicts", "-f", str(CRD)),
        ("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRD)),
    ):
        done = run(*arguments)
        assert done.returncode == 0, done.stderr
    # The OpenAPI document of a new CRD, which kubectl explain reads, is served a moment later.
    deadline = time.monotonic() + 30
    while run("explain", "inferenceservice.spec.drift").returncode:
        assert time.monotonic() < deadline, "the API server does not explain the new kind"
    return run


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"crd-{uuid4().hex[:8]}"
    assert kubectl("create", "namespace", name).returncode == 0
    yield name
    kubectl("delete", "namespace", name, "--wait=false")
