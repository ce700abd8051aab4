"""What pods answer on /drift, for as many as have an address of loopback: real documents of the recorder that pods have.

Each address is a pod of its own, which has received a block of rows since it was last asked. It runs until it is ended.
"""

from typing import Final

import numpy as np
from aiohttp import web

from aiops_drift import Expectations, Profile, Recorder

PORT: Final = 8000
ROWS: Final = 16  # between two looks: a block
FULL: Final = 32  # blocks before the first look: the windows are full, as those of a service that is not new are
MODEL: Final = "sha256:" + "0" * 64


class Pods:
    """All of them, by address."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(1)
        self._rows = self._rng.normal([5.8, 3.0, 3.8, 1.2], [0.8, 0.4, 1.8, 0.8], size=(150, 4))
        self._profile = Profile.from_rows(self._rows).calibrated(self._rows)
        self._recorders: dict[str, Recorder] = {}

    async def drift(self, request: web.Request) -> web.Response:
        """The document of the pod that was asked."""
        assert request.transport is not None  # noqa: S101  it has asked
        address = request.transport.get_extra_info("sockname")[0]
        recorder = self._recorders.get(address)
        if recorder is None:
            recorder = Recorder(self._profile, f"{self._rng.integers(2**63):016x}")
            self._recorders[address] = recorder
            for _ in range(FULL):
                self._receive(recorder)
        self._receive(recorder)
        after = int(request.query.get("after", "-1"))
        return web.json_response(recorder.report(MODEL, Expectations(), after, 0.0).to_dict())

    def _receive(self, recorder: Recorder) -> None:
        recorder.record(self._rows[self._rng.integers(len(self._rows), size=ROWS)], 0.0)


async def health(_: web.Request) -> web.Response:
    """All is well."""
    return web.json_response({"status": "ok"})


def main() -> None:
    """Serve."""
    application = web.Application()
    application.router.add_get("/drift", Pods().drift)
    application.router.add_get("/health", health)
    # All addresses: a thousand of loopback are served by one socket.
    web.run_app(application, host="0.0.0.0", port=PORT, access_log=None, print=None)  # noqa: S104


if __name__ == "__main__":
    main()
