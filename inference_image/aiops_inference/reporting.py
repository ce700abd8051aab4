"""`/drift/report` off the event loop: one page at a time, and a page that was asked for just now is given again."""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Final

from aiops_drift import Profile, Report
from aiops_inference.settings import RuntimeSettings

# What browsers are told: the page needs its own style and nothing else.
PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

FRESH: Final = 1.0  # seconds for which a page is given again, so that many who look cost no more than one


class ReportPage:
    """The page of one service in one pod."""

    def __init__(self, service: str, pod: Callable[[str], str] = str) -> None:
        """Begin; `pod` says what the pod of a host name is called."""
        self._service = service
        self._pod = pod(socket.gethostname())
        self._one = asyncio.Lock()
        self._made: tuple[str, float, bytes] | None = None

    async def html(
        self, profile: Profile, report: Report, settings: RuntimeSettings, classes: tuple[str, ...] | None
    ) -> bytes:
        """The document for a report with all blocks that the pod keeps."""
        async with self._one:
            if self._made and self._made[0] == report.incarnation and time.monotonic() - self._made[1] < FRESH:
                return self._made[2]
            content = await asyncio.to_thread(self._render, profile, report, settings, classes)
            self._made = (report.incarnation, time.monotonic(), content)
            return content

    def _render(
        self, profile: Profile, report: Report, settings: RuntimeSettings, classes: tuple[str, ...] | None
    ) -> bytes:
        # Imported by the first who looks: most pods are never looked at, and templates take memory and a tenth of a second.
        from aiops_inference.page import render  # noqa: PLC0415 - see above
        from aiops_inference.story import tell  # noqa: PLC0415 - see above

        return render(tell(profile, report, settings, classes), self._service, self._pod).encode()
