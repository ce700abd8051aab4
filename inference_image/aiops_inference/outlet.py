"""Lines to a file descriptor whose reader may have stopped: written, kept for a while, or counted as lost; never waited for.

A container's stdout is a pipe. When whoever reads it stops, a pipe takes 64 KiB more, and then a plain write would hold the
event loop, and with it every prediction and the answer to the kubelet, until somebody reads again. To make the descriptor
non-blocking would change it for every process that shares it. So it is asked first: a pipe that poll(2) calls writable has
room for a page, and a write of at most PIPE_BUF bytes does not wait (pipe(7)). A file is always writable; one on a disk that is
full, or a pipe without a reader, refuses the line.
"""

import os
import select
import time
from typing import Final

MOST_WAITING: Final = 1 << 20  # bytes: about a second of lines under full load
NOTICE: Final = b'WARNING {"event": "log lines dropped", "total": '


class Outlet:
    """Whole lines, in order; used by the one thread of the event loop.

    Attributes:
        lost: lines that were given up so far. The next one that is taken follows a line that says how many.
    """

    def __init__(self, descriptor: int, most_waiting: int = MOST_WAITING) -> None:
        self.lost = 0
        self._told = 0
        self._descriptor = descriptor
        self._most_waiting = most_waiting
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._waiting = bytearray()
        self._midline = False  # the descriptor has got a part of a line whose rest was lost

    def write(self, lines: bytes) -> None:
        """Take lines, the last one with its end too."""
        if self._waiting:
            self.flush()
        if self.lost != self._told:
            lines = b"%b%d}\n%b" % (NOTICE, self.lost, lines)
            self._told = self.lost
        if not self._waiting:
            lines = b"\n" + lines if self._midline else lines
            lines = lines[self._pass_on(lines) :]
        if lines:
            self._keep(lines)

    def flush(self) -> None:
        """Pass on what waits, as far as it is taken."""
        if self._waiting:
            del self._waiting[: self._pass_on(self._waiting)]

    def finish(self, seconds: float) -> None:
        """Pass on what waits while there is a reader that takes it: the one time that somebody waits, for so long at most."""
        deadline = time.monotonic() + seconds
        while self._waiting and (left := deadline - time.monotonic()) > 0:
            self._poll.poll(left * 1000)
            self.flush()

    def _pass_on(self, lines: bytes | bytearray) -> int:
        """How many bytes are done with, written or lost; the others have to wait."""
        sent = 0
        try:
            while sent < len(lines) and self._poll.poll(0):
                end = sent + select.PIPE_BUF
                if end < len(lines):  # whole lines where they fit: other processes may write to the same pipe
                    end = lines.rfind(b"\n", sent, end) + 1 or end
                sent += os.write(self._descriptor, lines[sent:end])
        except BlockingIOError:  # somebody who shares it has made it non-blocking
            pass
        except (OSError, ValueError):
            self._note_end(lines, sent)
            self._lose(lines[sent:])
            return len(lines)
        self._note_end(lines, sent)
        return sent

    def _note_end(self, lines: bytes | bytearray, sent: int) -> None:
        if sent:
            self._midline = lines[sent - 1] != ord("\n")

    def _keep(self, lines: bytes) -> None:
        """As many whole lines as there is room for."""
        room = self._most_waiting - len(self._waiting)
        kept = len(lines) if len(lines) <= room else lines.rfind(b"\n", 0, max(room, 0)) + 1
        self._waiting += lines[:kept]
        self._lose(lines[kept:])

    def _lose(self, lines: bytes | bytearray) -> None:
        lines = lines.removeprefix(b"\n")  # the end of a line that was written before
        self.lost += lines.count(b"\n") - lines.count(NOTICE)
