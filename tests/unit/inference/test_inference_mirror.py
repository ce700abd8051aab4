"""Copies of answered rows go to a second model, whatever it does, and what it says is compared with what was answered."""

import asyncio
import contextlib
import io
import itertools
import json
import os
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_drift import Agreement, Report, Shadowed
from aiops_inference import mirror
from aiops_inference.mirror import MAX_ANSWER_BYTES, MOST_POSTS, MOST_ROWS, WAITING_ROWS, Copied, Mirror, compared
from aiops_inference.peers import Peers
from aiops_inference.settings import ShadowSettings
from aiops_inference.telemetry import Log, Metrics
from aiops_inference.workers import Worker

SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=12)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(  # as orjson reads it
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | FINITE | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)
SAID = st.lists(st.integers(-3, 3), min_size=1, max_size=4) | st.lists(st.text(max_size=2), min_size=1, max_size=4)
HANGS = None


def http(document, status=200, head=""):
    """An answer as it is on the wire; bytes stay as they are."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return f"HTTP/1.1 {status} x\r\ncontent-length: {len(body)}\r\n{head}\r\n".encode() + body


def sums(rows):
    """What the shadow of most tests says: the sum of each row."""
    return {"predictions": [sum(row) for row in rows], "drift_detected": False}


class LastWords(bytes):
    """An answer after which its author hangs up."""


class Shadow:
    """A web server that keeps what is posted to it, and answers as `behave` says; without an answer it hangs."""

    def __init__(self, behave=lambda rows: http(sums(rows))):
        self.behave = behave
        self.posted = []
        self.heads = []
        self.forever = asyncio.Event()
        self.handling = set()

    async def answer(self, rows):
        """What is said of these rows, when it is time."""
        return self.behave(rows)

    async def handle(self, reader, writer):
        """Answer the requests of one connection."""
        self.handling.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = next(line for line in head.split("\r\n") if line.startswith("content-length: "))
                rows = json.loads(await reader.readexactly(int(length.partition(" ")[2])))["inputs"]
                self.heads.append(head)
                self.posted.append(rows)
                said = await self.answer(rows)
                if said is HANGS:
                    await self.forever.wait()
                    break
                writer.write(said)
                await writer.drain()
                if isinstance(said, LastWords):
                    break
        writer.close()

    @contextlib.asynccontextmanager
    async def listening(self, port=0):
        """Gives the URL."""
        server = await asyncio.start_server(self.handle, "127.0.0.1", port)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            self.forever.set()
            server.close()
            await asyncio.gather(server.wait_closed(), *self.handling)


class Rig:
    """A mirror, and what it has logged and counted."""

    def __init__(self, url, task="regression", share=1.0, clock=lambda: 0.0):
        self.stream = io.BytesIO()
        self.metrics = Metrics()
        settings = ShadowSettings(url, "r1", share)
        self.mirror = Mirror(settings, task, self.metrics, Log(stream=self.stream), clock=clock)

    def offer(self, *requests, answered=None, said=None):
        """Offer requests that were answered together with the sums of their rows."""
        rows = np.concatenate([np.asarray(request, dtype=np.float64) for request in requests])
        sizes = [len(request) for request in requests]
        said = rows.sum(axis=1).tolist() if said is None else said
        self.mirror.offer(rows, said, sizes, answered or [True] * len(requests))

    @property
    def found(self):
        """Rows compared, of these differing, and failed."""
        agreement = self.mirror.shadowed.agreement
        return agreement.rows, agreement.differing, agreement.failed

    @property
    def counts(self):
        """Rows by what became of them, as Prometheus reads it."""
        samples = next(iter(self.metrics.shadow_rows.collect())).samples
        return {sample.labels["result"]: int(sample.value) for sample in samples if sample.value}

    @property
    def lines(self):
        """The log so far."""
        return self.stream.getvalue().decode().splitlines()

    @property
    def warnings(self):
        """The part of it that somebody should look at."""
        return [json.loads(line.removeprefix("WARNING ")) for line in self.lines if line.startswith("WARNING ")]


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Nobody has time, nor is the first POST small."""
    monkeypatch.setattr(mirror, "GATHER", 0.01)
    monkeypatch.setattr(mirror, "PACE", 0)
    monkeypatch.setattr(mirror, "PAUSE", 0.01)
    monkeypatch.setattr(mirror, "FIRST_ROWS", MOST_ROWS)


@pytest.fixture
def mirroring():
    """Gives, by `async with`, a mirror that sends to a shadow."""

    @contextlib.asynccontextmanager
    async def begin(shadow, **changes):
        async with shadow.listening() as url:
            rig = Rig(url, **changes)
            rig.mirror.start()
            try:
                yield rig
            finally:
                await rig.mirror.stop()

    return begin


@given(SIZES, st.data())
def test_requests_are_cut_between_rows(sizes, data):
    """Each row stays with its answer and its request; what is cut in two are two requests."""
    total = sum(sizes)
    at = data.draw(st.integers(0, total))
    whole = Copied(np.arange(2.0 * total).reshape(total, 2), list(range(total)), sizes)
    first, rest = whole.cut(at)

    assert (at, at, at) == (len(first.rows), len(first.said), sum(first.sizes))
    assert (total - at, total - at) == (len(rest.said), sum(rest.sizes))
    assert whole.rows.tolist() == [*first.rows.tolist(), *rest.rows.tolist()]
    assert whole.said == [*first.said, *rest.said]
    assert all(size > 0 for size in (*first.sizes, *rest.sizes))
    starts = {sum(sizes[:i]) for i in range(len(sizes) + 1)} | {at}
    assert starts == {sum([*first.sizes, *rest.sizes][:i]) for i in range(len(first.sizes) + len(rest.sizes) + 1)}


@given(SIZES.filter(lambda sizes: len(sizes) > 1))
def test_halves_are_of_whole_requests(sizes):
    """And none of them is empty."""
    total = sum(sizes)
    first, second = Copied(np.zeros((total, 1)), [0] * total, sizes).halves()
    assert sizes == first.sizes + second.sizes
    assert min(len(first.sizes), len(second.sizes)) > 0


@pytest.mark.parametrize(
    ("task", "said", "predictions", "found"),
    [
        ("classification", [0, 2, 1], [0, 2, 2], Agreement(3, 1)),
        ("classification", ["a", "b"], ["a", None], Agreement(2, 1)),
        ("classification", [np.datetime64("2024-01-01").item()], ["2024-01-01"], Agreement(1, 0)),
        ("classification", [[0, 1], [1, 1]], [[0, 1], [1, 0]], Agreement(2, 1)),
        ("classification", [[0, 1]], [0], None),
        ("classification", [0], [[0, 1]], None),
        ("classification", [0], [{"class": 0}], None),
        ("classification", [0, 1], [0], None),
        ("classification", [0], "0", None),
        ("classification", [0], None, None),
        ("regression", [1.0, 3.0], [1, 2.5], Agreement.of_values([1, 3], [1, 2.5])),
        ("regression", [[1.0, 3.0]], [[1.0, 3.0]], Agreement.of_values([[1, 3]], [[1, 3]])),
        ("regression", [1.0, 3.0], [1.0, None], Agreement.of_values([1], [1]) + Agreement(failed=1)),
        ("regression", [1.0, 3.0], [[1.0], [3.0]], None),
        ("regression", [1.0], ["1.0"], None),
        ("regression", [1.0, 3.0], [1.0, [3.0]], None),
        ("regression", [1.0], [{}], None),
        ("regression", [1.0], [1.0, 2.0], None),
        ("regression", ["low", "high"], ["low", "low"], Agreement(2, 1)),  # a model that says nothing of its classes
    ],
)
def test_predictions_are_compared_by_task(task, said, predictions, found):
    """Classes by being equal, numbers by their distance; None where the shadow's have another form."""
    assert found == compared(task, said, predictions)


@given(st.sampled_from(["classification", "regression"]), SAID, st.lists(JSON, max_size=4) | JSON)
def test_whatever_a_shadow_says_is_compared_or_refused(task, said, predictions):
    """Nothing that is JSON is an error, and no row is lost."""
    found = compared(task, said, predictions)
    assert found is None or len(said) == found.rows + found.failed


def test_rows_are_posted_together_and_compared(mirroring, eventually):
    """As `/predict` takes them, on one connection; the counts are those of the two models."""
    shadow = Shadow(lambda rows: http({"predictions": [sum(row) + (row[0] == 3) for row in rows]}))

    async def scenario():
        async with mirroring(shadow) as rig:
            rig.offer([[1, 2], [3, 4]], [[0.1, -1e-300]])
            rig.offer([[3, 3]])
            await eventually(lambda: sum(rig.found) >= 4)
            return rig, rig.mirror.shadowed

    rig, shadowed = asyncio.run(scenario())
    assert [[[1, 2], [3, 4], [0.1, -1e-300], [3, 3]]] == shadow.posted
    assert shadow.heads[0].startswith("post /predict http/1.1\r\n")
    assert "content-type: application/json\r\n" in shadow.heads[0]
    said = [3, 7, 0.1, 6]
    assert Agreement.of_values(said, np.add(said, [0, 1, 0, 1])) == shadowed.agreement
    assert ("r1", 16) == (shadowed.revision, len(shadowed.incarnation))
    assert {"compared": 4} == rig.counts
    begun, ended = (json.loads(line.removeprefix("INFO ")) for line in rig.lines)
    assert ("shadow", "rows are copied", "r1") == (begun["event"], begun["message"], begun["revision"])
    assert begun["url"].startswith("http://127.0.0.1:")
    assert ("shadow", "r1", 4, 2, 0) == tuple(
        ended[key] for key in ("event", "revision", "rows", "differing", "failed")
    )


def test_classes_are_compared_by_being_equal(mirroring, eventually):
    """Texts among them."""
    shadow = Shadow(lambda rows: http({"predictions": ["b"] * len(rows)}))

    async def scenario():
        async with mirroring(shadow, task="classification") as rig:
            rig.offer([[1], [2], [3]], said=["a", "b", "b"])
            await eventually(lambda: sum(rig.found))
            return rig.mirror.shadowed.agreement

    assert Agreement(3, 1) == asyncio.run(scenario())


def test_a_share_is_of_requests(mirroring, eventually):
    """Every fourth, with all of its rows, evenly spread; those that were not answered are none."""
    shadow = Shadow()

    async def scenario():
        async with mirroring(shadow, share=0.25) as rig:
            for number in range(4):
                requests = [[[number, i], [number, i]] for i in range(4)]
                rig.offer(*requests, answered=[True, True, True, number != 2])
            await eventually(lambda: rig.found[0] >= 6)
            return rig.found

    assert (6, 0, 0) == asyncio.run(scenario())
    assert [[0, 3], [0, 3], [1, 3], [1, 3], [3, 0], [3, 0]] == [row for rows in shadow.posted for row in rows]


def test_what_was_not_answered_is_not_copied(mirroring, eventually):
    """A request whose probabilities were refused, for one."""
    shadow = Shadow()

    async def scenario():
        async with mirroring(shadow) as rig:
            rig.offer([[1]], answered=[False])
            rig.offer([[2]], [[3], [4]], [[5]], answered=[True, False, True])
            await eventually(lambda: rig.found[0] >= 2)
            return rig.counts

    assert {"compared": 2} == asyncio.run(scenario())
    assert [[[2], [5]]] == shadow.posted


def test_a_copy_is_nobody_else_s(mirroring, eventually):
    """What becomes of the arrays that were offered changes nothing."""
    shadow = Shadow()

    async def scenario():
        async with mirroring(shadow) as rig:
            rows = np.asfortranarray([[1.0, 2.0], [3.0, 4.0]])
            rig.mirror.offer(rows, [3.0, 7.0], [2], [True])
            rows[:] = 9
            await eventually(lambda: sum(rig.found))
            return rig.found

    assert (2, 0, 0) == asyncio.run(scenario())
    assert [[[1, 2], [3, 4]]] == shadow.posted


def test_many_rows_are_several_posts(mirroring, eventually):
    """Each of a bounded number of rows, and of values: a request of more is cut."""
    narrow, wide = Shadow(), Shadow()

    async def scenario():
        async with mirroring(narrow) as first, mirroring(wide) as second:
            first.offer([[1]] * 500, [[2]] * 1000)
            first.offer([[3]] * 2000)
            second.offer(np.ones((100, 1000)))
            await eventually(lambda: sum(first.found) == 3500 and sum(second.found) == 100)
            return first.counts, second.counts

    assert ({"compared": 3500}, {"compared": 100}) == asyncio.run(scenario())
    assert [MOST_ROWS, MOST_ROWS, MOST_ROWS, 3500 - 3 * MOST_ROWS] == list(map(len, narrow.posted))
    assert [[1]] * 500 + [[2]] * 1000 + [[3]] * 2000 == list(itertools.chain.from_iterable(narrow.posted))
    assert [32, 32, 32, 4] == list(map(len, wide.posted))


def test_posts_have_a_pace(mirroring, eventually, monkeypatch):
    """However many rows wait: what is left of the time is for predictions."""
    monkeypatch.setattr(mirror, "PACE", 0.05)
    monkeypatch.setattr(mirror, "GATHER", 60)  # nobody waits for more where there are enough
    came = []

    def behave(rows):
        came.append(asyncio.get_running_loop().time())
        return http(sums(rows))

    async def scenario():
        async with mirroring(Shadow(behave)) as rig:
            rig.offer([[1]] * WAITING_ROWS)
            await eventually(lambda: sum(rig.found) == WAITING_ROWS)

    asyncio.run(scenario())
    assert 4 == len(came)
    assert all(later - earlier > 0.045 for earlier, later in itertools.pairwise(came))


@pytest.mark.parametrize(("width", "most"), [(1, WAITING_ROWS), (2047, 512)])
def test_what_waits_is_bounded(width, most):
    """By rows and by values; what finds no room is dropped, of one request too, and nobody waits."""
    rig = Rig("http://127.0.0.1:1")  # never started
    for _ in range(9):
        rig.offer(np.zeros((most // 4, width)), np.zeros((10, width)))
    rig.offer([[0] * width])
    assert {"dropped": 9 * (most // 4 + 10) + 1 - most} == rig.counts
    assert (0, 0, 0) == rig.found


BAD = [[13, 0], [13, 1]]


def refuses(status=422):
    """A shadow that has no prediction where a row begins with 13, and says so as long as it is among those asked for."""
    return Shadow(lambda rows: http({}, status) if any(row[0] == 13 for row in rows) else http(sums(rows)))


@pytest.mark.parametrize("status", [200, 302, 400, 404, 405, 413, 415, 422, 500, 501])
def test_one_bad_request_fails_alone(mirroring, eventually, status):
    """Those that it was posted with are told apart from it, by halves."""
    shadow = refuses(status)

    async def scenario():
        async with mirroring(shadow) as rig:
            rig.offer(*[[[i, 1]] for i in range(20, 45)], BAD, *[[[i, 2], [i, 3]] for i in range(50, 70)])
            await eventually(lambda: sum(rig.found) >= 67)
            return rig

    rig = asyncio.run(scenario())
    assert ((65, 0, 2), {"compared": 65, "failed": 2}) == (rig.found, rig.counts)
    assert len(shadow.posted) <= 13  # of 46 requests
    (line,) = rig.warnings
    assert ("failed", "r1") == (line["result"], line["revision"])
    assert ("no prediction of the same form" if status == 200 else f"HTTP {status}") in line["message"]


def test_a_shadow_that_fails_for_all_is_not_asked_without_end(mirroring, eventually):
    """Some requests are told apart; the others say nothing, and the next POST comes after a pause."""
    shadow = refuses(500)

    async def scenario():
        async with mirroring(shadow) as rig:
            rig.offer(*[BAD] * 500)
            await eventually(lambda: sum(rig.counts.values()) == 1000)
            return rig

    rig = asyncio.run(scenario())
    assert MOST_POSTS + 1 == len(shadow.posted)
    assert rig.counts["failed"] > 40
    assert (0, 0, rig.counts["failed"]) == rig.found
    assert {"failed", "dropped"} == set(rig.counts)
    assert 1 == len(rig.warnings)


def test_a_shadow_that_fails_slowly_is_not_asked_without_end(mirroring, eventually):
    """A minute after the first failure no further POST is begun."""
    now = [0.0]

    def behave(_):
        now[0] += 25
        return http({}, 500)

    shadow = Shadow(behave)

    async def scenario():
        async with mirroring(shadow, clock=lambda: now[0]) as rig:
            rig.offer(*[[[i]] for i in range(8)])
            await eventually(lambda: sum(rig.counts.values()) == 8)
            return rig.counts

    assert {"failed": 1, "dropped": 7} == asyncio.run(scenario())
    assert [8, 4, 2, 1] == list(map(len, shadow.posted))


@pytest.mark.parametrize(
    "content",
    [
        b"?",
        b"",
        b"[1]",
        b'{"predictions": {"0": 1}}',
        b'{"predictions": [1, 2]}',
        b'{"predictions": ["1"]}',
        b'{"predictions": [1], "more": "%b"}' % (b"." * MAX_ANSWER_BYTES),
    ],
)
def test_an_answer_of_another_form_is_a_failure(mirroring, eventually, content):
    """Whatever it is; the next rows have their turn."""
    shadow = Shadow(lambda rows: http(content) if rows == [[13]] else http(sums(rows)))

    async def scenario():
        async with mirroring(shadow) as rig:
            rig.offer([[13]])
            await eventually(lambda: sum(rig.found) == 1)
            rig.offer([[1]])
            await eventually(lambda: sum(rig.found) == 2)
            return rig

    rig = asyncio.run(scenario())
    assert (1, 0, 1) == rig.found
    assert "no prediction of the same form for each row" in rig.warnings[0]["message"]
    assert rig.mirror.shadowed.problem in rig.warnings[0]["message"]


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"error": "inputs[0] has 1 value: 4711", "reason": "InvalidInputs"}, "HTTP 400, InvalidInputs"),
        ({"error": "4711"}, "HTTP 400"),
        ({"error": ["4711"], "reason": "4711"}, "HTTP 400"),
        ({"reason": "A" * 65}, "HTTP 400"),
        (["4711"], "HTTP 400"),
        (b"4711", "HTTP 400"),
    ],
)
def test_what_a_shadow_says_of_a_row_stays_in_the_log(mirroring, eventually, document, problem):
    """The resource, which more people may read, has the reason alone; of several the first."""
    answers = [http({"reason": "Later"}, 422), http(document, 400)]

    async def scenario():
        async with mirroring(Shadow(lambda _: answers.pop())) as rig:
            assert rig.mirror.shadowed.problem == ""
            for number in (1, 2):
                rig.offer([[4711]])
                await eventually(lambda: sum(rig.found) == number)  # noqa: B023 - at once
            return rig

    rig = asyncio.run(scenario())
    assert problem == rig.mirror.shadowed.problem
    assert f"RefusedError: {problem}" in rig.warnings[0]["message"]
    told = isinstance(document, dict) and isinstance(document.get("error"), str)
    assert told == ("4711" in rig.warnings[0]["message"])


def test_what_is_no_number_fails_for_its_row_alone(mirroring, eventually):
    """JSON has no form for the NaN that a model says."""
    shadow = Shadow(lambda rows: http({"predictions": [None if row == [13] else row[0] for row in rows]}))

    async def scenario():
        async with mirroring(shadow) as rig:
            rig.offer([[1], [13], [2]])
            await eventually(lambda: sum(rig.found) >= 3)
            return rig.found, rig.counts, rig.warnings

    assert ((2, 0, 1), {"compared": 2, "failed": 1}, []) == asyncio.run(scenario())


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_shadow_that_turns_rows_away_is_asked_again_later(mirroring, eventually, status):
    """With fewer rows; that it did says nothing of its model: they are dropped."""
    statuses = [status, status]
    shadow = Shadow(lambda rows: http({}, statuses.pop()) if statuses else http(sums(rows)))

    async def scenario():
        async with mirroring(shadow) as rig:
            for number in range(3):
                rig.offer([[number]], [[number]])
                await eventually(lambda: sum(rig.counts.values()) == 2 * (number + 1))  # noqa: B023 - at once
            return rig

    rig = asyncio.run(scenario())
    assert ((3, 0, 0), {"dropped": 3, "compared": 3}) == (rig.found, rig.counts)
    assert [2, 1] == list(map(len, shadow.posted))[:2]
    (line,) = rig.warnings
    assert ("dropped", f"AwayError: HTTP {status}") == (line["result"], line["message"])


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 x\r\ncontent-length: 9\r\n\r\n{}"])
def test_a_shadow_that_hangs_up_is_away(mirroring, eventually, said):
    """Before its answer, in the midst of it, or with something that is no answer."""
    shadow = Shadow(lambda rows: http(sums(rows)) if rows != [[13]] else LastWords(said))

    async def scenario():
        async with mirroring(shadow) as rig:
            rig.offer([[13]])
            await eventually(lambda: rig.counts)
            rig.offer([[1]])
            await eventually(lambda: sum(rig.counts.values()) == 2)
            return rig.counts

    assert {"dropped": 1, "compared": 1} == asyncio.run(scenario())


def test_a_shadow_that_is_not_there_may_come(eventually):
    """Until then rows are dropped, and the log says it once; after a while it says that all is well."""
    now = [0.0]

    async def scenario():
        async with Shadow().listening() as url:
            pass
        rig = Rig(url, clock=lambda: now[0])
        rig.mirror.start()
        for number in range(3):
            rig.offer([[1]])
            await eventually(lambda: rig.counts.get("dropped") == number + 1)  # noqa: B023 - at once
        async with Shadow().listening(int(url.rpartition(":")[2])):
            told = []
            for number in range(3):
                now[0] += 40
                rig.offer([[1]])
                await eventually(lambda: rig.found[0] == number + 1)  # noqa: B023 - at once
                told.append(sum("it answers again" in line for line in rig.lines))
            await rig.mirror.stop()
        return rig, told

    rig, told = asyncio.run(scenario())
    assert ((3, 0, 0), {"dropped": 3, "compared": 3}) == (rig.found, rig.counts)
    (line,) = rig.warnings
    assert "ConnectError" in line["message"]
    assert [0, 1, 1] == told


def test_a_row_that_a_shadow_hangs_on_fails_alone(mirroring, eventually, monkeypatch):
    """Those that it was posted with are told apart from it, those of the same request too; it is asked on other connections."""
    monkeypatch.setattr(mirror, "TIMEOUT", 0.2)
    shadow = Shadow(lambda rows: HANGS if [13] in rows else http(sums(rows)))

    async def scenario():
        async with mirroring(shadow) as rig:
            rig.offer([[1]], [[13], [2]])
            await eventually(lambda: sum(rig.found) == 3)
            return rig

    rig = asyncio.run(scenario())
    assert ((2, 0, 1), {"compared": 2, "failed": 1}) == (rig.found, rig.counts)
    assert [[[1], [13], [2]], [[1]], [[13], [2]], [[13]], [[2]]] == shadow.posted
    (line,) = rig.warnings
    assert ("failed", "LateError: no answer within 0.2 s") == (line["result"], line["message"])
    assert "no answer within 0.2 s" == rig.mirror.shadowed.problem


def test_a_shadow_that_hangs_fails_for_all(mirroring, eventually, monkeypatch):
    """Where it answers nothing, few rows or many, none are told apart any more, until it answers."""
    monkeypatch.setattr(mirror, "TIMEOUT", 0.1)
    monkeypatch.setattr(mirror, "HANGS", 4)
    monkeypatch.setattr(mirror, "FIRST_ROWS", 1)
    shadow = Shadow(lambda _: HANGS)

    async def scenario():
        async with mirroring(shadow) as rig:
            rig.offer(*[[[i]] for i in range(20)])
            await eventually(lambda: sum(rig.counts.values()) == 20)
            monkeypatch.setattr(mirror, "TIMEOUT", 5.0)
            shadow.behave = lambda rows: http(sums(rows)) if [13] not in rows else http({}, 500)
            rig.offer(*[[[i]] for i in range(20)])
            await eventually(lambda: sum(rig.counts.values()) == 40)
            return rig

    rig = asyncio.run(scenario())
    assert ((19, 0, 21), {"compared": 19, "failed": 21}) == (rig.found, rig.counts)
    assert [1, 1, 1, 1, 16, 20, 10, 10, 5, 2] == list(map(len, shadow.posted))[:10]


def test_a_post_has_as_many_rows_as_are_answered_soon(mirroring, eventually, monkeypatch):
    """Twice as many as before, or half: a shadow that takes its time for each row is never given up."""
    monkeypatch.setattr(mirror, "FIRST_ROWS", 1)
    now = [0.0]

    def behave(rows):
        now[0] += 0.1 * len(rows)
        return http(sums(rows))

    async def scenario(shadow):
        async with mirroring(shadow, clock=lambda: now[0]) as rig:
            rig.offer([[1]] * 50, *[[[2]]] * 9)
            await eventually(lambda: sum(rig.counts.values()) == 59)
            return rig.counts

    slow, shadow = Shadow(behave), Shadow()
    assert ({"compared": 59}, {"compared": 59}) == (asyncio.run(scenario(slow)), asyncio.run(scenario(shadow)))
    assert [1, 2, 4, 8, 16, 8, 16, 4] == list(map(len, slow.posted))
    assert [1, 2, 4, 8, 16, 28] == list(map(len, shadow.posted))


def test_a_shadow_that_many_pods_copy_to_fails_for_none(eventually, monkeypatch):
    """It works off one POST after another, those that are given up too: what it cannot take is dropped."""
    monkeypatch.setattr(mirror, "FIRST_ROWS", 1)
    monkeypatch.setattr(mirror, "SOON", 0.4)
    monkeypatch.setattr(mirror, "TIMEOUT", 2.0)

    class Slow(Shadow):
        async def answer(self, rows):
            async with self.model:
                await asyncio.sleep(0.004 * len(rows))
                return await super().answer(rows)

    async def scenario():
        shadow = Slow()
        shadow.model = asyncio.Lock()
        async with shadow.listening() as url:
            rigs = [Rig(url, clock=time.monotonic) for _ in range(4)]
            for rig in rigs:
                rig.mirror.start()
                rig.offer(*[[[1, 2]]] * (WAITING_ROWS + 10))
            await eventually(lambda: sum(rig.found[0] for rig in rigs) >= 400)
            for rig in rigs:
                await rig.mirror.stop()
        return rigs

    for rig in asyncio.run(scenario()):
        assert {"compared": rig.found[0], "dropped": 10} == rig.counts
        assert [] == rig.warnings


def test_an_answer_without_end_is_cut_off(mirroring, eventually):
    """As soon as it has more bytes than any answer; what is compressed is taken as it is."""
    endless = b"HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\ncontent-encoding: gzip\r\n\r\n"
    endless += b"10000\r\n%b\r\n" % (b"." * 65536) * 64  # four times as much, without a last chunk
    shadow = Shadow(lambda rows: endless if rows == [[13]] else http(sums(rows)))

    async def scenario():
        async with mirroring(shadow) as rig:
            rig.offer([[13]])
            await eventually(lambda: rig.counts)
            rig.offer([[1]])
            await eventually(lambda: sum(rig.found) == 2)
            return rig.found

    assert (1, 0, 1) == asyncio.run(scenario())


def test_the_environment_s_proxies_are_not_asked(mirroring, eventually, monkeypatch):
    """The shadow is in the cluster."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

    async def scenario():
        async with mirroring(Shadow()) as rig:
            rig.offer([[1]])
            await eventually(lambda: rig.counts)
            return rig.counts

    assert {"compared": 1} == asyncio.run(scenario())


def test_a_defect_is_not_the_end(mirroring, eventually, monkeypatch):
    """Whatever one comparison does, the next has its turn."""

    def breaks(*_):
        monkeypatch.setattr(mirror, "compared", compared)
        message = "unforeseen"
        raise LookupError(message)

    monkeypatch.setattr(mirror, "compared", breaks)

    async def scenario():
        async with mirroring(Shadow()) as rig:
            rig.offer([[1]])
            await eventually(lambda: rig.counts)
            rig.offer([[2]])
            await eventually(lambda: sum(rig.found))
            return rig

    rig = asyncio.run(scenario())
    assert {"dropped": 1, "compared": 1} == rig.counts
    assert "LookupError: unforeseen" == rig.warnings[0]["message"]


def test_the_end_does_not_wait_for_a_shadow_that_hangs(eventually):
    """What waits and what is on its way is forgotten, without a word."""
    shadow = Shadow(lambda _: HANGS)

    async def scenario():
        async with shadow.listening() as url:
            rig = Rig(url)
            rig.mirror.start()
            rig.offer([[1]])
            await eventually(lambda: shadow.posted)
            rig.offer(np.zeros((3000, 1)))
            async with asyncio.timeout(4):
                await rig.mirror.stop()
            return rig

    rig = asyncio.run(scenario())
    assert ({}, []) == (rig.counts, rig.warnings)


def test_a_count_goes_on_for_the_same_shadow_alone():
    """Another share is the same count; another address or revision is not, and neither is none."""
    rig = Rig("http://127.0.0.1:1")
    same, share, url, revision = (
        rig.mirror.change(ShadowSettings(*settings))
        for settings in (
            ("http://127.0.0.1:1", "r1", 1.0),
            ("http://127.0.0.1:1", "r1", 0.5),
            ("http://127.0.0.1:2", "r1", 1.0),
            ("http://127.0.0.1:1", "r2", 1.0),
        )
    )
    assert [True, True, False, False, False] == [same, share, url, revision, rig.mirror.change(None)]
    for _ in range(6):
        rig.offer([[1]] * 1024)
    assert {} == rig.counts  # every second is copied: they fit
    assert rig.mirror.shadowed.incarnation != Rig("http://127.0.0.1:1").mirror.shadowed.incarnation


def configure(directory, shadow):
    """Write runtime.yaml as the operator does, whole at once."""
    path = directory.settings.runtime_config
    path.with_suffix(".new").write_text(json.dumps({"shadow": shadow} if shadow else {}))
    path.with_suffix(".new").replace(path)


async def drift(pod):
    """GET /drift as the operator reads it."""
    document = (await pod.client.get("/drift")).raise_for_status().json()
    return Report.from_dict(document), document


def test_a_pod_copies_what_it_answers_and_tells_what_it_found(serving, directory, eventually, monkeypatch, tmp_path):
    """In whichever form it was asked; from the settings on, and not a moment after; never in the file of the counts."""
    monkeypatch.setattr("aiops_inference.service.RUNTIME_INTERVAL", 0.01)
    rows = directory.rows[::5].tolist()
    state = tmp_path / "state" / "state.json"
    shadow = Shadow(lambda rows: http({"predictions": [1] * len(rows)}))

    async def scenario():
        reports = []
        async with shadow.listening() as url, serving(directory.write(), drift_state=state) as pod:
            await pod.predict({"inputs": rows})
            reports.append(await drift(pod))
            configure(directory, {"url": url, "revision": "r1"})
            await eventually(lambda: any("rows are copied" in line for line in pod.lines()))
            reports.append(await drift(pod))
            said = (await pod.predict({"inputs": rows})).json()["predictions"]
            await pod.predict(b"?")
            await pod.client.post("/v1/models/x:predict", json={"instances": rows})
            await pod.client.post(f"/v1/models/{pod.service.settings.service_name}:predict", json={"instances": rows})
            await eventually(lambda: sum(map(len, shadow.posted)) == 2 * len(rows))
            await eventually(lambda: b'result="compared"} 60.0' in pod.service.metrics.exposition())
            reports.append(await drift(pod))
            configure(directory, {"url": url, "revision": "r1", "percent": 50})
            await eventually(lambda: any('"share": 0.5' in line or '"share":0.5' in line for line in pod.lines()))
            reports.append(await drift(pod))
            configure(directory, {"url": url, "revision": "r2"})
            await eventually(lambda: any("copied no more" in line for line in pod.lines()))
            reports.append(await drift(pod))
            configure(directory, None)
            await eventually(lambda: sum("copied no more" in line for line in pod.lines()) == 2)
            reports.append(await drift(pod))
            await pod.predict({"inputs": rows})
            return said, reports

    said, reports = asyncio.run(scenario())
    found = [report.shadowed for report, _ in reports]
    differing = sum(prediction != 1 for prediction in said)
    assert (None, None) == (found[0], found[-1])
    assert ["shadowed" in document for _, document in reports] == [False, True, True, True, True, False]
    assert ("r1", Agreement()) == (found[1].revision, found[1].agreement)
    assert Shadowed(found[1].incarnation, "r1", Agreement(60, 2 * differing)) == found[2]
    assert 0 < differing < len(rows)
    assert found[2] == found[3]
    assert ("r2", Agreement()) == (found[4].revision, found[4].agreement)
    assert found[4].incarnation != found[3].incarnation
    assert len({report.incarnation for report, _ in reports}) == 1
    assert b"shadowed" not in state.read_bytes()


def test_a_request_whose_probabilities_are_refused_is_not_copied(serving, directory, eventually, monkeypatch):
    """It had no predictions in its answer."""
    shadow = Shadow(lambda rows: http({"predictions": [1] * len(rows)}))

    async def scenario():
        async with shadow.listening() as url:
            configure(directory, {"url": url, "revision": "r1"})
            async with serving(directory.write()) as pod:
                predictor = pod.service.model().artifacts.predictor

                def refuses_these(_):
                    message = "not these"
                    raise ValueError(message)

                monkeypatch.setattr(predictor, "_predict_proba", refuses_these)
                refused = await pod.predict({"inputs": [[1, 1, 1, 1]]}, probabilities="true")
                await pod.predict({"inputs": [[2, 2, 2, 2]]})
                await eventually(lambda: shadow.posted)
                return refused.status_code

    assert 422 == asyncio.run(scenario())
    assert [[[2, 2, 2, 2]]] == shadow.posted


def test_clients_have_their_answers_first(serving, directory, eventually):
    """A shadow that hangs is beside them, and hundreds of copies wait: each is answered, and /drift too."""
    shadow = Shadow(lambda _: HANGS)

    async def scenario():
        async with shadow.listening() as url:
            configure(directory, {"url": url, "revision": "r1"})
            async with serving(directory.write()) as pod:
                await pod.predict({"inputs": directory.rows.tolist()})
                await eventually(lambda: shadow.posted)
                answers = [await pod.predict({"inputs": directory.rows.tolist()}) for _ in range(50)]
                report, _ = await drift(pod)
                return [answer.status_code for answer in answers], report, pod.service.metrics.exposition()

    statuses, report, metrics = asyncio.run(scenario())
    assert [200] * 50 == statuses
    assert (Agreement(), 51 * 150) == (report.shadowed.agreement, report.rows)
    assert b'inference_shadow_rows_total{result="dropped"} %d.0' % (50 * 150 - WAITING_ROWS) in metrics


def test_a_pod_without_a_shadow_has_no_thread_and_no_task_for_one(serving, directory):
    """Nor a series that is missing once there is one."""

    async def scenario():
        async with serving(directory.write()) as pod:
            await pod.predict({"inputs": [[1, 1, 1, 1]]})
            names = {task.get_name() for task in asyncio.all_tasks()} | {one.name for one in threading.enumerate()}
            return names, pod.service.metrics.exposition()

    names, metrics = asyncio.run(scenario())
    assert "shadow" not in names
    for result in (b"compared", b"failed", b"dropped"):
        assert b'inference_shadow_rows_total{result="%b"} 0.0' % result in metrics


def test_a_worker_s_share_has_what_its_own_mirror_found(serving, directory, tmp_path):
    """Each worker copies its own rows; the operator adds up."""
    configure(directory, {"url": "http://127.0.0.1:1", "revision": "r1"})

    async def scenario():
        async with serving(directory.write()) as pod:
            report, _ = await drift(pod)
            return report, Peers(Worker(0, 2, os.getpid(), (), str(tmp_path))).share(report)

    report, share = asyncio.run(scenario())
    assert report.shadowed == share.shadowed
    assert share == Report.from_dict(share.to_dict())
