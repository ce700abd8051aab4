"""Programs that run on this machine for the length of a with block."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from aiops_localcluster.commands import die_with_parent, tail_of
from aiops_localcluster.errors import StartError

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.1


@contextlib.contextmanager
def daemon(
    command: Sequence[str], ready: Callable[[], bool], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a program, which ends with us however we end.

    Args:
        command: The program and its arguments.
        ready: Asked until it says yes.
        log: Where what it says is written; its folder is the working directory.
        environment: The whole environment; ours by default.

    Raises:
        StartError: It ended, or was not ready within a minute; with what it said last.
    """
    with log.open("wb") as said:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd=log.parent,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls one function of the C library and nothing else
        )
    try:
        wait_until(
            lambda: process.poll() is not None or ready(),
            lambda: f"{Path(command[0]).name} is not ready; it said last:\n{tail_of(log)}",
        )
        if process.poll() is not None:
            message = f"{Path(command[0]).name} ended; it said last:\n{tail_of(log)}"
            raise StartError(message)
        yield
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(ready: Callable[[], bool], otherwise: Callable[[], str]) -> None:
    """Wait for a minute at most.

    Raises:
        StartError: It was not so; with the text of `otherwise`.
    """
    deadline = time.monotonic() + _START_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            raise StartError(otherwise())
        time.sleep(_POLL_SECONDS)


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports of an address of this machine on which nobody listens."""
    with contextlib.ExitStack() as taken:
        sockets = [taken.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((host, 0))
        return [each.getsockname()[1] for each in sockets]


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody listens on a port of an address of this machine."""
    with socket.socket() as tried:
        tried.settimeout(1)
        return tried.connect_ex((host, port)) == 0
