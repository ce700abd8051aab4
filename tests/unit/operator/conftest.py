"""What the operator's unit tests are made from: resources as the API server hands them out, and a clock that stands still."""

import datetime as dt
from typing import Any

import pytest

from aiops_operator.api import InferenceService

NOW = dt.datetime(2030, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def resource(
    spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **metadata: Any
) -> dict[str, Any]:
    """An InferenceService with the CRD's defaults left out."""
    return {
        "apiVersion": "aiops-quality.io/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": "iris", "namespace": "models", "uid": "uid-1", "generation": 3} | metadata,
        "spec": {"model": {"artifacts": {"configMap": {"name": "iris-artifacts"}}}} | (spec or {}),
        "status": status or {},
    }


@pytest.fixture
def make():
    """Make an InferenceService of a spec and a status."""

    def made(spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **metadata: Any):
        return InferenceService.from_dict(resource(spec, status, **metadata))

    return made


@pytest.fixture
def now() -> dt.datetime:
    """The time at which all tests take place."""
    return NOW
