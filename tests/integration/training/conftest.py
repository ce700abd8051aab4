"""A real registry and a real git server on loopback."""

import pipelineservers
import pytest

from aiops_training import artifacts
from aiops_training.datasets import load_bundled
from aiops_training.model import fit

# What `htpasswd -nbB trainer 'correct horse'` prints.
HTPASSWD = "trainer:$2b$04$/AAES5hDpz.sUr62Jd0im.kYXOhRnrEsXklbNuRweSYDaaXoRKja2\n"


@pytest.fixture(scope="session")
def iris():
    """The iris artifacts by file name."""
    dataset = load_bundled("iris")
    return artifacts.build(dataset, *fit(dataset))


@pytest.fixture(scope="session")
def registry_files(tmp_path_factory):
    """Where the open registry keeps what it has."""
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="session")
def open_registry(registry_files):
    """A registry that takes what anybody pushes."""
    with pipelineservers.registry(registry_files) as where:
        yield where


@pytest.fixture(scope="session")
def closed_registry(tmp_path_factory):
    """A registry that asks for a name and a password."""
    folder = tmp_path_factory.mktemp("registry")
    (folder / "htpasswd").write_text(HTPASSWD)
    with pipelineservers.registry(folder, htpasswd={"realm": "models", "path": str(folder / "htpasswd")}) as where:
        yield where


@pytest.fixture
def repository(tmp_path):
    """A repository that is served, and takes pushes."""
    with pipelineservers.repository(tmp_path) as made:
        yield made
