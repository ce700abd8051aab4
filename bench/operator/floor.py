"""What N services cost the API server by themselves: each created, its four children and a status applied, by a client that watches nothing.

The bodies are the operator's. It prints one JSON object: seconds until all is there, and the client's own processor time.
"""

import argparse
import asyncio
import datetime as dt
import json
import time
from typing import Any, Final

from aiops_operator import resources, status
from aiops_operator.api import InferenceService
from aiops_operator.cluster import Cluster, load_configuration
from aiops_operator.conditions import Condition
from aiops_operator.desired import Capabilities, Found, World, desired
from aiops_operator.live import with_hash
from aiops_operator.metrics import Metrics
from aiops_operator.names import CONFIG_MAP, INFERENCE_SERVICE
from aiops_operator.podsview import Finding, Mounted
from aiops_operator.status import Observation
from aiops_operator.workqueue import WORKERS

IMAGE: Final = "localhost/none:1"
MONITORING: Final = Condition("MonitoringReady", "True", "PodsAnnotated", "The pods carry the annotations.")
NOTHING: Final = Observation(None, [], Mounted(), None, None, Finding(), MONITORING)  # has been seen yet


async def serve(cluster: Cluster, body: dict[str, Any], artifacts: dict[str, Any]) -> None:
    """One service: created, then all that the operator writes of it until it waits for its pods."""
    created = await cluster.create(INFERENCE_SERVICE, body)
    service = InferenceService.from_dict(created)
    copy = resources.model_config_map(service, artifacts)
    mount = resources.config_map_mount(copy["metadata"]["name"], resources.artifacts_of(artifacts).digest)
    wanted = desired(World(service, {}, [], [], Found(mount, copy=copy)), IMAGE, Capabilities())
    for first in (True, False):
        step = [child for child in wanted.children if (child[0] == CONFIG_MAP) is first]
        await asyncio.gather(*(cluster.apply(kind, with_hash(child), force=False) for kind, child in step))
    document = status.build(service, NOTHING, dt.datetime.now(dt.UTC))
    await cluster.apply_status(service.key, created["metadata"]["resourceVersion"], document)


async def main() -> None:
    """Run and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("n", type=int, help="InferenceServices")
    options.add_argument("body", type=json.loads, help="of one, as JSON")
    options.add_argument("artifacts", help="the name of the ConfigMap that it refers to")
    chosen = options.parse_args()
    cluster = Cluster(await load_configuration(), Metrics())
    namespace, slots = chosen.body["metadata"]["namespace"], asyncio.Semaphore(WORKERS)
    artifacts = await cluster.get(CONFIG_MAP, namespace, chosen.artifacts)
    assert artifacts is not None, "the benchmark has made it"  # noqa: S101
    used, begun = time.process_time(), time.monotonic()

    async def one(i: int) -> None:
        async with slots:
            await serve(cluster, chosen.body | {"metadata": {"name": f"s{i}", "namespace": namespace}}, artifacts)

    await asyncio.gather(*map(one, range(chosen.n)))
    print(json.dumps({"status_all_s": time.monotonic() - begun, "cpu_s": time.process_time() - used}))
    await cluster.close()


if __name__ == "__main__":
    asyncio.run(main())
