"""The administrator's sink: a real receiver, and an operator on a real API server."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import signal
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from waiting import until

from aiops_operator.cloudevent import Event
from aiops_operator.metrics import Metrics
from aiops_operator.sink import ATTEMPTS, QUEUE, Sink

KEY = b"k" * 32
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
ONSET, CLEARED = "io.aiops-quality.drift.onset", "io.aiops-quality.drift.cleared"


class Receiver(ThreadingHTTPServer):
    """Takes events, and answers with the codes that it is given, the last one again and again; 0 for no answer."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, port=0):
        self.codes, self.headers, self.taken, self.released = [204], {}, [], threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                """Take one."""
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.taken.append((self.path, dict(self.headers), body))
                code = receiver.codes.pop(0) if len(receiver.codes) > 1 else receiver.codes[0]
                if not code:
                    receiver.released.wait(60)
                    return
                self.send_response(code)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                """Say nothing."""

        super().__init__(("127.0.0.1", port), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self):
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}/t0k3n"

    def types(self):
        """The types of the events taken."""
        return [json.loads(body)["type"] for _, _, body in self.taken]

    def close(self):
        """Take no more."""
        self.released.set()
        self.shutdown()
        self.server_close()


@contextlib.contextmanager
def receiving(port=0):
    """A receiver for the length of a with block."""
    receiver = Receiver(port)
    try:
        yield receiver
    finally:
        receiver.close()


@pytest.fixture
def receiver():
    """A receiver that takes everything."""
    with receiving() as made:
        yield made


def free_url():
    """Where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/t0k3n"


def drifting(api, pods):
    """A service in the middle of an episode."""
    api.serve({"replicas": 2})
    api.run_pods(list(pods))
    for pod in pods.values():
        pod.receive(160, 9.0)
    api.wait("DriftDetected", "True", "ScoreAboveThreshold")


def recover(api, pods):
    """The end of it."""
    for pod in pods.values():
        pod.receive(400)
    api.wait("DriftDetected", "False", "WithinThresholds")


def sent(url, events, **options):
    """Tell a sink of events and stop it at once; the counts of what became of them, and how long that took."""
    metrics = Metrics()

    async def run():
        sink = Sink(url, KEY, metrics, first_pause=0.01, **options)
        sink.start()
        for event in events:
            sink.tell(event)
        started = time.monotonic()
        await sink.stop()
        return time.monotonic() - started

    seconds = asyncio.run(run())
    assert 0 == metrics.registry.get_sample_value("aiops_operator_drift_sink_queue") or seconds >= 5
    results = ("delivered", "refused", "failed", "dropped")
    found = {
        result: metrics.registry.get_sample_value("aiops_operator_drift_sink_events_total", {"result": result})
        for result in results
    }
    return {result: count for result, count in found.items() if count}, seconds


def test_onset_and_end_are_told_once(api, start, pods, receiver):
    """With a signature; the operator's log does not have the URL's path."""
    environment = {"DRIFT_SINK_URL": receiver.url, "DRIFT_SINK_SECRET": SECRET}
    with start(api.namespace, RESYNC_INTERVAL="1", **environment) as operator:
        drifting(api, pods)
        episode = api.status()["drift"]["episode"]
        until(receiver.types)
        recover(api, pods)
        until(receiver.types, lambda seen: CLEARED in seen)
        done = operator.reconciles()
        until(operator.reconciles, lambda seen: seen > done + 2)
        assert 2 == operator.metric('aiops_operator_drift_sink_events_total{result="delivered"}')
        log = operator.log.read_text()
    assert [ONSET, CLEARED] == receiver.types()
    assert [f"{episode}.onset", f"{episode}.cleared"] == [json.loads(body)["id"] for _, _, body in receiver.taken]
    for path, headers, body in receiver.taken:
        document = json.loads(body)
        signed = f"{document['id']}.{headers['webhook-timestamp']}.".encode() + body
        signature = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        assert (f"v1,{signature}", document["id"]) == (headers["webhook-signature"], headers["webhook-id"])
        assert ("/t0k3n", "application/cloudevents+json") == (path, headers["Content-Type"])
        assert (f"{api.namespace}/iris", "length") == (
            document["subject"],
            document["data"].get("worstFeature", "length"),
        )
    assert "t0k3n" not in log


def test_the_next_operator_does_not_repeat_it(api, start, pods, receiver):
    """The episode in the status is no news; its end is."""
    with start(api.namespace, DRIFT_SINK_URL=receiver.url) as first:
        drifting(api, pods)
        until(receiver.types)
        first.stop(signal.SIGKILL)
    with start(api.namespace, DRIFT_SINK_URL=receiver.url) as second:
        until(lambda: second.metric("aiops_operator_drift_poll_seconds_count"), lambda seen: seen >= 3)
        assert [ONSET] == receiver.types()
        recover(api, pods)
        until(receiver.types, lambda seen: CLEARED in seen)
    assert [ONSET, CLEARED] == receiver.types()


def test_a_sink_that_is_dead_holds_up_nothing(api, start, pods):
    """Status and children go on; what could not be delivered comes, in order, when the sink does."""
    url = free_url()
    # Attempts whose pauses happen to be short must not be over before the sink is there.
    with start(api.namespace, constants={"sink.ATTEMPTS": 8}, DRIFT_SINK_URL=url) as operator:
        drifting(api, pods)
        until(lambda: operator.metric("aiops_operator_drift_sink_queue"))
        recover(api, pods)
        api.change({"replicas": 1})
        until(lambda: api.settled()["spec"]["replicas"], lambda seen: seen == 1)
        until(lambda: operator.metric("aiops_operator_drift_sink_queue"), lambda seen: seen == 2)
        with receiving(int(url.rpartition(":")[2].partition("/")[0])) as receiver:
            until(receiver.types, lambda seen: CLEARED in seen)
            assert [ONSET, CLEARED] == receiver.types()


def test_a_sink_that_hangs_holds_up_the_end_for_seconds_only(api, start, pods, receiver):
    """It has the request and says nothing; SIGTERM ends the operator in order."""
    receiver.codes = [0]
    with start(api.namespace, DRIFT_SINK_URL=receiver.url) as operator:
        drifting(api, pods)
        until(receiver.types)
        api.wait("DriftDetected", "True", "ScoreAboveThreshold")
        assert 0 == operator.stop()
        assert operator.log_line("dropped at the end").startswith("1 drift events for 127.0.0.1")


def test_a_resource_names_no_url_that_the_operator_calls(api, start, pods, receiver):
    """What a tenant writes is the pods' to call."""
    with start(api.namespace):
        api.serve({"replicas": 2, "drift": {"webhook": {"url": receiver.url}}})
        api.run_pods(list(pods))
        for pod in pods.values():
            pod.receive(160, 9.0)
        api.wait("DriftDetected", "True", "ScoreAboveThreshold")
        recover(api, pods)
    assert [] == receiver.taken


@pytest.mark.parametrize(
    ("codes", "attempts", "result"),
    [
        ([204], 1, "delivered"),
        ([503, 429, 408, 200], 4, "delivered"),
        ([500], ATTEMPTS, "failed"),
        ([404], 1, "refused"),
        ([307], 1, "refused"),
    ],
)
def test_what_may_pass_is_tried_again(receiver, codes, attempts, result):
    """With the same id and bytes; a redirect is not followed."""
    receiver.codes, receiver.headers = list(codes), {"Location": "/elsewhere", "Retry-After": "0"}
    counts, _ = sent(receiver.url, [Event("e-1.onset", b"{}")])
    assert {result: 1} == counts
    assert [("/t0k3n", "e-1.onset", b"{}")] * attempts == [
        (path, headers["webhook-id"], body) for path, headers, body in receiver.taken
    ]


def test_what_does_not_fit_is_dropped(receiver):
    """The queue is bounded, and the end waits some seconds for a sink that hangs."""
    receiver.codes = [0]
    counts, seconds = sent(receiver.url, [Event(f"e-{number}.onset", b"{}") for number in range(QUEUE + 3)])
    assert {"dropped": QUEUE + 3} == counts
    assert 4 < seconds < 7
