"""Leadership by a Lease: of several operators one writes, and it knows when it may not any more.

The protocol is that of client-go's leader election: a holder renews, and others wait until what they see has not changed for its
duration, by their own clock. Beside that the holder counts from before it asked, and writes nothing once its deadline has passed
(`Lease.held`): also one that was stopped for a while, or whose renewals hang, has stopped writing when another begins.
"""

import asyncio
import datetime as dt
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiops_operator.cluster import Cluster
from aiops_operator.errors import ApiError, ConflictError
from aiops_operator.names import DEPLOYMENT, LEASE, Key

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Terms:
    """Seconds: how long a claim holds, how long its holder relies on it, and the pauses of holder and others."""

    duration: int = 15
    deadline: float = 10.0
    renew: float = 2.0
    look: float = 1.0


TERMS: Final = Terms()


@dataclass(frozen=True)
class Seen:
    """A Lease as it was seen: its version, who holds it, for how long, and when it was first seen so (monotonic seconds)."""

    version: str
    holder: str
    duration: float
    since: float


def seen(before: Seen | None, body: Mapping[str, Any], now: float, terms: Terms = TERMS) -> Seen:
    """A Lease as it is now; what cannot be read in it counts as a claim of the usual length, by nobody where none is named."""
    version = str(body["metadata"]["resourceVersion"])
    if before is not None and before.version == version:
        return before
    spec = body.get("spec") or {}
    duration = spec.get("leaseDurationSeconds")
    known = duration if isinstance(duration, int) and duration > 0 else terms.duration
    return Seen(version, str(spec.get("holderIdentity") or ""), known, now)


def is_free(lease: Seen, identity: str, now: float) -> bool:
    """Whether it may be taken: nobody holds it, we do, or who does has let it run out before our eyes."""
    return lease.holder in ("", identity) or now - lease.since > lease.duration


class Lease:
    """One claim to the right to write."""

    def __init__(
        self,
        cluster: Cluster,
        key: Key,
        identity: str,
        terms: Terms = TERMS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._key = key
        self._identity = identity
        self._terms = terms
        self._clock = clock
        self._seen: Seen | None = None
        self._metadata: dict[str, Any] = {}
        self._until = 0.0

    @property
    def held(self) -> bool:
        """Whether we may write now."""
        return self._clock() < self._until

    async def acquire(self) -> None:
        """Wait until it is ours."""
        told = ""
        while not await self._try():
            holder = self._seen.holder if self._seen else ""
            if holder != told:
                logger.info("waiting: %s holds the lease %s", holder or "somebody else", self._key)
                told = holder
            await asyncio.sleep(self._terms.look)
        logger.info("%s holds the lease %s", self._identity, self._key)

    async def keep(self) -> None:
        """Renew until that has failed for too long, or somebody else has it."""
        while True:
            await asyncio.sleep(self._terms.renew)
            if not await self._try() and (not self.held or self._lost()):
                self._until = 0.0
                return

    async def release(self) -> None:
        """Let it go, so that the next need not wait; nothing may be written any more."""
        if not self.held:
            return
        self._until = 0.0
        try:
            async with asyncio.timeout(self._terms.renew):
                while not await self._let_go():
                    pass  # a renewal that was under way has come in between
        except (ApiError, TimeoutError) as error:
            logger.info("the lease %s runs out by itself: %s", self._key, error or "no answer")

    async def _let_go(self) -> bool:
        """Write that nobody holds it, where we do; False where it has changed meanwhile."""
        body = await self._cluster.get(LEASE, *self._key)
        if body is None or (body.get("spec") or {}).get("holderIdentity") != self._identity:
            return True
        spec = body["spec"] | {"holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self._cluster.replace(LEASE, body | {"spec": spec})
        except ConflictError:
            return False
        logger.info("the lease %s is let go", self._key)
        return True

    def _lost(self) -> bool:
        return self._seen is not None and self._seen.holder not in ("", self._identity)

    async def _try(self) -> bool:
        """Look, and write our name where we may; whether it stands there now."""
        asked = self._clock()
        try:
            async with asyncio.timeout(self._terms.deadline / 2):
                return await self._claim(asked)
        except ConflictError:
            return False  # somebody else was quicker
        except (ApiError, TimeoutError) as error:
            logger.warning("the lease %s cannot be had: %s", self._key, error or "no answer in time")
            return False

    async def _claim(self, asked: float) -> bool:
        if not self._metadata:
            # Once, at the start: made anew during an uninstallation, the Lease has an owner that is gone, and goes as well.
            self._metadata = {"namespace": self._key.namespace, "name": self._key.name, **await self._owned()}
        body = await self._cluster.get(LEASE, *self._key)
        if body is None:
            empty = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": self._metadata}
            answer = await self._cluster.create(LEASE, self._written(empty, {}))
        else:
            self._seen = seen(self._seen, body, self._clock(), self._terms)
            if not is_free(self._seen, self._identity, self._clock()):
                return False
            answer = await self._cluster.replace(LEASE, self._written(body, body.get("spec") or {}))
        self._seen = seen(None, answer, self._clock(), self._terms)
        self._until = asked + self._terms.deadline
        return True

    async def _owned(self) -> dict[str, Any]:
        """What of its metadata lets the Lease go with our Deployment, which has its name; nothing where we run by ourselves."""
        deployment = await self._cluster.get(DEPLOYMENT, *self._key)
        if deployment is None:
            return {}
        known = {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.kind, "name": self._key.name}
        return {"ownerReferences": [known | {"uid": deployment["metadata"]["uid"]}]}

    def _written(self, body: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        ours = before.get("holderIdentity") == self._identity
        changes = before.get("leaseTransitions")
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._terms.duration,
            "acquireTime": before.get("acquireTime", now) if ours else now,
            "renewTime": now,
            "leaseTransitions": (changes if isinstance(changes, int) else 0) + (0 if ours or not before else 1),
        }
        return {**body, "spec": spec}
