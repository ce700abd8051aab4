"""The chart, with and without artifacts, and the Helm that renders it."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from aiops_localcluster.binaries import ensure

CHART = Path(__file__).resolve().parents[3] / "helm"
RENDERS = Path(__file__).resolve().parent / "renders"
ARTIFACTS = {
    "model.pkl": bytes(range(256)) * 3,
    "baseline.npy": b"\x93NUMPY\x01\x00\xff\xfe",
    "expectations.json": b'{"name": "<iris> & co", "expectations": []}\n',
    "manifest.json": '{"features": ["länge (cm)"]}'.encode(),
}

Helm = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Runs Helm apart from the user's own configuration; never raises."""
    program = ensure("helm")["helm"]
    home = tmp_path_factory.mktemp("helm")
    environment = os.environ | {f"HELM_{kind}_HOME": str(home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
    environment.pop("KUBECONFIG", None)

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(program), *arguments], env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    return run


@pytest.fixture(scope="session")
def bare_chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart as it is committed: without artifacts."""
    target = tmp_path_factory.mktemp("bare") / "helm"
    shutil.copytree(CHART, target, ignore=shutil.ignore_patterns("model_artifacts"))
    return target


@pytest.fixture(scope="session")
def chart(bare_chart: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart with artifacts where training writes them."""
    target = tmp_path_factory.mktemp("full") / "helm"
    shutil.copytree(bare_chart, target)
    (target / "model_artifacts").mkdir()
    for name, content in ARTIFACTS.items():
        (target / "model_artifacts" / name).write_bytes(content)
    return target


@pytest.fixture(params=sorted(RENDERS.glob("*.yaml")), ids=lambda path: path.stem)
def values(request: pytest.FixtureRequest) -> Path:
    """A file of values under renders/."""
    path: Path = request.param
    return path


@pytest.fixture
def render(helm: Helm, chart: Path, values: Path) -> str:
    """What the chart makes of them."""
    done = helm("template", "aiops-quality", str(chart), "--namespace", "models", "--values", str(values))
    assert done.returncode == 0, done.stderr
    return done.stdout
