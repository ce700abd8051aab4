import contextlib
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from waiting import until

SEED_BODY = '{"inputs": [[5.1,3.5,1.4,0.2],[6.5,3.0,5.5,1.8]]}'
COMMAND = [sys.executable, "-m", "aiops_inference"]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """The artifact directory that training writes."""
    path = tmp_path_factory.mktemp("server-process") / "models"
    subprocess.run([sys.executable, "-m", "aiops_training", "--output", str(path)], check=True, capture_output=True)
    return path


def eventually(condition, what):
    """Ask until there is an answer, for a bounded time."""
    return until(condition, explain=lambda: f"waited for: {what}")


class Pod:
    """A server process on a free port, and its log."""

    def __init__(self, path, log, environment):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.log = log
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        with log.open("wb") as stdout:
            self.process = subprocess.Popen(
                COMMAND,
                stdout=stdout,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "HOST": "127.0.0.1",
                    "PORT": str(port),
                    "MODEL_PATH": str(path / "model.pkl"),  # where it is not there, model.skops beside it is served
                    "BASELINE_PATH": str(path / "baseline.npy"),
                    "EXPECTATIONS_PATH": str(path / "expectations.json"),
                    "RUNTIME_CONFIG": str(path / "runtime.yaml"),
                    "DRIFT_STATE": "off",
                    "DRAIN_SECONDS": "0.5",
                    **environment,
                },
            )

    def get(self, path):
        """An answer, or None while nobody listens."""
        with contextlib.suppress(httpx.TransportError):
            return self.client.get(path)
        return None

    def ready(self):
        """Wait until /health says 200."""
        return eventually(lambda: (answer := self.get("/health")) and answer.status_code == 200, "ready")

    def predict(self, rows):
        """POST /predict."""
        return self.client.post("/predict", json={"inputs": np.asarray(rows).tolist()}).raise_for_status().json()

    def drift(self):
        """GET /drift."""
        return self.client.get("/drift").raise_for_status().json()

    def lines(self):
        """The log so far."""
        return self.log.read_text().splitlines()

    def children(self):
        """The processes that this one has started."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in task.read_text().split()]


@pytest.fixture
def run(artifacts, tmp_path):
    """Starts pods, and leaves none behind."""
    with contextlib.ExitStack() as stack:

        def start(path=artifacts, **environment):
            pod = Pod(path, tmp_path / f"log-{time.monotonic_ns()}", environment)
            stack.callback(pod.client.close)
            stack.callback(pod.process.wait)
            stack.callback(pod.process.kill)
            return pod

        yield start


@pytest.fixture
def receiver():
    """A web server on a free port that keeps what is posted to it."""
    posted = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            """Keep the event's data."""
            posted.append(json.loads(self.rfile.read(int(self.headers["content-length"])))["data"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/hook", posted
        server.shutdown()
        thread.join()


def alive(pid):
    """Whether there is such a process, zombies apart."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_seed_s_curl_is_answered_and_sigterm_ends_it_cleanly(run):
    """Alive before it is ready, ready with the model, the documented answer and line, and exit 0 after SIGTERM."""
    pod = run()
    assert 200 == eventually(lambda: pod.get("/livez"), "alive").status_code
    pod.ready()
    answer = subprocess.run(
        [
            "curl",
            "-sS",
            "-X",
            "POST",
            f"{pod.client.base_url}/predict",
            "-H",
            "Content-Type: application/json",
            "-d",
            SEED_BODY,
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    document = json.loads(answer.stdout)
    assert ([0, 2], False) == (document["predictions"], document["drift_detected"])
    assert ["predictions", "drift_detected", "drift_score"] == list(document)
    assert 2 == pod.drift()["rows"]
    assert any(
        line.startswith('INFO {"event": "prediction", "inputs_sample": [[5.1,3.5,1.4,0.2]') for line in pod.lines()
    )

    pod.process.send_signal(signal.SIGTERM)
    leaving = eventually(lambda: (health := pod.get("/health")) and health.status_code == 503 and health, "leaving")
    assert "ShuttingDown" == leaving.json()["reason"]
    assert [0, 2] == pod.predict(json.loads(SEED_BODY)["inputs"])["predictions"]
    assert 0 == pod.process.wait(timeout=10)
    assert 'INFO {"event": "stopped"}' == pod.lines()[-1]


def test_every_line_of_the_log_can_be_read_by_a_machine(run):
    """A level, a text that may be empty, and JSON."""
    pod = run()
    pod.ready()
    pod.predict([[5.1, 3.5, 140, 0.2]])
    pod.client.post("/predict", content=b"?")
    pod.process.terminate()
    pod.process.wait(timeout=10)
    for line in pod.lines():
        level, _, rest = line.partition(" ")
        assert level in {"INFO", "WARNING", "ERROR"}
        assert "event" in json.loads(rest.removeprefix("Drift detected "))


def test_great_expectations_passes_fails_and_passes_again(run, artifacts, receiver):
    """In its own process, which is niced, sends a webhook, and dies with its parent."""
    url, posted = receiver
    pod = run(DRIFT_WEBHOOK=url, REQUIRE_WEBHOOK="true", SERVICE_NAME="iris", DRIFT_THRESHOLD="1000")
    pod.ready()
    rows = np.load(artifacts / "baseline.npy")
    shifted = rows.copy()
    shifted[:, 2] *= 10  # centimeters read as millimeters

    def verdict(batch, state):
        pod.predict(batch)
        return eventually(lambda: (found := pod.drift()["expectations"])["state"] == state and found, state)

    healthy = verdict(rows, "passed")
    (child,) = pod.children()
    failed = verdict(shifted, "failed")
    assert (150, []) == (healthy["evaluated_rows"], healthy["failed"])
    assert "expect_column_median_to_be_between(petal length (cm))" in failed["failed"]
    eventually(lambda: posted, "webhook")
    assert [("drift", "great_expectations", "iris")] == [(p["event"], p["detector"], p["service"]) for p in posted]
    assert failed["failed"] == posted[0]["failed"]
    assert any(
        line.startswith('WARNING Drift detected {"event": "drift", "detector": "great_expectations"')
        for line in pod.lines()
    )
    assert 'drift_events_total{detector="great_expectations"} 1.0' in pod.client.get("/metrics").text
    assert "passed" == verdict(rows, "passed")["state"]
    assert 10 == os.getpriority(os.PRIO_PROCESS, child)

    os.kill(child, signal.SIGKILL)  # as the kernel does where memory is short
    (second,) = eventually(lambda: [pid for pid in pod.children() if pid != child], "started again")
    assert "passed" == verdict(rows, "passed")["state"]
    pod.process.kill()
    pod.process.wait()
    eventually(lambda: not alive(second), "the child is gone with its parent")


@pytest.mark.parametrize(
    ("suite", "sentence"),
    [
        ({"expectation_suite_name": "old", "expectations": []}, "the suite has the form of Great Expectations 0.18"),
        (
            {"name": "s", "expectations": [{"type": "expect_magic", "kwargs": {"column": "petal length (cm)"}}]},
            "does not know all expectations of the suite: expect_magic",
        ),
        (
            {"name": "s", "expectations": [{"type": "expect_column_values_to_be_between", "kwargs": {"max_value": 1}}]},
            "Great Expectations does not take the suite",
        ),
        (
            {
                "name": "s",
                "expectations": [
                    {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "gone", "max_value": 1}}
                ],
            },
            "1 of 1 expectations cannot be evaluated: expect_column_mean_to_be_between(gone)",
        ),
    ],
)
def test_a_suite_that_does_not_fit_is_an_error_and_not_drift(run, artifacts, tmp_path, suite, sentence):
    """Predictions go on, and the state says what is wrong with the suite."""
    path = tmp_path / "expectations.json"
    path.write_text(json.dumps(suite))
    manifest = json.loads((artifacts / "manifest.json").read_text())
    directory = tmp_path / "models"
    directory.mkdir()
    for name in ("model.skops", "baseline.npy"):
        (directory / name).write_bytes((artifacts / name).read_bytes())
    del manifest["files"]["expectations.json"]
    (directory / "manifest.json").write_text(json.dumps(manifest))
    pod = run(directory, EXPECTATIONS_PATH=str(path))
    pod.ready()
    pod.predict(np.load(artifacts / "baseline.npy"))
    found = eventually(lambda: (state := pod.drift()["expectations"])["state"] != "pending" and state, "a state")
    assert "error" == found["state"]
    assert sentence in found["message"]
    assert 'drift_events_total{detector="great_expectations"} 0.0' in pod.client.get("/metrics").text


def test_drift_in_a_request_reaches_the_webhook_before_the_end(run, receiver):
    """Posted off the request path, and flushed at SIGTERM."""
    url, posted = receiver
    pod = run(DRIFT_WEBHOOK=url, SERVICE_NAME="iris")
    pod.ready()
    assert pod.predict([[5.1, 3.5, 140, 0.2]])["drift_detected"]
    pod.process.terminate()
    assert 0 == pod.process.wait(timeout=15)
    assert [("drift", "iris", "petal length (cm)", 5.0)] == [
        (p["event"], p["service"], p["feature"], p["threshold"]) for p in posted
    ]


def test_settings_are_followed_while_it_runs(run, tmp_path):
    """A threshold and the mode of Great Expectations, without a restart; the child comes and goes."""
    path = tmp_path / "runtime.yaml"
    path.write_text("drift: {expectations: {mode: disabled}}")
    pod = run(RUNTIME_CONFIG=str(path))
    pod.ready()
    assert ([], "disabled") == (pod.children(), pod.drift()["expectations"]["state"])
    assert not pod.predict([[5.1, 3.5, 1.4, 0.2]])["drift_detected"]
    path.write_text("drift: {zScoreThreshold: 1}")
    eventually(lambda: pod.predict([[5.1, 3.5, 1.4, 0.2]])["drift_detected"], "the lower threshold")
    eventually(pod.children, "the validating process")


def test_a_required_webhook_that_is_missing_refuses_the_start():
    """Exit 2, and one line that says what to set."""
    ended = subprocess.run(
        COMMAND,
        env={**os.environ, "REQUIRE_WEBHOOK": "true", "DRIFT_WEBHOOK": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (2, "") == (ended.returncode, ended.stdout)
    assert (
        "aiops-inference: REQUIRE_WEBHOOK is true, but DRIFT_WEBHOOK is empty: set it to the URL that drift is posted to\n"
        == ended.stderr
    )


def test_help_names_the_variables():
    """All that can be told is in the environment."""
    ended = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True, timeout=30)
    assert all(name in ended.stdout for name in ("MODEL_PATH", "DRIFT_WEBHOOK", "RUNTIME_CONFIG", "DRAIN_SECONDS"))


def test_a_wrong_digest_is_not_served(run):
    """The process lives, /livez answers, and /health says why there is no model."""
    pod = run(MODEL_SHA256="0" * 64)
    health = eventually(
        lambda: (answer := pod.get("/health")) and answer.json()["reason"] != "Loading" and answer, "a reason"
    )
    assert (503, "DigestMismatch") == (health.status_code, health.json()["reason"])
    assert 200 == pod.get("/livez").status_code
    assert 503 == pod.client.post("/predict", content=SEED_BODY).status_code


def test_a_body_of_ten_megabytes_is_answered_and_forgotten(run):
    """413 over a real socket, on a connection that goes on; the memory does not stay."""
    pod = run()
    pod.ready()
    big = b'{"inputs": [[' + b"1," * 5_000_000 + b"1]]}"
    assert 413 == pod.client.post("/predict", content=big).status_code
    assert (
        413 == pod.client.post("/predict", content=(big[i : i + 65536] for i in range(0, len(big), 65536))).status_code
    )
    assert [0, 2] == pod.client.post("/predict", content=SEED_BODY).json()["predictions"]
    assert 2 == pod.drift()["rows"]


def connection(pod, content):
    """A connection on which some bytes have been sent."""
    made = socket.create_connection((pod.client.base_url.host, pod.client.base_url.port), timeout=20)
    made.sendall(content)
    return made


def answers(made):
    """Status line and body of all that comes until the server hangs up."""
    with made, made.makefile("rb") as stream:
        found = []
        while status := stream.readline():
            headers = dict(iter(lambda: stream.readline().strip().lower().partition(b": ")[::2], (b"", b"")))
            found.append((int(status.split()[1]), json.loads(stream.read(int(headers[b"content-length"])))))
        return found


HEAD = b"POST /predict HTTP/1.1\r\nHost: pod\r\n"
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(SEED_BODY), SEED_BODY.encode())
NOT_HTTP = {"error": "Invalid HTTP request received.", "reason": "InvalidHttp"}


@pytest.mark.parametrize(
    ("content", "predicted"),
    [
        (HEAD + b"Content-Length: abc\r\n\r\n", 0),
        (HEAD + b"Content-Length: -5\r\n\r\n", 0),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n", 0),
        (b"garbage\r\n\r\n", 0),
        (WHOLE * 5 + b"garbage\r\n\r\n", 5),
    ],
)
def test_what_is_not_http_is_refused_in_json(run, content, predicted):
    """After the requests that came before it; no internal error, and every prediction is counted."""
    pod = run()
    pod.ready()
    found = answers(connection(pod, content))
    assert [200] * predicted + [400] == [status for status, _ in found]
    assert NOT_HTTP == found[-1][1]
    assert f"inference_rows_total {2.0 * predicted}" in pod.client.get("/metrics").text
    if predicted:
        assert 'inference_requests_total{code="200"} 5.0' in pod.client.get("/metrics").text
    assert not [line for line in pod.lines() if line.startswith("ERROR")]


def test_clients_that_do_not_finish_do_not_delay_the_end(run):
    """Without a byte of the body, with one, with half a header or nothing at all: over in seconds, without a traceback."""
    pod = run()
    pod.ready()
    announced = HEAD + b"Content-Length: 40\r\n\r\n"
    waiting = [connection(pod, content) for content in (announced, announced + b"{", HEAD[:30], b"")]
    eventually(lambda: pod.get("/livez"), "a round of the loop")
    began = time.monotonic()
    pod.process.terminate()
    assert 0 == pod.process.wait(timeout=15)
    assert time.monotonic() - began < 6  # 0.5 to drain, 2 for the bodies, and a slow machine
    found = [answers(made) for made in waiting]
    assert [[408], [408], [], []] == [[status for status, _ in answer] for answer in found]
    assert "the pod is shutting down, and the body did not arrive in time" == found[0][0][1]["error"]
    assert not [line for line in pod.lines() if line.startswith("ERROR") or "traceback" in line]


def test_a_client_that_does_not_read_does_not_delay_the_end(run):
    """Answers that nobody takes are dropped, without a traceback."""
    pod = run()
    pod.ready()
    made = connection(pod, b"")
    made.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        while True:  # until neither side's buffers take any more
            made.sendall(b"GET /metrics HTTP/1.1\r\nHost: pod\r\n\r\n" * 50)
    pod.process.terminate()
    assert 0 == pod.process.wait(timeout=20)
    made.close()
    assert not [line for line in pod.lines() if "traceback" in line]
