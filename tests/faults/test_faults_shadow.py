"""A second model is given copies of rows: whatever its pod does, clients have their answers and /drift can be read."""

import contextlib
import json
import os
import shutil
import signal
import socket
import threading

import httpx
import joblib
import numpy as np
import pytest
from serverprocess import Pod, eventually, stop
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from aiops_drift import Agreement, reports_from

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
REFUSAL = b'HTTP/1.1 500 x\r\nContent-Length: 19\r\n\r\n{"error": "broken"}'


@pytest.fixture(scope="module")
def another(artifacts, tmp_path_factory):
    """Artifacts of another model of the same flowers: it was taught the length of petals alone, and badly."""
    path = tmp_path_factory.mktemp("another")
    shutil.copy(artifacts / "baseline.npy", path)
    rows, target = load_iris(return_X_y=True)
    only = rows * [0.0, 0.0, 1.0, 0.0]
    joblib.dump(LogisticRegression(C=0.02, max_iter=1000).fit(only, target), path / "model.pkl")
    return path


@pytest.fixture(scope="module")
def rows():
    """Of the flowers, and between them."""
    known = load_iris().data
    return np.concatenate([known, known[::-1] * 0.3 + known * 0.7])


@pytest.fixture
def shadowed(start, tmp_path):
    """Starts a pod that copies its rows to a URL."""

    def begin(url, **environment):
        configure(tmp_path / "runtime.yaml", url, "r1")
        return start(RUNTIME_CONFIG=str(tmp_path / "runtime.yaml"), **environment)

    return begin


@pytest.fixture(scope="module")
def following(artifacts, tmp_path_factory):
    """A pod, and its runtime.yaml, which tests give it one shadow after another in."""
    path = tmp_path_factory.mktemp("following")
    pod = Pod(artifacts, path / "log", {"EXPECTATIONS_PATH": "/nowhere", "RUNTIME_CONFIG": str(path / "runtime.yaml")})
    pod.ready()
    yield pod, path / "runtime.yaml"
    pod.process.kill()
    pod.process.wait()
    pod.client.close()


def configure(path, url, revision):
    """Write runtime.yaml as a mounted ConfigMap changes: whole at once."""
    path.with_suffix(".new").write_text(json.dumps({"shadow": {"url": url, "revision": revision}}))
    path.with_suffix(".new").replace(path)


class Odd:
    """A shadow that is no server of ours: each connection is left to `behave`, in a thread of its own."""

    def __init__(self, behave):
        self._behave = behave
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.made = []
        self._threads = [threading.Thread(target=self._take, daemon=True)]
        self._threads[0].start()

    def _take(self):
        with contextlib.suppress(OSError):
            while True:
                made, _ = self._server.accept()
                self.made.append(made)
                self._threads.append(threading.Thread(target=self._serve, args=(made,), daemon=True))
                self._threads[-1].start()

    def _serve(self, made):
        with contextlib.suppress(OSError):
            while made.recv(1 << 20):
                self._behave(made)

    def close(self):
        """Hang up on all."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for made in self.made:
            with contextlib.suppress(OSError):
                made.shutdown(socket.SHUT_RDWR)
            made.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def odd():
    """Makes shadows that are no servers of ours."""
    with contextlib.ExitStack() as stack:

        def make(behave):
            made = Odd(behave)
            stack.callback(made.close)
            return made

        yield make


def url_of(pod):
    """Where a pod answers."""
    return str(pod.client.base_url)


def found(pod):
    """What all of a pod's processes have found together, as the operator reads it."""
    return sum((report.shadowed.agreement for report in reports_from(pod.drift())), Agreement())


def copies(pod, result):
    """Rows that were copied, by what became of them."""
    return pod.metric(f'inference_shadow_rows_total{{result="{result}"}}')


def differing(said, other, rows):
    """Rows of which another pod says something else than was said, when it is asked itself."""
    return int((np.array(said) != other.predict(rows)["predictions"]).sum())


def test_what_is_found_is_what_the_two_models_say(shadowed, start, another, rows):
    """Row by row, of requests of many sizes."""
    other = start(another)
    pod = shadowed(url_of(other))
    for times, size in enumerate((1, 2, 7, 90), start=1):
        asked = [pod.predict(rows[begin : begin + size]) for begin in range(0, len(rows), size)]
        said = [prediction for answer in asked for prediction in answer["predictions"]]
        apart = differing(said, other, rows)
        eventually(lambda: found(pod).rows >= times * len(rows), "all compared")  # noqa: B023 - at once
        assert Agreement(times * len(rows), times * apart) == found(pod)
    assert 0 < apart < len(rows) / 2
    assert (4 * len(rows), 0, 0) == tuple(copies(pod, result) for result in ("compared", "failed", "dropped"))


def test_each_worker_copies_its_own_rows(shadowed, start, another, rows):
    """And what they have found adds up."""
    other = start(another)
    pod = shadowed(url_of(other), WORKERS="2")
    eventually(lambda: len(reports_from(pod.drift())) == 2, "both have a model")
    said = []
    for begin in range(0, len(rows), 5):
        # Each on a connection of its own, which may be any worker's.
        asked = httpx.post(f"{url_of(pod)}/predict", json={"inputs": rows[begin : begin + 5].tolist()}, timeout=10)
        said += asked.raise_for_status().json()["predictions"]
    eventually(lambda: found(pod).rows == len(rows), "all compared")
    assert Agreement(len(rows), differing(said, other, rows)) == found(pod)
    assert 2 == len({report.shadowed.incarnation for report in reports_from(pod.drift())})
    assert len(rows) == copies(pod, "compared")


def test_a_shadow_that_is_killed_and_comes_back(shadowed, start, run, another, rows):
    """Meanwhile rows are dropped, none has failed, and every client is answered."""
    other = start(another)
    pod = shadowed(url_of(other))
    pod.predict(rows)
    eventually(lambda: found(pod).rows == len(rows), "compared")
    other.process.kill()
    other.process.wait()
    for _ in range(200):
        pod.predict(rows[:3])
    eventually(lambda: copies(pod, "dropped") >= 3, "dropped")
    assert (len(rows), 0) == (found(pod).rows, found(pod).failed)
    run(another, EXPECTATIONS_PATH="/nowhere", PORT=url_of(other).rpartition(":")[2])
    eventually(lambda: pod.predict(rows[:3]) and found(pod).rows > len(rows), "compared again")
    assert 0 == found(pod).failed
    assert 1 == sum('"result": "dropped"' in line for line in pod.lines())


def test_a_shadow_that_hangs_delays_nobody_and_is_given_up(shadowed, start, another, rows):
    """Its rows have failed when its time is over; when it goes on, so do the copies."""
    other = start(another)
    pod = shadowed(url_of(other))
    stop(other.process.pid)
    for _ in range(100):
        pod.predict(rows)  # more than may wait
    assert found(pod).rows == 0
    assert copies(pod, "dropped") > 0
    eventually(lambda: found(pod).failed > 0, "given up")
    os.kill(other.process.pid, signal.SIGCONT)
    eventually(lambda: pod.predict(rows[:3]) and found(pod).rows > 0, "compared")
    assert any("no answer within 5 s" in line for line in pod.lines())


def garbage(made):
    """Not what was asked for."""
    made.sendall(HEAD + b"Content-Length: 20\r\n\r\n<html>welcome</html>")


def endless(made):
    """Numbers without end."""
    made.sendall(HEAD + b'Transfer-Encoding: chunked\r\n\r\n11\r\n{"predictions": [\r\n')
    while True:
        made.sendall(b"1000\r\n%b\r\n" % (b"0," * 2048))


def trickling(made):
    """A byte now and then, for ever: until the other side hangs up."""
    made.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n")
    made.settimeout(0.2)
    while True:
        made.sendall(b" ")
        with contextlib.suppress(TimeoutError):
            if not made.recv(1):
                return


def too_many(made):
    """More predictions than rows."""
    body = b'{"predictions": [%b0]}' % (b"0," * 50_000)
    made.sendall(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))


def elsewhere(made):
    """To somebody else, whom nobody asks."""
    made.sendall(b"HTTP/1.1 307 x\r\nLocation: http://127.0.0.1:1/predict\r\nContent-Length: 0\r\n\r\n")


def failing(made):
    """Nothing but errors."""
    made.sendall(REFUSAL)


def no_http(made):
    """Another protocol; the shadow is as good as away."""
    made.sendall(b"220 mail.example ESMTP\r\n\r\n")


@pytest.mark.parametrize("behave", [garbage, endless, trickling, too_many, elsewhere, failing, no_http])
def test_a_shadow_that_answers_badly_is_seen_and_delays_nobody(following, odd, rows, behave):
    """Its rows have failed, or are dropped where it speaks no HTTP; the log says so once."""
    pod, runtime = following
    name = behave.__name__
    configure(runtime, odd(behave).url, name)

    def told():
        (report,) = reports_from(pod.drift())
        return report.shadowed is not None and report.shadowed.revision == name

    def complaints():
        return [line for line in pod.lines() if line.startswith("WARNING") and f'"revision": "{name}"' in line]

    eventually(told, "the settings have been read")
    before = reports_from(pod.drift())[0].rows
    for _ in range(50):
        pod.predict(rows)  # of all together more than may wait
        assert 0 == found(pod).rows
    eventually(complaints, "seen")
    for row in rows[:50]:
        pod.predict([row])
    assert before + 50 * len(rows) + 50 == reports_from(pod.drift())[0].rows
    assert (0, behave is no_http) == (found(pod).rows, found(pod).failed == 0)
    (line,) = complaints()
    assert f'"result": "{"dropped" if behave is no_http else "failed"}"' in line
    assert not [line for line in pod.lines() if "internal error" in line or "raceback" in line]


def test_sigterm_does_not_wait_for_a_shadow_that_hangs(shadowed, odd, rows):
    """With rows on their way and others waiting: an exit code of 0, and the last line says what was found."""
    other = odd(lambda made: made.recv(1 << 20))
    pod = shadowed(other.url)
    pod.predict(rows)
    eventually(lambda: other.made, "the shadow has it")
    pod.predict(rows)
    pod.process.terminate()
    assert 0 == pod.process.wait(timeout=15)
    assert 'INFO {"event": "stopped"}' == pod.lines()[-1]
    (ended,) = (line for line in pod.lines() if "rows are copied no more" in line)
    assert '"rows": 0, "differing": 0, "failed": 0' in ended
    assert not [line for line in pod.lines() if "raceback" in line or "ERROR" in line]
