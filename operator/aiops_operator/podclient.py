"""Asks pods over HTTP, trusting neither the time they take nor the size of what they say."""

import asyncio
from typing import Final

import aiohttp
import orjson

from aiops_drift import Report, reports_from
from aiops_operator.conditions import Problem, said_by_pod
from aiops_operator.errors import PodError
from aiops_operator.names import CONTAINER_PORT, host

HTTP_OK: Final = 200
CONCURRENCY: Final = 32
TIMEOUT: Final = 3.0  # seconds for one answer
MAX_REPORT: Final = 4 * 2**20  # bytes: more than the blocks that a pod keeps of the most features it may have
LARGE: Final = 64 * 2**10  # bytes; what is larger is read in a thread
MAX_HEALTH: Final = 64 * 2**10
CHUNK: Final = 64 * 2**10


class PodClient:
    """A few connections to all pods."""

    def __init__(self, *, port: int = CONTAINER_PORT) -> None:
        self._port = port
        self._limit = asyncio.Semaphore(CONCURRENCY)
        self._reading = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def report(self, address: str, after: int | None = None) -> tuple[Report, ...]:
        """Read `GET /drift`, a report of each process, only blocks with a greater number than `after` where it is given.

        Raises:
            PodError: no answer in time, one that is too large, or one that is not the document.
        """
        query = f"?after={after}" if after is not None else ""
        code, body = await self._get(address, f"/drift{query}", MAX_REPORT)
        if code != HTTP_OK:
            message = f"/drift answered {code}"
            raise PodError(message)
        try:
            # One at a time, with a turn for all other work before each. A hostile answer takes a second or two: in a thread,
            # where all else waits for less than half a second of it, in which orjson makes lists and numbers of the bytes.
            async with self._reading:
                if len(body) > LARGE:
                    return await asyncio.to_thread(_read, body)
                await asyncio.sleep(0)
                return _read(body)
        except (ValueError, RecursionError) as error:  # DriftError is a ValueError
            message = f"/drift is not understood: {error}"
        # Outside the except block: an error that is kept must not keep what a pod has sent.
        raise PodError(message)

    async def problem(self, address: str) -> Problem | None:
        """What a pod that is not ready says of itself on /health; None where it says nothing of use."""
        try:
            code, body = await self._get(address, "/health", MAX_HEALTH)
            document = orjson.loads(body)
        except (PodError, ValueError, RecursionError):
            return None
        return None if code == HTTP_OK else said_by_pod(document)

    async def _get(self, address: str, path: str, limit: int) -> tuple[int, bytes]:
        url = f"http://{host(address)}:{self._port}{path}"
        try:
            async with self._limit, self._open().get(url, allow_redirects=False) as response:
                body = bytearray()
                async for chunk in response.content.iter_chunked(CHUNK):
                    body += chunk
                    if len(body) > limit:
                        message = f"{path} is larger than {limit} bytes"
                        raise PodError(message)
                return response.status, bytes(body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            message = f"no answer from {url}: {error or type(error).__name__}"
            raise PodError(message) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONCURRENCY),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT),
                auto_decompress=False,
                headers={"Accept-Encoding": "identity", "User-Agent": "aiops-operator"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def _read(body: bytes) -> tuple[Report, ...]:
    return reports_from(orjson.loads(body))
