"""The cache that all clones of one user share: built binaries and images, filled under locks."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from aiops_localcluster.errors import TimeoutExpiredError
from aiops_localcluster.progress import Progress

_POLL_SECONDS = 0.2
_PROGRESS_SECONDS = 15.0


def folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the cache: $AIOPS_QUALITY_CACHE, else aiops-quality under $XDG_CACHE_HOME or ~/.cache."""
    if chosen := environment.get("AIOPS_QUALITY_CACHE"):
        return Path(chosen).absolute()
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path(environment.get("HOME", "/root")) / ".cache").absolute() / "aiops-quality"


def key(parts: Iterable[bytes | str]) -> str:
    """Return 12 hex digits that stand for all parts in their order."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:12]


@contextlib.contextmanager
def locked(path: Path, *, what: str, progress: Progress, timeout: float, is_temporary: bool = False) -> Iterator[None]:
    """Hold a file lock; the kernel gives it back when we end, however we end.

    Args:
        path: The lock file; made when missing.
        what: What whoever holds the lock is doing, for the progress lines.
        progress: Told when there is waiting.
        timeout: Seconds to wait.
        is_temporary: Whether the lock file is removed at the end.

    Raises:
        TimeoutExpiredError: Another process held the lock all that time.
    """
    started = told = time.monotonic()
    while not (file := _try_lock(path)):
        now = time.monotonic()
        if now - started > timeout:
            message = f"another process has been {what} for {timeout:.0f} s and holds {path}"
            raise TimeoutExpiredError(message)
        if told == started or now - told > _PROGRESS_SECONDS:
            progress(f"waiting for another process that is {what} ({now - started:.0f} s)")
            told = now
        time.sleep(_POLL_SECONDS)
    with file:
        try:
            yield
        finally:
            if is_temporary:
                path.unlink(missing_ok=True)


def _try_lock(path: Path) -> IO[str] | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except FileNotFoundError:  # the folder was removed at this very moment
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    except (BlockingIOError, FileNotFoundError):  # held, or removed by its last holder
        pass
    file.close()
    return None


def fill(target: Path, make: Callable[[Path], None]) -> None:
    """Make a folder whole or not at all: it is made beside its place and then renamed.

    Args:
        target: The folder to make; the caller holds the lock that belongs to it.
        make: Fills the folder it is given.
    """
    unfinished = target.parent / f".{target.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
    unfinished.mkdir(parents=True)
    try:
        make(unfinished)
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
