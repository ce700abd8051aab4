"""A branch of a git repository: cloned, changed by one commit, pushed; begun anew on what others pushed meanwhile.

git itself speaks https and ssh, with the credentials that it is configured with, and never asks for any.
"""

import contextlib
import os
import random
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiops_training.errors import PromotionError

SECONDS: Final = 120.0  # a command
ATTEMPTS: Final = 5
_PAUSE: Final = 0.5  # seconds, doubled with each attempt
_NAME: Final = "aiops-training"
_BRANCH: Final = re.compile(r"[\w][\w./-]*")
_RACE: Final = re.compile(
    r"\[(remote )?rejected\].*(fetch first|non-fast-forward|cannot lock ref|failed to update ref)"
)
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/@\s]+@")


@dataclass(frozen=True)
class Checkout:
    """The newest commit of a branch in a folder.

    Attributes:
        url: of the repository, without credentials.
        branch: its name.
        path: the folder.
    """

    url: str
    branch: str
    path: Path

    def file(self, name: str) -> Path:
        """The path of a file in it.

        Raises:
            PromotionError: the name leads out of the repository.
        """
        path = (self.path / name).resolve()
        if not path.is_relative_to(self.path.resolve()) or ".git" in path.relative_to(self.path.resolve()).parts:
            message = f"{name!r} is not in the repository {self.url}"
            raise PromotionError(message)
        return path


@contextlib.contextmanager
def cloned(url: str, branch: str) -> Iterator[Checkout]:
    """The branch's newest commit, for the length of a with block.

    Raises:
        PromotionError: it cannot be cloned.
    """
    if not _BRANCH.fullmatch(branch):
        message = f"{branch!r} is no name of a branch"
        raise PromotionError(message)
    with tempfile.TemporaryDirectory(prefix="aiops-git-") as folder:
        place = Path(folder) / "clone"
        _git(Path(folder), "clone", "--quiet", "--depth=1", "--single-branch", f"--branch={branch}", "--", url, place)
        yield Checkout(_safe(url), branch, place)


def publish(checkout: Checkout, change: Callable[[], str]) -> str:
    """Commit what a function changes, and push it.

    Args:
        checkout: the clone.
        change: changes files in it and returns the commit's message; called again, on what others have pushed, where they were
            faster. Where it leaves everything as it is there is no commit.

    Returns:
        The commit, 40 hexadecimal digits; empty where there was nothing to change.

    Raises:
        PromotionError: the push is refused, or others are faster five times.
    """
    for attempt in range(ATTEMPTS):
        message = change()
        _git(checkout.path, "add", "--all")
        if not _git(checkout.path, "status", "--porcelain"):
            return ""
        _git(checkout.path, "commit", "--quiet", "--no-verify", f"--message={message}")
        try:
            _git(checkout.path, "push", "--quiet", "origin", f"HEAD:refs/heads/{checkout.branch}")
        except PromotionError as error:
            if not _RACE.search(str(error)) or attempt == ATTEMPTS - 1:
                raise
            time.sleep(_PAUSE * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311 - so that two do not meet again
            _git(checkout.path, "fetch", "--quiet", "--depth=1", "origin", checkout.branch)
            _git(checkout.path, "reset", "--quiet", "--hard", "FETCH_HEAD")
            continue
        return _git(checkout.path, "rev-parse", "HEAD").strip()
    raise AssertionError  # the last attempt returns or raises


def _git(place: Path, *arguments: str | Path) -> str:
    env = {
        "GIT_AUTHOR_NAME": _NAME,
        "GIT_AUTHOR_EMAIL": f"{_NAME}@localhost",
        "GIT_COMMITTER_NAME": _NAME,
        "GIT_COMMITTER_EMAIL": f"{_NAME}@localhost",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=30",
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",  # what it says is looked at
    }
    command = ["git", *map(str, arguments)]
    what = _safe(f"git {arguments[0]}")
    try:
        done = subprocess.run(
            command, cwd=place, env=env, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
        )
    except FileNotFoundError as error:
        message = "git is not installed"
        raise PromotionError(message) from error
    except subprocess.TimeoutExpired as error:
        message = f"{what} took longer than {SECONDS:.0f} s"
        raise PromotionError(message) from error
    if done.returncode:
        message = f"{what} failed: {_safe(' '.join((done.stderr or done.stdout).split()))}"
        raise PromotionError(message)
    return done.stdout


def _safe(text: str) -> str:
    """Without the credentials that a URL may have."""
    return _CREDENTIALS.sub("", text)
