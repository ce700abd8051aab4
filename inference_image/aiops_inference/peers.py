"""What the workers of one pod tell each other, so that whoever is asked answers for all.

Each serves on a private Unix socket too, where it answers for itself alone. Whoever is asked on the port asks the others
there; one that does not answer in time is left out and counted.

Counters never go back, whatever becomes of a worker: one writes its metrics to a file before it tells of them, one that is
started in its place begins where that file ends, and for one that does not answer the others read the file.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
from prometheus_client.core import GaugeMetricFamily, Metric

from aiops_drift import Report
from aiops_drift.wire import WIRE_VERSION, kept_blocks
from aiops_inference.errors import NotReadyError
from aiops_inference.exposition import merged
from aiops_inference.workers import Worker

TIMEOUT: Final = 2.0  # seconds for one answer; the operator waits 3 for all
OK: Final = 200


class Peers:
    """The other workers, for one of them."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._clients: dict[int, httpx.AsyncClient] = {}
        self._before = _read(worker.told(worker.slot))

    @property
    def validates(self) -> bool:
        """Whether this worker is the one that gives rows to Great Expectations: its share is a sample of the pod's."""
        return self._worker.slot == 0

    def name(self, pod: str) -> str:
        """What the page of this worker's share is headed with."""
        return f"{pod}, worker {self._worker.slot} of {self._worker.workers}: its share of the rows"

    def private(self, scope: Mapping[str, Any]) -> bool:
        """Whether a request came over the private socket, from another worker."""
        server = scope.get("server")
        return server is not None and server[0] == str(self._worker.private(self._worker.slot))

    def share(self, report: Report) -> Report:
        """A report with so many blocks that all workers together tell no more than one process does.

        The operator takes the sum of those that it missed from the counts: none is lost.
        """
        most = max(kept_blocks(len(report.baseline.names)) // self._worker.workers, 1)
        return replace(report, blocks=report.blocks[-most:])

    async def drift(self, own: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """The document of /drift: the reports of all workers that have one.

        Raises:
            NotReadyError: none has.
        """
        others = asyncio.create_task(self._ask("/drift"))
        try:
            reports = [await own()]
            refused = None
        except NotReadyError as error:
            reports, refused = [], error
        for answer in (await others).values():
            if answer is not None and answer.status_code == OK:
                reports.append(orjson.loads(answer.content))
        if refused is not None and not reports:
            raise refused
        return {"version": WIRE_VERSION, "reports": reports}

    def own_metrics(self, exposition: bytes) -> bytes:
        """This worker's metrics, on from those that another process in its place has told."""
        own = merged([exposition], self._before)
        _write(self._worker.told(self._worker.slot), own)
        return own

    async def metrics(self, exposition: bytes) -> bytes:
        """The metrics of all workers, and how many of them said nothing."""
        answers = await self._ask("/metrics")
        whole, counted, silent = [self.own_metrics(exposition)], [], 0
        for slot, answer in answers.items():
            if answer is not None and answer.status_code == OK:
                whole.append(answer.content)
            else:
                counted += _read(self._worker.told(slot))
                silent += 1
        return merged(whole, counted, self._gauges(silent))

    def _gauges(self, silent: int) -> list[Metric]:
        return [
            GaugeMetricFamily("inference_workers", "Processes that serve in this pod.", value=self._worker.workers),
            GaugeMetricFamily(
                "inference_workers_silent", "Of these, processes that did not answer this scrape.", value=silent
            ),
        ]

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            await client.aclose()

    async def _ask(self, path: str) -> dict[int, httpx.Response | None]:
        slots = [slot for slot in range(self._worker.workers) if slot != self._worker.slot]
        return dict(zip(slots, await asyncio.gather(*(self._ask_one(slot, path) for slot in slots)), strict=True))

    async def _ask_one(self, slot: int, path: str) -> httpx.Response | None:
        client = self._clients.get(slot)
        if client is None:
            transport = httpx.AsyncHTTPTransport(uds=str(self._worker.private(slot)))
            client = self._clients[slot] = httpx.AsyncClient(transport=transport, base_url="http://worker")
        with contextlib.suppress(TimeoutError, httpx.HTTPError):
            async with asyncio.timeout(TIMEOUT):
                return await client.get(path, timeout=TIMEOUT)
        return None


def _read(path: Path) -> list[bytes]:
    """The metrics in a file; nothing where there is none."""
    try:
        return [path.read_bytes()]
    except OSError:
        return []


def _write(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".new")
    with contextlib.suppress(OSError):  # a full disk must not end the scrapes: after the next restart counters go back
        fresh.write_bytes(content)
        fresh.replace(path)
