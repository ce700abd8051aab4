"""The operator's own metrics, in a registry of their own."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

from aiops_drift import Agreement, Verdict
from aiops_operator.names import Key

MAX_FEATURES: Final = 16  # of one service: a series each, and there may be thousands of features


class Metrics:
    """Every series that /metrics of the operator serves."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.reconciles = Counter("aiops_operator_reconcile", "Finished reconciles.", ["result"], registry=registry)
        self.reconcile_errors = Counter(
            "aiops_operator_reconcile_errors",
            "Reconciles that ended in an error and are tried again.",
            registry=registry,
        )
        self.reconcile_seconds = Histogram(
            "aiops_operator_reconcile_time_seconds",
            "Seconds from the start of a reconcile to its end.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )
        self.queue_seconds = Histogram(
            "aiops_operator_queue_seconds",
            "Seconds from a cause to the start of its reconcile.",
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10),
            registry=registry,
        )
        self.active_workers = Gauge("aiops_operator_active_workers", "Reconciles under way.", registry=registry)
        self.queue_depth = Gauge("aiops_operator_queue_depth", "Services that wait for a worker.", registry=registry)
        self.api_requests = Counter(
            "aiops_operator_api_requests", "Requests to the API server.", ["verb", "result"], registry=registry
        )
        self.polls = Counter(
            "aiops_operator_drift_polls", "Looks at the /drift of a pod.", ["result"], registry=registry
        )
        self.poll_seconds = Histogram(
            "aiops_operator_drift_poll_seconds",
            "Seconds to ask all pods of a service and to merge what they say.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
            registry=registry,
        )
        self.watch_event_time = Gauge(
            "aiops_operator_watch_event_timestamp_seconds",
            "Unix time of the last event that a watch delivered.",
            ["kind"],
            registry=registry,
        )
        self.watch_lag = Gauge(
            "aiops_operator_watch_lag_seconds",
            "How long the oldest change that a listing has found has not been delivered by the watch.",
            ["kind"],
            registry=registry,
        )
        self.watch_silence = Gauge(
            "aiops_operator_watch_silence_seconds",
            "Seconds since the API server has said anything in a watch, that it is open and bookmarks included.",
            ["kind"],
            registry=registry,
        )
        self.sink_events = Counter(
            "aiops_operator_drift_sink_events",
            "Drift events for the administrator's sink, by what became of them.",
            ["result"],
            registry=registry,
        )
        self.sink_queue = Gauge(
            "aiops_operator_drift_sink_queue", "Drift events that wait to be delivered.", registry=registry
        )
        self.tasks = Gauge("aiops_operator_tasks", "Tasks of the event loop that have not ended.", registry=registry)
        self.leader = Gauge("aiops_operator_leader", "1 where this operator is the one that writes.", registry=registry)
        self.drift_score = Gauge(
            "inferenceservice_drift_score",
            "The largest drift statistic of any feature, scaled so that the threshold reads as zScoreThreshold.",
            ["namespace", "name"],
            registry=registry,
        )
        self.drift_detected = Gauge(
            "inferenceservice_drift_detected",
            "1 where drift is detected, 0 where it is not; absent while that is unknown.",
            ["namespace", "name"],
            registry=registry,
        )
        self.drift_acknowledged = Gauge(
            "inferenceservice_drift_acknowledged",
            "1 where the present episode of drift is acknowledged, else 0; absent while drift is unknown.",
            ["namespace", "name"],
            registry=registry,
        )
        self.drift_samples = Gauge(
            "inferenceservice_drift_samples",
            "Rows in the window of the verdict.",
            ["namespace", "name"],
            registry=registry,
        )
        self.monitored_pods = Gauge(
            "inferenceservice_monitored_pods",
            "Ready pods that Prometheus is to scrape; 0 where spec.monitoring.mode is none.",
            ["namespace", "name"],
            registry=registry,
        )
        self.shadow_rows = Gauge(
            "inferenceservice_shadow_rows",
            "Rows on which a revision was compared with the one that serves; absent where none is.",
            ["namespace", "name"],
            registry=registry,
        )
        self.shadow_failed_rows = Gauge(
            "inferenceservice_shadow_failed_rows",
            "Rows for which the compared revision had no prediction; absent where none is compared.",
            ["namespace", "name"],
            registry=registry,
        )
        self.shadow_distance = Gauge(
            "inferenceservice_shadow_distance",
            "How far the predictions of the compared revision are from those that were answered; absent before the first row.",
            ["namespace", "name"],
            registry=registry,
        )
        self.feature_score = Gauge(
            "inferenceservice_drift_feature_score",
            "The largest drift statistic of a feature, in the unit of its threshold; of the 16 worst features.",
            ["namespace", "name", "feature"],
            registry=registry,
        )
        self.feature_threshold = Gauge(
            "inferenceservice_drift_feature_threshold",
            "The threshold of a feature's drift statistic, in standard deviations.",
            ["namespace", "name", "feature"],
            registry=registry,
        )
        self._features: dict[Key, set[str]] = {}

    def set_drift(self, key: Key, verdict: Verdict, *, detected: bool | None, acknowledged: bool) -> None:
        """Show a service's verdict."""
        self.drift_score.labels(*key).set(verdict.score)
        self.drift_samples.labels(*key).set(verdict.samples)
        worst = sorted(verdict.features, key=lambda each: each.score / each.threshold, reverse=True)[:MAX_FEATURES]
        for each in worst:
            self.feature_score.labels(*key, each.name).set(each.score)
            self.feature_threshold.labels(*key, each.name).set(each.threshold)
        self._show_only(key, {each.name for each in worst})
        if detected is None:
            _remove(self.drift_detected, key)
            _remove(self.drift_acknowledged, key)
        else:
            self.drift_detected.labels(*key).set(int(detected))
            self.drift_acknowledged.labels(*key).set(int(acknowledged))

    def set_shadow(self, key: Key, agreement: Agreement | None) -> None:
        """Show how far a second revision is from the one that serves; None where there is none."""
        distance = agreement.distance if agreement else None
        shown = {
            self.shadow_rows: agreement.rows if agreement else None,
            self.shadow_failed_rows: agreement.failed if agreement else None,
            self.shadow_distance: distance,
        }
        for gauge, value in shown.items():
            if value is None:
                _remove(gauge, key)
            else:
                gauge.labels(*key).set(value)

    def forget(self, key: Key) -> None:
        """Drop the series of a service that is gone."""
        gauges = (self.drift_score, self.drift_samples, self.drift_detected, self.drift_acknowledged)
        for gauge in (*gauges, self.monitored_pods):
            _remove(gauge, key)
        self.set_shadow(key, None)
        self._show_only(key, set())

    def _show_only(self, key: Key, features: set[str]) -> None:
        for gone in self._features.pop(key, set()) - features:
            self.feature_score.remove(*key, gone)
            self.feature_threshold.remove(*key, gone)
        if features:
            self._features[key] = features


def _remove(gauge: Gauge, key: Key) -> None:
    try:
        gauge.remove(*key)
    except KeyError:
        return  # it was never set
