"""Several processes on one port: a parent that listens, starts them, starts them again, and ends when they have.

The parent serves nothing. It binds the port once, and each worker inherits the listening socket, so that no connection that
waits is lost with a worker. Each has counts, a drift state and a log line of its own; `peers` makes one document of theirs.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from aiops_inference.errors import SettingsError, describe
from aiops_inference.settings import Settings
from aiops_inference.telemetry import Log

VARIABLE: Final = "AIOPS_WORKER"  # between parent and worker: nobody else sets it
BACKLOG: Final = 2048
REFUSED: Final = 2  # exit status: settings, which another start does not mend
UNBOUND: Final = 3  # exit status: there is no socket to listen on
FIRST_PAUSE: Final = 0.5  # seconds before a worker is started again; twice as many after each that does not last
LONGEST_PAUSE: Final = 30.0
LASTED: Final = 60.0  # seconds after which a worker's end has nothing to do with the one before


@dataclass(frozen=True)
class Worker:
    """Who a process is among those of its pod.

    Attributes:
        slot: from 0 on; one that is started again has the slot of the one before.
        workers: how many there are.
        parent: process id of who has started it.
        sockets: file descriptors that clients are accepted from.
        directory: where the private sockets are, which nobody but this user may enter.
        again: whether it takes the place of one that ended, while others serve.
    """

    slot: int
    workers: int
    parent: int
    sockets: tuple[int, ...]
    directory: str
    again: bool = False

    def to_text(self) -> str:
        """The form that `from_text` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> "Worker":
        """Read what the parent has written.

        Raises:
            SettingsError: it has not.
        """
        try:
            fields = json.loads(text)
            return cls(**{**fields, "sockets": tuple(fields["sockets"])})
        except (ValueError, TypeError, KeyError) as error:
            message = f"{VARIABLE} is set, and not by aiops-inference; unset it: set WORKERS alone"
            raise SettingsError(message) from error

    def private(self, slot: int) -> Path:
        """The socket at which a worker tells the others of itself alone."""
        return Path(self.directory) / f"{slot}.sock"

    def told(self, slot: int) -> Path:
        """The file with the metrics that a worker has last told."""
        return Path(self.directory) / f"{slot}.metrics"

    def open(self) -> tuple[list[socket.socket], list[socket.socket]]:
        """The sockets to serve on at once, and those to serve on when there is a model: others serve until then."""
        for descriptor in self.sockets:
            os.set_inheritable(descriptor, False)  # noqa: FBT003 - the signature of the standard library
        private = socket.socket(socket.AF_UNIX)
        path = self.private(self.slot)
        path.unlink(missing_ok=True)  # of the worker before, which is dead
        private.bind(str(path))
        public = [socket.socket(fileno=descriptor) for descriptor in self.sockets]
        return ([private], public) if self.again else ([private, *public], [])


def supervise(settings: Settings) -> int:
    """Run the workers until a signal ends them; returns the exit status."""
    log = Log(settings.log_level)
    try:
        listeners = listen(settings.host, settings.port)
    except OSError as error:
        log.failure("cannot listen", host=settings.host, port=settings.port, message=describe(error))
        log.finish()
        return UNBOUND
    try:
        with tempfile.TemporaryDirectory(prefix="aiops-workers-") as directory:
            return _Family(settings, listeners, directory, log).run()
    except FileNotFoundError as error:  # none of the directories that tempfile tries can be written to
        log.failure("no directory", message=f"several WORKERS need a directory for their sockets: {describe(error)}")
        return REFUSED
    finally:
        log.finish()


def listen(host: str, port: int) -> list[socket.socket]:
    """A listening socket for each address of a host.

    Raises:
        OSError: there is no such host, or the port is taken.
    """
    listeners = []
    with contextlib.ExitStack() as opened:
        for family, kind, protocol, _, address in dict.fromkeys(
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        ):
            listener = opened.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
            listeners.append(listener)
        opened.pop_all()
    return listeners


def pause_after(failures: int) -> float:
    """Seconds until a worker is started again, after so many on end that did not last."""
    return float(min(FIRST_PAUSE * 2.0 ** min(failures - 1, 16), LONGEST_PAUSE))


@dataclass(frozen=True)
class _Child:
    slot: int
    process: "subprocess.Popen[bytes]"
    started: float


class _Family:
    """The workers that run, and those that are to be started again."""

    def __init__(self, settings: Settings, listeners: list[socket.socket], directory: str, log: Log) -> None:
        self._workers = settings.workers
        self._listeners = listeners
        self._directory = directory
        self._log = log
        self._children: dict[int, _Child] = {}
        self._due = dict.fromkeys(range(settings.workers), 0.0)
        self._failures = dict.fromkeys(range(settings.workers), 0)
        self._leaving = False
        self._status = 0

    def run(self) -> int:
        """Until all have ended; returns the exit status."""
        with _signals() as wait:
            self._log.info("workers", workers=self._workers, pid=os.getpid())
            while self._children or self._due:
                self._start_due()
                for number in wait(self._patience()):
                    if number != signal.SIGCHLD:
                        self._leave(number)
                self._reap()
                self._log.flush()
        return self._status

    def _patience(self) -> float | None:
        """Seconds until somebody is to be started; None where only a signal is waited for."""
        return max(min(self._due.values()) - time.monotonic(), 0.0) if self._due else None

    def _start_due(self) -> None:
        now = time.monotonic()
        for slot in [slot for slot, due in self._due.items() if due <= now]:
            del self._due[slot]
            sockets = tuple(listener.fileno() for listener in self._listeners)
            again = self._failures[slot] > 0 and bool(self._children)  # somebody has to say that all are loading
            worker = Worker(slot, self._workers, os.getpid(), sockets, self._directory, again)
            process = subprocess.Popen(
                [sys.executable, "-m", "aiops_inference"],
                env={**os.environ, VARIABLE: worker.to_text()},
                pass_fds=sockets,
                process_group=0,  # a terminal's Ctrl-C comes to the parent alone, which passes it on once
            )
            self._children[process.pid] = _Child(slot, process, now)

    def _leave(self, number: int) -> None:
        """Pass a signal on: each worker ends as it would alone, in as long as that takes."""
        if not self._leaving:
            self._leaving = True
            self._due.clear()
            for listener in self._listeners:
                listener.close()  # the last worker to close it turns clients away
        for child in self._children.values():
            child.process.send_signal(number)

    def _reap(self) -> None:
        """Take note of all that have ended, as process 1 of a container those of others too."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                child = self._children.pop(pid, None)
                if child is not None:
                    child.process.returncode = os.waitstatus_to_exitcode(status)
                    self._ended(child, child.process.returncode)

    def _ended(self, child: _Child, code: int) -> None:
        if self._leaving:
            if code not in {0, -signal.SIGTERM, -signal.SIGINT}:
                self._log.warning("worker ended", worker=child.slot, pid=child.process.pid, code=code)
        elif code == REFUSED:
            self._status = code
            self._leave(signal.SIGTERM)
        else:
            lasted = time.monotonic() - child.started >= LASTED
            self._failures[child.slot] = 1 if lasted else self._failures[child.slot] + 1
            pause = pause_after(self._failures[child.slot])
            self._due[child.slot] = time.monotonic() + pause
            self._log.failure(
                "worker ended", worker=child.slot, pid=child.process.pid, code=code, started_again_in_seconds=pause
            )


@contextlib.contextmanager
def _signals() -> Iterator[Callable[[float | None], bytes]]:
    """Gives what waits, for so many seconds at most, for signals, and returns their numbers."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.settimeout(0)
        writer.settimeout(0)  # what a wakeup descriptor has to be
        signal.set_wakeup_fd(writer.fileno())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)  # a handler of Python's: what is run by `exec` does not inherit it

        def wait(seconds: float | None) -> bytes:
            select.select([reader], [], [], seconds)
            with contextlib.suppress(BlockingIOError):
                return reader.recv(4096)
            return b""

        try:
            yield wait
        finally:
            signal.set_wakeup_fd(-1)
