"""Traces of a running operator, as a collector gets them."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from waiting import until


@pytest.fixture
def collector():
    """Where an OTLP collector listens, and the spans that it has got."""
    spans = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            """Take what is exported."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                own = attributes(resource.resource)
                spans.extend((own, span) for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", spans
        server.shutdown()


def attributes(of):
    """Attributes by name."""
    return {entry.key: entry.value.string_value or entry.value.int_value for entry in of.attributes}


def test_a_reconcile_is_a_trace_with_its_requests_and_its_log_lines(api, start, collector):
    """The write of the Deployment is a child of a reconcile of the service, and the line that it is Ready has its ids."""
    url, spans = collector
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with start(api.namespace, **settings) as operator:
        api.serve()
        api.settled()
        path = api.path("Deployment", "iris")
        written = until(lambda: [(own, span) for own, span in spans if attributes(span).get("url.path") == path])
        own, request = written[-1]
        reconciles = until(lambda: [span for _, span in spans if span.span_id == request.parent_span_id])
        line = operator.logged("Ready=")
    assert "aiops-operator" == own["service.name"]
    assert {"http.request.method", "url.path", "http.response.status_code"} == set(attributes(request))
    assert ["reconcile"] == [span.name for span in reconciles]
    told = {"k8s.namespace.name": api.namespace, "aiops-quality.io/inferenceservice": "iris"}
    assert told == attributes(reconciles[0])
    assert line["trace_id"] in {span.trace_id.hex() for _, span in spans}


def test_the_last_spans_are_sent_at_the_end(api, start, collector):
    """SIGTERM: what waits to be exported is."""
    url, spans = collector
    with start(api.namespace, OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_BSP_SCHEDULE_DELAY="600000") as operator:
        api.serve()
        api.settled()
        assert 0 == operator.stop()
    assert "reconcile" in {span.name for _, span in spans}


def test_a_collector_that_is_away_holds_nothing_up(api, start):
    """Services are served, and the operator ends in order."""
    with start(
        api.namespace, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", OTEL_EXPORTER_OTLP_TIMEOUT="1"
    ) as operator:
        api.serve()
        api.settled()
        assert 0 == operator.stop()
