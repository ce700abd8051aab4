"""The process: a socket at once, a model when it is loaded, and an orderly end at SIGTERM.

The end, each step with a limit of its own, whatever hangs:

| step | seconds at most |
| --- | --- |
| /health says 503, and everything goes on: the endpoints forget this pod | `DRAIN_SECONDS`, 2 |
| the socket is closed; what is being answered is answered, and clients that do not read are left (8) | 10 |
| the drift counts are written, and the connection to a shadow is closed | 2 |
| the validating process is killed | 2 |
| webhooks are delivered, their connections closed | 6 |
| the log's reader takes what it left waiting | 1 |
| the process ends, without waiting for a thread that still reads a model or resolves a name | 0 |

That is 23 s, 26 with the operator's preStop, of Kubernetes' 30. One call of the model that has begun is not interrupted: a model
that takes longer than the rest of the 30 s is killed with the pod.
"""

import asyncio
import os
import resource
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

import uvicorn

from aiops_inference.app import create_app
from aiops_inference.protocol import predicting
from aiops_inference.service import Service
from aiops_inference.settings import Settings
from aiops_inference.telemetry import Log, capture_logging
from aiops_inference.workers import Worker

KEEP_ALIVE: int = 75  # seconds; longer than the idle timeout of common proxies, which must be the ones to hang up
# Seconds for what is being answered, within Kubernetes' 30; longer than the protocol waits for a client.
GRACE: int = 10


MOST_FILES: int = 1 << 14  # that are asked for: a connection that waits costs memory
LOADING: float = 60.0  # seconds that a worker which is started again loads a model before clients are told so
OTHER_FILES: int = 100  # open at the same time as connections: libraries, the validating process, a webhook


class DrainingServer(uvicorn.Server):
    """At SIGTERM, says so on /health and goes on answering while the endpoints of the Service forget this pod."""

    def __init__(self, config: uvicorn.Config, service: Service, later: Sequence[socket.socket] = ()) -> None:
        """Begin; `later` are sockets to serve on when there is a model, or a reason why there is none."""
        super().__init__(config)
        self._service = service
        self._later = list(later)
        self._began = time.monotonic()
        self._leave_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        """Start to drain; a second signal, or Ctrl-C, ends it at once.

        The signal is not raised again afterwards, as uvicorn would: an end that was asked for has the exit code 0.
        """
        if sig == signal.SIGINT or self._leave_at is not None:
            self.force_exit = self.should_exit
            self.should_exit = True
        else:
            self._leave_at = time.monotonic() + self._service.settings.drain_seconds
        self._service.drain()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until it is over; the process does not outlive it.

        Python would wait for its threads without end: for one that reads a model from a volume that hangs, for one.
        """
        await super().serve(sockets)
        self._service.log.finish()
        os._exit(0)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: is it time to close the socket? And does the log's reader take more?"""
        self._service.log.flush()
        if self._leave_at is not None and time.monotonic() >= self._leave_at:
            self.should_exit = True
        worker = self._service.worker
        if worker is not None and self._leave_at is None and os.getppid() != worker.parent:
            self.handle_exit(signal.SIGTERM, None)  # the parent was killed: nobody else would say so
        if self._later and self._leave_at is None:
            await self._listen_when_loaded()
        return await super().on_tick(counter)

    async def _listen_when_loaded(self) -> None:
        loading = self._service.health()[1].get("reason") == "Loading"
        if loading and time.monotonic() < self._began + LOADING:
            return

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return made

        later, self._later = self._later, []
        for listener in later:
            loop = asyncio.get_running_loop()
            self.servers.append(await loop.create_server(protocol, sock=listener, backlog=self.config.backlog))


def serve(settings: Settings, worker: Worker | None = None) -> None:
    """Run, alone or as one of several workers, until a signal says otherwise; exits with 3 where the port cannot be bound."""
    log = Log(settings.log_level)
    capture_logging(log)
    if worker is not None and settings.drift_state is not None:
        settings = replace(settings, drift_state=Path(f"{settings.drift_state}-{worker.slot}"))
    service = Service(settings, log, worker=worker)
    config = uvicorn.Config(
        create_app(service),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=predicting(service, most_connections()),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
    )
    if worker is None:
        DrainingServer(config, service).run()
    else:
        at_once, later = worker.open()
        DrainingServer(config, service, later).run(at_once)


def most_connections() -> int:
    """How many clients may be connected: as many as the process may have files open, of which it first takes all it may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = MOST_FILES if most == resource.RLIM_INFINITY else min(most, MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    return max(files - OTHER_FILES, 1)
