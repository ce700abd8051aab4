"""The real API server, with its controllers and without a node, that all tests of `integration` and `scale` share."""

from collections.abc import Iterator

import pytest

from aiops_localcluster import ControlPlane, control_plane


@pytest.fixture(scope="session")
def cluster() -> Iterator[ControlPlane]:
    """A control plane for the session; `kubeconfig` is the administrator's."""
    with control_plane(progress=print) as running:
        yield running
