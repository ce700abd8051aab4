"""Real server processes on this machine's loopback: started, asked and ended by tests."""

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
HEAD = b"POST /predict HTTP/1.1\r\nHost: pod\r\n"
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(SEED_BODY), SEED_BODY.encode())


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory):
    """The artifact directory that training writes."""
    path = tmp_path_factory.mktemp("server-process") / "models"
    subprocess.run([sys.executable, "-m", "aiops_training", "--output", str(path)], check=True, capture_output=True)
    return path


def eventually(condition, what):
    """Ask until there is an answer, for a bounded time."""
    return until(condition, seconds=120, explain=lambda: f"waited for: {what}")  # a start takes a busy machine a minute


class Pod:
    """A server process on a free port, and its log."""

    def __init__(self, path, log, environment, stdout=None, prefix=()):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.log = log
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*prefix, *COMMAND],
                stdout=output if stdout is None else stdout,
                stderr=output,
                env={
                    **os.environ,
                    "HOST": "127.0.0.1",
                    "PORT": str(port),
                    "MODEL_PATH": str(path / "model.pkl"),
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

    def metric(self, name):
        """A sample of /metrics by its name and labels."""
        lines = self.client.get("/metrics").raise_for_status().text.splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))

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

        def start(path=artifacts, stdout=None, log=None, prefix=(), **environment):
            pod = Pod(path, log or tmp_path / f"log-{time.monotonic_ns()}", environment, stdout, prefix)
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


def state(pid):
    """A process's state as the kernel shows it, such as S, T or Z; Z too where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "Z"


def alive(pid):
    """Whether there is such a process, zombies apart."""
    return state(pid) != "Z"


def stop(pid):
    """Stop a process, and wait until it stands still."""
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: state(pid) == "T", "stopped")


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
