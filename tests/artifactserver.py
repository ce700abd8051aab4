"""A web server over TLS that serves artifacts as badly as a test wants, and the process that fetches from it."""

import contextlib
import hashlib
import http.server
import json
import os
import ssl
import subprocess
import sys
import threading
import time

import pytest

from aiops_localcluster.certificates import Authority

AUTHORIZATION = "Bearer not-for-logs"
CLOUDS = ("AWS_", "AZURE_", "GOOGLE_")  # how the names of variables begin that a person may have set for their own work


class ArtifactServer:
    """Files by name under `/iris/v3`, with entity tags and ranges.

    Attributes:
        files: content by name.
        asked: of each request method, name, and first byte.
        statuses: to answer with, by name, instead of the file.
        cuts: bytes after which each next answer is cut off; when there is none left, answers are whole.
        between: called in the middle of each answer that is not cut off.
        ranges: whether it knows ranges.
        told: what tells versions apart: a tag and a date, a date, or nothing.
    """

    def __init__(self, files, folder):
        self.files = dict(files)
        self.asked = []
        self.statuses = {}
        self.cuts = []
        self.between = lambda: None
        self.ranges = True
        self.told = "tag"
        authority = Authority(folder)
        self.certificate = authority.certificate.read_text()
        pair = authority.server("server", "artifacts", ("127.0.0.1",))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"served": self}))
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.uri = f"https://127.0.0.1:{self._server.server_address[1]}/iris/v3"

    @contextlib.contextmanager
    def running(self):
        """Serve until the block ends."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    def gets(self, name):
        """First bytes of the requests for a file's content, in their order."""
        return [first for method, asked, first in self.asked if (method, asked) == ("GET", name)]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request after the other; `served` is the server that they are made to."""

    protocol_version = "HTTP/1.1"
    served = None

    def do_HEAD(self):
        """What a file is."""
        self.answer()

    def do_GET(self):
        """A file, or the rest of one."""
        content = self.answer()
        if content is None:
            return
        with contextlib.suppress(OSError):
            if self.served.cuts:
                self.wfile.write(content[: self.served.cuts.pop(0)])
                self.wfile.flush()
                self.close_connection = True
                self.connection.unwrap()
                return
            half = len(content) // 2
            self.wfile.write(content[:half])
            self.served.between()
            self.wfile.write(content[half:])

    def answer(self):
        """Status and headers; the content that is to follow, None for none."""
        name, served = self.path.removeprefix("/iris/v3/"), self.served
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        served.asked.append((self.command, name, first))
        content = served.files.get(name, b"")
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        status = self.status(name, tag)
        size = len(content)
        if status == 200 and "Range" in self.headers and served.ranges:
            status, content = 206, content[first:]
        elif status != 200:
            content = b""
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        if served.told == "tag":
            self.send_header("ETag", tag)
        if served.told:
            self.send_header("Last-Modified", "Wed, 02 Jan 2030 03:04:05 GMT")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return content if status in {200, 206} else None

    def status(self, name, tag):
        """Whether the file may be had."""
        if self.headers["Authorization"] != AUTHORIZATION:
            return 401
        if self.headers.get("If-Match", tag) != tag:
            return 412
        return self.served.statuses.get(name, 200 if name in self.served.files else 404)

    def log_message(self, *_):
        """Say nothing."""


class Fetching:
    """A process that fetches, as the init container does."""

    def __init__(self, folder, log, **environment):
        self.last_words = log.with_suffix(".termination")
        self.last_words.touch()
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "aiops_inference.fetch"],
                stdout=output,
                stderr=output,
                env={
                    **{name: value for name, value in os.environ.items() if not name.startswith(CLOUDS)},
                    "MODEL_PATH": str(folder / "model.pkl"),
                    "BASELINE_PATH": str(folder / "baseline.npy"),
                    "EXPECTATIONS_PATH": str(folder / "expectations.json"),
                    "TERMINATION_LOG": str(self.last_words),
                    **environment,
                },
            )

    def end(self, seconds=60):
        """Exit status, and the reason and the message that the container leaves behind."""
        status = self.process.wait(seconds)
        said = json.loads(self.last_words.read_text() or "{}")
        return status, said.get("reason"), said.get("message", "")

    def events(self):
        """What its log tells, as documents."""
        return [json.loads(line.partition(" ")[2]) for line in self.log.read_text().splitlines()]


@pytest.fixture
def fetching(tmp_path):
    """Starts processes that fetch into a folder, and leaves none behind."""
    folder = tmp_path / "models"
    folder.mkdir()
    with contextlib.ExitStack() as stack:

        def start(into=folder, **environment):
            made = Fetching(into, tmp_path / f"fetch-{time.monotonic_ns()}.log", **environment)
            stack.callback(made.process.wait)
            stack.callback(made.process.kill)
            return made

        start.folder = folder
        yield start


@pytest.fixture
def artifact_server(artifacts, tmp_path):
    """A server of the iris artifacts."""
    files = {path.name: path.read_bytes() for path in artifacts.iterdir() if path.is_file()}
    with ArtifactServer(files, tmp_path / "tls").running() as server:
        yield server


@pytest.fixture
def fetch_from(artifact_server, fetching):
    """Starts a process that fetches from the server, with all that it needs."""

    def start(**changed):
        given = {
            "ARTIFACTS_URI": artifact_server.uri,
            "ARTIFACTS_CA_CERTIFICATE": artifact_server.certificate,
            "ARTIFACTS_AUTHORIZATION": AUTHORIZATION,
        }
        return fetching(**given | changed)

    start.folder = fetching.folder
    return start
