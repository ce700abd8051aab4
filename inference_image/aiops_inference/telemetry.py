"""What the outside sees of a pod: lines on stdout, and Prometheus metrics."""

import bisect
import contextlib
import itertools
import logging
import sys
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from aiops_inference.codec import encode

LEVELS: Final[Mapping[str, int]] = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
LATENCY_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Log:
    """Lines `LEVEL {json}` on one stream; a line that cannot be written is lost, and nothing else."""

    def __init__(self, level: str = "INFO", stream: BinaryIO | None = None) -> None:
        self._least = LEVELS[level]
        self._stream = stream or sys.stdout.buffer
        self._held: list[bytes] | None = None

    def debug(self, event: str, **fields: object) -> None:
        """What only its author wants to know."""
        self._write("DEBUG", "", {"event": event, **fields})

    def info(self, event: str, **fields: object) -> None:
        """What happened as it should."""
        self._write("INFO", "", {"event": event, **fields})

    def warning(self, event: str, **fields: object) -> None:
        """What somebody should look at, though service goes on."""
        self._write("WARNING", "", {"event": event, **fields})

    def failure(self, event: str, **fields: object) -> None:
        """What keeps something from being served."""
        self._write("ERROR", "", {"event": event, **fields})

    def drift(self, **fields: object) -> None:
        """The line `Drift detected`."""
        self._write("WARNING", "Drift detected ", {"event": "drift", **fields})

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is logged in this block is written at its end, at once: a write a batch, not a write a request."""
        held: list[bytes] = []
        self._held = held
        try:
            yield
        finally:
            self._held = None
            self._put(b"".join(held))

    def _put(self, lines: bytes) -> None:
        # A reader that went away must not turn predictions into errors.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(lines)
            self._stream.flush()

    def _write(self, level: str, text: str, fields: Mapping[str, Any]) -> None:
        if LEVELS[level] < self._least:
            return
        # A space after each name, as in the documented line, so that a grep for it finds this one.
        document = b", ".join(b'"%b": %b' % (name.encode(), encode(value)) for name, value in fields.items())
        line = b"%b %b{%b}\n" % (level.encode(), text.encode(), document)
        if self._held is None:
            self._put(line)
        else:
            self._held.append(line)


class LogHandler(logging.Handler):
    """Carries what libraries say through `logging` in the same form, a traceback inside the JSON."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        fields: dict[str, object] = {"logger": record.name, "message": record.getMessage().strip()}
        if record.exc_info:
            fields["traceback"] = logging.Formatter().formatException(record.exc_info)
        write = self._log.debug
        if record.levelno >= logging.ERROR:
            write = self._log.failure
        elif record.levelno >= logging.WARNING:
            write = self._log.warning
        elif record.levelno >= logging.INFO:
            write = self._log.info
        write("log", **fields)


def capture_logging(log: Log) -> None:
    """Send warnings and the libraries' log records through `log`."""
    logging.basicConfig(handlers=[LogHandler(log)], level=logging.INFO, force=True)
    logging.captureWarnings(capture=True)
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)  # it writes URLs, and a webhook's URL is a secret


class Sampler:
    """Says yes to a share of the calls, evenly spread and without chance."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._due = 0.0

    def __call__(self) -> bool:
        """Whether this call is one of them."""
        self._due += self._share
        if self._due < 1:
            return False
        self._due -= 1
        return True


class Answers(Collector):
    """Counts and latencies of answers, in plain numbers: a request is counted in less than a microsecond.

    All are counted on the event loop, which has one thread, so the locks of prometheus_client's own types have nothing to do.
    """

    def __init__(self) -> None:
        self._codes = {200: 0}
        self._buckets = [0] * (len(LATENCY_BUCKETS) + 1)
        self._seconds = 0.0

    def count(self, status: int, seconds: float) -> None:
        """One prediction request was answered."""
        self._codes[status] = self._codes.get(status, 0) + 1
        self._buckets[bisect.bisect_left(LATENCY_BUCKETS, seconds)] += 1
        self._seconds += seconds

    def collect(self) -> Iterator[Metric]:
        """Both metrics as they are now."""
        requests = CounterMetricFamily(
            "inference_requests", "Prediction requests answered, by HTTP status.", labels=["code"]
        )
        for code, count in sorted(self._codes.items()):
            requests.add_metric([str(code)], count)
        yield requests
        bounds = [*map(floatToGoString, LATENCY_BUCKETS), "+Inf"]
        yield HistogramMetricFamily(
            "inference_latency_seconds",
            "From the first look at a prediction request to its answer.",
            buckets=list(zip(bounds, itertools.accumulate(self._buckets), strict=True)),
            sum_value=self._seconds,
        )


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody asked for
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.answers = Answers()
        self.registry.register(self.answers)
        self.rows = Counter("inference_rows", "Rows predicted.", registry=self.registry)
        self.predict_calls = Counter(
            "inference_model_calls",
            "Calls of the model; fewer than requests where they were batched.",
            registry=self.registry,
        )
        self.drift_events = Counter(
            "drift_events", "Detected drift, by detector.", ["detector"], registry=self.registry
        )
        self.drift_score = Gauge(
            "drift_score",
            "Largest z-score of the last prediction request, in standard deviations.",
            registry=self.registry,
        )
        self.ready = Gauge("inference_ready", "1 where /health answers 200.", registry=self.registry)
        self.model_info = Gauge(
            "model_info", "1 for the model that is served.", ["digest", "task"], registry=self.registry
        )
        self.validations = Counter(
            "expectations_validations", "Batches validated by Great Expectations.", ["result"], registry=self.registry
        )
        self.validated_rows = Counter(
            "expectations_rows", "Rows validated by Great Expectations.", registry=self.registry
        )
        self.dropped_rows = Counter(
            "expectations_dropped_rows",
            "Rows that newer ones pushed out before they were validated.",
            registry=self.registry,
        )
        self.validator_starts = Counter(
            "expectations_process_starts", "Starts of the validating process.", registry=self.registry
        )
        self.webhooks = Counter(
            "webhook_deliveries", "Webhooks, by what became of them.", ["result"], registry=self.registry
        )
        self.state_saves = Counter(
            "drift_state_saves", "Writes of the drift counts to DRIFT_STATE.", ["result"], registry=self.registry
        )
        # Series that are there from the start can be alerted on: a first event is then an increase.
        for detector in ("z_score", "great_expectations"):
            self.drift_events.labels(detector)
        for result in ("passed", "failed", "error"):
            self.validations.labels(result)
        for result in ("saved", "failed"):
            self.state_saves.labels(result)
        for result in ("delivered", "failed", "refused", "dropped", "suppressed"):
            self.webhooks.labels(result)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)
