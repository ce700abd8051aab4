"""What the pipeline talks to, on addresses of this machine: a real registry, and a real git server with a repository."""

import contextlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from aiops_localcluster import binaries
from aiops_localcluster.daemon import daemon, free_ports, listens


def answers(url):
    """Whether something answers there, whatever it says."""
    with contextlib.suppress(httpx.TransportError):
        return bool(httpx.get(url).status_code)
    return False


@contextlib.contextmanager
def registry(folder, host="127.0.0.1", **auth):
    """The real registry, with its files in a folder; its host and port."""
    (port,) = free_ports(1, host)
    configuration = {
        "version": 0.1,
        "log": {"accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder)}},
        "http": {"addr": f"{host}:{port}", "secret": "of this test alone"},
        **({"auth": auth} if auth else {}),
    }
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(configuration))
    command = [str(binaries.ensure_one("registry", progress=print)), "serve", str(file)]
    with daemon(command, lambda: answers(f"http://{host}:{port}/v2/"), folder / "registry.log"):
        yield f"{host}:{port}"


@dataclass(frozen=True)
class Repository:
    """A git repository that is served, and a clone of it to look into and to write to it as somebody else does."""

    url: str
    bare: Path
    clone: Path

    def git(self, *arguments):
        """Run git in the clone, and return what it printed."""
        command = ["git", "-c", "user.name=somebody", "-c", "user.email=somebody@example.com", *arguments]
        return subprocess.run(command, cwd=self.clone, check=True, capture_output=True, text=True).stdout

    def commit(self, name, text):
        """Write a file, and push it."""
        (self.clone / name).parent.mkdir(parents=True, exist_ok=True)
        (self.clone / name).write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", f"--message={name}")
        self.git("push", "--quiet", "origin", "HEAD:main")

    def pulled(self, name):
        """A file as it is in the repository now."""
        self.git("pull", "--quiet", "--rebase", "origin", "main")
        return (self.clone / name).read_text()

    def log(self, form="%B"):
        """The newest commit."""
        self.git("fetch", "--quiet", "origin", "main")
        return self.git("log", "-1", f"--format={form}", "FETCH_HEAD").strip()


@contextlib.contextmanager
def repository(folder, host="127.0.0.1"):
    """A repository behind `git daemon`, which takes pushes, with its files in a folder."""
    served = folder / "served"
    bare, clone, (port,) = served / "services.git", folder / "clone", free_ports(1, host)
    for command in (
        ["git", "init", "--quiet", "--bare", "--initial-branch=main", bare],
        ["git", "init", "--quiet", "--initial-branch=main", clone],
    ):
        subprocess.run(command, check=True)
    command = ["git", "daemon", "--export-all", "--enable=receive-pack", "--reuseaddr", f"--base-path={served}"]
    command += [f"--listen={host}", f"--port={port}", str(served)]
    with daemon(command, lambda: listens(port, host), folder / "git-daemon.log"):
        made = Repository(f"git://{host}:{port}/services.git", bare, clone)
        made.git("remote", "add", "origin", made.url)
        yield made
