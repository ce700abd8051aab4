"""The control plane: its identity, its daemons, and a mode in which it runs alone, without a node and without root."""

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from aiops_localcluster import cache, config, supervisor
from aiops_localcluster.binaries import CONTROL_PLANE, Binaries, ensure
from aiops_localcluster.certificates import Authority, Pair, signing_key
from aiops_localcluster.commands import tail_of
from aiops_localcluster.errors import StartError
from aiops_localcluster.progress import Progress, silent

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.05
_REQUEST_SECONDS = 5.0
_USERS = {
    "admin": ("admin", ("system:masters",)),
    # Its controllers' many roles would otherwise have to be taken on one by one, each with a token of its own.
    "controller-manager": ("system:kube-controller-manager", ("system:masters",)),
    "scheduler": ("system:kube-scheduler", ()),
    "proxy": ("system:kube-proxy", ()),
}


@dataclass(frozen=True)
class ControlPlane:
    """A running API server.

    Attributes:
        kubeconfig: File for kubectl and clients, with the rights of an administrator.
        url: URL of the API server.
        state: Folder with the daemons' logs, `<name>.log`.
        pid: Process id of the supervisor.
    """

    kubeconfig: Path
    url: str
    state: Path
    pid: int


@dataclass(frozen=True)
class Issued:
    """What `issue` made.

    Attributes:
        identity: What the API server and the controller manager are given.
        authority: The authority, to issue more.
        admin: The administrator's client certificate.
    """

    identity: config.Identity
    authority: Authority
    admin: Pair


def issue(state: Path, endpoint: config.Endpoint, service_address: str) -> Issued:
    """Make keys, certificates and kubeconfigs of the control plane.

    Args:
        state: Folder to write to; `kubeconfig` in it is the administrator's.
        endpoint: Where the API server will listen.
        service_address: Address of the Service `kubernetes`.
    """
    authority = Authority(state / "pki")
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
    hosts = (*names, "localhost", "127.0.0.1", endpoint.address, service_address)
    identity = config.Identity(
        authority=authority.certificate,
        server=authority.server("apiserver", "kube-apiserver", tuple(dict.fromkeys(hosts))),
        kubelet_client=authority.client("apiserver-kubelet", "kube-apiserver", ("system:masters",)),
        service_accounts=signing_key(authority.folder),
    )
    pairs = {file: authority.client(file, user, groups) for file, (user, groups) in _USERS.items()}
    for file, pair in pairs.items():
        write_kubeconfig(state / f"{file}.kubeconfig", endpoint.url, authority.certificate, pair)
    (state / "admin.kubeconfig").rename(state / "kubeconfig")
    return Issued(identity, authority, pairs["admin"])


def write_kubeconfig(path: Path, url: str, authority: Path, pair: Pair) -> None:
    """Write a kubeconfig that only its owner can read."""
    content = config.kubeconfig(url, authority.read_bytes(), pair.certificate.read_bytes(), pair.key.read_bytes())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        yaml.safe_dump(content, file, sort_keys=False)


def daemons(
    programs: Binaries, state: Path, endpoint: config.Endpoint, identity: config.Identity
) -> tuple[config.Daemon, ...]:
    """Describe the daemons of a control plane without a scheduler."""
    return (
        config.etcd(programs["etcd"], state),
        config.kube_apiserver(programs["kube-apiserver"], state, endpoint, identity),
        config.kube_controller_manager(programs["kube-controller-manager"], state, endpoint, identity),
    )


def write_specification(
    state: Path, daemons: Sequence[config.Daemon], *, setup: Sequence[Sequence[str]] = (), restart: bool, parent: int
) -> Path:
    """Write what the supervisor is to run; see there."""
    path = state / "daemons.json"
    specification = {
        "state": str(state),
        "setup": [list(command) for command in setup],
        "daemons": [asdict(daemon) for daemon in daemons],
        "restart": restart,
        "parent": parent,
    }
    path.write_text(json.dumps(specification, indent=1))
    return path


def supervisor_command(specification: Path) -> tuple[str, ...]:
    """Return the command line of the supervisor: isolated, since it needs the standard library alone."""
    return (sys.executable, "-I", "-S", supervisor.__file__, str(specification))


class Api:
    """The few requests that starting a cluster needs.

    Attributes:
        url: URL of the API server.
    """

    def __init__(self, url: str, authority: Path, client: Pair) -> None:
        self.url = url
        self._context = ssl.create_default_context(cafile=str(authority))
        self._context.load_cert_chain(client.certificate, client.key)

    def get(self, path: str) -> bytes | None:
        """Return the body under a path, or None while there is no 2xx answer."""
        try:
            with urllib.request.urlopen(  # noqa: S310 - the URL is ours and is always https
                self.url + path, timeout=_REQUEST_SECONDS, context=self._context
            ) as answer:
                body: bytes = answer.read()
                return body
        except (urllib.error.URLError, OSError):
            return None


@dataclass(frozen=True)
class Watch:
    """What is looked at while a cluster starts.

    Attributes:
        name: Of the cluster.
        state: Folder with the daemons' logs.
        is_alive: Whether the supervisor runs.
        seconds: How long each step may take.
    """

    name: str
    state: Path
    is_alive: Callable[[], bool]
    seconds: float

    def until(self, what: str, check: Callable[[], bool]) -> None:
        """Wait for a condition while the supervisor and its daemons live.

        Args:
            what: What is waited for, as it stands in the error.
            check: The condition.

        Raises:
            StartError: A daemon died, or the time is over; shows the end of the log, and says where the logs are kept.
        """
        deadline = time.monotonic() + self.seconds
        while not check():
            if reason := self._failure(what, deadline):
                message = f"{reason}\nall logs: {keep_logs(self.state, self.name)}"
                raise StartError(message)
            time.sleep(_POLL_SECONDS)

    def _failure(self, what: str, deadline: float) -> str | None:
        if exits := _exits(self.state):
            name, code = exits[0]
            said = tail_of(self.state / f"{name}.log")
            return f"{name} ended with code {code} while waiting for {what}; its log ends with:\n{said}"
        if not self.is_alive():
            return f"the supervisor ended; its log ends with:\n{tail_of(self.state / 'supervisor.log')}"
        if time.monotonic() > deadline:
            ends = "\n".join(f"  {log.name}:\n{tail_of(log, 5)}" for log in sorted(self.state.glob("*.log")))
            return f"{what} did not come within {self.seconds:.0f} s; the logs end with:\n{ends}"
        return None


def _exits(state: Path) -> list[tuple[str, int]]:
    try:
        lines = (state / "exits.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [(entry["name"], entry["code"]) for entry in map(json.loads, lines)]


def keep_logs(state: Path, name: str) -> Path:
    """Copy the logs of a start that failed to where they outlive it.

    Args:
        state: Folder with the daemons' logs.
        name: Of the cluster; the logs of its last failure are replaced.

    Returns:
        The folder with the copies.
    """
    folder = cache.folder() / "logs" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for log in state.glob("*.log"):
        shutil.copy(log, folder)
    return folder


def is_serving(api: Api) -> bool:
    """Tell whether the API server is ready and the controllers have begun their work."""
    return api.get("/readyz") == b"ok" and api.get("/api/v1/namespaces/default/serviceaccounts/default") is not None


@contextlib.contextmanager
def control_plane(progress: Progress = silent) -> Iterator[ControlPlane]:
    """Run etcd, kube-apiserver and kube-controller-manager for the length of a with block.

    They listen on loopback and socket files alone, need no root, and are gone with all they wrote when the block ends
    or this process does, however it ends.

    Args:
        progress: Told about builds and the start.

    Yields:
        The running control plane.

    Raises:
        StartError: A daemon died or did not become ready within a minute; shows its log.
    """
    programs = ensure(*CONTROL_PLANE, progress=progress)
    state = Path(tempfile.mkdtemp(prefix="aiops-control-plane-"))
    try:
        with socket.socket() as kept, _supervised(programs, state, kept) as running:
            progress(f"control plane at {running.url}")
            yield running
    finally:
        shutil.rmtree(state, ignore_errors=True)


@contextlib.contextmanager
def _supervised(programs: Binaries, state: Path, kept: socket.socket) -> Iterator[ControlPlane]:
    # The port stays bound here, without listening, until the API server shares it: nobody else can take it meanwhile.
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    kept.bind(("127.0.0.1", 0))
    endpoint = config.Endpoint("127.0.0.1", kept.getsockname()[1], "10.96.0.0/16", is_published=False)
    issued = issue(state, endpoint, "10.96.0.1")
    specification = write_specification(
        state, daemons(programs, state, endpoint, issued.identity), restart=False, parent=os.getpid()
    )
    with (state / "supervisor.log").open("w") as log:
        process = subprocess.Popen(
            supervisor_command(specification), stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
    try:
        api = Api(endpoint.url, issued.authority.certificate, issued.admin)
        watch = Watch("control-plane", state, lambda: process.poll() is None, _START_SECONDS)
        watch.until("the control plane", lambda: is_serving(api))
        yield ControlPlane(state / "kubeconfig", endpoint.url, state, process.pid)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()  # the daemons follow: the kernel tells them
            process.communicate()
