"""PrometheusRule `<name>`: the alerts of one service, on what its pods and the operator show."""

import json
from typing import Any

from aiops_operator.api import InferenceService
from aiops_operator.names import PROMETHEUS_RULE
from aiops_operator.resources.metadata import object_metadata

LATE: float = 0.5  # seconds: the 99th percentile beyond which predictions are slow
FAILING: float = 0.05  # part of the requests that may be answered with 5xx


def prometheus_rule(service: InferenceService) -> dict[str, Any]:
    """Drift, errors, latency, and pods that nobody hears of."""
    metadata = object_metadata(service, service.key.name)
    metadata["labels"] = {**service.monitoring.labels, **metadata["labels"]}
    return {
        "apiVersion": PROMETHEUS_RULE.api_version,
        "kind": PROMETHEUS_RULE.kind,
        "metadata": metadata,
        "spec": {"groups": [{"name": f"inferenceservice-{service.key.name}", "rules": _rules(service)}]},
    }


def _rules(service: InferenceService) -> list[dict[str, Any]]:
    namespace, name = service.key
    scraped = f"namespace={_quoted(namespace)},service={_quoted(name)}"
    failed = f'sum(rate(inference_requests_total{{{scraped},code=~"5.."}}[5m]))'
    drifted, known = (_of_operator(f"inferenceservice_drift_{what}", service) for what in ("detected", "acknowledged"))
    late = f"histogram_quantile(0.99, sum by (le) (rate(inference_latency_seconds_bucket{{{scraped}}}[5m]))) > {LATE}"
    silence = f"absent(inference_ready{{{scraped}}})"
    rules = [
        _alert(
            service,
            "Drift",
            f"max({drifted} unless {known} == 1) == 1",
            "1m",
            "the rows that {} sees have drifted from its baseline",
        ),
        _alert(
            service,
            "Errors",
            f"{failed} / sum(rate(inference_requests_total{{{scraped}}}[5m])) > {FAILING}",
            "5m",
            "{} answers more than 5 of 100 requests with an error of its own",
        ),
        _alert(service, "Latency", late, "10m", "one of 100 predictions of {} takes longer than half a second"),
    ]
    # Of a service that is scaled to zero nothing is to be heard.
    return [*rules, _alert(service, "NoData", silence, "10m", "no pod of {} is scraped")] if service.replicas else rules


def _quoted(text: str) -> str:
    """A PromQL string. Names are DNS labels, which need no escaping; any other text stays one string all the same."""
    return json.dumps(text, ensure_ascii=False)  # the halves of an escaped surrogate pair PromQL would refuse


def _of_operator(metric: str, service: InferenceService) -> str:
    """One of the operator's metrics, whose own label namespace gives way where the scrape adds that of the operator's pod."""
    namespace, name = map(_quoted, service.key)
    return f"({metric}{{namespace={namespace},name={name}}} or {metric}{{exported_namespace={namespace},name={name}}})"


def _alert(service: InferenceService, kind: str, expression: str, pending: str, text: str) -> dict[str, Any]:
    return {
        "alert": f"InferenceService{kind}",
        "expr": expression,
        "for": pending,
        "labels": {"severity": "warning", "namespace": service.key.namespace, "inferenceservice": service.key.name},
        "annotations": {"summary": text.format(service.key)},
    }
