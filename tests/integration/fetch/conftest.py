"""What is fetched from every store."""

import pytest


@pytest.fixture(scope="session")
def files(artifacts):
    """The iris artifacts, with a model that takes more than one piece."""
    return {path.name: path.read_bytes() for path in artifacts.iterdir()} | {"model.skops": bytes(range(256)) * 20000}
