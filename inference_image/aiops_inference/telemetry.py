"""What the outside sees of a pod: lines on stdout, and Prometheus metrics."""

import contextlib
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
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

from aiops_inference.caller import Caller
from aiops_inference.codec import encode
from aiops_inference.errors import describe
from aiops_inference.outlet import Outlet
from aiops_inference.stages import Histogram, Stages

LEVELS: Final[Mapping[str, int]] = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
LAST_LINES: Final = 1.0  # seconds that an end waits for the log's reader
EXPECTATIONS_STATES: Final = ("disabled", "pending", "passed", "failed", "error")
LATENCY_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# Control characters that JSON leaves as they are, and what some readers take for the end of a line.
_UNSEEN: Final = re.compile("[\x80-\x9f\u2028\u2029]")


class Log:
    """Lines `LEVEL {json}` on one stream; a line that cannot be written is lost and counted, and nothing else.

    Whatever is in a field, its line is one line, and its JSON can be read again: control characters are escaped, a lone
    surrogate becomes U+FFFD, and what JSON has no form for its text.
    """

    def __init__(self, level: str = "INFO", stream: BinaryIO | None = None) -> None:
        """Begin; without a stream the lines go to stdout, for which nobody ever waits."""
        self._least = LEVELS[level]
        self._stream = stream or Outlet(sys.stdout.fileno())
        self._held: list[bytes] | None = None
        self._lost = 0

    @property
    def dropped(self) -> int:
        """Lines that were lost so far."""
        return self._lost + (self._stream.lost if isinstance(self._stream, Outlet) else 0)

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

    def prediction(self, inputs: object, predictions: object, score: float, caller: Caller, *, drifted: bool) -> None:
        """The documented line of a prediction: written for every request, and so not field by field.

        Args:
            inputs: the first rows.
            predictions: of these rows.
            score: in standard deviations.
            caller: who asked.
            drifted: whether the score is above its threshold.
        """
        if LEVELS["INFO"] < self._least:
            return
        trace = caller.trace
        line = (
            b'INFO {"event": "prediction", "inputs_sample": %b, "predictions_sample": %b, "drift_detected": %b,'
            b' "drift_score": %b, "request_id": "%b"%b}\n'
        ) % (
            encode(inputs),
            encode(predictions),
            b"true" if drifted else b"false",
            encode(score),
            caller.request_id,
            b"" if trace is None else b', "trace_id": "%b", "span_id": "%b"' % (trace[0].encode(), trace[1].encode()),
        )
        self._end(line)

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
            if held:
                self._put(b"".join(held))

    def flush(self) -> None:
        """Pass on what a slow reader has left, as far as it takes it now."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def finish(self) -> None:
        """The last line was written: a slow reader has a moment left."""
        if isinstance(self._stream, Outlet):
            self._stream.finish(LAST_LINES)

    def _put(self, lines: bytes) -> None:
        # A reader that went away must not turn predictions into errors.
        try:
            self._stream.write(lines)
        except (OSError, ValueError):
            self._lost += lines.count(b"\n")
        if not isinstance(self._stream, Outlet):
            self.flush()

    def _write(self, level: str, text: str, fields: Mapping[str, Any]) -> None:
        if LEVELS[level] < self._least:
            return
        # A space after each name, as in the documented line, so that a grep for it finds this one.
        document = b", ".join(b'"%b": %b' % (name.encode(), encode(value)) for name, value in fields.items())
        self._end(b"%b %b{%b}\n" % (level.encode(), text.encode(), document))

    def _end(self, line: bytes) -> None:
        if not line.isascii():
            line = _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", line.decode()).encode()
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
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001 - a message that does not fit its values must not break its author
            message = f"{record.msg} ({describe(error)})"
        fields: dict[str, object] = {"logger": record.name, "message": message.strip()}
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
        self._latency = Histogram(LATENCY_BUCKETS)

    def count(self, status: int, seconds: float) -> None:
        """One prediction request was answered."""
        self._codes[status] = self._codes.get(status, 0) + 1
        self._latency.observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """Both metrics as they are now."""
        requests = CounterMetricFamily(
            "inference_requests", "Prediction requests answered, by HTTP status.", labels=["code"]
        )
        for code, count in sorted(self._codes.items()):
            requests.add_metric([str(code)], count)
        yield requests
        yield HistogramMetricFamily(
            "inference_latency_seconds",
            "From the first look at a prediction request to its answer.",
            buckets=self._latency.buckets(),
            sum_value=self._latency.seconds,
        )


def _whether(state: Callable[[], str], one: str) -> Callable[[], float]:
    return lambda: float(state() == one)


class _Reading(Collector):
    """A counter that somebody else keeps."""

    def __init__(self, name: str, text: str, read: Callable[[], float]) -> None:
        self._name = name
        self._text = text
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """As it is now."""
        yield CounterMetricFamily(self._name, self._text, value=self._read())


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody asked for
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.answers = Answers()
        self.registry.register(self.answers)
        self.stages = Stages()
        self.registry.register(self.stages)
        self.drift_events = Counter(
            "drift_events", "Detected drift, by detector.", ["detector"], registry=self.registry
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
            "Rows that newer ones pushed out before they were validated, or that were lost with the validating process.",
            registry=self.registry,
        )
        self.expectations_state = Gauge(
            "expectations_state", "1 for what Great Expectations last said.", ["state"], registry=self.registry
        )
        self.expectations_lag = Gauge(
            "expectations_lag_seconds",
            "Age of the oldest row that waits for a verdict of Great Expectations, or is being validated; 0 for none.",
            registry=self.registry,
        )
        self.expectations_waiting = Gauge(
            "expectations_waiting_rows",
            "Rows that wait to be validated; a validation takes fifty at least.",
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
        self.shadow_rows = Counter(
            "inference_shadow_rows",
            "Rows copied to a shadow, by what became of them.",
            ["result"],
            registry=self.registry,
        )
        # Series that are there from the start can be alerted on: a first event is then an increase.
        for detector in ("z_score", "great_expectations"):
            self.drift_events.labels(detector)
        for result in ("passed", "failed", "error"):
            self.validations.labels(result)
        for result in ("compared", "failed", "dropped"):
            self.shadow_rows.labels(result)
        for result in ("saved", "failed"):
            self.state_saves.labels(result)
        for result in ("delivered", "failed", "refused", "dropped", "suppressed"):
            self.webhooks.labels(result)
        for state in EXPECTATIONS_STATES:
            self.expectations_state.labels(state).set(1 if state == "disabled" else 0)

    def watch_log(self, log: Log) -> None:
        """Show how many lines were lost."""
        self.registry.register(_Reading("log_lines_dropped", "Log lines that nobody took.", lambda: log.dropped))

    def watch_expectations(
        self, state: Callable[[], str], lag: Callable[[], float], waiting: Callable[[], int]
    ) -> None:
        """Ask for the state, the lag in seconds and the waiting rows whenever somebody scrapes: so they are never stale."""
        for one in EXPECTATIONS_STATES:
            self.expectations_state.labels(one).set_function(_whether(state, one))
        self.expectations_lag.set_function(lag)
        self.expectations_waiting.set_function(waiting)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)
