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
from grafana_foundation_sdk.models.common import GraphDrawStyle
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FILES: Final = Path(__file__).resolve().parent.parent / "helm" / "files"
SOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
# Pods are labelled by who scrapes them, services of the operator's metrics by themselves.
PODS: Final = '{namespace=~"$namespace",service=~"$service"}'
SERVICES: Final = '{namespace=~"$namespace",name=~"$service"}'
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
    kind: Literal["lines", "bars", "stat", "states", "table"] = "lines"
    width: int = HALF
    description: str = ""


def _quantile(q: float) -> tuple[str, str]:
    buckets = f"sum by (le, namespace, service) (rate(inference_latency_seconds_bucket{PODS}[$__rate_interval]))"
    return f"histogram_quantile({q}, {buckets})", f"{{{{service}}}} p{q * 100:.0f}"


def _requests(more: str = "") -> str:
    selector = PODS.replace("}", f",{more}}}") if more else PODS
    return f"sum by (namespace, service) (rate(inference_requests_total{selector}[$__rate_interval]))"


INFERENCE: Final = (
    View(
        "Services",
        [(f"sum by (namespace, name) (inferenceservice_drift_detected{SERVICES})", "{{namespace}}/{{name}}")],
        kind="stat",
        width=THIRD,
        description="1 where a service has drifted.",
    ),
    View("Pods that serve", [(f"sum by (service) (inference_ready{PODS})", "{{service}}")], kind="stat", width=THIRD),
    View(
        "Rows in the verdict's window",
        [(f"inferenceservice_drift_samples{SERVICES}", "{{name}}")],
        kind="stat",
        width=THIRD,
    ),
    View("Requests per second", [(_requests(), "{{service}}")], "reqps"),
    View("Latency (p50, p90, p99)", [_quantile(0.5), _quantile(0.9), _quantile(0.99)], "s"),
    View(
        "Score against threshold, by feature",
        [
            (f"inferenceservice_drift_feature_score{SERVICES}", "{{name}} {{feature}}"),
            (f"max by (name) (inferenceservice_drift_feature_threshold{SERVICES})", "{{name}} threshold"),
        ],
        description="Each feature's drift statistic, in the unit of its threshold; the 16 worst of a service.",
    ),
    View(
        "Drift score of each service",
        [(f"inferenceservice_drift_score{SERVICES}", "{{name}}")],
    ),
    View("Verdict", [(f"inferenceservice_drift_detected{SERVICES}", "{{name}}")], kind="states", width=WHOLE),
    View(
        "Drift events",
        [
            (
                f"sum by (service, detector) (increase(drift_events_total{PODS}[$__rate_interval]))",
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
                f'sum by (service, code) (rate(inference_requests_total{PODS[:-1]},code=~"[45].."}}[$__rate_interval]))',
                "{{service}} {{code}}",
            )
        ],
        "reqps",
    ),
    View("Replicas", [(f"sum by (service) (up{PODS})", "{{service}}")], width=THIRD),
    View(
        "Expectations",
        [(f"sum by (service, state) (expectations_state{PODS})", "{{service}} {{state}}")],
        width=THIRD,
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
    View("Operators that write", [("sum(aiops_operator_leader)", "leaders")], kind="stat", width=THIRD),
    View("Services that wait", [("sum(aiops_operator_queue_depth)", "waiting")], kind="stat", width=THIRD),
    View(
        "Services with drift",
        [("sum(inferenceservice_drift_detected) or vector(0)", "drift")],
        kind="stat",
        width=THIRD,
    ),
    View(
        "Reconciles per second",
        [("sum by (result) (rate(aiops_operator_reconcile_total[$__rate_interval]))", "{{result}}")],
        "ops",
    ),
    View(
        "Reconcile time and wait (p99)",
        [
            (
                f"histogram_quantile(0.99, sum by (le) (rate(aiops_operator_{name}_seconds_bucket[$__rate_interval])))",
                legend,
            )
            for name, legend in (("reconcile_time", "reconcile"), ("queue", "wait"))
        ],
        "s",
    ),
    View(
        "Requests to the API server",
        [("sum by (verb, result) (rate(aiops_operator_api_requests_total[$__rate_interval]))", "{{verb}} {{result}}")],
        "reqps",
    ),
    View(
        "Silence of the watches",
        [("max by (kind) (aiops_operator_watch_silence_seconds)", "{{kind}}")],
        "s",
        description="Seconds since the API server said anything in a watch, a bookmark included.",
    ),
    View(
        "Looks at pods",
        [("sum by (result) (rate(aiops_operator_drift_polls_total[$__rate_interval]))", "{{result}}")],
        "ops",
    ),
    View("Memory", [('process_resident_memory_bytes{job!=""} and on (pod) aiops_operator_leader', "{{pod}}")], "bytes"),
)


def _targets(view: View) -> list[prometheus.Dataquery]:
    found = []
    for place, (expr, legend) in enumerate(view.queries):
        query = prometheus.Dataquery().expr(expr).ref_id(chr(ord("A") + place)).datasource(SOURCE)
        query = query.legend_format(legend) if legend else query
        found.append(query.instant().format(PromQueryFormat.TABLE) if view.kind == "table" else query.range())
    return found


def panel(view: View) -> timeseries.Panel | stat.Panel | statetimeline.Panel | table.Panel:
    """The panel of a view."""
    built: timeseries.Panel | stat.Panel | statetimeline.Panel | table.Panel
    if view.kind == "stat":
        built = stat.Panel()
    elif view.kind == "states":
        no, yes = (
            model.ValueMap(options={value: model.ValueMappingResult(text=text, color=color, index=index)})
            for index, (value, text, color) in enumerate((("0", "no drift", "green"), ("1", "drift", "red")))
        )
        built = statetimeline.Panel().mappings([no, yes])
    elif view.kind == "table":
        built = table.Panel()
    else:
        built = timeseries.Panel().tooltip(common.VizTooltipOptions())
        if view.kind == "bars":
            built = built.draw_style(GraphDrawStyle.BARS)
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
    return {
        "dashboards.json": built(
            "AIOps Quality - Inference Overview", "aiops-quality-inference", INFERENCE, [namespaces, services]
        ),
        "operator.json": built("AIOps Quality - Operator", "aiops-quality-operator", OPERATOR, []),
    }


if __name__ == "__main__":
    for name, content in dashboards().items():
        (FILES / name).write_text(content, encoding="utf-8")
