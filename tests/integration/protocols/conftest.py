"""Tools and clients in an environment of their own, in the cache; and a server that they are let loose on."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiops_localcluster import cache
from aiops_localcluster.progress import Lines

CONFORMANCE = Path(__file__).parents[2] / "conformance"
INSTALL_TIMEOUT = 600


class Tools:
    """Programs of the environment."""

    def __init__(self, folder: Path, work: Path) -> None:
        self._bin = folder / "bin"
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
    """The environment of tests/conformance/requirements.txt, made where it is not there yet."""
    requirements = CONFORMANCE / "requirements.txt"
    folder = cache.folder() / f"conformance-{cache.key([requirements.read_bytes(), sys.version])}"
    uv = next(cache.folder().glob("uv-*/bin/uv"))
    progress = Lines()

    def make(unfinished: Path) -> None:
        progress("installing schemathesis and Triton's client: half a minute the first time")
        for command in (
            [uv, "venv", "--quiet", "--relocatable", "--allow-existing", f"--python={sys.executable}", unfinished],
            [uv, "pip", "install", "--quiet", "--no-deps", f"--python={unfinished}", f"--requirement={requirements}"],
        ):
            subprocess.run(command, check=True, timeout=INSTALL_TIMEOUT)

    with cache.locked(
        folder.with_suffix(".lock"), what="installing the conformance tools", progress=progress, timeout=INSTALL_TIMEOUT
    ):
        if not folder.is_dir():
            cache.fill(folder, make)
    return Tools(folder, tmp_path_factory.mktemp("conformance"))


@pytest.fixture
def iris(run) -> Iterator[object]:
    """A server of the model named iris that writes few lines."""
    pod = run(SERVICE_NAME="iris", LOG_PREDICTIONS="0")
    pod.ready()
    return pod
