"""What the API server makes of the operator's requests, where a run of the operator cannot show it."""

import asyncio

import pytest

from aiops_operator.cluster import Cluster, load_configuration
from aiops_operator.errors import ConflictError
from aiops_operator.metrics import Metrics
from aiops_operator.names import Key

STATUS = {"replicas": 7}


async def write(key, version):
    """Write a status as the operator does."""
    cluster = Cluster(await load_configuration(), Metrics())
    try:
        return await cluster.apply_status(key, version, STATUS)
    finally:
        await cluster.close()


def test_a_status_reaches_only_the_resource_that_it_was_made_for(api, cluster, monkeypatch):
    """One of the same name that was made meanwhile answers with a conflict, after which the operator looks again."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    key = Key(api.namespace, "elsewhere")
    versions = [api.serve(name=key.name)["metadata"]["resourceVersion"]]
    api.delete("InferenceService", key.name)
    versions.append(api.serve(name=key.name)["metadata"]["resourceVersion"])
    with pytest.raises(ConflictError):
        asyncio.run(write(key, versions[0]))
    assert api.status(key.name).get("replicas") is None
    assert asyncio.run(write(key, versions[1]))["status"]["replicas"] == 7
