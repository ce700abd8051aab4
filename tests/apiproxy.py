"""A proxy in front of the API server, which records what passes and lets a test spoil it."""

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from yarl import URL

DROPPED = {"host", "transfer-encoding", "content-length", "connection", "accept-encoding"}
CUT = "cut"
SILENT = "silent"


@dataclass(frozen=True)
class Passed:
    """A request, how it was answered, and when it came (monotonic seconds)."""

    method: str
    path: str
    query: dict[str, str]
    status: int
    at: float

    @property
    def is_watch(self) -> bool:
        """Whether it goes on until it is ended."""
        return self.query.get("watch") == "true"


class ApiProxy:
    """Serves plain HTTP on loopback and asks the API server for everything.

    Attributes:
        passed: what was answered, in order; a watch is there from its beginning.
        rule: asked with method, path and whether it is a watch; what it answers instead: a status, `CUT`, `SILENT` (the head
            of the API server's answer and nothing more), or None to pass.
        retry_after: seconds that an answer 429 of the rule asks for.
        after: told of each answer before the client gets it.
    """

    def __init__(self, upstream: str, context: ssl.SSLContext) -> None:
        self._upstream = upstream.rstrip("/")
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._watches: set[asyncio.Transport] = set()
        self._silent: set[asyncio.Transport] = set()
        self.passed: list[Passed] = []
        self.retry_after = 1
        self.rule: Callable[[str, str, bool], int | str | None] = lambda *_: None
        self.after: Callable[[Passed], None] = lambda _: None
        self.url = ""

    def silence_watches(self) -> None:
        """From now on all watches that are open say nothing and stay open; those that are opened later speak."""
        self._loop.call_soon_threadsafe(lambda: self._silent.update(self._watches))

    def cut_watches(self) -> None:
        """End all watches in the middle."""

        def cut() -> None:
            for transport in list(self._watches):
                transport.abort()

        self._loop.call_soon_threadsafe(cut)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        watch, at = request.query.get("watch") == "true", time.monotonic()
        spoilt = self.rule(request.method, request.path, watch)
        if spoilt == CUT:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if isinstance(spoilt, int):
            self._note(request, spoilt, at)
            status = {"kind": "Status", "apiVersion": "v1", "message": "spoilt by the test", "code": spoilt}
            headers = {"Retry-After": str(self.retry_after)} if spoilt == 429 else {}
            return web.json_response(status, status=spoilt, headers=headers)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in DROPPED}
        url = URL(self._upstream + request.path_qs, encoded=True)
        body = await request.read()
        async with self._session.request(request.method, url, headers=headers, data=body or None) as answer:
            self._note(request, answer.status, at)
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            await response.prepare(request)
            transport = request.transport
            assert isinstance(transport, asyncio.Transport)
            if spoilt == SILENT:
                self._silent.add(transport)
            if watch:
                self._watches.add(transport)
            try:
                async for chunk in answer.content.iter_any():
                    if transport not in self._silent:
                        await response.write(chunk)
            finally:
                self._watches.discard(transport)
                self._silent.discard(transport)
            return response

    def _note(self, request: web.Request, status: int, at: float) -> None:
        passed = Passed(request.method, request.path, dict(request.query), status, at)
        self.passed.append(passed)
        self.after(passed)

    async def _start(self) -> web.AppRunner:
        timeout = aiohttp.ClientTimeout(total=None)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._context), timeout=timeout, trust_env=False
        )
        app = web.Application(client_max_size=16 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return runner

    @contextlib.contextmanager
    def running(self) -> Iterator["ApiProxy"]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        runner = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        try:
            yield self
        finally:

            async def stop() -> None:
                await runner.cleanup()
                await self._session.close()

            asyncio.run_coroutine_threadsafe(stop(), self._loop).result(20)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(10)
            self._loop.close()
