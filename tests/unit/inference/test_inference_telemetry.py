import asyncio
import io
import json
import logging
import math
import re
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from aiops_inference.caller import Caller
from aiops_inference.predictor import Asked
from aiops_inference.stages import Stages
from aiops_inference.telemetry import Log, LogHandler, Metrics, Sampler

SEED = {"inputs": [[5.1, 3.5, 1.4, 0.2], [6.5, 3.0, 5.5, 1.8]]}


def test_the_prediction_line_is_the_documented_one(serving, directory):
    """`INFO {"event": "prediction", …}` with JSON that tools can read, on a line of its own."""

    async def scenario():
        async with serving(directory.write()) as pod:
            await pod.predict(SEED)
            return [line for line in pod.lines() if "prediction" in line]

    (line,) = asyncio.run(scenario())
    assert line.startswith('INFO {"event": "prediction", "inputs_sample": [[5.1,3.5,1.4,0.2]')
    document = json.loads(line.removeprefix("INFO "))
    documented = ["event", "inputs_sample", "predictions_sample", "drift_detected", "drift_score"]
    assert [*documented, "request_id"] == list(document)
    assert (SEED["inputs"], [0, 2], False) == (
        document["inputs_sample"],
        document["predictions_sample"],
        document["drift_detected"],
    )


def test_drift_is_a_line_and_an_event(serving, directory):
    """The line says `Drift detected` and which feature; the counter of the detector goes up by one a request."""

    async def scenario():
        async with serving(directory.write()) as pod:
            await pod.predict(SEED)
            drifted = await pod.predict({"inputs": [[5.1, 3.5, 140, 0.2]]})
            lines = [line for line in pod.lines() if "Drift detected" in line]
            return lines, drifted.headers["x-request-id"], (await pod.client.get("/metrics")).text

    (line,), request_id, metrics = asyncio.run(scenario())
    document = json.loads(line.removeprefix("WARNING Drift detected "))
    assert {
        "event": "drift",
        "detector": "z_score",
        "score": 77.4364,
        "feature": "petal length (cm)",
        "threshold": 5.0,
        "rows": 1,
        "request_id": request_id,
    } == document
    assert 'drift_events_total{detector="z_score"} 1.0' in metrics
    assert 'drift_events_total{detector="great_expectations"} 0.0' in metrics


def test_the_metrics_have_the_documented_names(serving, directory):
    """Requests by status, latency, rows and the model, in the text that Prometheus reads."""

    async def scenario():
        async with serving(directory.write()) as pod:
            await pod.predict(SEED)
            await pod.predict(b"?")
            answer = await pod.client.get("/metrics")
            return answer.headers["content-type"], answer.text

    kind, text = asyncio.run(scenario())
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert kind.startswith("text/plain")
    assert (1, 1) == (samples["inference_requests_total", "200"], samples["inference_requests_total", "400"])
    assert 2 == samples["inference_latency_seconds_count",]
    assert 2 == samples["inference_rows_total",]
    assert 1 == samples["inference_ready",]
    assert 1 == samples["model_info", "classification", "sha256:" + directory.digest("model.pkl")]
    assert 0 == samples["webhook_deliveries_total", "failed"]
    assert [0] * 3 == [samples["inference_shadow_rows_total", result] for result in ("compared", "failed", "dropped")]
    assert 0 == samples["log_lines_dropped_total",]
    stages = ("decode", "queue", "model", "drift", "encode", "write")
    assert [1] * 6 == [samples["inference_stage_seconds_count", stage] for stage in stages]
    assert (1, 0) == (samples["expectations_state", "disabled"], samples["expectations_state", "error"])
    assert (0, 0) == (samples["expectations_lag_seconds",], samples["expectations_waiting_rows",])


@pytest.mark.parametrize(("share", "lines"), [(1.0, 8), (0.25, 2), (0.0, 0)])
def test_prediction_lines_can_be_thinned_out(serving, directory, share, lines):
    """LOG_PREDICTIONS is a share, spread evenly."""

    async def scenario():
        async with serving(directory.write(), log_predictions=share) as pod:
            for _ in range(8):
                await pod.predict(SEED)
            return sum("prediction" in line for line in pod.lines())

    assert lines == asyncio.run(scenario())


def test_a_third_is_every_third():
    """Within the rounding of floats."""
    sampler = Sampler(1 / 3)
    assert 100 == sum(sampler() for _ in range(301))


def test_a_line_shows_only_the_first_rows(serving, directory):
    """A request of thousands of rows does not become a line of megabytes."""

    async def scenario():
        async with serving(directory.write()) as pod:
            await pod.predict({"inputs": directory.rows[:20].tolist()})
            return [line for line in pod.lines() if "prediction" in line]

    (line,) = asyncio.run(scenario())
    document = json.loads(line.removeprefix("INFO "))
    assert (3, 3) == (len(document["inputs_sample"]), len(document["predictions_sample"]))


def test_levels_below_the_threshold_are_not_written():
    """LOG_LEVEL=WARNING leaves drift and errors."""
    stream = io.BytesIO()
    log = Log("WARNING", stream)
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.failure("d")
    log.drift(score=1)
    assert [
        'WARNING {"event": "c"}',
        'ERROR {"event": "d"}',
        'WARNING Drift detected {"event": "drift", "score": 1}',
    ] == stream.getvalue().decode().splitlines()


def test_a_reader_that_went_away_breaks_nothing():
    """A line is lost; the request is answered."""
    stream = io.BytesIO()
    stream.close()
    Log(stream=stream).info("x")


def test_what_libraries_log_has_the_same_form():
    """A traceback stays inside the JSON of one line."""
    stream = io.BytesIO()
    handler = LogHandler(Log("DEBUG", stream))
    try:
        json.loads("{")
    except ValueError:
        error = sys.exc_info()
    handler.emit(logging.LogRecord("library", logging.ERROR, "", 0, "it broke\n%s", ("badly",), error))
    handler.emit(logging.LogRecord("library", logging.INFO, "", 0, "fine", (), None))
    broken, info = stream.getvalue().decode().splitlines()
    assert broken.startswith(
        'ERROR {"event": "log", "logger": "library", "message": "it broke\\nbadly", "traceback": "Traceback'
    )
    assert 'INFO {"event": "log", "logger": "library", "message": "fine"}' == info


ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))
ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=10,
)


def without_surrogates(value):
    """The documented replacement: U+FFFD for each lone surrogate."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, list):
        return [without_surrogates(entry) for entry in value]
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(entry) for key, entry in value.items()}
    return value


@given(message=ANY_TEXT, value=ANY_VALUE, drift=st.booleans())
def test_any_value_is_one_line_that_can_be_read_again(message, value, drift):
    """Control characters, ends of lines of any kind, quotes, surrogates, whole numbers of any size."""
    stream = io.BytesIO()
    log = Log(stream=stream)
    (log.drift if drift else log.warning)(**({} if drift else {"event": "e"}), message=message, value=value)
    (line,) = stream.getvalue().decode().splitlines()
    document = json.loads(line.removeprefix("WARNING ").removeprefix("Drift detected "))
    assert without_surrogates(message) == document["message"]
    if isinstance(value, dict) and len(without_surrogates(value)) < len(value):
        return  # two keys became the same
    assert without_surrogates(value) == document["value"]


@given(labels=st.lists(ANY_TEXT | st.integers(), max_size=3), score=st.floats(0, 1e9), drifted=st.booleans())
def test_any_label_is_one_line_that_can_be_read_again(labels, score, drifted):
    """The line of a prediction is made another way."""
    stream = io.BytesIO()
    Log(stream=stream).prediction([[1.5]], labels, score, Caller(b"r-1"), drifted=drifted)
    (line,) = stream.getvalue().decode().splitlines()
    assert {
        "event": "prediction",
        "inputs_sample": [[1.5]],
        "predictions_sample": without_surrogates(labels),
        "drift_detected": drifted,
        "drift_score": score,
        "request_id": "r-1",
    } == json.loads(line.removeprefix("INFO "))


class Odd:
    """Has no form in JSON, and an ugly text."""

    def __str__(self):
        """An end of line, and half a character."""
        return "a\nb\ud800"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Odd(), "a\nb\ufffd"),
        ({1: "\ud800", None: np.float64(2)}, {"1": "\ufffd", "None": 2.0}),
        (["\ud800", math.inf, np.array([1, 2]), {3}], ["\ufffd", None, [1, 2], "{3}"]),
        (2**70, 2**70),
    ],
)
def test_what_json_has_no_form_for_becomes_its_text(value, written):
    """And what is beside it is written as ever."""
    stream = io.BytesIO()
    Log(stream=stream).info("e", value=value)
    assert written == json.loads(stream.getvalue().removeprefix(b"INFO "))["value"]


def test_a_circle_is_a_line_too():
    """Cut at some depth."""
    circle = []
    circle.append(circle)
    stream = io.BytesIO()
    Log(stream=stream).info("e", value=circle)
    assert 1 == len(stream.getvalue().splitlines())


def test_a_library_that_logs_with_the_wrong_values_breaks_nothing():
    """Its line says what was meant."""
    stream = io.BytesIO()
    record = logging.LogRecord("library", logging.WARNING, "", 0, "%d rows", ("many",), None)
    LogHandler(Log(stream=stream)).emit(record)
    assert json.loads(stream.getvalue().removeprefix(b"WARNING "))["message"].startswith("%d rows (TypeError")


def test_a_batch_is_timed_stage_by_stage(monkeypatch):
    """Requests by their own times up to the call of the model, then the batch; the clock is read once a stage."""
    ticks = iter([10.0, 10.002, 10.25, 10.25, 11.5])
    monkeypatch.setattr("aiops_inference.stages.time.perf_counter", lambda: next(ticks))
    stages = Stages()
    row = np.zeros((1, 1))
    stages.begin()
    stages.predicted([Asked(row, print, came=9.0, queued=9.5), Asked(row, print, came=9.99999, queued=10.0)])
    for stage in ("drift", "encode", "write"):
        stages.end(stage)
    samples = {
        (sample.name.removeprefix("inference_stage_seconds_"), *sample.labels.values()): sample.value
        for metric in stages.collect()
        for sample in metric.samples
    }
    sums = [samples["sum", stage] for stage in ("decode", "queue", "model", "drift", "encode", "write")]
    assert pytest.approx([0.50001, 0.5, 0.002, 0.248, 0, 1.25]) == sums
    assert (2, 1, 1) == (samples["count", "decode"], samples["count", "model"], stages.calls)
    assert (1, 1, 2) == tuple(samples["bucket", "decode", bound] for bound in ("2e-05", "0.1", "1.0"))
    assert (0, 1) == (samples["bucket", "write", "1.0"], samples["bucket", "write", "+Inf"])


def test_two_servers_in_one_process_do_not_share_metrics():
    """Each has a registry of its own."""
    first, second = Metrics(), Metrics()
    first.answers.count(200, 0.1)
    assert b'inference_requests_total{code="200"} 1.0' in first.exposition()
    assert b'inference_requests_total{code="200"} 0.0' in second.exposition()


def test_openapi_describes_predictions(serving, directory):
    """The documentation has an example of each form that works."""

    async def scenario():
        async with serving(directory.write(), service_name="iris") as pod:
            document = (await pod.client.get("/openapi.json")).json()
            posts = {path: entry["post"]["requestBody"] for path, entry in document["paths"].items() if "post" in entry}
            version = directory.digest("model.pkl")[:7]
            answers = [
                (
                    await pod.client.post(
                        path.format(name="iris", version=version), json=body["content"]["application/json"]["example"]
                    )
                ).json()
                for path, body in posts.items()
            ]
            return (
                document["paths"].keys(),
                answers,
                (await pod.client.get("/")).json(),
                await pod.client.get("/docs"),
            )

    paths, (predict, v1, v2, versioned), index, docs = asyncio.run(scenario())
    assert {"/", "/health", "/livez", "/metrics", "/drift", "/predict"} < set(paths)
    assert v2 == versioned
    assert ([0, 2], [0], [0]) == (predict["predictions"], v1["predictions"], v2["outputs"][0]["data"])
    assert ("ok", "/drift") == (index["status"], index["links"]["drift"])
    assert 200 == docs.status_code


def test_an_explanation_is_added_on_request(serving, directory):
    """And only then."""

    async def scenario():
        async with serving(directory.write()) as pod:
            return (await pod.predict(SEED)).json(), (await pod.predict(SEED, explain="true")).json()

    plain, explained = asyncio.run(scenario())
    assert ["predictions", "drift_detected", "drift_score"] == list(plain)
    assert directory.names == [feature["feature"] for feature in explained["explanation"]]
    assert plain["drift_score"] == max(feature["z"] for feature in explained["explanation"])


def test_what_nobody_foresaw_is_an_error_without_a_traceback(serving, directory, monkeypatch):
    """The client learns that it is not its fault; the log learns the rest."""

    async def scenario():
        async with serving(directory.write()) as pod:

            def fail():
                message = "secret detail"
                raise RuntimeError(message)

            monkeypatch.setattr(pod.service, "health", fail)
            return await pod.client.get("/health"), pod.lines()

    answer, lines = asyncio.run(scenario())
    assert (500, "InternalError") == (answer.status_code, answer.json()["reason"])
    assert "secret" not in answer.text
    assert any("secret detail" in line for line in lines)


def test_a_pod_that_leaves_says_so_and_goes_on_answering(serving, directory):
    """Readiness turns 503 first; connections are asked to go elsewhere."""

    async def scenario():
        async with serving(directory.write()) as pod:
            pod.service.drain()
            return await pod.client.get("/health"), await pod.predict(SEED)

    health, predict = asyncio.run(scenario())
    assert (503, "ShuttingDown") == (health.status_code, health.json()["reason"])
    assert (200, "close") == (predict.status_code, predict.headers["connection"])
