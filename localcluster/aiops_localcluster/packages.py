"""Install the distribution's packages that a node or an image build needs and this machine lacks."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from aiops_localcluster import cache
from aiops_localcluster.commands import run_long
from aiops_localcluster.config import CNI_PLUGINS
from aiops_localcluster.errors import UnsupportedError
from aiops_localcluster.progress import Progress

NODE = {
    "runc": "runc",
    f"{CNI_PLUGINS}/ptp": "containernetworking-plugins",
    "nft": "nftables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
}
IMAGES = {"buildah": "buildah", "mmdebstrap": "mmdebstrap", "unshare": "util-linux"}
_TIMEOUT = 900.0
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def which(program: str) -> Path | None:
    """Return where a program of the distribution is, also where PATH lacks the administrator's folders."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_PATH}")
    return Path(found) if found else None


def missing(needs: Mapping[str, str]) -> list[str]:
    """Return the packages, sorted, whose program is not there.

    Args:
        needs: Program (a name, or a path) to package.
    """
    return sorted({package for program, package in needs.items() if not which(program)})


def ensure(needs: Mapping[str, str], progress: Progress) -> None:
    """Install what is missing.

    Args:
        needs: Program to package, `NODE` or `IMAGES`.
        progress: Told what is installed.

    Raises:
        UnsupportedError: We are not root, or there is no apt-get.
        CommandError: apt-get failed.
    """
    absent = missing(needs)
    if not absent:
        return
    names = " ".join(absent)
    apt = which("apt-get")
    if not apt:
        message = f"this machine lacks {names} (names of Debian packages) and has no apt-get: install them first"
        raise UnsupportedError(message)
    if os.geteuid():
        message = f"this machine lacks {names}: run `sudo apt-get install {names}`, or this command as root"
        raise UnsupportedError(message)
    with cache.locked(
        cache.folder() / "packages.lock", what="installing packages", progress=progress, timeout=_TIMEOUT
    ):
        absent = missing(needs)
        if not absent:
            return
        progress(f"installing {' '.join(absent)} with apt-get: about a minute, once")
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        wait = ("-o", "DPkg::Lock::Timeout=300")
        run_long([apt, *wait, "update"], "apt-get update", progress=progress, timeout=_TIMEOUT, env=env)
        run_long(
            [apt, *wait, "install", "--yes", "--no-install-recommends", *absent],
            "apt-get install",
            progress=progress,
            timeout=_TIMEOUT,
            env=env,
        )
