"""Data over HTTP, and the operator's events on their way to GitHub: real sockets, real processes."""

import asyncio
import base64
import datetime as dt
import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading

import httpx
import pytest
from waiting import until

from aiops_operator.api import Key
from aiops_operator.cloudevent import of_change
from aiops_operator.metrics import Metrics
from aiops_operator.sink import Sink
from aiops_training import source
from aiops_training.__main__ import main
from aiops_training.errors import DataError

KEY = b"k" * 32
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
TOKEN = "t0k3n"  # noqa: S105 - of the test's own server
ROWS = "x,y\n" + "".join(f"{number},{number % 2}\n" for number in range(20))


class Server(http.server.ThreadingHTTPServer):
    """Keeps what is posted, and answers what it is told to."""

    daemon_threads = True

    def __init__(self):
        self.posted, self.codes, self.answers = [], [204], {"/rows.csv": (200, {}, ROWS.encode())}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                """As GitHub takes a dispatch."""
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.posted.append((self.path, self.headers["authorization"], body))
                self.answer(outer.codes.pop(0) if len(outer.codes) > 1 else outer.codes[0], {}, b"")

            def do_GET(self):
                """A file."""
                self.answer(*outer.answers.get(self.path, (404, {}, b"")))

            def answer(self, code, headers, body):
                """Say it."""
                self.send_response(code)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self):
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def server():
    """A web server on a free port."""
    with Server() as made:
        yield made
        made.shutdown()


def test_data_is_fetched_and_held_against_its_digest(server, tmp_path, capsys):
    """Its name is that of the URL's last part."""
    where = ["--csv", f"{server.url}/rows.csv", "--target", "y", "--output", str(tmp_path)]

    assert 0 == main(["train", *where, "--csv-sha256", hashlib.sha256(ROWS.encode()).hexdigest()])
    assert "rows: 20 rows, 1 features, classification" in capsys.readouterr().out
    assert 1 == main(["train", *where, "--csv-sha256", "0" * 64])
    assert "not the one that was asked for; nothing was trained" in capsys.readouterr().err


def test_a_files_digest_is_compared_too(tmp_path, capsys):
    """Wherever it comes from."""
    (tmp_path / "rows.csv").write_text(ROWS)

    assert 1 == main(["--csv", str(tmp_path / "rows.csv"), "--target", "y", "--csv-sha256", "0" * 64])
    assert "not the one that was asked for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "answer", "why"),
    [
        ("/nothing.csv", None, "404"),
        ("/away.csv", (302, {"Location": "http://data.example.com/rows.csv"}, b""), "over https"),
        ("/round.csv", (302, {"Location": "/round.csv"}, b""), "more than 5 redirects"),
        ("/short.csv", (200, {"Content-Length": "100"}, b"x,y\n"), "cannot be fetched"),
    ],
)
def test_data_that_cannot_be_had_is_a_clear_error(server, path, answer, why):
    """Missing, led off https, led in circles, or broken off."""
    if answer:
        server.answers[path] = answer
    with pytest.raises(DataError, match=why), source.fetched(f"{server.url}{path}"):
        pass


@pytest.mark.parametrize(
    "where", ["http://data.example.com/rows.csv", "ftp://data.example.com/rows.csv", "file:///etc/passwd"]
)
def test_what_others_could_change_on_the_way_is_not_fetched(where):
    """Nothing is sent."""
    with pytest.raises(DataError, match="over https"), source.fetched(where):
        pass


@pytest.fixture
def receiver(server, tmp_path):
    """The receiver as a process, with the web server as GitHub; its URL, and its output."""
    log = tmp_path / "log"
    environment = {**os.environ, "DRIFT_SINK_SECRET": SECRET, "GITHUB_TOKEN": TOKEN}
    command = [sys.executable, "-m", "aiops_training", "receive", "--repository", "shop/models"]
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*command, "--port", "0", "--api", server.url], env=environment, stdout=said, stderr=said
        )
    until(lambda: "listening" in log.read_text(), explain=log.read_text)
    yield f"http://{log.read_text().split()[2]}", log, process
    process.kill()
    process.wait()


def told(url, *changes):
    """Let the operator's own sink tell of changes of a status."""
    now = dt.datetime.now(dt.UTC)
    metrics = Metrics()

    async def run():
        sink = Sink(url, KEY, metrics, first_pause=0.01)
        sink.start()
        for before, after in changes:
            for event in of_change(Key("shop", "iris"), before, after, now):
                sink.tell(event)
        await sink.stop()

    asyncio.run(run())
    return metrics.registry.get_sample_value("aiops_operator_drift_sink_events_total", {"result": "delivered"})


DRIFT = {"drift": {"episode": "e1", "score": "28.1", "threshold": "5", "worstFeature": "petal length (cm)"}}


def test_an_episode_of_drift_becomes_one_dispatch(server, receiver):
    """From the operator's sink to GitHub's API, though GitHub fails at first; the end of the episode starts nothing."""
    server.codes = [500, 204]
    url, log, process = receiver

    assert 2 == told(url, ({}, DRIFT), (DRIFT, {}))

    sent = {
        "subject": "shop/iris",
        "episode": "e1",
        "score": "28.1",
        "threshold": "5",
        "worstFeature": "petal length (cm)",
    }
    dispatch = ("/repos/shop/models/dispatches", f"Bearer {TOKEN}", {"event_type": "drift", "client_payload": sent})
    assert [dispatch, dispatch] == server.posted
    assert 1 == told(url, ({}, DRIFT)), "the same once more is taken"
    assert 2 == len(server.posted), "and starts nothing"
    assert TOKEN not in log.read_text()
    process.send_signal(signal.SIGTERM)
    assert 0 == process.wait(10)


def test_what_is_not_signed_reaches_nobody(server, receiver):
    """Nor what is too long; the receiver stays."""
    url, *_ = receiver
    assert 401 == httpx.post(url, json={"type": "io.aiops-quality.drift.onset"}).status_code
    assert 413 == httpx.post(url, content=b"x" * 100_000).status_code
    assert 413 == httpx.post(url, content=iter([b"x"])).status_code
    assert (404, 200) == (httpx.get(url).status_code, httpx.get(f"{url}/healthz").status_code)
    assert [] == server.posted


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({}, "$DRIFT_SINK_SECRET"),
        ({"DRIFT_SINK_SECRET": SECRET}, "$GITHUB_TOKEN"),
        ({"DRIFT_SINK_SECRET": "x", "GITHUB_TOKEN": "x"}, "whsec_"),
    ],
)
def test_a_receiver_without_secrets_does_not_start(environment, why, monkeypatch, capsys):
    """It says what is missing."""
    for name in ("DRIFT_SINK_SECRET", "GITHUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert 1 == main(["receive", "--repository", "shop/models", "--port", "0"])
    assert why in capsys.readouterr().err
