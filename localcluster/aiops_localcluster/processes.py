"""Find and end the processes of one cluster, and no others.

Every daemon carries the cluster's folder in its environment, which its children inherit. So what belongs to a cluster is
read from /proc and never from a file that may be stale, and a process id that was taken over by somebody else's program is never
signalled.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from aiops_localcluster.errors import TimeoutExpiredError

MARK = "AIOPS_QUALITY_STATE"
_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.02


def find(state: Path) -> list[int]:
    """Return the ids of all processes that belong to the cluster with this folder."""
    return [pid for pid in _all() if _belongs(pid, state)]


def first_of_node(state: Path) -> int | None:
    """Return the id, as this machine sees it, of the first process in the cluster's own PID namespace."""
    for pid in find(state):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("NSpid:") and len(ids := line.split()[1:]) > 1 and ids[-1] == "1":
                    return pid
    return None


def kill(state: Path) -> None:
    """End all processes of a cluster and wait until they are gone.

    The daemons write nothing that outlives the cluster, so nothing is gained by asking them first; and the end of the
    node's first process is, by the kernel's hand, the end of every container.

    Args:
        state: The cluster's folder.

    Raises:
        TimeoutExpiredError: Some are still there after 20 s.
    """
    deadline = time.monotonic() + _STOP_SECONDS
    while pids := find(state):
        for pid in pids:
            _kill_one(pid, state)
        if time.monotonic() > deadline:
            message = f"processes {', '.join(map(str, pids))} of {state} do not end"
            raise TimeoutExpiredError(message)
        time.sleep(_POLL_SECONDS)


def _kill_one(pid: int, state: Path) -> None:
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            if _belongs(pid, state):  # the handle is on this very process now, so the answer cannot go stale
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)


def _all() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _belongs(pid: int, state: Path) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # gone meanwhile, or another user's
        return False
    return f"{MARK}={state}".encode() in environment.split(b"\0")
