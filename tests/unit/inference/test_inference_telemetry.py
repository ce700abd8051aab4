import asyncio
import io
import json
import logging
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

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
    assert ["event", "inputs_sample", "predictions_sample", "drift_detected", "drift_score"] == list(document)
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
            await pod.predict({"inputs": [[5.1, 3.5, 140, 0.2]]})
            return [line for line in pod.lines() if "Drift detected" in line], (await pod.client.get("/metrics")).text

    (line,), metrics = asyncio.run(scenario())
    document = json.loads(line.removeprefix("WARNING Drift detected "))
    assert {
        "event": "drift",
        "detector": "z_score",
        "score": 77.4364,
        "feature": "petal length (cm)",
        "threshold": 5.0,
        "rows": 1,
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
