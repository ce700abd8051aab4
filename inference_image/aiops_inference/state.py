"""Drift counts that outlive the process: on disk before anybody hears of them, so that nothing is counted twice.

A poller remembers how far it has read an incarnation, by the numbers of its blocks. A process that goes on as that incarnation
must therefore never give a number to other rows. So a report tells of blocks only once the file holds them: what the process
before this one closed and did not write, nobody has heard of, and its numbers are free. Where the file can be neither
written nor removed, the blocks that it does not hold, of which nobody has heard either, go on under a new incarnation, and
the file stays right for the old one.

The file is read back only while the same kernel runs: its page cache then gives what was written, without waiting for a
disk at each poll.
"""

import asyncio
import contextlib
import fcntl
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import orjson

from aiops_drift import Expectations, Profile, Recorder, Report, Stored, WireError
from aiops_inference.codec import encode
from aiops_inference.errors import describe
from aiops_inference.monitor import Monitor
from aiops_inference.telemetry import Log, Metrics

SAVE_INTERVAL: Final = 5.0  # seconds between two saves that nobody waits for
LAST_SAVE: Final = 2.0  # seconds that the end of the process gives the disk
MAX_BYTES: Final = 16 << 20  # several times what a pod keeps of the most features
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class StateFile:
    """The file, which belongs to one process at a time; for use in one thread.

    Attributes:
        path: where it is.
        written: how many closed blocks it holds of the incarnation that counts now; -1 where it holds nothing of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = -1
        self._lock: int | None = None

    def restore(self, profile: Profile, model: str) -> Recorder | None:
        """What an earlier process left; None where there is no file.

        Raises:
            OSError: it cannot be read, or another process uses it.
            WireError: it is not one that such a process wrote for this model and profile since the machine was started.
        """
        self._claim()
        try:
            content = self._read()
        except FileNotFoundError:
            return None
        try:
            document = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            message = f"it is not JSON: {error}"
            raise WireError(message) from error
        boot = _boot()
        if not isinstance(document, dict) or not boot or document.get("boot") != boot:
            message = "it was written before this machine was started"
            raise WireError(message)
        stored = Stored.from_dict(document.get("counts"))
        if stored.report.model != model:
            message = "it was counted of another model"
            raise WireError(message)
        recorder = Recorder.restored(profile, stored)
        self.written = stored.closed
        return recorder

    def save(self, stored: Stored) -> None:
        """Replace the file.

        Raises:
            OSError: it is not replaced; it is removed then, unless `written` still says otherwise.
        """
        try:
            self._claim()
            self._replace(encode({"boot": _boot(), "counts": stored.to_dict()}))
        except BaseException:
            self._give_up()
            raise
        self.written = stored.closed

    def close(self) -> None:
        """Let another process have the file, as the end of this one does."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _claim(self) -> None:
        if self._lock is not None:
            return
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            message = f"another process uses {self.path}: give each its own DRIFT_STATE, or off"
            raise BlockingIOError(message) from error
        self._lock = lock

    def _read(self) -> bytes:
        # Without O_NONBLOCK a pipe in the file's place would be waited for without end.
        with open(os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_size > MAX_BYTES:
                message = f"it is not a file of this user with at most {MAX_BYTES} bytes"
                raise WireError(message)
            return file.read()

    def _replace(self, content: bytes) -> None:
        fresh = Path(f"{self.path}.new")
        fresh.unlink(missing_ok=True)
        # Made anew and by nobody else: where others may write to the directory, a link of theirs is not followed.
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:  # noqa: PTH123
            file.write(content)
        fresh.replace(self.path)

    def _give_up(self) -> None:
        with contextlib.suppress(OSError):
            Path(f"{self.path}.new").unlink(missing_ok=True)
        if self.written >= 0:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
                self.written = -1
        self.close()


class Keeper:
    """Answers for a monitor's counts, and keeps them on disk where there is a file."""

    def __init__(self, monitor: Monitor, file: StateFile | None, metrics: Metrics, log: Log) -> None:
        self._monitor = monitor
        self._file = file
        self._saves = metrics.state_saves
        self._log = log
        self._told: Report | None = None
        self._saved_rows = -1
        self._begun = 0
        self._failing = False
        self._turn = asyncio.Lock()
        # One thread: what was handed to it first is written first, even when who waited for it is gone.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="drift-state")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Save every few seconds while rows come."""
        if self._file is not None and self._task is None:
            self._task = asyncio.create_task(self._save_now_and_then(), name="drift state")

    async def stop(self) -> None:
        """Save a last time, and let the file go; a disk that does not answer is not waited for."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._file is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_SAVE):
                    await self.save()
            self._file.close()
        self._writer.shutdown(wait=False)

    async def report(self, expectations: Expectations, after: int = -1) -> Report:
        """What `GET /drift` answers; `after` leaves out the blocks up to that number. It waits for the disk, if need be."""
        if self._file is None:
            return self._monitor.report(expectations, time.time(), after)
        begun = self._begun
        async with self._turn:
            told = self._told
            if self._monitor.closed <= self._file.written:
                told = self._monitor.stored(time.time()).report
            elif told is None or self._begun == begun:  # otherwise a save that began since has answered this one too
                told = await self._save(self._file)
        return told.told(expectations, after, time.time())

    async def save(self) -> None:
        """Write what has been counted since the last time."""
        async with self._turn:
            if self._file is not None and self._monitor.rows != self._saved_rows:
                await self._save(self._file)

    async def _save_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(SAVE_INTERVAL)
            await self.save()

    async def _save(self, file: StateFile) -> Report:
        """Try to write; returns what may be told now."""
        self._begun += 1
        stored, rows = self._monitor.stored(time.time()), self._monitor.rows
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, file.save, stored)
        except Exception as error:  # noqa: BLE001 - predictions and verdict go on, whatever is wrong with the disk
            self._told = self._failed(file, error)
        else:
            self._saves.labels("saved").inc()
            self._told, self._saved_rows = stored.report, rows
            if self._failing:
                self._log.info("drift state", message=f"{file.path} is written again")
            self._failing = False
        return self._told

    def _failed(self, file: StateFile, error: Exception) -> Report:
        self._saves.labels("failed").inc()
        if not self._failing:
            message = f"{file.path} cannot be written, the counts end with this process: {describe(error)}"
            self._log.warning("drift state", message=message)
        self._failing = True
        if 0 <= file.written < self._monitor.closed:
            self._monitor.begin_anew(file.written - 1)
            file.written = -1
        # The file holds all of this incarnation, or nothing: it may tell all that it knows.
        return self._monitor.stored(time.time()).report


def restored(file: StateFile, profile: Profile, model: str, log: Log) -> Recorder | None:
    """What an earlier process left in the file; a line in the log says why not, where there is something else."""
    try:
        recorder = file.restore(profile, model)
    except (OSError, WireError) as error:
        log.warning("drift state", message=f"{file.path} is not restored, counts begin anew: {describe(error)}")
        return None
    if recorder is not None:
        message = f"{file.path} is restored: counts go on"
        log.info("drift state", message=message, incarnation=recorder.incarnation, rows=recorder.rows)
    return recorder


def _boot() -> str:
    """What the running kernel calls the time since it was started; empty where it does not say."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
