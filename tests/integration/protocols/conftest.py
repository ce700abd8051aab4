"""Tools and clients in an environment of their own, in the cache; and a server that they are let loose on."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from environments import environment

CONFORMANCE = Path(__file__).parents[2] / "conformance"


class Tools:
    """Programs of the environment."""

    def __init__(self, folder: Path, work: Path) -> None:
        self._bin = folder
        self._work = work  # where they may leave their caches

    def run(self, program: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one to its end."""
        return subprocess.run(
            [self._bin / program, *map(str, arguments)],
            cwd=self._work,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    """The environment of tests/conformance/requirements.txt."""
    folder = environment(CONFORMANCE / "requirements.txt", "schemathesis and Triton's client")
    return Tools(folder, tmp_path_factory.mktemp("conformance"))


@pytest.fixture
def iris(run) -> Iterator[object]:
    """A server of the model named iris that writes few lines."""
    pod = run(SERVICE_NAME="iris", LOG_PREDICTIONS="0")
    pod.ready()
    return pod
