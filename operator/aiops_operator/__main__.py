"""The operator's process: run → startup → serve → shutdown.

Kopf is embedded: it watches and calls the handlers. Everything else is ours and is stopped before Kopf is, for Kopf at its end
cancels every task that was started after it.
"""

import argparse
import asyncio
import contextlib
import datetime as dt
import json
import logging
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import kopf
from kubernetes.aio import client
from kubernetes.aio.config import ConfigException

from aiops_operator import handlers, names, tracing
from aiops_operator.cluster import Cluster, load_configuration
from aiops_operator.desired import Capabilities
from aiops_operator.errors import ApiError, SettingsError
from aiops_operator.health import Health, running_watchers
from aiops_operator.lease import Lease
from aiops_operator.metrics import Metrics
from aiops_operator.names import Key, Kind
from aiops_operator.podclient import PodClient
from aiops_operator.poller import Poller, Timing
from aiops_operator.reconcile import Reconciler
from aiops_operator.reflector import Reflectors, Watched
from aiops_operator.settings import Settings
from aiops_operator.sink import Sink
from aiops_operator.store import Store, key_of, service_of
from aiops_operator.workqueue import Done, WorkQueue

DISCOVERY_INTERVAL: Final = 10.0  # seconds between looks for kinds that the cluster has begun or ceased to serve
KOPF_STOP_SECONDS: Final = 10.0

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2

logger = logging.getLogger("aiops_operator")


class JsonFormatter(logging.Formatter):
    """One JSON object a line; what a line says of a service can be found by the service's namespace and name."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        line = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        arguments = record.args if isinstance(record.args, tuple) else ()
        key = next((argument for argument in arguments if isinstance(argument, Key)), None)
        if key is not None:
            line |= {"namespace": key.namespace, "name": key.name}
        line |= tracing.fields()
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class Operator:
    """All parts of one process, and their order of starting and stopping."""

    def __init__(self, settings: Settings, configuration: client.Configuration) -> None:
        rng = random.SystemRandom()
        self._settings = settings
        self._configuration = configuration
        self._metrics = Metrics()
        self._cluster = Cluster(configuration, self._metrics)
        self._lease = self._elected(settings)
        self._store = Store()
        self._reflectors = Reflectors(self._cluster, self._store, settings.watch_namespaces, self._changed)
        self._health = Health(self._cluster, self._metrics, settings.watch_namespaces, self._reflectors)
        self._pods = PodClient()
        timing = Timing(settings.poll_interval, _now, rng)
        self._poller = Poller(self._pods, self._enqueue, self._metrics, timing)
        url, secret = settings.drift_sink_url, settings.drift_sink_secret
        self._sink = Sink(url, secret, self._metrics) if url else None
        tell = self._sink.tell if self._sink is not None else None
        self._reconciler = Reconciler(
            self._cluster, self._store, self._pods, self._poller, settings.inference_image, _now, tell
        )
        self._reconciler.peers = settings.network_policy_peers
        self._queue = WorkQueue(self._reconcile, self._metrics, resync=settings.resync_interval, rng=rng)
        self._stopping = asyncio.Event()
        self._kopf_stop = asyncio.Event()
        self._lost = asyncio.Event()
        self._kopf: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._doubted: set[Key] = set()

    def _elected(self, settings: Settings) -> Lease | None:
        if not settings.lease_name:
            return None
        # The host of a pod is called as the pod is; the rest tells one life of it from the next.
        identity = f"{socket.gethostname()}_{random.SystemRandom().getrandbits(32):08x}"
        lease = Lease(self._cluster, Key(settings.lease_namespace, settings.lease_name), identity)
        self._cluster.may_write = lambda: lease.held
        return lease

    async def run(self) -> int:
        """Run until a signal or a failure; the exit code."""
        self._take_signals()
        await self._startup()
        try:
            return await self._serve()
        finally:
            await self._shutdown()

    # What the watches deliver.

    def resource(self, body: Mapping[str, Any], *, ended: bool) -> None:
        """An InferenceService looks like this now, or did when it ended (handlers.Causes)."""
        key, version = key_of(body), None if ended else body["metadata"]["resourceVersion"]
        self._health.freshness.heard(key, version, time.monotonic())
        if (self._store.drop if ended else self._store.put)(names.INFERENCE_SERVICE, body):
            self._changed(names.INFERENCE_SERVICE, body)

    def _changed(self, kind: Kind, body: Mapping[str, Any]) -> None:
        """An object is another than it was, or is gone: whom it concerns is worked on."""
        self._metrics.watch_event_time.labels(kind.plural).set_to_current_time()
        if kind == names.INFERENCE_SERVICE:
            self._queue.add(key_of(body))
            return
        made_for = service_of(body)
        for key in {*self._store.referring(kind, key_of(body)), *([made_for] if made_for else ())}:
            self._queue.add(key)

    # The life of the process.

    async def _startup(self) -> None:
        port = await self._health.start(self._settings.port)
        logger.info("serving /metrics, /healthz and /readyz on port %d", port)
        if self._sink is not None:
            self._sink.start()
        await self._discover()

    async def _serve(self) -> int:
        ready, namespaces = asyncio.Event(), self._settings.watch_namespaces
        self._tasks = [asyncio.create_task(self._discover_forever(), name="discovery")]
        if not await self._lead():
            return EXIT_OK
        self._tasks += [
            asyncio.create_task(
                self._health.watch_the_watches(running_watchers, self._doubt), name="watch of the watches"
            ),
        ]
        watching = kopf.operator(
            registry=handlers.registry(self, self._configuration, scanning=not namespaces),
            standalone=True,
            # Otherwise Kopf asks who the user is, and a container's user has no name.
            identity="aiops-operator",  # type: ignore[arg-type]  # a NewType of str that Kopf keeps to itself
            clusterwide=not namespaces,
            namespaces=namespaces,
            ready_flag=ready,
            stop_flag=self._kopf_stop,
        )
        self._kopf = asyncio.create_task(watching, name="kopf")
        await _first(self._kopf, ready, self._stopping)
        self._take_signals()  # again: Kopf has put its own handlers in place of ours
        self._health.ready = True
        logger.info("watching %s", ", ".join(namespaces) or "all namespaces")
        await _first(self._kopf, self._stopping, self._lost)
        if self._lost.is_set():
            logger.error("the lease is lost: another operator writes, and this one ends")
            return EXIT_FAILED
        if self._stopping.is_set():
            logger.info("stopping")
            return EXIT_OK
        (outcome,) = await asyncio.gather(self._kopf, return_exceptions=True)
        logger.error("watching has ended, which it never should: %s", outcome or "no error")
        return EXIT_FAILED

    async def _lead(self) -> bool:
        """Wait for the right to write, with all that is watched at hand; whether it is ours before the end."""
        if self._lease is not None:
            self._health.standby = True
            waiting = asyncio.create_task(self._lease.acquire(), name="lease")
            await _first(waiting, self._stopping)
            if not waiting.done():
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
                return False
            await waiting  # it raises what it has met, if it was not the lease
            self._health.standby = False
            self._tasks.append(asyncio.create_task(self._keep(self._lease), name="lease"))
        self._metrics.leader.set(1)
        return True

    async def _keep(self, lease: Lease) -> None:
        try:
            await lease.keep()
        finally:  # whatever it has met: nothing is written from now on
            self._metrics.leader.set(0)
            self._lost.set()

    async def _shutdown(self) -> None:
        self._health.ready = False
        await self._queue.close()  # the last writes, while the lease is kept
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._lease is not None:
            await self._lease.release()
        if self._sink is not None:
            await self._sink.stop()  # after the lease: a slow sink must not keep the next operator waiting
        await self._reflectors.stop()
        await self._poller.close()
        await self._pods.close()
        await self._health.stop()
        self._kopf_stop.set()
        if self._kopf is not None:
            with contextlib.suppress(Exception):  # what ended Kopf has been logged
                await asyncio.wait_for(self._kopf, KOPF_STOP_SECONDS)
        await self._cluster.close()

    async def _reconcile(self, key: Key) -> Done:
        await self._reflectors.synced()  # before, all children would seem to be missing
        with tracing.span_of("reconcile", key):
            if key in self._doubted:
                await self._look(key)
            return await self._reconciler.reconcile(key)

    def _doubt(self, key: Key) -> None:
        """A listing says something else of a service than the watch has."""
        self._doubted.add(key)
        self._queue.add(key)

    async def _look(self, key: Key) -> None:
        asked, kind = time.monotonic(), names.INFERENCE_SERVICE
        body = await self._cluster.find(kind, key.namespace, key.name)
        self._doubted.discard(key)
        if body is not None:
            self._store.put(kind, body)
            return
        self._health.freshness.gone(key, asked)
        known = self._store.get(kind, *key)
        if known is not None:
            self._store.drop(kind, known)

    def _enqueue(self, key: Key) -> None:
        self._queue.add(key)

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)

    async def _discover_forever(self) -> None:
        while True:
            await asyncio.sleep(DISCOVERY_INTERVAL)
            await self._discover()

    async def _discover(self) -> None:
        before = self._reconciler.capabilities
        try:
            now = Capabilities(
                service_monitors=await self._cluster.serves(names.SERVICE_MONITOR),
                prometheus_rules=await self._cluster.serves(names.PROMETHEUS_RULE),
            )
        except ApiError as error:
            logger.warning("discovery does not answer, what was known is kept: %s", error)
            return
        await self._reflectors.watch(watched(now))
        if now != before:
            logger.info("of the Prometheus Operator's kinds the cluster serves: %s", now)
            self._reconciler.capabilities = now
            self._queue.add_all()


def watched(capabilities: Capabilities) -> frozenset[Watched]:
    """What is watched beside the services: their children, and what they refer to, of which only the version matters."""
    optional = {
        names.SERVICE_MONITOR: capabilities.service_monitors,
        names.PROMETHEUS_RULE: capabilities.prometheus_rules,
    }
    children = [kind for kind in (*names.CHILD_KINDS, names.POD, names.JOB) if optional.get(kind, True)]
    whole = {
        Watched(kind, names.CHILD_SELECTOR, optional=kind in optional) for kind in children if kind != names.CONFIG_MAP
    }
    return frozenset(whole | {Watched(kind, metadata_only=True) for kind in (names.CONFIG_MAP, names.CLAIM)})


async def _first(task: asyncio.Task[None], *events: asyncio.Event) -> None:
    """Wait until the task has ended or one of the events is set."""
    waiters = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait([task, *waiters], return_when=asyncio.FIRST_COMPLETED)
    for waiter in waiters:
        waiter.cancel()


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def configure_logging(settings: Settings) -> None:
    """Log to stderr in the format that was asked for; Kopf's lines on every event are left out."""
    handler = logging.StreamHandler()
    plain = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else plain)
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    if settings.log_level != "DEBUG":
        logging.getLogger("kopf.objects").setLevel(logging.WARNING)
        logging.getLogger("kopf.activities").setLevel(logging.WARNING)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the operator; 0 after SIGTERM or SIGINT, 1 after a failure, 2 where the settings cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m aiops_operator",
        description="Serves InferenceServices (aiops-quality.io/v1alpha1) and says whether their input has drifted.",
        epilog="Settings are environment variables: INFERENCE_IMAGE, WATCH_NAMESPACES, OPERATOR_PORT, POLL_INTERVAL, "
        "RESYNC_INTERVAL, LEASE_NAME, LEASE_NAMESPACE, NETWORK_POLICY_PEERS, DRIFT_SINK_URL, DRIFT_SINK_SECRET, "
        "LOG_FORMAT, LOG_LEVEL; KUBECONFIG outside a cluster; OTEL_EXPORTER_OTLP_ENDPOINT for traces.",
    )
    parser.parse_args(arguments)
    try:
        settings = Settings.from_env(os.environ)
        configure_logging(settings)
        end_tracing = tracing.start(os.environ)
        try:
            return asyncio.run(_run(settings))
        finally:
            end_tracing()
    except SettingsError as error:
        print(f"aiops_operator: {error}", file=sys.stderr)
        return EXIT_USAGE
    except ConfigException as error:
        print(f"aiops_operator: no access to a cluster: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_USAGE


async def _run(settings: Settings) -> int:
    return await Operator(settings, await load_configuration()).run()


if __name__ == "__main__":
    sys.exit(main())
