"""Progress lines: what is being done, with the seconds since the start."""

import sys
import time
from collections.abc import Callable

Progress = Callable[[str], None]


def silent(_message: str) -> None:
    """Say nothing."""


class Lines:
    """Writes each message as a line of its own, with the seconds since this object was made, to stderr."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, message: str) -> None:
        """Write one line.

        Args:
            message: What happens now, without the time.
        """
        sys.stderr.write(f"[{time.monotonic() - self._start:6.1f} s] {message}\n")
        sys.stderr.flush()
