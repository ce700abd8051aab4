"""W3C Trace Context: what `traceparent` says of the trace that a request belongs to.

Source: the W3C recommendation Trace Context (level 1, 3.2) and its candidate for level 2, which parses alike.
"""

import re
from typing import Final, NamedTuple

HEADER: Final = b"traceparent"

# Version, trace-id, parent-id, flags, in lowercase hex; what a later version appends begins with a dash.
_FIELDS: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?", re.DOTALL)
_NO_VERSION: Final = b"ff"
_NO_TRACE: Final = b"0" * 32
_NO_SPAN: Final = b"0" * 16


class Trace(NamedTuple):
    """Where a request belongs, in lowercase hex.

    The names are those that OpenTelemetry has for log lines, so that a collector finds them without being told. A line
    belongs to the span that it was written in; this server opens none of its own, so that is the caller's, the header's
    parent-id.

    Attributes:
        trace_id: 32 digits.
        span_id: 16 digits.
    """

    trace_id: str
    span_id: str


def parse(value: bytes) -> Trace | None:
    """What a `traceparent` says, or None where it is not one: it is ignored then, as the specification asks.

    A version that is not known yet is read by its first four fields; `ff` is no version.
    """
    found = _FIELDS.fullmatch(value.strip(b" \t"))
    if found is None:
        return None
    version, trace_id, span_id, more = found.groups()
    if version == _NO_VERSION or trace_id == _NO_TRACE or span_id == _NO_SPAN or (version == b"00" and more):
        return None
    return Trace(trace_id.decode(), span_id.decode())
