"""OpenTelemetry traces, where an endpoint takes them: a span for each reconcile, look at pods and request to the API server.

The standard variables say where to (OTEL_EXPORTER_OTLP_ENDPOINT), how many (OTEL_TRACES_SAMPLER) and as whose (OTEL_SERVICE_NAME).
Without an endpoint nothing is recorded, and the SDK is not even imported.
"""

import socket
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Final

from opentelemetry import trace

from aiops_operator.errors import SettingsError
from aiops_operator.names import COMPONENT, LABEL_SERVICE, Key

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
HTTP: Final = "http/protobuf"

tracer: Final = trace.get_tracer(COMPONENT)


def start(environ: Mapping[str, str]) -> Callable[[], None]:
    """Begin to export, if an endpoint is named; returns what exports the rest and ends.

    Raises:
        SettingsError: the endpoint wants another protocol than HTTP, or the SDK is not installed.
    """
    named = [name for name in ENDPOINTS if environ.get(name)]
    if not named or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return lambda: None
    protocol = next((environ[name] for name in PROTOCOLS if environ.get(name)), HTTP)
    if protocol != HTTP:
        message = f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}: only {HTTP} is supported, mostly on port 4318"
        raise SettingsError(message)
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  an extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        message = f"{named[0]} is set, but there is no OpenTelemetry SDK: install aiops-operator[tracing]"
        raise SettingsError(message) from error
    own = {} if environ.get("OTEL_SERVICE_NAME") else {"service.name": COMPONENT}
    resource = Resource.create(own | {"service.instance.id": socket.gethostname()})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def span_of(name: str, key: Key) -> AbstractContextManager[trace.Span]:
    """A span about a service."""
    attributes = {"k8s.namespace.name": key.namespace, LABEL_SERVICE: key.name}
    return tracer.start_as_current_span(name, attributes=attributes)


def fields() -> dict[str, str]:
    """What ties a log line to the span that it was written in; empty outside of one."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}
