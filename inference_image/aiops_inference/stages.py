"""What predictions are counted and timed by, in plain numbers: a request costs less than a microsecond.

All of it happens on the event loop, which has one thread, so the locks of prometheus_client's own types have nothing to do.
"""

import itertools
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from aiops_inference.predictor import Asked

BUCKETS: Final = (0.00002, 0.0001, 0.0005, 0.0025, 0.01, 0.1, 1.0)
# The first two are of each request; the others of each batch, which has one call of the model.
STAGES: Final = ("decode", "queue", "model", "drift", "encode", "write")


class Histogram:
    """Seconds in buckets."""

    __slots__ = ("bounds", "counts", "seconds")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Count one more."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.seconds += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, by their upper bounds, as the exposition format has them."""
        bounds = [*map(floatToGoString, self.bounds), "+Inf"]
        return list(zip(bounds, itertools.accumulate(self.counts), strict=True))


class Stages(Collector):
    """Where the time of predictions goes, from the last byte of a body to the bytes handed to the socket.

    A batch calls `begin`, `predicted` and, for each stage that follows, `end`: each reads the clock once for all that are
    in it.

    Attributes:
        calls: of the model.
        rows: predicted.
        score: of the last request, in standard deviations.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.rows = 0
        self.score = 0.0
        self._histograms = {stage: Histogram(BUCKETS) for stage in STAGES}
        self._decode, self._queue = self._histograms["decode"], self._histograms["queue"]
        self._mark = 0.0

    def begin(self) -> None:
        """The model is called."""
        self.calls += 1
        self._mark = time.perf_counter()

    def predicted(self, batch: "Sequence[Asked]") -> None:
        """It has answered for these: two stages of theirs were over when it was called."""
        called = self._mark
        self.end("model")
        # Written out, not by `observe`: it is the one loop here that each request goes through.
        decode, queue = self._decode, self._queue
        decodes, queues = decode.counts, queue.counts
        for asked in batch:
            decoding, waiting = asked.queued - asked.came, called - asked.queued
            decodes[bisect_left(BUCKETS, decoding)] += 1
            queues[bisect_left(BUCKETS, waiting)] += 1
            decode.seconds += decoding
            queue.seconds += waiting

    def end(self, stage: str) -> None:
        """A stage of the batch is over, and the next one begins."""
        now = time.perf_counter()
        self._histograms[stage].observe(now - self._mark)
        self._mark = now

    def collect(self) -> Iterator[Metric]:
        """All of it as it is now."""
        stages = HistogramMetricFamily(
            "inference_stage_seconds",
            "Time that predictions take by stage: decode and queue of each request; model, drift, encode and write of each"
            " batch.",
            labels=["stage"],
        )
        for stage, histogram in self._histograms.items():
            stages.add_metric([stage], histogram.buckets(), histogram.seconds)
        yield stages
        yield CounterMetricFamily("inference_rows", "Rows predicted.", value=self.rows)
        yield CounterMetricFamily(
            "inference_model_calls",
            "Calls of the model; fewer than requests where they were batched.",
            value=self.calls,
        )
        yield GaugeMetricFamily(
            "drift_score", "Largest z-score of the last prediction request, in standard deviations.", value=self.score
        )
