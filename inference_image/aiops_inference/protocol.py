"""HTTP/1.1 on one connection: uvicorn's protocol, with an end to all waiting and JSON where no application answers."""

import asyncio
from asyncio.events import TimerHandle
from typing import Final

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from aiops_inference.codec import encode

# Seconds from the first byte of a request, or the start of a connection, to the end of its headers.
HEADERS_TIMEOUT: Final = 30.0
LAST_BODY: Final = 2.0  # seconds that a body may still take once the socket is closed
LAST_ANSWER: Final = 8.0  # seconds that a client may still take to read its answer


class BoundedProtocol(HttpToolsProtocol):
    """Gives up on clients that do not finish their request, or do not read their answer while the process ends."""

    _headers_timer: TimerHandle | None = None
    _last_timers: tuple[TimerHandle, ...] = ()
    _running: RequestResponseCycle | None = None
    _broken = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """A client is here, and has to ask for something."""
        super().connection_made(transport)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: nothing is waited for."""
        self._stop_expecting_headers()
        for timer in self._last_timers:
            timer.cancel()
        self._forget_running()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._expect_headers()

    def on_headers_complete(self) -> None:
        """Its headers are complete; for the body the application has a limit of its own."""
        self._stop_expecting_headers()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """The next request of a pipeline has its turn, and after the last one what was wrong behind them."""
        super().on_response_complete()
        if self._broken and self.cycle.response_complete and not self.transport.is_closing():
            self._refuse(400, "InvalidHttp", self._broken)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, once the requests before it have been answered."""
        if self._answering() and not self.cycle.more_body:
            self._broken = msg
            self.flow.pause_reading()
        elif not self.transport.is_closing():
            self._refuse(400, "InvalidHttp", msg)

    def shutdown(self) -> None:
        """The socket is closed: what is on its way has some seconds left."""
        super().shutdown()
        if not self._last_timers:
            self._last_timers = (
                self.loop.call_later(LAST_BODY, self._refuse_body),
                self.loop.call_later(LAST_ANSWER, self.transport.abort),
            )

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _forget_running(self) -> None:
        """Tell the request that is being answered that nobody waits: uvicorn tells the last one of a pipeline alone."""
        if self._running is not None:
            self._running.disconnected = True
            self._running.message_event.set()

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_headers(self) -> None:
        if self._headers_timer is None:
            self._headers_timer = self.loop.call_later(HEADERS_TIMEOUT, self._refuse_headers)

    def _stop_expecting_headers(self) -> None:
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None

    def _refuse_headers(self) -> None:
        self._headers_timer = None
        if self._answering():  # of a pipeline: reading may have been paused
            self._expect_headers()
        elif not self.transport.is_closing():
            message = f"the request's headers did not arrive within {HEADERS_TIMEOUT:g} s"
            self._refuse(408, "RequestTimeout", message)

    def _refuse_body(self) -> None:
        if self._answering() and self.cycle.more_body and not self.transport.is_closing():
            self._refuse(408, "RequestTimeout", "the pod is shutting down, and the body did not arrive in time")

    def _refuse(self, status: int, reason: str, message: str) -> None:
        """Answer in the application's stead, and hang up."""
        content = encode({"error": message, "reason": reason})
        headers = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(content)
        self.transport.write(STATUS_LINE[status] + headers + content)
        self._forget_running()
        self.transport.close()
