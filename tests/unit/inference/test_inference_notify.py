import asyncio
import base64
import contextlib
import hashlib
import hmac
import io
import json
import re

import pytest

from aiops_inference import notify
from aiops_inference.notify import ATTEMPTS, QUEUE, Notifier
from aiops_inference.telemetry import Log, Metrics

HANGS = 0
KEY = bytes(range(32))


def signature_in(head):
    """The header as it was sent; base64 knows upper and lower case."""
    found = re.search(r"webhook-signature: (\S+)", head.decode(), re.IGNORECASE)
    return found.group(1) if found else ""


class Receiver:
    """A web server that answers with the statuses it was given, then with 200, and keeps what was posted."""

    def __init__(self, *statuses):
        self.statuses = list(statuses)
        self.posted = []
        self.received = []
        self.extra = b""
        self.seen = asyncio.Event()
        self.forever = asyncio.Event()

    async def handle(self, reader, writer):
        """Answer one request."""
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")[1:]
        headers = dict(line.split(": ", 1) for line in lines if line)
        body = await reader.readexactly(int(headers["content-length"]))
        self.received.append(({**headers, "webhook-signature": signature_in(head)}, body))
        self.posted.append(json.loads(body)["data"])
        status = self.statuses.pop(0) if self.statuses else 200
        if status == HANGS:
            await self.forever.wait()
            writer.close()
            return
        writer.write(b"HTTP/1.1 %d x\r\ncontent-length: 0\r\n%bconnection: close\r\n\r\n" % (status, self.extra))
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        self.seen.set()


@contextlib.asynccontextmanager
async def notifying(receiver, clock=lambda: 0.0, secret=b""):
    """A notifier of a receiver on a free port; leaving the block flushes it."""
    server = await asyncio.start_server(receiver.handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/T0KEN"
    stream = io.BytesIO()
    notifier = Notifier(url, Metrics(), Log(stream=stream), secret=secret, clock=clock, first_pause=0.001)
    notifier.start()
    try:
        yield notifier, stream
    finally:
        await notifier.stop()
        receiver.forever.set()
        server.close()
        await server.wait_closed()


def results(notifier):
    """How many webhooks had which end."""
    samples = next(iter(notifier._metrics.webhooks.collect())).samples  # noqa: SLF001 - read as Prometheus would
    return {sample.labels["result"]: int(sample.value) for sample in samples if sample.value}


def run(receiver, *calls):
    """Notify with these (detector, cooldown) and flush; returns the results and the log."""

    async def scenario():
        async with notifying(receiver) as (notifier, stream):
            for number, (detector, cooldown) in enumerate(calls):
                notifier.notify("iris", detector, {"number": number}, cooldown)
        return results(notifier), stream.getvalue().decode()

    return asyncio.run(scenario())


def test_a_webhook_is_delivered_before_the_end():
    """What was queued at SIGTERM is still posted, as JSON that says what it is."""
    receiver = Receiver()
    counts, log = run(receiver, ("z_score", 300))
    assert [{"event": "drift", "detector": "z_score", "service": "iris", "number": 0}] == receiver.posted
    assert {"delivered": 1} == counts
    assert "127.0.0.1" in log
    assert "T0KEN" not in log


def test_the_cooldown_holds_per_detector():
    """A storm of drift is one webhook of each detector."""
    receiver = Receiver()
    counts, _ = run(receiver, ("z_score", 300), ("z_score", 300), ("great_expectations", 300), ("z_score", 300))
    assert [0, 2] == [posted["number"] for posted in receiver.posted]
    assert {"delivered": 2, "suppressed": 2} == counts


def test_after_the_cooldown_the_next_one_goes_out():
    """By the clock, to the second."""
    now = [0.0]
    receiver = Receiver()

    async def scenario():
        async with notifying(receiver, lambda: now[0]) as (notifier, _):
            queued = []
            for now[0] in (0.0, 59.9, 60.0):
                queued.append(notifier.notify("iris", "z_score", {}, 60))
            return queued

    assert [True, False, True] == asyncio.run(scenario())
    assert 2 == len(receiver.posted)


def test_a_server_error_is_tried_again():
    """Until it goes through."""
    receiver = Receiver(500, 429, 408)
    counts, log = run(receiver, ("z_score", 300))
    assert (4, {"delivered": 1}) == (len(receiver.posted), counts)
    assert '"attempts": 4' in log


def test_what_is_posted_is_a_signed_cloud_event():
    """The attributes that the specification asks for; the same id at each attempt; a signature that the receiver can check."""
    receiver = Receiver(500)

    async def scenario():
        async with notifying(receiver, secret=KEY) as (notifier, _):
            notifier.notify("iris", "z_score", {"feature": "petal length (cm)", "score": 7.4}, 300)

    asyncio.run(scenario())
    (first, body), (second, again) = receiver.received
    event = json.loads(body)
    assert (body, first["webhook-id"], event["id"]) == (again, second["webhook-id"], first["webhook-id"])
    assert first["content-type"] == "application/cloudevents+json"
    assert ("1.0", "/inferenceservices/iris", "io.aiops-quality.drift.detected", "petal length (cm)") == (
        event["specversion"],
        event["source"],
        event["type"],
        event["subject"],
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"])
    signed = f"{second['webhook-id']}.{second['webhook-timestamp']}.".encode() + again
    digest = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert f"v1,{digest}" == second["webhook-signature"]


def test_a_receiver_says_when_to_come_again(monkeypatch):
    """Retry-After in seconds is kept to, up to a limit; a date is left alone."""
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)

    receiver = Receiver(503, 503, 503)
    receiver.extra = b"Retry-After: 3600\r\n"
    monkeypatch.setattr(notify.asyncio, "sleep", sleep)
    counts, _ = run(receiver, ("z_score", 300))

    assert ({"delivered": 1}, [30.0] * 3) == (counts, pauses)


def test_a_receiver_that_hangs_has_its_time_and_no_more(monkeypatch):
    """From the connection to the end of the answer; the next attempt has the same."""
    monkeypatch.setattr(notify, "TIMEOUT", 0.05)
    receiver = Receiver(HANGS)
    counts, log = run(receiver, ("z_score", 300))

    assert ({"delivered": 1}, 2) == (counts, len(receiver.posted))
    assert '"attempts": 2' in log


def test_what_cannot_be_flushed_is_counted(monkeypatch):
    """An end does not wait for ever, and tells what it gave up."""
    monkeypatch.setattr(notify, "FLUSH_TIMEOUT", 0.05)
    receiver = Receiver(HANGS)
    counts, log = run(receiver, ("z_score", 300), ("great_expectations", 300))

    assert {"dropped": 2} == counts
    assert '"result": "dropped", "host": "127.0.0.1", "message": "2 at the end"' in log


def test_a_refusal_is_not_tried_again():
    """A 404 will not become better."""
    receiver = Receiver(404, 302)
    counts, _ = run(receiver, ("z_score", 0), ("z_score", 0))
    assert (2, {"refused": 2}) == (len(receiver.posted), counts)


def test_nothing_is_tried_for_ever():
    """After the last attempt the log says so, and the next webhook has its turn."""
    receiver = Receiver(*[500] * ATTEMPTS)
    counts, log = run(receiver, ("z_score", 300), ("great_expectations", 300))
    assert (ATTEMPTS + 1, {"failed": 1, "delivered": 1}) == (len(receiver.posted), counts)
    assert 'WARNING {"event": "webhook", "result": "failed", "host": "127.0.0.1", "message": "HTTP 500"' in log


def test_a_failed_webhook_does_not_start_a_cooldown():
    """Nobody was told, so the next drift tries again."""
    receiver = Receiver(404)

    async def scenario():
        async with notifying(receiver) as (notifier, _):
            first = notifier.notify("iris", "z_score", {}, 300)
            async with asyncio.timeout(10):
                while not results(notifier):  # noqa: ASYNC110 - a counter has no event
                    await asyncio.sleep(0.005)
            return first, notifier.notify("iris", "z_score", {}, 300)

    assert (True, True) == asyncio.run(scenario())


def test_nobody_listening_is_a_failure_and_no_exception():
    """The receiver may be gone."""

    async def scenario():
        stream = io.BytesIO()
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        notifier = Notifier(f"http://127.0.0.1:{port}/T0KEN", Metrics(), Log(stream=stream), first_pause=0.001)
        notifier.start()
        notifier.notify("iris", "z_score", {}, 300)
        await notifier.stop()
        return results(notifier), stream.getvalue().decode()

    counts, log = asyncio.run(scenario())
    assert {"failed": 1} == counts
    assert "ConnectError" in log
    assert "T0KEN" not in log


def test_a_full_queue_drops_the_newest():
    """Memory is bounded, whatever drifts."""

    async def scenario():
        notifier = Notifier("http://127.0.0.1:1/", Metrics(), Log(stream=io.BytesIO()))
        queued = [notifier.notify("iris", "z_score", {}, 0) for _ in range(QUEUE + 2)]
        await notifier.stop()  # never started: nothing to wait for
        return queued, results(notifier)

    assert ([True] * QUEUE + [False] * 2, {"dropped": 2}) == asyncio.run(scenario())


def test_an_acknowledged_drift_is_not_posted(serving, directory):
    """The operator mutes the webhooks of an episode that a person has acknowledged; the event is counted all the same."""
    receiver = Receiver()
    directory.settings.runtime_config.write_text("drift: {webhook: {cooldown: 0, muted: true}}")

    async def scenario():
        server = await asyncio.start_server(receiver.handle, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with serving(directory.write(), webhook=url) as pod:
            await pod.predict({"inputs": [[5.1, 3.5, 140, 0.2]]})
            metrics = (await pod.client.get("/metrics")).text
        server.close()
        await server.wait_closed()
        return metrics

    metrics = asyncio.run(scenario())
    assert [] == receiver.posted
    assert 'drift_events_total{detector="z_score"} 1.0' in metrics


@pytest.mark.parametrize("cooldown", [0, 300])
def test_drift_in_a_request_becomes_a_webhook(serving, directory, cooldown):
    """With service, score, feature, threshold and model, so that a receiver need not ask back."""
    receiver = Receiver()
    directory.settings.runtime_config.write_text(f"drift: {{webhook: {{cooldown: {cooldown}}}}}")

    async def scenario():
        server = await asyncio.start_server(receiver.handle, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with serving(directory.write(), webhook=url, service_name="iris") as pod:
            for value in (1.4, 140, 140):
                await pod.predict({"inputs": [[5.1, 3.5, value, 0.2]]})
            await asyncio.wait_for(receiver.seen.wait(), 10)
        server.close()
        await server.wait_closed()

    asyncio.run(scenario())
    assert (2 if cooldown == 0 else 1) == len(receiver.posted)
    posted = receiver.posted[0]
    assert posted.pop("time") > 1e9
    assert {
        "event": "drift",
        "detector": "z_score",
        "service": "iris",
        "score": 77.4364,
        "feature": "petal length (cm)",
        "threshold": 5.0,
        "rows": 1,
        "model": "sha256:" + directory.digest("model.pkl"),
    } == posted
