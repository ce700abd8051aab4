"""Programs that tests use and the product does not, each set in a Python environment of its own, in the cache."""

import shutil
import subprocess
import sys
from pathlib import Path

from aiops_localcluster import cache
from aiops_localcluster.progress import Lines

INSTALL_TIMEOUT = 600


def environment(requirements: Path, what: str) -> Path:
    """The folder with the programs of the environment of these requirements, made where it is not there yet.

    Where a package-lock.json is beside them, they bring npm, which installs what is in it into the folder above.
    """
    name = requirements.parent.name
    npm = sorted(requirements.parent.glob("package*.json"))
    pinned = [path.read_bytes() for path in (requirements, *npm)]
    folder = cache.folder() / f"{name}-{cache.key([*pinned, sys.version])}"
    uv = next(cache.folder().glob("uv-*/bin/uv"))
    progress = Lines()

    def make(unfinished: Path) -> None:
        progress(f"installing {what}: half a minute the first time")
        for command in (
            [uv, "venv", "--quiet", "--relocatable", "--allow-existing", f"--python={sys.executable}", unfinished],
            [uv, "pip", "install", "--quiet", "--no-deps", f"--python={unfinished}", f"--requirement={requirements}"],
        ):
            subprocess.run(command, check=True, timeout=INSTALL_TIMEOUT)
        if npm:
            for path in npm:
                shutil.copy(path, unfinished)
            command = [unfinished / "bin" / "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
            subprocess.run(command, check=True, timeout=INSTALL_TIMEOUT, cwd=unfinished)

    with cache.locked(
        folder.with_suffix(".lock"), what=f"installing {what}", progress=progress, timeout=INSTALL_TIMEOUT
    ):
        if not folder.is_dir():
            cache.fill(folder, make)
    return folder / "bin"
