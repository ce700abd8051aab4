"""What the pipeline talks to, on addresses of this machine: a real registry, and a real git server with a repository."""

import contextlib
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml
from waiting import until

from aiops_localcluster import binaries


def free_port(host):
    """A port on which nobody listens."""
    with socket.create_server((host, 0)) as probe:
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(*command, ready):
    """A process for the length of a with block, once it is ready."""
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(ready, explain=lambda: f"exit code {process.poll()}: {command}")
        yield
    finally:
        process.terminate()
        process.wait(10)


def answers(url):
    """Whether something answers there, whatever it says."""
    with contextlib.suppress(httpx.TransportError):
        return bool(httpx.get(url).status_code)
    return False


@contextlib.contextmanager
def registry(folder, host="127.0.0.1", **auth):
    """The real registry, with its files in a folder; its host and port."""
    port = free_port(host)
    configuration = {
        "version": 0.1,
        "log": {"accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder)}},
        "http": {"addr": f"{host}:{port}", "secret": "of this test alone"},
        **({"auth": auth} if auth else {}),
    }
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(configuration))
    program = binaries.ensure_one("registry", progress=print)
    with running(program, "serve", file, ready=lambda: answers(f"http://{host}:{port}/v2/")):
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
    bare, clone, port = served / "services.git", folder / "clone", free_port(host)
    for command in (
        ["git", "init", "--quiet", "--bare", "--initial-branch=main", bare],
        ["git", "init", "--quiet", "--initial-branch=main", clone],
    ):
        subprocess.run(command, check=True)
    daemon = ["git", "daemon", "--export-all", "--enable=receive-pack", "--reuseaddr", f"--base-path={served}"]

    def listens():
        with socket.socket() as tried:
            return tried.connect_ex((host, port)) == 0

    with running(*daemon, f"--listen={host}", f"--port={port}", served, ready=listens):
        made = Repository(f"git://{host}:{port}/services.git", bare, clone)
        made.git("remote", "add", "origin", made.url)
        yield made
