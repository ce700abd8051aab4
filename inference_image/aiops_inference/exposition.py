"""Metrics of several processes as one exposition, as if one process had counted.

| samples | of several processes |
| --- | --- |
| counters, histograms, `process_*` | sum |
| `process_start_time_seconds`, `inference_ready`, `expectations_state{state="disabled"}` | smallest |
| all other gauges | largest |
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

COUNTED: Final = frozenset({"counter", "histogram"})  # what goes on where another process went before
SMALLEST: Final = frozenset({"process_start_time_seconds", "inference_ready"})

_Key = tuple[str, tuple[tuple[str, str], ...]]


def merged(whole: Iterable[bytes], counted: Iterable[bytes] = (), more: Iterable[Metric] = ()) -> bytes:
    """One exposition of many.

    Args:
        whole: expositions of processes that run.
        counted: expositions of processes that are gone or say nothing: their counters and histograms count.
        more: metrics that are in none of them.

    Raises:
        ValueError: a text that is no exposition.
    """
    families: dict[str, Metric] = {}
    values: dict[str, dict[_Key, float]] = {}
    for text, counters_alone in [*((text, False) for text in whole), *((text, True) for text in counted)]:
        for family in text_string_to_metric_families(text.decode()):
            if counters_alone and family.type not in COUNTED:
                continue
            kept = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            known = values.setdefault(family.name, {})
            for sample in family.samples:
                key = sample.name, tuple(sample.labels.items())
                rule = _rule(kept.type, sample.name, sample.labels)
                known[key] = rule((known[key], sample.value)) if key in known else sample.value
    for name, family in families.items():
        for (sample_name, labels), value in values[name].items():
            family.add_sample(sample_name, dict(labels), value)
    return generate_latest(_Ready([*families.values(), *more]))


def _rule(kind: str, name: str, labels: Mapping[str, str]) -> Callable[[tuple[float, float]], float]:
    if name in SMALLEST or (name == "expectations_state" and labels.get("state") == "disabled"):
        return min
    return sum if kind in COUNTED or name.startswith("process_") else max


class _Ready(Collector):
    """Metrics that are there already."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        return iter(self._metrics)
