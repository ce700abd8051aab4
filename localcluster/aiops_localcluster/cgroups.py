"""The control group that holds a cluster's pods, in every hierarchy of this machine (version 1 has many, version 2 one)."""

import contextlib
import time
from pathlib import Path

from aiops_localcluster.errors import TimeoutExpiredError

_SECONDS = 15.0
_POLL_SECONDS = 0.05
_CONTROLLERS = ("cpuset", "cpu", "hugetlb", "io", "memory", "pids")


def hierarchies(mountinfo: str, *, limiting: bool) -> list[Path]:
    """Return where the hierarchies are mounted.

    Args:
        mountinfo: Text of /proc/self/mountinfo.
        limiting: Leave out version 2 where it stands beside version 1 and only tracks processes.
    """
    found: list[tuple[Path, str]] = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind = after.split()[0]
        if kind in {"cgroup", "cgroup2"}:
            found.append((Path(before.split()[4]), kind))
    versions = {kind for _, kind in found}
    return [path for path, kind in found if kind == "cgroup" or versions == {"cgroup2"} or not limiting]


def create(cgroup: str) -> None:
    """Make the control group in every hierarchy."""
    for root in _roots(limiting=True):
        control = root / "cgroup.subtree_control"
        if control.exists():
            for controller in _CONTROLLERS:
                with contextlib.suppress(OSError):  # not every machine has each of them
                    control.write_text(f"+{controller}")
        (root / cgroup.lstrip("/")).mkdir(exist_ok=True)


def remove(cgroup: str) -> None:
    """Remove the control group and all below it, as soon as its processes are gone.

    Raises:
        TimeoutExpiredError: It is still in use after 15 s.
    """
    deadline = time.monotonic() + _SECONDS
    for root in _roots():
        top = root / cgroup.lstrip("/")
        while top.exists():
            for folder in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
                with contextlib.suppress(OSError):
                    folder.rmdir()
            with contextlib.suppress(OSError):
                top.rmdir()
            if top.exists():
                if time.monotonic() > deadline:
                    message = f"control group {top} still has processes"
                    raise TimeoutExpiredError(message)
                time.sleep(_POLL_SECONDS)


def exists(cgroup: str) -> bool:
    """Tell whether the control group is there in any hierarchy."""
    return any((root / cgroup.lstrip("/")).exists() for root in _roots())


def _roots(*, limiting: bool = False) -> list[Path]:
    return hierarchies(Path("/proc/self/mountinfo").read_text(), limiting=limiting)
