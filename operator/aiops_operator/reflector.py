"""One list and watch of one kind, for ever: what the API server has is what the store holds, a moment later.

Kopf's watchers tell of events and not of what a new listing lacks, and they parse every object in full; for the children, which
are many, and for ConfigMaps of others, of which only the version matters, this is both exact and light.

A watch that brings nothing may be of a kind that nothing happens to, or dead, whatever the connection looks like: a listing
tells. What it has that is news is taken from it, and the watch goes on where it was all the same: one that lives brings that
too, at once. Until then it owes it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiops_operator.cluster import Cluster
from aiops_operator.errors import ApiError, ExpiredError, NotFoundError
from aiops_operator.names import Kind
from aiops_operator.store import Store

FIRST_PAUSE: Final = 0.5  # seconds after a failure
LONGEST_PAUSE: Final = 10.0
WATCHER_PREFIX: Final = "watcher for "  # Kopf calls its own so too: liveness looks at both

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Watched:
    """What is watched of a kind.

    Attributes:
        kind: of objects.
        selector: of their labels; empty for all.
        metadata_only: whether their content is left out.
        optional: whether nobody waits for it: a kind of another project, whose listing may fail for reasons of its own.
    """

    kind: Kind
    selector: str = ""
    metadata_only: bool = False
    optional: bool = False


class Reflector:
    """Keeps the store up to date with one kind in one namespace, or in all (None)."""

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        watched: Watched,
        namespace: str | None,
        changed: Callable[[Kind, Mapping[str, Any]], None],
    ) -> None:
        """Begin; `changed` is told of every object that has become, is another, or has ended."""
        self._cluster = cluster
        self._store = store
        self._watched = watched
        self._namespace = namespace
        self._changed = changed
        self._version = ""
        self._heard = time.monotonic()
        self._doubtful = False  # whether the last watch was opened and has brought nothing
        self._owing = False
        self._pause = FIRST_PAUSE
        self._task: asyncio.Task[None] | None = None
        self.synced = asyncio.Event()

    @property
    def kind(self) -> Kind:
        """What it watches."""
        return self._watched.kind

    @property
    def silence(self) -> float:
        """Seconds since the API server has said anything about this kind: a bookmark, or that a watch of it is open."""
        return time.monotonic() - self._heard

    @property
    def owing(self) -> bool:
        """Whether a listing has found what no watch has brought since."""
        return self._owing

    def start(self) -> None:
        """Begin, in the running loop."""
        where = f" in {self._namespace}" if self._namespace else ""
        self._task = asyncio.create_task(self._run(), name=f"{WATCHER_PREFIX}{self.kind.plural}{where}")

    async def stop(self) -> None:
        """End; what is known stays known."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            asked = 0.0
            try:
                if await self._follow():
                    continue  # it has ended as watches do, and goes on where it was
            except ExpiredError:
                known = self._version
                self._forget_version()
                if known:
                    continue  # what has changed since is not known any more: a listing tells
            except NotFoundError:
                self._forget_version()
                self._take_listing([], "")  # the kind is not served: there are none
            except ApiError as error:
                asked = error.retry_after
                (logger.info if self._pause == FIRST_PAUSE else logger.warning)(
                    "%s, again in %.1f s: %s", self._name, max(self._pause, asked), error
                )
            except Exception:  # a watch that has ended is never missed by those who wait for it
                logger.exception("%s, again in %.1f s", self._name, self._pause)
                self._forget_version()
            await asyncio.sleep(max(self._pause, asked))
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    @property
    def _name(self) -> str:
        return f"watch of {self.kind.plural} in {self._namespace or 'all namespaces'}"

    async def _follow(self) -> bool:
        """Watch from where it was, or from a listing, until the watch ends; whether it has lasted."""
        if not self._version:
            await self._list()
        elif self._doubtful:
            await self._look_for_missed()
        began = time.monotonic()
        await self._watch()
        lasted = time.monotonic() - began > FIRST_PAUSE
        if lasted:
            self._pause = FIRST_PAUSE
        return lasted

    def _forget_version(self) -> None:
        """The next watch begins at a new listing, and owes nothing of what was before."""
        self._version = ""
        self._owing = False

    async def _list(self) -> None:
        bodies, version = await self._listing()
        self._take_listing(bodies, version)
        self._version = version

    async def _look_for_missed(self) -> None:
        if self._take_listing(*await self._listing()):
            (logger.info if self._owing else logger.warning)("%s has not brought what a listing has", self._name)
            self._owing = True

    async def _listing(self) -> tuple[list[dict[str, Any]], str]:
        watched = self._watched
        return await self._cluster.listing(
            watched.kind, self._namespace, watched.selector, metadata_only=watched.metadata_only
        )

    def _take_listing(self, bodies: list[dict[str, Any]], version: str) -> bool:
        """Take what a listing says; whether it has news."""
        self._heard = time.monotonic()
        self._doubtful = False
        news = self._store.replace(self.kind, self._namespace, bodies, version)
        for body in news:
            self._changed(self.kind, body)
        self.synced.set()
        return bool(news)

    async def _watch(self) -> None:
        watched = self._watched
        events = self._cluster.watch(
            watched.kind, self._namespace, watched.selector, self._version, metadata_only=watched.metadata_only
        )
        async for type_, body in events:
            self._heard = time.monotonic()
            self._doubtful = type_ == "OPENED"
            if self._doubtful:
                continue
            self._owing, self._pause = False, FIRST_PAUSE
            self._version = str(body["metadata"]["resourceVersion"])
            if type_ == "BOOKMARK":
                continue
            if (self._store.drop if type_ == "DELETED" else self._store.put)(self.kind, body):
                self._changed(self.kind, body)


class Reflectors:
    """All of them, in the namespaces that are watched; kinds of other projects come and go with their CRDs."""

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        namespaces: tuple[str, ...],
        changed: Callable[[Kind, Mapping[str, Any]], None],
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._namespaces: tuple[str | None, ...] = namespaces or (None,)
        self._changed = changed
        self._running: dict[Watched, list[Reflector]] = {}
        self._begun = asyncio.Event()

    async def watch(self, wanted: frozenset[Watched]) -> None:
        """Watch these from now on, and no others."""
        for watched in self._running.keys() - wanted:
            for reflector in self._running.pop(watched):
                await reflector.stop()
            for body in self._store.replace(watched.kind, None, [], ""):
                self._changed(watched.kind, body)
        for watched in wanted - self._running.keys():
            self._running[watched] = [
                Reflector(self._cluster, self._store, watched, namespace, self._changed)
                for namespace in self._namespaces
            ]
            for reflector in self._running[watched]:
                reflector.start()
        self._begun.set()

    async def synced(self) -> None:
        """Wait until every listing that is needed has been had once."""
        await self._begun.wait()
        while pending := self._pending():
            await pending[0].synced.wait()

    @property
    def all_synced(self) -> bool:
        """Whether every listing that is needed has been had once."""
        return self._begun.is_set() and not self._pending()

    def _pending(self) -> list[Reflector]:
        needed = (each for watched, each in self._running.items() if not watched.optional)
        return [reflector for each in needed for reflector in each if not reflector.synced.is_set()]

    def silences(self) -> dict[str, float]:
        """By kind, the seconds for which the API server has said nothing of it."""
        return {watched.kind.plural: max(one.silence for one in each) for watched, each in self._running.items()}

    def owing(self) -> frozenset[str]:
        """The kinds, of those that are needed, of which a watch has not brought what a listing has found."""
        needed = ((watched, each) for watched, each in self._running.items() if not watched.optional)
        return frozenset(watched.kind.plural for watched, each in needed if any(one.owing for one in each))

    async def stop(self) -> None:
        """Watch nothing any more."""
        for reflectors in self._running.values():
            for reflector in reflectors:
                await reflector.stop()
        self._running.clear()
