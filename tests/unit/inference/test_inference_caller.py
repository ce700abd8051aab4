"""Request ids and W3C trace context: what is taken from headers, and what never is."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_inference import tracecontext
from aiops_inference.caller import MAX_REQUEST_ID, Caller, caller_of, unnamed
from aiops_inference.tracecontext import Trace

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE_ID}-{SPAN_ID}-01".encode()


def hexadecimal(digits):
    """So many lowercase digits, not all of them zero."""
    return st.text("0123456789abcdef", min_size=digits, max_size=digits).filter(lambda text: set(text) != {"0"})


VERSIONS = st.text("0123456789abcdef", min_size=2, max_size=2).filter(lambda version: version != "ff")


@given(version=VERSIONS, trace_id=hexadecimal(32), span_id=hexadecimal(16), flags=st.integers(0, 255))
def test_four_fields_are_read_whatever_the_version(version, trace_id, span_id, flags):
    """Any version but ff, and any flags."""
    value = f"{version}-{trace_id}-{span_id}-{flags:02x}".encode()
    assert Trace(trace_id, span_id) == tracecontext.parse(value)
    assert Trace(trace_id, span_id) == tracecontext.parse(b" \t" + value + b" ")


@given(version=VERSIONS, more=st.binary(max_size=40))
def test_what_a_later_version_appends_is_left_alone(version, more):
    """Behind a dash, and not in version 00, which has four fields."""
    value = version.encode() + VALID[2:] + b"-" + more.strip(b" \t")
    assert (None if version == "00" else Trace(TRACE_ID, SPAN_ID)) == tracecontext.parse(value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        VALID[:-1],
        VALID + b"0",
        VALID + b"-",
        VALID.upper(),
        b"ff" + VALID[2:],
        b"01" + VALID[2:] + b"00-more",
        b"0" + VALID[2:],
        VALID.replace(b"-", b"_"),
        VALID.replace(TRACE_ID.encode(), b"0" * 32),
        VALID.replace(SPAN_ID.encode(), b"0" * 16),
        VALID.replace(b"4bf9", b"4bg9"),
        VALID + b"\n",
        b"\x00" + VALID,
    ],
)
def test_what_is_not_a_traceparent_is_ignored(value):
    """As the specification asks; the request is answered all the same."""
    assert tracecontext.parse(value) is None
    assert caller_of([(b"traceparent", value)]).trace is None


@given(st.binary(max_size=80))
def test_any_bytes_are_parsed_or_ignored(value):
    """Nothing is raised, and what is read is of the right form."""
    trace = tracecontext.parse(value)
    assert trace is None or (32, 16) == (len(trace.trace_id), len(trace.span_id))


@given(st.binary(max_size=2 * MAX_REQUEST_ID))
def test_a_request_id_is_kept_or_replaced(value):
    """Kept where nobody has to escape it; anything else is not repeated."""
    kept = caller_of([(b"x-request-id", value)]).request_id
    if re.fullmatch(rb"[\x21-\x7e]{1,128}", value) and not set(value) & set(b"\"'\\"):
        assert value == kept
    else:
        assert re.fullmatch(rb"[0-9a-f]{8}-[0-9a-f]+", kept)


def test_headers_that_come_twice_say_nothing():
    """Which of them is meant, nobody knows."""
    twice = [(b"x-request-id", b"a"), (b"traceparent", VALID)] * 2
    caller = caller_of(twice)
    assert (True, None) == (caller.request_id != b"a", caller.trace)


def test_a_caller_is_written_with_the_names_of_opentelemetry():
    """`trace_id` and `span_id` beside the request's own id; neither where there is no trace."""
    told = caller_of([(b"host", b"pod"), (b"x-request-id", b"r-1"), (b"traceparent", VALID)])
    assert {"request_id": "r-1", "trace_id": TRACE_ID, "span_id": SPAN_ID} == told.fields
    assert {"request_id": "r-1"} == Caller(b"r-1").fields


def test_no_two_requests_have_the_same_id():
    """Of those that did not bring one."""
    assert 1000 == len({unnamed().request_id for _ in range(1000)})
