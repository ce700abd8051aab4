"""Writes the dashboards: `python grafana/generate.py`; what is committed must be what this makes.

The files are in the chart, where Grafana's sidecar gets them from; grafana/ has links to them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import GraphDrawStyle, LegendDisplayMode, LegendPlacement, TooltipDisplayMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FILES: Final = Path(__file__).resolve().parent.parent / "helm" / "files"
SOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
# Pods are labelled by who scrapes them, services of the operator's metrics by themselves.
PODS: Final = '{namespace=~"$namespace",service=~"$service"}'
SERVICES: Final = '{namespace=~"$namespace",name=~"$service"}'
OPERATORS: Final = '{namespace=~"$namespace"}'
# 0 no drift, 1 drift, 2 drift that is acknowledged; the two series come and go together.
VERDICT: Final = " + ".join(
    f"max by (namespace, name) (inferenceservice_drift_{what}{SERVICES})" for what in ("detected", "acknowledged")
)
STATES: Final = (("no drift", "green"), ("drift", "red"), ("acknowledged", "yellow"))
THRESHOLD: Final = " threshold"  # ends the legends of lines that are dashed
DASHED: Final = [model.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [10, 10]})]
HALF, THIRD, WHOLE = 12, 8, 24


@dataclass(frozen=True)
class View:
    """One panel.

    Attributes:
        title: what it is called.
        queries: PromQL and the legend of each.
        unit: as Grafana names it.
        kind: how it is drawn.
        width: of 24.
        description: what a person should know who looks at it.
    """

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    kind: Literal["lines", "bars", "stat", "verdict", "states", "table"] = "lines"
    width: int = HALF
    description: str = ""


def _quantile(q: float) -> tuple[str, str]:
    buckets = f"sum by (le, namespace, service) (rate(inference_latency_seconds_bucket{PODS}[$__rate_interval]))"
    return f"histogram_quantile({q}, {buckets})", f"{{{{service}}}} p{q * 100:.0f}"


def _operator_quantile(name: str, legend: str) -> tuple[str, str]:
    buckets = f"sum by (le) (rate(aiops_operator_{name}_seconds_bucket{OPERATORS}[$__rate_interval]))"
    return f"histogram_quantile(0.99, {buckets})", legend


def _of_service(metric: str, *labels: str) -> str:
    """A gauge of the operator: of several operators each may show it."""
    return f"max by ({', '.join(('namespace', 'name', *labels))}) (inferenceservice_{metric}{SERVICES})"


INFERENCE: Final = (
    View(
        "Services",
        [(VERDICT, "{{namespace}}/{{name}}")],
        kind="verdict",
        width=THIRD,
        description="Whether the service still sees the data it was trained on.",
    ),
    View(
        "Pods that serve",
        [(f"sum by (namespace, service) (inference_ready{PODS})", "{{service}}")],
        kind="stat",
        width=THIRD,
    ),
    View(
        "Rows in the verdict's window",
        [(_of_service("drift_samples"), "{{name}}")],
        kind="stat",
        width=THIRD,
    ),
    View(
        "Requests per second",
        [(f"sum by (namespace, service) (rate(inference_requests_total{PODS}[$__rate_interval]))", "{{service}}")],
        "reqps",
    ),
    View("Latency (p50, p90, p99)", [_quantile(0.5), _quantile(0.9), _quantile(0.99)], "s"),
    View(
        "Score against threshold, by feature",
        [
            (_of_service("drift_feature_score", "feature"), "{{name}} {{feature}}"),
            (_of_service("drift_feature_threshold", "feature"), f"{{{{name}}}} {{{{feature}}}}{THRESHOLD}"),
        ],
        description="Each feature's drift statistic, in the unit of its threshold (dashed); the 16 worst of a service.",
    ),
    View("Drift score of each service", [(_of_service("drift_score"), "{{name}}")]),
    View(
        "Verdict",
        [(VERDICT, "{{namespace}}/{{name}}")],
        kind="states",
        width=WHOLE,
        description="Empty while there are too few rows to say.",
    ),
    View(
        "Drift events",
        [
            (
                f"sum by (namespace, service, detector) (increase(drift_events_total{PODS}[$__rate_interval]))",
                "{{service}} {{detector}}",
            )
        ],
        kind="bars",
        description="Requests whose own rows were beyond a threshold, and batches that broke an expectation.",
    ),
    View(
        "Errors per second",
        [
            (
                f'sum by (namespace, service, code) (rate(inference_requests_total{PODS[:-1]},code=~"[45].."}}[$__rate_interval]))',
                "{{service}} {{code}}",
            )
        ],
        "reqps",
    ),
    View(
        "Shadow: distance of its predictions",
        [(_of_service("shadow_distance"), "{{name}}")],
        description="From those of the revision that serves; empty where no revision is compared.",
    ),
    View(
        "Shadow: rows",
        [
            (_of_service("shadow_rows"), "{{name}} compared"),
            (_of_service("shadow_failed_rows"), "{{name}} without a prediction"),
        ],
    ),
    View(
        "Replicas",
        [
            (f"sum by (namespace, service) (inference_ready{PODS})", "{{service}} ready"),
            (f"count by (namespace, service) (inference_ready{PODS})", "{{service}} scraped"),
        ],
        width=THIRD,
    ),
    View(
        "Expectations",
        [(f"sum by (namespace, service, state) (expectations_state{PODS})", "{{service}} {{state}}")],
        width=THIRD,
        description="What Great Expectations last said, in pods.",
    ),
    View(
        "Models",
        [(f"count by (namespace, service, digest, task) (model_info{PODS} == 1)", "")],
        kind="table",
        width=THIRD,
        description="How many pods serve which model.",
    ),
)
OPERATOR: Final = (
    View(
        "Operators that write",
        [(f"sum by (namespace) (aiops_operator_leader{OPERATORS})", "{{namespace}}")],
        kind="stat",
        width=THIRD,
        description="One of a release; none: nobody works on specs or looks for drift.",
    ),
    View(
        "Services that wait",
        [(f"sum by (namespace) (aiops_operator_queue_depth{OPERATORS})", "{{namespace}}")],
        kind="stat",
        width=THIRD,
    ),
    View(
        "Services with drift",
        [('sum(max by (namespace, name) (inferenceservice_drift_detected{name=~"$service"}))', "drift")],
        kind="stat",
        width=THIRD,
    ),
    View(
        "Reconciles per second",
        [(f"sum by (result) (rate(aiops_operator_reconcile_total{OPERATORS}[$__rate_interval]))", "{{result}}")],
        "ops",
    ),
    View(
        "Reconcile time, wait and poll (p99)",
        [
            _operator_quantile("reconcile_time", "reconcile"),
            _operator_quantile("queue", "wait"),
            _operator_quantile("drift_poll", "poll of a service"),
        ],
        "s",
    ),
    View(
        "Errors per second",
        [
            (f"sum by (pod) (rate(aiops_operator_reconcile_errors_total{OPERATORS}[$__rate_interval]))", "{{pod}}"),
        ],
        "ops",
        description="Reconciles that ended in an error and are tried again.",
    ),
    View(
        "Requests to the API server",
        [
            (
                f"sum by (verb, result) (rate(aiops_operator_api_requests_total{OPERATORS}[$__rate_interval]))",
                "{{verb}} {{result}}",
            )
        ],
        "reqps",
    ),
    View(
        "Silence of the watches",
        [
            (f"max by (kind) (aiops_operator_watch_silence_seconds{OPERATORS})", "{{kind}}"),
            (f"max(aiops_operator_watch_lag_seconds{OPERATORS})", "oldest change not delivered"),
        ],
        "s",
        description="Seconds since the API server said anything in a watch, a bookmark included.",
    ),
    View(
        "Looks at pods",
        [(f"sum by (result) (rate(aiops_operator_drift_polls_total{OPERATORS}[$__rate_interval]))", "{{result}}")],
        "ops",
    ),
    View(
        "Pods to be scraped",
        [('max by (namespace, name) (inferenceservice_monitored_pods{name=~"$service"})', "{{namespace}}/{{name}}")],
        description="Ready pods that Prometheus should know; the alert InferenceNoData compares.",
    ),
    View(
        "Memory",
        [
            (
                f"process_resident_memory_bytes and on (namespace, pod) aiops_operator_leader{OPERATORS}",
                "{{pod}}",
            )
        ],
        "bytes",
    ),
)


def _targets(view: View) -> list[prometheus.Dataquery]:
    found = []
    for place, (expr, legend) in enumerate(view.queries):
        query = prometheus.Dataquery().expr(expr).ref_id(chr(ord("A") + place)).datasource(SOURCE)
        query = query.legend_format(legend) if legend else query
        found.append(query.instant().format(PromQueryFormat.TABLE) if view.kind == "table" else query.range())
    return found


def _mapping(value: int, text: str, color: str) -> model.ValueMap:
    return model.ValueMap(options={str(value): model.ValueMappingResult(text=text, color=color, index=value)})


def _legend() -> common.VizLegendOptions:
    shown = common.VizLegendOptions().show_legend(True)  # noqa: FBT003 - the builder's own signature
    return shown.display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)


def panel(view: View) -> timeseries.Panel | stat.Panel | statetimeline.Panel | table.Panel:
    """The panel of a view."""
    built: timeseries.Panel | stat.Panel | statetimeline.Panel | table.Panel
    if view.kind in {"stat", "verdict"}:
        built = stat.Panel()
    elif view.kind == "states":
        built = statetimeline.Panel()
    elif view.kind == "table":
        built = table.Panel()
    else:
        built = timeseries.Panel().legend(_legend()).tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        built = built.override_by_regexp(f"/{THRESHOLD}$/", DASHED)
        if view.kind == "bars":
            built = built.draw_style(GraphDrawStyle.BARS)
    if view.kind in {"verdict", "states"}:
        built = built.mappings([_mapping(value, *state) for value, state in enumerate(STATES)])
    built = (
        built.title(view.title).unit(view.unit).datasource(SOURCE).targets(_targets(view)).span(view.width).height(8)
    )
    return built.description(view.description) if view.description else built


def built(title: str, uid: str, views: Sequence[View], variables: Sequence[tuple[str, str]]) -> str:
    """A dashboard as JSON; `variables` are names with the query for their values."""
    found = (
        dashboard.Dashboard(title)
        .uid(uid)
        .tags(["aiops-quality"])
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    for name, query in variables:
        found = found.with_variable(
            dashboard.QueryVariable(name)
            .label(name.title())
            .datasource(SOURCE)
            .query(query)
            .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)  # noqa: FBT003 - the builder's own signature
            .include_all(True)  # noqa: FBT003 - as above
            .all_value(".*")
        )
    for view in views:
        found = found.with_panel(panel(view))
    return json.dumps(found.build(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


def dashboards() -> dict[str, str]:
    """Each file's name and content."""
    namespaces = ("namespace", "label_values(inference_ready, namespace)")
    services = ("service", 'label_values(inference_ready{namespace=~"$namespace"}, service)')
    operators = ("namespace", "label_values(aiops_operator_leader, namespace)")
    operated = ("service", "label_values(inferenceservice_monitored_pods, name)")
    return {
        "dashboards.json": built(
            "AIOps Quality - Inference Overview", "aiops-quality-inference", INFERENCE, [namespaces, services]
        ),
        "operator.json": built("AIOps Quality - Operator", "aiops-quality-operator", OPERATOR, [operators, operated]),
    }


if __name__ == "__main__":
    for name, content in dashboards().items():
        (FILES / name).write_text(content, encoding="utf-8")
