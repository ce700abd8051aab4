"""What the API server makes of the operator's requests, where a run of the operator cannot show it."""

import asyncio

import pytest

from aiops_operator import cluster as aiops_cluster
from aiops_operator.cluster import Cluster, load_configuration
from aiops_operator.errors import ConflictError
from aiops_operator.metrics import Metrics
from aiops_operator.names import JOB, Key

STATUS = {"replicas": 7}
SILENCE = 3  # seconds, in which a busy API server comes to answer


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


async def said(namespace):
    """What a watch says of a kind that nothing has ever happened to, until it ends."""
    cluster = Cluster(await load_configuration(), Metrics())
    try:
        _, version = await cluster.listing(JOB, namespace, "", metadata_only=False)
        events = cluster.watch(JOB, namespace, "", version, metadata_only=False)
        return [type_ async for type_, _ in events]
    finally:
        await cluster.close()


def test_a_watch_of_what_never_happens_ends_without_an_error(api, cluster, monkeypatch):
    """The API server may send no bookmark for ten minutes: that it is open is all that is heard, and nobody is alarmed."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.setattr(aiops_cluster, "WATCH_SILENCE", SILENCE)
    assert ["OPENED"] == asyncio.run(said(api.namespace))
