"""Run other programs: bounded in time, with an error that shows what they said last, and with progress lines."""

import contextlib
import ctypes
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from aiops_localcluster.errors import CommandError, TimeoutExpiredError
from aiops_localcluster.progress import Progress

_PROGRESS_SECONDS = 15.0
_TAIL_LINES = 25
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def tail(text: str, lines: int = _TAIL_LINES) -> str:
    """Return the last lines of a text, indented."""
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines()[-lines:])


def tail_of(path: Path, lines: int = _TAIL_LINES) -> str:
    """Return the last lines of a log file, indented; a missing file has none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 64 * 1024))
            return tail(file.read().decode(errors="replace"), lines)
    except FileNotFoundError:
        return ""


def output(argv: Sequence[str | Path], *, timeout: float = 30, env: Mapping[str, str] | None = None) -> str:
    """Run a short command and return what it wrote to stdout.

    Args:
        argv: The command and its arguments.
        timeout: Seconds after which it is killed.
        env: Its whole environment; ours by default.

    Raises:
        CommandError: It is not there, or it ended with another code than zero.
        TimeoutExpiredError: It took longer than `timeout`.
    """
    command = [str(argument) for argument in argv]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=timeout, env=env, check=False
        )
    except OSError as error:
        message = f"cannot run {command[0]}: {error.strerror}"
        raise CommandError(message) from error
    except subprocess.TimeoutExpired as error:
        message = f"'{' '.join(command)}' took longer than {timeout:.0f} s and was killed"
        raise TimeoutExpiredError(message) from error
    if done.returncode:
        message = f"'{' '.join(command)}' ended with code {done.returncode}:\n{tail(done.stderr or done.stdout)}"
        raise CommandError(message)
    return done.stdout


def run_long(  # noqa: PLR0913 - each is a property of one long command, all but two by keyword
    argv: Sequence[str | Path],
    what: str,
    *,
    progress: Progress,
    timeout: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run a command that takes minutes: a line about every 15 s says that it still runs.

    The command dies with us, even when we are killed.

    Args:
        argv: The command and its arguments.
        what: What it does, as it stands in the progress lines and in errors.
        progress: Takes the lines.
        timeout: Seconds after which it is killed with all its children.
        cwd: Its working directory.
        env: Its whole environment; ours by default.

    Raises:
        CommandError: It is not there, or it ended with another code than zero; shows the end of its output.
        TimeoutExpiredError: It took longer than `timeout`.
    """
    command = [str(argument) for argument in argv]
    started = time.monotonic()
    with tempfile.TemporaryFile("w+b") as said:
        try:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - there are no threads in this program
            )
        except OSError as error:
            message = f"{what}: cannot run {command[0]}: {error.strerror}"
            raise CommandError(message) from error
        try:
            code = _wait(process, what, progress, started + timeout)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        text = _read(said)
    if code is None:
        message = f"{what} took longer than {timeout:.0f} s and was stopped; it said last:\n{tail(text)}"
        raise TimeoutExpiredError(message)
    if code:
        message = f"{what} failed (code {code}): {' '.join(command)}\n{tail(text)}"
        raise CommandError(message)


def _wait(process: subprocess.Popen[bytes], what: str, progress: Progress, deadline: float) -> int | None:
    started = time.monotonic()
    while (left := deadline - time.monotonic()) > 0:
        try:
            return process.wait(min(_PROGRESS_SECONDS, left))
        except subprocess.TimeoutExpired:
            progress(f"... still {what} ({time.monotonic() - started:.0f} s)")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return None


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def die_with_parent() -> None:
    """Between fork and exec: be killed when the parent ends, however it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
