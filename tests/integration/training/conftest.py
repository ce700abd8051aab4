"""A real registry and a real git server on loopback."""

import contextlib
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from waiting import until

from aiops_localcluster import binaries
from aiops_training import artifacts
from aiops_training.datasets import load_bundled
from aiops_training.model import fit

# What `htpasswd -nbB trainer 'correct horse'` prints.
HTPASSWD = "trainer:$2b$04$/AAES5hDpz.sUr62Jd0im.kYXOhRnrEsXklbNuRweSYDaaXoRKja2\n"


@pytest.fixture(scope="session")
def iris():
    """The iris artifacts by file name."""
    dataset = load_bundled("iris")
    return artifacts.build(dataset, *fit(dataset))


def free_port():
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
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
def registry(folder, **auth):
    """The real registry, with its files in a folder; its host and port."""
    port = free_port()
    configuration = {
        "version": 0.1,
        "log": {"accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder)}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "of this test alone"},
        **({"auth": auth} if auth else {}),
    }
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(configuration))
    program = binaries.ensure_one("registry", progress=print)
    with running(program, "serve", file, ready=lambda: answers(f"http://127.0.0.1:{port}/v2/")):
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="session")
def registry_files(tmp_path_factory):
    """Where the open registry keeps what it has."""
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="session")
def open_registry(registry_files):
    """A registry that takes what anybody pushes."""
    with registry(registry_files) as where:
        yield where


@pytest.fixture(scope="session")
def closed_registry(tmp_path_factory):
    """A registry that asks for a name and a password."""
    folder = tmp_path_factory.mktemp("registry")
    (folder / "htpasswd").write_text(HTPASSWD)
    with registry(folder, htpasswd={"realm": "models", "path": str(folder / "htpasswd")}) as where:
        yield where


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


@pytest.fixture
def repository(tmp_path):
    """A repository behind `git daemon`, which takes pushes."""
    served = tmp_path / "served"
    bare, clone, port = served / "services.git", tmp_path / "clone", free_port()
    for command in (
        ["git", "init", "--quiet", "--bare", "--initial-branch=main", bare],
        ["git", "init", "--quiet", "--initial-branch=main", clone],
    ):
        subprocess.run(command, check=True)
    daemon = ["git", "daemon", "--export-all", "--enable=receive-pack", "--reuseaddr", f"--base-path={served}"]

    def listens():
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", port)) == 0

    with running(*daemon, "--listen=127.0.0.1", f"--port={port}", served, ready=listens):
        made = Repository(f"git://127.0.0.1:{port}/services.git", bare, clone)
        made.git("remote", "add", "origin", made.url)
        yield made
