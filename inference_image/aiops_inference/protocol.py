"""HTTP/1.1 on one connection: uvicorn's protocol, with an end to all waiting and JSON where no application answers."""

import asyncio
import heapq
import sys
import time
from asyncio.events import TimerHandle
from typing import TYPE_CHECKING, Any, ClassVar, Final

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from aiops_inference.caller import TOLD, Caller, caller_of, unnamed
from aiops_inference.codec import encode
from aiops_inference.endpoint import BODY_TIMEOUT, CLIENT_LEFT, RETRY_AFTER, UNAVAILABLE, body_timeout
from aiops_inference.service import Service

if TYPE_CHECKING:
    from aiops_inference.predictor import Asked

# Seconds from the first byte of a request, or the start of a connection, to the end of its headers.
HEADERS_TIMEOUT: Final = 30.0
MAX_HEAD_BYTES: Final = 64 << 10  # of a request line and headers; counted from the chunk after the one they began in
LAST_BODY: Final = 2.0  # seconds that a body may still take once the socket is closed
LAST_ANSWER: Final = 8.0  # seconds that a client may still take to read its answer


ROOM_SHARE: Final = 32  # of the connections that may be open go at once, so that the search for them pays
PLAIN_BYTES: Final = 64 << 10  # uvicorn stops reading at as many; a longer body goes through the application
MAX_DIGITS: Final = 9
SPECIAL: Final = frozenset({b"transfer-encoding", b"content-encoding", b"expect", b"upgrade"})
NOTED: Final = SPECIAL | TOLD
_heads: dict[Any, Any] = {}


class Prediction:
    """A prediction that is answered without an application: what uvicorn asks of a cycle, and no task.

    The protocol adds the body and sets the event; when the body is whole it goes to the service, whose answer is written to
    the transport in the same tick.
    """

    __slots__ = (
        "_asked",
        "_protocol",
        "_service",
        "_started",
        "_timer",
        "body",
        "caller",
        "disconnected",
        "keep_alive",
        "message_event",
        "more_body",
        "response_complete",
    )

    def __init__(self, protocol: "BoundedProtocol", service: Service, caller: Caller, *, keep_alive: bool) -> None:
        self.caller = caller
        self._protocol = protocol
        self._service = service
        self._started = time.perf_counter()
        self._asked: Asked | None = None
        self._timer: TimerHandle | None = None
        self.keep_alive = keep_alive
        self.body = bytearray()
        self.more_body = True
        self.disconnected = False
        self.response_complete = False
        self.message_event = self

    def set(self) -> None:
        """The body has grown, is whole, or its client is gone."""
        if self.disconnected:
            self._leave()
        elif not self.more_body and self._asked is None and not self.response_complete:
            self._stop_timer()
            self._asked = self._service.submit(bytes(self.body), self._answer, self.caller)

    def expect_body(self) -> None:
        """Give up on the body when it takes too long."""
        if self._timer is None:
            self._timer = self._protocol.loop.call_later(BODY_TIMEOUT, self._refuse_body)

    def _answer(self, status: int, content: bytes) -> None:
        if self.response_complete:
            return
        self.response_complete = True
        self._service.metrics.answers.count(status, time.perf_counter() - self._started)
        self._protocol.answer(self, status, content)

    def _refuse_body(self) -> None:
        self.keep_alive = False
        self._service.refuse(self._answer, body_timeout(), self.caller)

    def _leave(self) -> None:
        self._stop_timer()
        if self._asked is not None:
            self._asked.left = True
        if not self.response_complete:
            self.response_complete = True
            self._service.metrics.answers.count(CLIENT_LEFT, time.perf_counter() - self._started)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def predicting(service: Service, most_connections: int = sys.maxsize) -> type["BoundedProtocol"]:
    """The protocol of a server whose predictions go to this service without a detour."""
    members = {"service": service, "most_connections": most_connections}
    return type("PredictingProtocol", (BoundedProtocol,), members)


class BoundedProtocol(HttpToolsProtocol):
    """Gives up on clients that do not finish their request, or do not read their answer while the process ends."""

    _headers_timer: TimerHandle | None = None
    _in_head = False
    _last_timers: tuple[TimerHandle, ...] = ()
    _running: "RequestResponseCycle | Prediction | None" = None
    _plain: "Prediction | None" = None
    service: ClassVar[Service | None] = None
    most_connections: ClassVar[int] = sys.maxsize
    _broken = ""
    _head_bytes = 0
    made = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """A client is here, and has to ask for something."""
        super().connection_made(transport)
        self.made = self.loop.time()
        self._expect_headers()
        if len(self.connections) > self.most_connections:
            self._make_room()

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
        self._in_head = True

    def on_headers_complete(self) -> None:
        """Its headers are complete; for the body the application has a limit of its own."""
        self._in_head = False
        self._stop_expecting_headers()
        plain = None if self.service is None or self.answering() else self._plain_prediction(self.service)
        if plain is None:
            super().on_headers_complete()
        else:
            self._plain = self._running = plain
            self.cycle = plain  # type: ignore[assignment]  # what uvicorn asks of a cycle it has

    def data_received(self, data: bytes) -> None:
        """Bytes have come; where they do not complete a request's headers or body, the rest is not waited for without end."""
        expected = self._headers_timer
        super().data_received(data)
        if self._in_head:
            self._expect_headers()
        if expected is not None:
            self._bound_head(expected, len(data))
        if self._plain is not None and self._plain.more_body:
            self._plain.expect_body()

    def answer(self, prediction: "Prediction", status: int, content: bytes) -> None:
        """Send what was asked for, and turn to the next request."""
        closing = not prediction.keep_alive or self.service is None or self.service.draining
        head = self._head(status, closing=closing)
        known = prediction.caller.request_id
        self.transport.write(b"%b%d\r\nx-request-id: %b\r\n\r\n%b" % (head, len(content), known, content))
        if closing:
            self.transport.close()
        self.on_response_complete()

    def _plain_prediction(self, service: Service) -> Prediction | None:
        """The prediction that a request's headers ask for, where it needs no application.

        That is POST /predict with a short body of a known length and nothing special: nearly all there are.
        """
        if self.url != b"/predict" or self.parser.get_method() != b"POST" or self.parser.get_http_version() != "1.1":
            return None
        if self.flow.write_paused:  # the client does not read: the application waits for it, and this path cannot
            return None
        length, noted = b"", False
        for name, value in self.headers:
            if name == b"content-length":
                length = value
            elif name in NOTED:
                noted = True
        if not length.isdigit() or len(length) > MAX_DIGITS:
            return None
        if int(length) > PLAIN_BYTES or int(length) > service.settings.max_body_bytes:
            return None
        if noted and any(name in SPECIAL for name, _ in self.headers):
            return None
        caller = caller_of(self.headers) if noted else unnamed()
        return Prediction(self, service, caller, keep_alive=bool(self.parser.should_keep_alive()))

    def _head(self, status: int, *, closing: bool) -> bytes:
        """All that comes before the number of bytes; made once a second, because it holds the date."""
        defaults = self.server_state.default_headers
        if _heads.get("of") is not defaults:
            _heads.clear()
            _heads["of"] = defaults
        found = _heads.get((status, closing))
        if found is None:
            lines = [*defaults, (b"content-type", b"application/json")]
            if status == UNAVAILABLE:
                lines.append((b"retry-after", RETRY_AFTER))
            if closing:
                lines.append((b"connection", b"close"))
            shown = b"".join(b"%b: %b\r\n" % line for line in lines)
            found = _heads[status, closing] = STATUS_LINE[status] + shown + b"content-length: "
        return bytes(found)

    def on_response_complete(self) -> None:
        """The next request of a pipeline has its turn, and after the last one what was wrong behind them."""
        super().on_response_complete()
        if self._broken and self.cycle.response_complete and not self.transport.is_closing():
            self._refuse(400, "InvalidHttp", self._broken)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, once the requests before it have been answered."""
        if self.answering() and not self.cycle.more_body:
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

    def _bound_head(self, expected: TimerHandle, size: int) -> None:
        """Give up on headers without end: nothing of them has been given to anybody yet."""
        if self._headers_timer is not expected:  # complete
            self._head_bytes = 0
            return
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES and not self.answering() and not self.transport.is_closing():
            message = f"the request line and headers have more than {MAX_HEAD_BYTES} bytes"
            self._refuse(431, "TooLarge", message)

    def _make_room(self) -> None:
        """At the limit those go that have been here longest and ask for nothing; where all ask, the newcomer."""
        others = [other for other in self.connections if isinstance(other, BoundedProtocol) and other is not self]
        if any(other.transport.is_closing() for other in others):
            return  # there will be room
        idle = [other for other in others if not other.answering()]
        if not idle:
            message = "as many connections are open as this process may have; try again"
            self._refuse(UNAVAILABLE, "Overloaded", message)
            return
        for other in heapq.nsmallest(max(1, self.most_connections // ROOM_SHARE), idle, key=lambda one: one.made):
            other.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _forget_running(self) -> None:
        """Tell the request that is being answered that nobody waits: uvicorn tells the last one of a pipeline alone."""
        if self._running is not None:
            self._running.disconnected = True
            self._running.message_event.set()

    def answering(self) -> bool:
        """Whether a request is under way."""
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
        if self.answering():  # of a pipeline: reading may have been paused
            self._expect_headers()
        elif not self.transport.is_closing():
            message = f"the request's headers did not arrive within {HEADERS_TIMEOUT:g} s"
            self._refuse(408, "RequestTimeout", message)

    def _refuse_body(self) -> None:
        if self.answering() and self.cycle.more_body and not self.transport.is_closing():
            self._refuse(408, "RequestTimeout", "the pod is shutting down, and the body did not arrive in time")

    def _refuse(self, status: int, reason: str, message: str) -> None:
        """Answer in the application's stead, and hang up."""
        content = encode({"error": message, "reason": reason})
        known = caller_of(self.headers or ()).request_id
        retry = b"retry-after: %b\r\n" % RETRY_AFTER if status == UNAVAILABLE else b""
        headers = (
            b"content-type: application/json\r\n%bcontent-length: %d\r\nx-request-id: %b\r\nconnection: close\r\n\r\n"
        ) % (retry, len(content), known)
        self.transport.write(STATUS_LINE[status] + headers + content)
        self._forget_running()
        self.transport.close()
