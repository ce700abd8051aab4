import asyncio
import contextlib
import json
import re

import pytest
import uvicorn

from aiops_inference import protocol
from aiops_inference.app import create_app
from aiops_inference.endpoint import send_json
from aiops_inference.protocol import BoundedProtocol, predicting


async def echo(scope, receive, send):
    """Answer with the path."""
    await receive()
    await send_json(send, 200, json.dumps(scope["path"]).encode())


@contextlib.asynccontextmanager
async def listening(app=echo, protocol_class=BoundedProtocol):
    """A server of these protocols."""
    config = uvicorn.Config(app, http=protocol_class, log_config=None, lifespan="off")
    config.load()
    state = uvicorn.server.ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: protocol_class(config, state, {}), "127.0.0.1", 0)
    async with server, asyncio.timeout(20):
        yield server


async def talk(*pieces, **of_the_server):
    """All that a server sends to a client, until it hangs up."""
    async with listening(**of_the_server) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        received = await reader.read()
        writer.close()
        await writer.wait_closed()
        return received


@pytest.mark.parametrize(
    ("pieces", "before"),
    [
        ([], 0),
        ([b"GET / HT"], 0),
        ([b"GET / HTTP/1.1\r\nHost"], 0),
        ([b"GET /a HTTP/1.1\r\n\r\n", b"GET /b HTTP/1.1\r\nHo"], 1),
    ],
)
def test_headers_that_do_not_arrive_are_given_up(monkeypatch, pieces, before):
    """Nothing at all, half a request, and half a second one: 408 in JSON, and the connection is closed."""
    monkeypatch.setattr(protocol, "HEADERS_TIMEOUT", 0.05)
    *answered, refused = asyncio.run(talk(*pieces)).split(b"HTTP/1.1 ")[1:]
    assert [b"200 OK"] * before == [answer.partition(b"\r\n")[0] for answer in answered]
    head, _, body = refused.partition(b"\r\n\r\n")
    assert b"408 Request Timeout\r\ncontent-type: application/json" in head
    assert "the request's headers did not arrive within 0.05 s" == json.loads(body)["error"]


ROW = b'{"inputs": [[5.1, 3.5, 1.4, 0.2]]}'


def post(body, *headers, path=b"/predict", close=False):
    """A request's bytes."""
    lines = [b"POST %b HTTP/1.1" % path, b"Host: pod", *headers, *([b"Connection: close"] if close else [])]
    if not headers or not headers[0].startswith((b"Transfer", b"Content-Length")):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def answers_of(received):
    """Status and document of each answer."""
    parts = [part for part in received.split(b"HTTP/1.1 ")[1:] if not part.startswith(b"100 ")]
    return [(int(part[:3]), json.loads(part.partition(b"\r\n\r\n")[2])) for part in parts]


def served(serving, directory, *pieces, **settings):
    """What a real service answers to these bytes, by statuses and documents, and how it counted them."""

    async def scenario():
        async with serving(directory.write(), **settings) as pod:
            received = await talk(*pieces, app=create_app(pod.service), protocol_class=predicting(pod.service))
            counted = re.findall(rb'requests_total{code="(\d+)"} (\d+)', pod.service.metrics.exposition())
            return received, {int(code): int(count) for code, count in counted}

    received, counted = asyncio.run(scenario())
    return answers_of(received), counted, received


CHUNKED = b"Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    "pieces",
    [
        [post(ROW, close=True)],
        [bytes([byte]) for byte in post(ROW, close=True)],
        [post(ROW, close=True)[:-5], post(ROW, close=True)[-5:]],
        [post(b"%x\r\n%b\r\n0\r\n\r\n" % (len(ROW), ROW), CHUNKED, close=True)],
        [post(ROW, b"Expect: 100-continue", close=True)],
        [post(ROW, path=b"/predict?explain=false", close=True)],
    ],
    ids=["whole", "byte by byte", "in two", "chunked", "expected", "with a query"],
)
def test_a_prediction_is_the_same_by_whichever_way_it_comes(serving, directory, pieces):
    """The short way past the application and the long way through it answer alike."""
    [(status, document)], counted, _ = served(serving, directory, *pieces)

    assert (200, [0], {200: 1}) == (status, document["predictions"], counted)
    assert ["predictions", "drift_detected", "drift_score"] == list(document)


def test_pipelined_requests_are_answered_in_their_order(serving, directory):
    """Whether they take the short way or the long one."""
    rows = [b'{"inputs": %b}' % json.dumps([[5.1, 3.5, 1.4, 0.2]] * n).encode() for n in (1, 2, 3)]
    health = b"GET /livez HTTP/1.1\r\nHost: pod\r\n\r\n"
    pieces = post(rows[0]) + post(rows[1]) + health + post(b"{") + post(rows[2], close=True)
    answers, counted, _ = served(serving, directory, pieces)

    assert [200, 200, 200, 400, 200] == [status for status, _ in answers]
    assert [1, 2, None, None, 3] == [len(d["predictions"]) if "predictions" in d else None for _, d in answers]
    assert {200: 3, 400: 1} == counted


def test_a_connection_is_kept_and_closed_as_it_asks(serving, directory):
    """One after the other on one connection; the last closes it."""
    answers, _, received = served(serving, directory, post(ROW), post(ROW, close=True))

    assert [200, 200] == [status for status, _ in answers]
    assert 1 == received.count(b"connection: close")


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [(b"{", 400, "InvalidJson"), (b'{"inputs": []}', 400, "InvalidInputs"), (b" " * 3000, 413, "TooLarge")],
)
def test_refusals_are_documents_on_the_short_way_too(serving, directory, body, status, reason):
    """The reasons are those of the application."""
    answers, counted, _ = served(serving, directory, post(body, close=True), max_body_bytes=2000)

    assert [(status, reason)] == [(found, document["reason"]) for found, document in answers]
    assert counted[status] == 1


def test_a_body_that_does_not_come_is_not_waited_for(serving, directory, monkeypatch):
    """408, and the connection is closed."""
    monkeypatch.setattr(protocol, "BODY_TIMEOUT", 0.05)
    [(status, document)], counted, received = served(serving, directory, post(ROW)[:-1])

    assert (408, "RequestTimeout", 1) == (status, document["reason"], counted[408])
    assert b"connection: close" in received


def test_a_client_that_leaves_is_counted_as_such(serving, directory, eventually):
    """It has hung up before its body was whole: nothing was predicted."""

    async def scenario():
        async with (
            serving(directory.write()) as pod,
            listening(app=create_app(pod.service), protocol_class=predicting(pod.service)) as server,
        ):
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(post(ROW)[:-1])
            await writer.drain()
            writer.close()
            await eventually(lambda: b'code="499"} 1.0' in pod.service.metrics.exposition())
            return pod.service.metrics.exposition()

    assert b"inference_rows_total 0.0" in asyncio.run(scenario())


def test_a_full_queue_is_told_with_a_time_to_come_again(serving, directory):
    """503 with Retry-After, at once and counted, while those before are answered."""

    async def scenario():
        async with (
            serving(directory.write(), max_waiting_rows=1) as pod,
            listening(app=create_app(pod.service), protocol_class=predicting(pod.service)) as server,
        ):
            address = server.sockets[0].getsockname()
            clients = [await asyncio.open_connection(*address) for _ in range(8)]
            for _, writer in clients:
                writer.write(post(ROW, close=True))
            received = [await reader.read() for reader, _ in clients]
            for _, writer in clients:
                writer.close()
            return received

    received = asyncio.run(scenario())
    statuses = sorted(status for part in received for status, _ in answers_of(part))
    refused = [part for part in received if part.startswith(b"HTTP/1.1 503")]
    assert 200 == statuses[0]
    assert {200, 503} == set(statuses)
    assert all(b"retry-after: 1\r\n" in part and b'"reason":"Overloaded"' in part for part in refused)


TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"traceparent: 00-{TRACE_ID}-{SPAN_ID}-01".encode()
LONG_WAY = b"/predict?explain=false"


def told(serving, directory, *pieces, **settings):
    """The request ids of all answers to these bytes, and the log's lines of predictions and of drift."""

    async def scenario():
        async with serving(directory.write(), service_name="iris", **settings) as pod:
            received = await talk(*pieces, app=create_app(pod.service), protocol_class=predicting(pod.service))
            return received, [line for line in pod.lines() if '"prediction' in line or "Drift" in line]

    received, lines = asyncio.run(scenario())
    documents = [json.loads(line[line.index("{") :]) for line in lines]
    return re.findall(rb"\r\nx-request-id: ([^\r]*)\r\n", received), documents, received


@pytest.mark.parametrize("path", [b"/predict", LONG_WAY, b"/v1/models/iris:predict", b"/v2/models/iris/infer"])
def test_a_request_is_found_again_by_its_id_and_its_trace(serving, directory, path):
    """The id is in the answer, both are in its line and in the line of its drift, whichever way the request takes."""
    rows = [[5.1, 3.5, 140, 0.2]]
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP64", "data": rows[0]}
    key = b"instances" if b"v1" in path else b"inputs"
    body = json.dumps({key.decode(): [tensor] if b"v2" in path else rows}).encode()
    ids, lines, _ = told(serving, directory, post(body, b"X-Request-ID: r/1", TRACEPARENT, path=path, close=True))

    assert [b"r/1"] == ids
    assert ["prediction", "drift"] == [line["event"] for line in lines]
    for line in lines:
        assert ("r/1", TRACE_ID, SPAN_ID) == (line["request_id"], line["trace_id"], line["span_id"])


@pytest.mark.parametrize("path", [b"/predict", LONG_WAY])
@pytest.mark.parametrize("sent", [[], [b'X-Request-ID: a"b'], [b"X-Request-ID: " + b"a" * 129], [b"X-Request-ID: a b"]])
def test_an_id_is_made_where_none_is_usable(serving, directory, path, sent):
    """What was sent is not repeated; the answer and the line agree, and a bad traceparent is left out."""
    ids, (line,), received = told(
        serving, directory, post(ROW, *sent, b"traceparent: 00-0-0-01", path=path, close=True)
    )

    assert re.fullmatch(rb"[0-9a-f]{8}-[0-9a-f]+", ids[0])
    assert ids == [line["request_id"].encode()]
    assert "trace_id" not in line
    assert b"a" * 129 not in received


@pytest.mark.parametrize("path", [b"/predict", LONG_WAY, b"/v1/models/other:predict"])
def test_refusals_have_the_id_too(serving, directory, path):
    """Whatever the status, on both ways, and where the bytes are not HTTP."""
    ids, lines, received = told(
        serving,
        directory,
        post(b"{", b"X-Request-ID: first", path=path),
        post(b"{", b"X-Request-ID: second", path=path) + b"garbage\r\n\r\n",
    )

    assert ([b"first", b"second"], []) == (ids[:2], lines)
    assert 3 == len(ids)
    assert b"400 Bad Request" in received.rpartition(b"HTTP/1.1")[2]


def test_a_failure_s_line_has_the_id(serving, directory):
    """What is the server's fault is looked up in the log by what the client was answered with."""
    pieces = [post(ROW, b"X-Request-ID: early", TRACEPARENT, close=True)]
    ids, lines, _ = told(serving, directory, *pieces, model_sha256="0" * 64)

    assert [b"early"] == ids
    assert [("early", TRACE_ID)] == [(line["request_id"], line["trace_id"]) for line in lines]
