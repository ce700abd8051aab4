import asyncio
import json

import pytest
from sklearn.linear_model import LinearRegression

from aiops_inference import endpoint
from aiops_inference.endpoint import ClientLeftError, PredictEndpoint, form_of_predict, read_body
from aiops_inference.errors import RequestTimeoutError, TooLargeError
from aiops_inference.monitor import Monitor

GOOD = {"inputs": [[5.1, 3.5, 1.4, 0.2]]}
BAD = [
    ("not JSON", b"hello", 400, "the body is not JSON"),
    ("empty", b"", 400, "the body is empty"),
    ("a form", b"inputs=1&b=2", 400, "the body is not JSON"),
    ("cut off", b'{"inputs": [[5.1, 3.5', 400, "the body is not JSON"),
    ("invalid UTF-8", b'{"inputs": "\xff"}', 400, "the body is not JSON"),
    ("a byte order mark", b'\xef\xbb\xbf{"inputs": [[1,2,3,4]]}', 400, "the body is not JSON"),
    ("a nesting bomb", b"[" * 200_000, 400, "the body is not JSON"),
    (
        "a closed nesting bomb",
        b'{"inputs": ' + b"[" * 900 + b"]" * 900 + b"}",
        400,
        "inputs[0][0] (sepal length (cm)) is a list",
    ),
    ("a list", [[5.1, 3.5, 1.4, 0.2]], 400, "the body is a list"),
    ("a number", b"7", 400, "the body is a number"),
    ("null", None, 400, "the body is null"),
    ("no inputs", {"instances": [[5.1, 3.5, 1.4, 0.2]]}, 400, 'the body has no "inputs"'),
    ("inputs null", {"inputs": None}, 400, "inputs is null"),
    ("inputs a number", {"inputs": 3}, 400, "inputs is a number"),
    ("no rows", {"inputs": []}, 400, "inputs is empty"),
    (
        "an empty row",
        {"inputs": [[]]},
        400,
        "inputs[0] has 0 values; the model wants 4: sepal length (cm), sepal width",
    ),
    ("a flat list", {"inputs": [5.1, 3.5, 1.4, 0.2]}, 400, "inputs[0] is a number; it must be a row"),
    ("ragged", {"inputs": [[1, 2, 3, 4], [1, 2, 3]]}, 400, "inputs[1] has 3 values; the model wants 4"),
    ("too wide", {"inputs": [[1, 2, 3, 4, 5]]}, 400, "inputs[0] has 5 values; the model wants 4"),
    ("NaN", b'{"inputs": [[1, 2, NaN, 4]]}', 400, "inputs[0][2] (petal length (cm)) is not a finite number"),
    ("Infinity", b'{"inputs": [[1, 2, 3, -Infinity]]}', 400, "inputs[0][3] (petal width (cm)) is not a finite number"),
    ("overflow", b'{"inputs": [[1, 2, 3, 1e400]]}', 400, "inputs[0][3] (petal width (cm)) is not a finite number"),
    ("a string", {"inputs": [[1, "2", 3, 4]]}, 400, 'inputs[0][1] (sepal width (cm)) is the string "2"'),
    ("a boolean", {"inputs": [[1, 2, 3, 4], [1, 2, 3, False]]}, 400, "inputs[1][3] (petal width (cm)) is false"),
    ("a null", {"inputs": [[1, 2, None, 4]]}, 400, "inputs[0][2] (petal length (cm)) is null"),
    ("three levels", {"inputs": [[[1, 2, 3, 4]]]}, 400, "inputs[0][0] (sepal length (cm)) is a list"),
    ("an object as row", {"inputs": [{"a": 1}]}, 400, "inputs[0] is an object"),
    ("too many rows", {"inputs": [[1, 2, 3, 4]] * 10_001}, 413, "inputs has 10001 rows; one request may have 10000"),
    ("10 MB", b'{"inputs": "' + b"x" * 10_000_000 + b'"}', 413, "the body has more than 8388608 bytes"),
]


@pytest.mark.parametrize(("body", "status", "sentence"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_bad_request_gets_its_sentence_and_counts_nothing(serving, directory, body, status, sentence):
    """Never a 500, never a row in the drift counts, and the next request is served."""

    async def scenario():
        async with serving(directory.write()) as pod:
            await pod.predict(GOOD)
            before = (await pod.client.get("/drift")).json()
            answer = await pod.predict(body)
            after = (await pod.client.get("/drift")).json()
            good = await pod.predict(GOOD)
            return answer, before, after, good

    answer, before, after, good = asyncio.run(scenario())
    assert status == answer.status_code
    assert answer.json()["error"].startswith(sentence)
    assert "application/json" == answer.headers["content-type"]
    assert 1 == before["rows"]
    assert {**before, "now": 0} == {**after, "now": 0}
    assert 200 == good.status_code


@pytest.mark.parametrize(
    ("request_line", "headers", "status", "sentence"),
    [
        ("GET /predict", {}, 405, "/predict does not take GET"),
        ("DELETE /drift", {}, 405, "/drift does not take DELETE"),
        ("POST /predictions", {}, 404, "there is no /predictions"),
        ("POST /predict/", {}, 404, "there is no /predict/"),
        ("GET /drift?after=x", {}, 400, "after is 'x'; it must be the number of a block"),
        ("GET /drift?after=1e9", {}, 400, "after is '1e9'"),
        ("GET /drift?after=" + "9" * 5000, {}, 400, "after is '9999"),
        ("POST /predict?explain=maybe", {}, 400, "explain is 'maybe'; it must be true or false"),
        ("POST /predict", {"content-encoding": "gzip"}, 415, "the body has a Content-Encoding"),
        ("POST /predict", {"content-length": "99999999999"}, 413, "the body has more than 8388608 bytes"),
    ],
)
def test_what_is_wrong_around_the_body_gets_its_sentence_too(
    serving, directory, request_line, headers, status, sentence
):
    """Every error is JSON with an `error`, whoever answers it."""

    async def scenario():
        async with serving(directory.write()) as pod:
            return await pod.client.request(*request_line.split(), headers=headers)

    answer = asyncio.run(scenario())
    assert status == answer.status_code
    assert answer.json()["error"].startswith(sentence)


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8"]
)
def test_the_content_type_does_not_matter(serving, directory, kind):
    """JSON is JSON, also from a `curl -d` without a header."""

    async def scenario():
        async with serving(directory.write()) as pod:
            headers = {"content-type": kind} if kind else {}
            return await pod.client.post("/predict", content=json.dumps(GOOD).encode(), headers=headers)

    assert [0] == asyncio.run(scenario()).json()["predictions"]


def test_a_body_may_come_in_pieces(serving, directory):
    """Chunked bodies are read to their end."""

    async def pieces():
        for byte in json.dumps(GOOD).encode():
            yield bytes([byte])

    async def scenario():
        async with serving(directory.write()) as pod:
            return await pod.client.post("/predict", content=pieces())

    assert [0] == asyncio.run(scenario()).json()["predictions"]


def test_a_body_beyond_the_limit_is_not_read_to_its_end():
    """An endless body costs the limit and one piece, no more."""
    received = 0

    async def receive():
        nonlocal received
        received += 1
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    with pytest.raises(TooLargeError):
        asyncio.run(read_body({"headers": []}, receive, 10_000))
    assert 11 == received


@pytest.mark.parametrize("pieces", [[], [{"type": "http.request", "body": b"{", "more_body": True}]])
def test_a_body_that_does_not_arrive_is_given_up(monkeypatch, pieces):
    """A client that stops before the first byte or in the middle does not hold its request for ever."""
    monkeypatch.setattr(endpoint, "BODY_TIMEOUT", 0.01)
    pieces = list(pieces)

    async def receive():
        if pieces:
            return pieces.pop()
        return await asyncio.get_running_loop().create_future()

    with pytest.raises(RequestTimeoutError):
        asyncio.run(read_body({"headers": []}, receive, 10_000))


def test_a_client_that_leaves_is_not_answered():
    """Half a body is no request."""
    messages = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"{", "more_body": True}]

    async def receive():
        return messages.pop()

    with pytest.raises(ClientLeftError):
        asyncio.run(read_body({"headers": []}, receive, 10_000))


@pytest.mark.parametrize("error", [RuntimeError("the handler is closed"), ConnectionResetError()])
def test_an_answer_that_nobody_can_get_is_counted_as_such(serving, directory, error):
    """A transport that was closed while the model predicted is no error of the server's."""

    async def receive():
        return {"type": "http.request", "body": json.dumps(GOOD).encode(), "more_body": False}

    async def send(_message):
        raise error

    async def scenario():
        async with serving(directory.write()) as pod:
            await PredictEndpoint(pod.service, form_of_predict(pod.service))(
                {"headers": [], "query_string": b""}, receive, send
            )
            return pod.service.metrics.registry.get_sample_value("inference_requests_total", {"code": "499"})

    assert 1 == asyncio.run(scenario())


class Picky(LinearRegression):
    """Refuses negative values, and breaks on a 13."""

    def predict(self, rows):
        """Predict, or raise."""
        if (rows < 0).any():
            message = "Negative values in data"
            raise ValueError(message)
        if (rows == 13).any():
            message = "superstition"
            raise RuntimeError(message)
        return super().predict(rows)


def test_a_model_that_raises_is_told_apart_from_a_model_that_refuses(serving, directory, iris):
    """What the values explain is the client's 422; anything else is the server's 503, and both count nothing."""
    _, data = iris
    directory.model = Picky().fit(data.data, data.target)
    directory.task = "regression"

    async def scenario():
        async with serving(directory.write()) as pod:
            answers = [await pod.predict({"inputs": [[value, 1, 1, 1]]}) for value in (-1, 13, 1)]
            return answers, (await pod.client.get("/drift")).json(), pod.lines()

    answers, drift, lines = asyncio.run(scenario())
    assert [422, 503, 200] == [answer.status_code for answer in answers]
    assert "the model refuses these inputs: ValueError: Negative values in data" == answers[0].json()["error"]
    assert "the model failed: RuntimeError: superstition" == answers[1].json()["error"]
    assert 1 == drift["rows"]
    assert any(line.startswith("ERROR") and "superstition" in line for line in lines)


def test_a_defect_leaves_nobody_waiting(serving, directory, monkeypatch):
    """Whatever breaks after the model has answered, each request of the batch gets an answer that tells nothing."""

    async def ask():
        async with serving(directory.write()) as pod:
            monkeypatch.setattr(Monitor, "observe_batch", lambda *_: 1 / 0)
            found = await asyncio.gather(*(pod.predict({"inputs": [[5.1, 3.5, 1.4, 0.2]]}) for _ in range(2)))
            monkeypatch.undo()
            return [*found, await pod.predict({"inputs": [[5.1, 3.5, 1.4, 0.2]]})]

    answers = asyncio.run(ask())
    assert [500, 500, 200] == [answer.status_code for answer in answers]
    assert {"error": "internal error; the pod's log says more", "reason": "InternalError"} == answers[0].json()
