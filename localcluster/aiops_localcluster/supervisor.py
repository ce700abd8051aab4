"""Start daemons, restart or report the ones that die, and leave none behind.

Runs as a program of its own, ``python supervisor.py SPEC.json``, and needs the standard library alone: it starts in a few
milliseconds. As the first process of a PID namespace it is also the one that collects orphans, and its end is the end
of everything in the namespace. The specification is a JSON object:

- ``state``: folder for logs (``<name>.log``) and for ``exits.jsonl``, one line for every daemon that died;
- ``setup``: commands that are run first, one after the other;
- ``daemons``: list of ``{"name", "argv", "needs"}``; ``needs`` lists what has to be there before the daemon is started:
  paths that exist, ``host:port`` addresses that accept a connection, ``https://`` URLs that answer 200;
- ``restart``: whether a daemon that died is started again (after a second);
- ``parent``: id of the process on whose end, or on whose closing of our stdin, everything stops and ``state`` is
  removed; 0 to live on.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

_POLL_SECONDS = 0.05
_RESTART_SECONDS = 1.0
_CONNECT_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1


class _Daemon:
    """One daemon and what became of it."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.name: str = spec["name"]
        self.argv: list[str] = spec["argv"]
        self.needs: list[str] = spec["needs"]
        self.pid = 0
        self.not_before = 0.0


class Supervisor:
    """The loop that keeps the daemons of one specification alive."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._state = Path(spec["state"])
        self._daemons = [_Daemon(daemon) for daemon in spec["daemons"]]
        self._restart: bool = spec["restart"]
        self._parent: int = spec["parent"]
        self._stopping = False
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._wakeup, writing_end = os.pipe()
        os.set_blocking(writing_end, False)
        signal.set_wakeup_fd(writing_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)

    def run(self) -> None:
        """Keep the daemons running until a SIGTERM, or until the parent is gone."""
        try:
            while not self._stopping:
                self._reap()
                self._start_what_can_start()
                self._sleep()
        finally:
            self._kill_all()
            if self._parent:
                shutil.rmtree(self._state, ignore_errors=True)

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _sleep(self) -> None:
        waiting = any(not daemon.pid for daemon in self._daemons)
        reading = [self._wakeup, 0] if self._parent else [self._wakeup]
        ready, _, _ = select.select(reading, [], [], _POLL_SECONDS if waiting else 1.0)
        if self._wakeup in ready:
            os.read(self._wakeup, 4096)
        if self._parent and ((0 in ready and not os.read(0, 4096)) or os.getppid() != self._parent):
            self._stopping = True

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for daemon in self._daemons:
                if daemon.pid == pid:
                    daemon.pid = 0
                    self._report(daemon, os.waitstatus_to_exitcode(status))

    def _report(self, daemon: _Daemon, code: int) -> None:
        with (self._state / "exits.jsonl").open("a") as exits:
            exits.write(json.dumps({"name": daemon.name, "code": code}) + "\n")
        daemon.not_before = time.monotonic() + _RESTART_SECONDS if self._restart else float("inf")

    def _start_what_can_start(self) -> None:
        now = time.monotonic()
        for daemon in self._daemons:
            if not daemon.pid and now >= daemon.not_before and all(_is_there(need) for need in daemon.needs):
                daemon.pid = self._start(daemon)

    def _start(self, daemon: _Daemon) -> int:
        supervisor = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        try:
            self._become(daemon, supervisor)
        finally:
            os._exit(127)

    def _become(self, daemon: _Daemon, supervisor: int) -> NoReturn:
        os.setsid()
        self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:  # it died between the fork and the line above
            os._exit(127)
        log = os.open(self._state / f"{daemon.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these, and being ignored is inherited
            signal.signal(number, signal.SIG_DFL)
        os.chdir(self._state)
        try:
            os.execv(daemon.argv[0], daemon.argv)  # noqa: S606 - a daemon is started without a shell on purpose
        except OSError as error:
            os.write(2, f"{daemon.argv[0]}: {error}\n".encode())
            raise

    def _kill_all(self) -> None:
        for daemon in self._daemons:
            if daemon.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(daemon.pid, signal.SIGKILL)
        for daemon in self._daemons:
            if daemon.pid:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(daemon.pid, 0)


def _is_there(need: str) -> bool:
    if need.startswith("/"):
        return Path(need).exists()
    if need.startswith("https://"):
        return _answers(need)
    host, _, port = need.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _answers(url: str) -> bool:
    host, _, path = url.removeprefix("https://").partition("/")
    # Nothing is sent that is secret and nothing received is used but the code, so the certificate does not matter.
    context = ssl._create_unverified_context()  # noqa: S323, SLF001 - as the line above says
    connection = http.client.HTTPSConnection(host, timeout=_CONNECT_SECONDS, context=context)
    try:
        connection.request("GET", f"/{path}")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main() -> None:
    """Run the specification that the first argument names."""
    spec = json.loads(Path(sys.argv[1]).read_text())
    for command in spec["setup"]:
        subprocess.run(command, check=True)
    Supervisor(spec).run()


if __name__ == "__main__":
    main()
