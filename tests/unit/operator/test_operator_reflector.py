"""A list and watch of one kind against an API server of the test's own, in virtual time."""

import asyncio
import itertools

import pytest
from virtualtime import run

from aiops_operator.errors import ExpiredError, UnavailableError
from aiops_operator.names import SERVICE
from aiops_operator.reflector import Reflectors, Watched
from aiops_operator.store import Store

SILENCE = 90.0  # seconds after which a watch that says nothing ends


def service(name, version):
    """An object of the kind that is watched."""
    return {"kind": "Service", "metadata": {"namespace": "n", "name": name, "resourceVersion": str(version)}}


class Server:
    """What the reflector asks; `deaf` is whether its watches bring nothing.

    Attributes:
        asked: every request, with its time.
        cut: what watches end with, where they do not end in order.
        refusal: what requests fail with, where something is wrong.
    """

    def __init__(self):
        self.version = 1
        self.events = []
        self.deaf = False
        self.cut = None
        self.refusal = None
        self.asked = []
        self._news = asyncio.Event()

    def happens(self, type_, name):
        """An object becomes, changes or ends."""
        self.version += 1
        self.events.append((self.version, type_, service(name, self.version)))
        self._news.set()
        self._news = asyncio.Event()

    def _ask(self, what):
        self.asked.append((what, asyncio.get_running_loop().time()))
        if self.refusal is not None:
            raise self.refusal

    async def listing(self, *_, **__):
        """All objects, and the version."""
        self._ask("list")
        last = {body["metadata"]["name"]: (type_, body) for _, type_, body in self.events}
        return [body for type_, body in last.values() if type_ != "DELETED"], str(self.version)

    async def watch(self, _kind, _namespace, _selector, version, **_):
        """What has happened since a version, until nothing does for a while."""
        self._ask("watch")
        yield "OPENED", {}
        seen = int(version)
        while True:
            for at, type_, body in [] if self.deaf else self.events:
                if at > seen:
                    seen = at
                    yield type_, body
            try:
                await asyncio.wait_for(self._news.wait(), SILENCE)
            except TimeoutError:
                if self.cut is not None:
                    raise self.cut from None
                return

    def count(self, what):
        """How often it was asked for something."""
        return sum(asked == what for asked, _ in self.asked)


def scenario(steps, *, optional=False):
    """Run steps (a coroutine function) on a server, a store, what is told, and reflectors that have just begun."""

    async def played():
        server, store, told = Server(), Store(), []
        reflectors = Reflectors(server, store, (), lambda _kind, body: told.append(body["metadata"]["name"]))
        await reflectors.watch(frozenset({Watched(SERVICE, optional=optional)}))
        await reflectors.synced() if not optional else await asyncio.sleep(1)
        try:
            return await steps(server, store, told, reflectors)
        finally:
            await reflectors.stop()

    return run(played())


@pytest.mark.parametrize("type_", ["MODIFIED", "DELETED"])
def test_what_silent_watches_miss_is_found_by_a_listing_and_owed(type_):
    """A change, an end: it is known after the watch's silence, and owed for as long as no watch brings it."""

    async def steps(server, store, told, reflectors):
        server.happens("ADDED", "a")
        await asyncio.sleep(1)
        server.deaf = True
        await asyncio.sleep(SILENCE)
        server.happens(type_, "a")
        await asyncio.sleep(2 * SILENCE + 5)
        found = store.get(SERVICE, "n", "a") or {"metadata": {}}
        owing = [reflectors.owing()]
        await asyncio.sleep(10 * SILENCE)
        owing.append(reflectors.owing())
        return told, found["metadata"].get("resourceVersion"), owing

    told, version, owing = scenario(steps)
    assert (["a", "a"], [frozenset({"services"})] * 2) == (told, owing)
    assert ("3" if type_ == "MODIFIED" else None) == version


def test_a_watch_that_brings_something_again_owes_nothing():
    """It goes on where it was, and so brings what the listing has found already, which is told once."""

    async def steps(server, _store, told, reflectors):
        server.deaf = True
        server.happens("ADDED", "a")
        await asyncio.sleep(3 * SILENCE)
        before = reflectors.owing()
        server.deaf = False
        await asyncio.sleep(SILENCE)
        return told, before, reflectors.owing()

    assert (["a"], {"services"}, frozenset()) == scenario(steps)


def test_a_watch_that_is_cut_before_it_has_brought_anything_is_as_one_that_ends():
    """Such as by a proxy that waits for more to pass on, and then gives up."""

    async def steps(server, _store, told, reflectors):
        server.deaf, server.cut = True, UnavailableError(0, "cut")
        server.happens("ADDED", "a")
        await asyncio.sleep(3 * SILENCE)
        return told, reflectors.owing()

    assert (["a"], {"services"}) == scenario(steps)


def test_of_a_kind_that_nothing_happens_to_nothing_is_owed():
    """However often its silence makes the reflector look."""

    async def steps(server, _store, _told, reflectors):
        await asyncio.sleep(20 * SILENCE)
        return server.count("list") > 10, reflectors.owing()

    assert (True, frozenset()) == scenario(steps)


def test_what_happens_between_a_watch_and_the_listing_is_not_owed_for_long():
    """The next watch brings it."""

    async def steps(server, _store, told, reflectors):
        listing = server.listing

        async def just_before(*args, **kwargs):
            server.listing = listing
            server.happens("ADDED", "a")
            return await listing(*args, **kwargs)

        server.listing = just_before
        await asyncio.sleep(3 * SILENCE)
        return told, reflectors.owing()

    assert (["a"], frozenset()) == scenario(steps)


def test_a_kind_of_another_project_owes_nothing():
    """What its watches miss is found all the same."""

    async def steps(server, _store, told, reflectors):
        server.deaf = True
        server.happens("ADDED", "a")
        await asyncio.sleep(3 * SILENCE)
        return told, reflectors.owing()

    assert (["a"], frozenset()) == scenario(steps, optional=True)


def test_an_api_server_that_is_away_makes_nothing_owed():
    """Its watches and listings fail, and what is missed meanwhile comes when it is back."""

    async def steps(server, _store, told, reflectors):
        server.refusal = UnavailableError(0, "refused")
        await asyncio.sleep(5 * SILENCE)
        server.happens("ADDED", "a")
        before = reflectors.owing()
        server.refusal = None
        await asyncio.sleep(SILENCE)
        return told, before, reflectors.owing()

    assert (["a"], frozenset(), frozenset()) == scenario(steps)


@pytest.mark.parametrize(("asked", "pauses"), [(0.0, [1.0, 2.0, 4.0]), (1.5, [1.5, 2.0, 4.0]), (30.0, [30.0] * 3)])
def test_patience_that_the_api_server_asks_for_is_had(asked, pauses):
    """The least that it waits after a refusal; by itself it waits for longer each time."""

    async def steps(server, _store, _told, _reflectors):
        server.refusal = UnavailableError(429, "wait", asked)
        await asyncio.sleep(SILENCE + 100)
        times = [time for _, time in server.asked[2:]]
        return [after - before for before, after in itertools.pairwise(times)][:3]

    assert pauses == scenario(steps)


def test_a_version_that_is_too_old_ends_what_is_owed():
    """The watch begins anew at a listing, and can bring nothing that was before."""

    async def steps(server, _store, _told, reflectors):
        server.deaf = True
        server.happens("ADDED", "a")
        await asyncio.sleep(3 * SILENCE)
        before, server.refusal = reflectors.owing(), ExpiredError(410, "too old")
        await asyncio.sleep(SILENCE)
        server.refusal = None
        await asyncio.sleep(2 * SILENCE)
        return before, reflectors.owing()

    assert ({"services"}, frozenset()) == scenario(steps)
