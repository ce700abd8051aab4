import contextlib
import socket
import threading

import pytest
from serverprocess import eventually

DRIFTED = [[5.1, 3.5, 140, 0.2]]
NO_COOLDOWN = "drift: {webhook: {cooldown: 0}}"


class Receiver:
    """Takes what is posted to it, and then does what it is told to."""

    def __init__(self):
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}/hook"
        self.connections = []
        self.behave = lambda _: None
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self):
        with contextlib.suppress(OSError):
            while True:
                made, _ = self._server.accept()
                self.connections.append(made)
                self.behave(made)

    def close(self):
        """Hang up on all."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        for made in self.connections:
            made.close()


@pytest.fixture
def hook():
    """A receiver that hangs until it is told otherwise."""
    made = Receiver()
    yield made
    made.close()


def test_a_receiver_that_hangs_delays_no_prediction_and_not_the_end(start, hook, tmp_path):
    """It has the request and says nothing, while hundreds are answered; SIGTERM waits some seconds and counts it as dropped."""
    (tmp_path / "runtime.yaml").write_text(NO_COOLDOWN)
    pod = start(DRIFT_WEBHOOK=hook.url, RUNTIME_CONFIG=str(tmp_path / "runtime.yaml"))
    pod.predict(DRIFTED)
    eventually(lambda: hook.connections, "the receiver has it")
    assert all(pod.predict(DRIFTED)["drift_detected"] for _ in range(200))
    assert 0 == pod.metric('webhook_deliveries_total{result="delivered"}')
    assert pod.metric('webhook_deliveries_total{result="dropped"}') > 100  # 32 wait, in bounded memory
    pod.process.terminate()
    assert 0 == pod.process.wait(timeout=25)
    assert any('"result": "dropped"' in line for line in pod.lines())
    assert not [line for line in pod.lines() if "raceback" in line]


def test_a_receiver_that_answers_badly_delays_no_prediction(start, hook):
    """Slowly, never to the end; by hanging up; by sending elsewhere, where nobody follows: each has its count."""

    def slow(made):
        made.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n.")

    def redirect(made):
        made.recv(65536)
        made.sendall(f"HTTP/1.1 307 Elsewhere\r\nLocation: {hook.url}/other\r\nContent-Length: 0\r\n\r\n".encode())

    pod = start(DRIFT_WEBHOOK=hook.url)
    hook.behave = slow
    pod.predict(DRIFTED)
    eventually(lambda: hook.connections, "the receiver has it")
    assert all(pod.predict(DRIFTED)["drift_detected"] for _ in range(100))
    assert 0 == sum(pod.metric(f'webhook_deliveries_total{{result="{result}"}}') for result in ("delivered", "failed"))
    hook.behave = socket.socket.close
    for made in list(hook.connections):
        made.close()
    eventually(lambda: pod.metric('webhook_deliveries_total{result="failed"}') == 1, "given up")
    hook.behave = redirect
    assert pod.predict(DRIFTED)["drift_detected"]  # nobody was told: there is no cooldown
    eventually(lambda: pod.metric('webhook_deliveries_total{result="refused"}') == 1, "refused")
    asked = len(hook.connections)
    assert pod.predict(DRIFTED)["drift_detected"]
    eventually(lambda: pod.metric('webhook_deliveries_total{result="refused"}') == 2, "refused again")
    assert asked + 1 >= len(hook.connections)
