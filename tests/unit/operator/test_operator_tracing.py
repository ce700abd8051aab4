"""Whether traces are sent, from the environment."""

import sys

import pytest

from aiops_operator import tracing
from aiops_operator.errors import SettingsError

URL = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize("environ", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, URL | {"OTEL_SDK_DISABLED": "true"}])
def test_nothing_is_recorded_where_nobody_takes_it(environ):
    """Spans then cost next to nothing, and log lines have no ids."""
    tracing.start(environ)()
    with tracing.tracer.start_as_current_span("reconcile") as span:
        assert (False, {}) == (span.is_recording(), tracing.fields())


def test_another_protocol_is_refused():
    """Only HTTP: the message says which, and on which port that mostly is."""
    with pytest.raises(SettingsError, match=r"is 'grpc': only http/protobuf is supported, mostly on port 4318"):
        tracing.start(URL | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


def test_without_the_sdk_it_says_what_to_install(monkeypatch):
    """An image that was built without it must not seem to trace."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(
        SettingsError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT is set, .* install aiops-operator\[tracing\]"
    ):
        tracing.start(URL)
