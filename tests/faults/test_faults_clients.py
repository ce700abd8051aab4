import contextlib
import json
import os
import resource
import signal
import socket
import struct
from pathlib import Path

import numpy as np
import pytest
from serverprocess import HEAD, WHOLE, answers, connection, eventually, stop

CONNECTIONS = 10_000
MAX_HEAD = 64 << 10  # bytes
MOST_BYTES = 64 << 10  # of memory that an idle connection may cost


def files(pod):
    """How many files the process has open."""
    return len(list(Path(f"/proc/{pod.process.pid}/fd").iterdir()))


def memory(pod):
    """Bytes of memory that the process holds."""
    return int(Path(f"/proc/{pod.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def reset(made):
    """Hang up with a reset instead of an end."""
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    made.close()


@contextlib.contextmanager
def many_files():
    """This process may open as many as it ever may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_client_that_sends_byte_by_byte_is_answered_and_delays_nobody(shared, healthy):
    """Headers and body; others are answered between its bytes."""
    pod = shared
    made = connection(pod, b"")
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    last = WHOLE.replace(b"Host: pod", b"Host: pod\r\nConnection: close")
    for i in range(len(last)):
        made.sendall(last[i : i + 1])
        if i % 20 == 0:
            healthy(pod)
    (found,) = answers(made)
    assert (200, [0, 2]) == (found[0], found[1]["predictions"])


def test_a_client_that_reads_slowly_gets_its_whole_answer(shared, healthy):
    """Half a megabyte, in small pieces; others are answered between them."""
    pod = shared
    rows = np.tile([5.1, 3.5, 1.4, 0.2], (10_000, 1))
    tensor = {"name": "x", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
    body = json.dumps({"inputs": [tensor], "outputs": [{"name": "predict_proba"}]}).encode()
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.settimeout(20)
    made.connect((pod.client.base_url.host, pod.client.base_url.port))
    head = b"POST /v2/models/iris/infer HTTP/1.1\r\nHost: pod\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    made.sendall(head % len(body) + body)
    received = b""
    while piece := made.recv(4096):
        if len(received) // 100_000 != (len(received) + len(piece)) // 100_000:
            healthy(pod)
        received += piece
    made.close()
    document = json.loads(received.partition(b"\r\n\r\n")[2])
    assert [10_000, 3] == document["outputs"][0]["shape"]
    assert 30_000 == len(document["outputs"][0]["data"])


def test_half_requests_that_are_reset_leave_nothing_behind(shared, healthy):
    """Cut at every tenth byte: no row counted, no connection left, no line of an error."""
    pod = shared
    pod.predict([[5.1, 3.5, 1.4, 0.2]])  # on a connection that is kept
    before = files(pod)
    for cut in range(0, len(WHOLE), 10):
        reset(connection(pod, WHOLE[:cut]))
        reset(connection(pod, WHOLE + WHOLE[:cut]))
    healthy(pod)  # it connects after them: all of them have been accepted
    eventually(lambda: files(pod) <= before, "all connections are gone")
    rows = pod.drift()["rows"]
    healthy(pod)
    assert rows + 2 == pod.drift()["rows"]


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (b"\0" * 100, 400, "InvalidHttp"),
        (bytes(range(256)) * 40, 400, "InvalidHttp"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "InvalidHttp"),  # TLS
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "InvalidHttp"),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, "InvalidHttp"),
        (HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "InvalidHttp"),
    ],
)
def test_what_is_not_a_request_is_refused_and_hung_up_on(shared, healthy, content, status, reason):
    """In JSON, after the request before it."""
    made = connection(shared, WHOLE + content)
    found = answers(made)
    assert [200, status] == [each for each, _ in found]
    assert reason == found[-1][1]["reason"]
    healthy(shared)


@pytest.mark.parametrize(
    "content", [HEAD + b"X: " + b"a" * MAX_HEAD, HEAD + b"X: a\r\n" * MAX_HEAD, b"GET /" + b"a" * MAX_HEAD]
)
def test_headers_without_end_are_refused_when_they_are_too_long(shared, healthy, content):
    """Before they cost memory."""
    made = connection(shared, content[: MAX_HEAD + 1])
    assert [(431, "TooLarge")] == [(status, document["reason"]) for status, document in answers(made)]
    healthy(shared)


def test_ten_thousand_idle_connections_keep_nobody_out(shared, healthy, measured):
    """A prediction is answered beside them; what they cost is bounded, and given back when they go."""
    pod = shared
    healthy(pod)
    before = memory(pod)
    address = (pod.client.base_url.host, pod.client.base_url.port)
    with many_files() as most, contextlib.ExitStack() as stack:
        assert most > CONNECTIONS + 1000, f"this process may only have {most} files open"
        for i in range(CONNECTIONS):
            # From many addresses, so that no pair of them runs out of ports.
            made = socket.create_connection(address, timeout=20, source_address=(f"127.0.1.{i % 100 + 1}", 0))
            stack.callback(made.close)
            if i % 1000 == 0:
                healthy(pod)
        eventually(lambda: files(pod) > CONNECTIONS, "all are connected")
        healthy(pod)
        cost = (memory(pod) - before) / CONNECTIONS
        measured["memory of an idle connection, bytes"] = round(cost)
        assert cost < MOST_BYTES
    eventually(lambda: files(pod) < 1000, "all are gone")
    healthy(pod)


def test_at_the_limit_of_connections_the_oldest_idle_ones_go(narrow, healthy):
    """A process that may have 10 answers 60 clients one after another; none that asks is sent away."""
    pod = narrow
    asking = connection(pod, WHOLE[:-1])
    with contextlib.ExitStack() as stack:
        for i in range(60):
            made = stack.enter_context(connection(pod, b""))
            if i % 5 == 0:
                healthy(pod)
        healthy(pod)
        made.sendall(WHOLE)
        assert made.recv(65536).startswith(b"HTTP/1.1 200 ")
    asking.sendall(WHOLE[-1:])
    asking.shutdown(socket.SHUT_WR)
    assert [200] == [status for status, _ in answers(asking)]


def test_where_all_that_are_connected_ask_the_newcomer_is_turned_away(narrow, healthy):
    """With 503, a reason and Retry-After; when one has gone there is room again."""
    pod = narrow
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            made = connection(pod, WHOLE[:-1])
            stack.callback(made.close)
        refused = connection(pod, b"")
        text = refused.recv(65536)
        refused.close()
        assert text.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in text
        assert "Overloaded" == json.loads(text.partition(b"\r\n\r\n")[2])["reason"]
    eventually(lambda: pod.get("/livez"), "room again")
    healthy(pod)


def test_rows_beyond_what_may_wait_are_turned_away_while_others_are_served(shared):
    """503 with Retry-After, at once; what came before is answered, and so is what comes after."""
    pod = shared
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(connection(pod, WHOLE)) for _ in range(12)]
        assert all(each.recv(65536).startswith(b"HTTP/1.1 200 ") for each in made)  # all are connected
        before = pod.drift()["rows"]
        stop(pod.process.pid)  # so that all of them are there at its next look
        for each in made:
            each.sendall(WHOLE)
        os.kill(pod.process.pid, signal.SIGCONT)
        found = [each.recv(65536) for each in made]
        served = [text for text in found if text.startswith(b"HTTP/1.1 200 ")]
        refused = [text for text in found if text.startswith(b"HTTP/1.1 503 ")]
        assert (2, 10) == (len(served), len(refused))
        assert all(b"\r\nretry-after: 1\r\n" in text and b'"reason":"Overloaded"' in text for text in refused)
        for each in made:
            each.sendall(WHOLE)
            assert each.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert before + 2 * len(served) + 2 * len(made) == pod.drift()["rows"]
