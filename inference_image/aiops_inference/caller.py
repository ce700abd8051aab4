"""Who asks: the id by which a request is found again in answers and log lines, and the trace that it belongs to."""

import itertools
import re
import secrets
from collections.abc import Iterable
from typing import Final, NamedTuple

from aiops_inference import tracecontext
from aiops_inference.tracecontext import Trace

REQUEST_ID: Final = b"x-request-id"
TOLD: Final = frozenset({REQUEST_ID, tracecontext.HEADER})  # the headers that say something of a caller
MAX_REQUEST_ID: Final = 128

# Printable ASCII without space, quotes and backslash: neither a header nor a log line has to escape it.
_REQUEST_ID: Final = re.compile(rb"[!#-&(-\[\]-~]{1,%d}" % MAX_REQUEST_ID)
_prefix: Final = secrets.token_hex(4).encode()
_numbers: Final = itertools.count(1)


class Caller(NamedTuple):
    """One request's identity; a tuple, because one is made for every request.

    Attributes:
        request_id: up to 128 characters that need no escape.
        trace: the caller's, where it sent a valid `traceparent`.
    """

    request_id: bytes
    trace: Trace | None = None

    @property
    def fields(self) -> dict[str, str]:
        """What a log line says of it."""
        named = {"request_id": self.request_id.decode()}
        return named if self.trace is None else {**named, **self.trace._asdict()}


NOBODY: Final = Caller(b"-")  # where no request is behind it


def unnamed() -> Caller:
    """A caller that says nothing of itself, under an id that no other request of this process has, nor likely of another."""
    return Caller(_unused_id())


def caller_of(headers: Iterable[tuple[bytes, bytes]]) -> Caller:
    """What headers, their names in lower case, say of their sender.

    An `X-Request-ID` of another form is replaced and never repeated; so is one that comes twice. A `traceparent` that is not
    valid, or comes twice, is ignored.
    """
    request_id: bytes | None = None
    traceparent: bytes | None = None
    for name, value in headers:
        if name == REQUEST_ID:
            request_id = value if request_id is None else b""
        elif name == tracecontext.HEADER:
            traceparent = value if traceparent is None else b""
    if request_id is None or not _REQUEST_ID.fullmatch(request_id):
        request_id = _unused_id()
    return Caller(request_id, None if traceparent is None else tracecontext.parse(traceparent))


def _unused_id() -> bytes:
    return b"%b-%x" % (_prefix, next(_numbers))
