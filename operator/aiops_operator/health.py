"""The operator's own HTTP server: /metrics, /healthz (liveness) and /readyz.

Liveness is watch freshness. Every 20 s the versions of all InferenceServices are listed and compared with what the watch has
delivered. What it has not delivered by the next listing is looked at without it; the reflectors do the same for the other kinds.
A change that stays undelivered for 150 s, or a watcher that is no longer running, means that the watches are dead and the
process has to be started anew. While the API server does not answer nothing is learnt, no time counts, and nothing fails.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from aiops_operator.cluster import Cluster
from aiops_operator.errors import ApiError
from aiops_operator.metrics import Metrics
from aiops_operator.names import INFERENCE_SERVICE, Key
from aiops_operator.reflector import WATCHER_PREFIX, Reflectors

PROBE_INTERVAL: Final = 20.0  # seconds
DEAD_AFTER: Final = 150.0

logger = logging.getLogger(__name__)


@dataclass
class Freshness:
    """What the watches have delivered, against what the API server shows; times are monotonic seconds.

    What is behind is so since a time of a clock that goes only while the API server answers.
    """

    delivered: dict[Key, str] = field(default_factory=dict)
    _heard: dict[Key, float] = field(default_factory=dict)
    _missing: dict[Key, float] = field(default_factory=dict)
    _owing: dict[str, float] = field(default_factory=dict)
    _watchers: dict[str, float] = field(default_factory=dict)
    _clock: float = field(default=0.0, compare=False)
    _asked: float = field(default=0.0, compare=False)

    def heard(self, key: Key, version: str | None, now: float) -> None:
        """The watch has delivered this version of a resource, or its end (None)."""
        self._heard[key] = now
        self._missing.pop(key, None)  # versions have no order that may be relied on; but the watch lives
        if version is None:
            self.delivered.pop(key, None)
        else:
            self.delivered[key] = version

    def gone(self, key: Key, asked: float) -> None:
        """The API server, asked at this time or later, has no such resource.

        A watch that begins anew with a listing does not deliver the end of what was deleted in between, and lives all the
        same. What the watch has delivered since is newer than this answer.
        """
        if self._heard.get(key, asked) <= asked:
            self.delivered.pop(key, None)
            self._missing.pop(key, None)

    def listed(self, versions: Mapping[Key, str], now: float) -> frozenset[Key]:
        """The API server shows these versions; the keys to look at, because the watch does not say the same of them.

        Those are what was delivered and is not shown, and what has been behind since another listing or longer.
        """
        self._clock += now - self._asked
        self._asked = now
        behind = {
            key for key in versions.keys() | self.delivered.keys() if versions.get(key) != self.delivered.get(key)
        }
        self._missing = {key: self._missing.get(key, self._clock) for key in behind}
        for key in self._heard.keys() - versions.keys() - behind:
            del self._heard[key]
        late = {key for key, since in self._missing.items() if since < self._clock}
        return frozenset(self.delivered.keys() - versions.keys() | late)

    def unknown(self, now: float) -> None:
        """The API server did not answer: nothing is known, and the time since it was asked before does not count."""
        self._asked = now

    def owing(self, kinds: Collection[str]) -> None:
        """Of these kinds, by their plurals, watches have not brought what listings have found."""
        self._owing = {kind: self._owing.get(kind, self._clock) for kind in kinds}

    def running(self, watchers: set[str], now: float) -> None:
        """These of Kopf's watchers run; one that has run before and does not now is missed."""
        for name in watchers:
            self._watchers[name] = now

    def lags(self) -> dict[str, float]:
        """By kind, where it is behind, the seconds for which the oldest undelivered change has not been delivered."""
        missing = {INFERENCE_SERVICE.plural: min(self._missing.values())} if self._missing else {}
        return {kind: self._clock - since for kind, since in (missing | self._owing).items()}

    def fault(self, now: float) -> str:
        """Why the watches are dead; empty while they live."""
        for kind, lag in sorted(self.lags().items()):
            if lag > DEAD_AFTER:
                keys = ", ".join(str(key) for key in sorted(self._missing)[:3])
                what = keys if kind == INFERENCE_SERVICE.plural else f"changes of {kind}"
                return f"the watch has not delivered {what} for {lag:.0f} s"
        ended = [name for name, seen in self._watchers.items() if now - seen > DEAD_AFTER]
        return f"ended: {', '.join(sorted(ended))}" if ended else ""


class Health:
    """Serves the state of the process, and finds out about it."""

    def __init__(self, cluster: Cluster, metrics: Metrics, namespaces: tuple[str, ...], reflectors: Reflectors) -> None:
        self._cluster = cluster
        self._reflectors = reflectors
        self._metrics = metrics
        self._namespaces = namespaces
        self._runner: web.AppRunner | None = None
        self.freshness = Freshness()
        self.ready = False
        self.standby = False

    async def start(self, port: int) -> int:
        """Listen on all addresses; the port that was taken."""
        app = web.Application()
        app.router.add_get("/metrics", self._serve_metrics)
        app.router.add_get("/healthz", self._serve_healthz)
        app.router.add_get("/readyz", self._serve_readyz)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, None, port, shutdown_timeout=1.0).start()
        address: tuple[str, int] = self._runner.addresses[0]
        return address[1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def watch_the_watches(self, watchers: Callable[[], set[str]], look: Callable[[Key], None]) -> None:
        """Compare, every 20 s and for ever.

        Args:
            watchers: says which of Kopf's run.
            look: is told of resources that the watch seems to have missed; whoever looks says by `freshness.gone` if they
                are gone.
        """
        while True:
            await asyncio.sleep(PROBE_INTERVAL)
            now = time.monotonic()
            self.freshness.running(watchers(), now)
            try:
                for key in self.freshness.listed(await self._versions(), time.monotonic()):
                    look(key)
            except ApiError as error:
                logger.info("the API server does not answer: %s", error)
                self.freshness.unknown(time.monotonic())
            self.freshness.owing(self._reflectors.owing())
            silences, lags = self._reflectors.silences(), self.freshness.lags()
            for kind in (*silences, INFERENCE_SERVICE.plural):
                self._metrics.watch_lag.labels(kind).set(lags.get(kind, 0.0))
            for kind, seconds in silences.items():
                self._metrics.watch_silence.labels(kind).set(seconds)

    async def _versions(self) -> dict[Key, str]:
        found = {}
        for namespace in self._namespaces or (None,):
            for item in await self._cluster.find_metadata(INFERENCE_SERVICE, namespace):
                metadata = item["metadata"]
                found[Key(metadata["namespace"], metadata["name"])] = metadata["resourceVersion"]
        return found

    async def _serve_metrics(self, _: web.Request) -> web.Response:
        self._metrics.tasks.set(len(asyncio.all_tasks()))
        headers = {"Content-Type": CONTENT_TYPE_LATEST}
        return web.Response(body=generate_latest(self._metrics.registry), headers=headers)

    async def _serve_healthz(self, _: web.Request) -> web.Response:
        fault = self.freshness.fault(time.monotonic())
        return web.json_response({"status": fault or "ok"}, status=503 if fault else 200)

    async def _serve_readyz(self, _: web.Request) -> web.Response:
        # A watcher is there as soon as the API server has answered and knows the kind.
        services = any(INFERENCE_SERVICE.plural in name for name in running_watchers())
        # One that waits for its turn is ready to take it, and must not hold up a rolling update.
        ready = (self.standby or (self.ready and services)) and self._reflectors.all_synced
        return web.json_response({"status": "ok" if ready else "starting"}, status=200 if ready else 503)


def running_watchers() -> set[str]:
    """Names of the watchers that run, Kopf's and ours; those of kinds that come and go with their CRD do not count."""
    tasks = (task for task in asyncio.all_tasks() if not task.done())
    watchers = {task.get_name() for task in tasks if task.get_name().startswith(WATCHER_PREFIX)}
    return {name for name in watchers if "servicemonitors" not in name and "prometheusrules" not in name}
