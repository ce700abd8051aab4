"""A whole cluster on this machine: control plane and one node in namespaces of their own.

One PID, one mount and one network namespace hold everything, with the supervisor as their first process. When it ends,
the kernel ends every container, removes every mount and every rule; what remains is a control group, a link and a folder.
"""

import contextlib
import http.client
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from aiops_localcluster import binaries, cache, cgroups, config, controlplane, images, network, packages, processes
from aiops_localcluster.binaries import Binaries
from aiops_localcluster.certificates import Pair
from aiops_localcluster.commands import output
from aiops_localcluster.errors import CommandError, NotRunningError, UnsupportedError
from aiops_localcluster.images import Image
from aiops_localcluster.instance import STATE_ROOT, Instance, Network
from aiops_localcluster.pauseimage import archive
from aiops_localcluster.progress import Progress

_START_SECONDS = 120.0
_HEALTH_SECONDS = 3.0
_POLL_SECONDS = 0.05
_LOCK_SECONDS = 1800.0
_IMPORT_SECONDS = 600.0
_API_PORT = 6443
_CONNECTED = "connected"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CNI_STATE = Path(config.PRIVATE_CNI_STATE)
_SETUP = (
    ("mount", "--make-rshared", "/"),  # volumes that kubelet mounts must reach the containers
    ("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"),
    ("mkdir", "-p", config.PRIVATE_CNI_STATE, "/run/lock"),
    ("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", config.PRIVATE_CNI_STATE),
    ("ip", "link", "set", "lo", "up"),
    ("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"),
)


@dataclass(frozen=True)
class Health:
    """What there is of a cluster.

    Attributes:
        processes: Ids of its processes on this machine.
        leavings: Other things that it holds: its folder, link, control group.
        is_serving: Whether the API server answers.
        is_node_ready: Whether pods can run.
    """

    processes: tuple[int, ...]
    leavings: tuple[str, ...]
    is_serving: bool
    is_node_ready: bool

    @property
    def is_good(self) -> bool:
        """Whether it can be used as it is."""
        return self.is_serving and self.is_node_ready

    @property
    def is_nothing(self) -> bool:
        """Whether nothing of it is there."""
        return not self.processes and not self.leavings


def up(instance: Instance, progress: Progress) -> Path:
    """Start the cluster, or find it running.

    Args:
        instance: Its names.
        progress: Told about each step.

    Returns:
        The kubeconfig.

    Raises:
        UnsupportedError: We are not root, or something is missing that cannot be installed.
        StartError: A daemon died or did not become ready; shows its log; what was begun is removed.
    """
    _require_root()
    packages.ensure(packages.NODE, progress)
    programs = binaries.ensure(*binaries.CONTROL_PLANE, *binaries.NODE, "kubectl", progress=progress)
    with _locked(instance, progress):
        before = health(instance)
        if before.is_good:
            progress(f"cluster {instance.name} is running already")
            return instance.state / "kubeconfig"
        if not before.is_nothing:
            progress(f"removing what is left of a cluster {instance.name} that does not work")
            _remove(instance)
        try:
            _start(instance, programs, progress)
        except BaseException:
            progress("the start did not succeed; removing what was begun")
            _remove(instance)
            raise
    return instance.state / "kubeconfig"


def down(instance: Instance, progress: Progress) -> bool:
    """Remove the cluster and all that it holds.

    Args:
        instance: Its names.
        progress: Told when there is waiting.

    Returns:
        Whether there was anything.
    """
    _require_root()
    with _locked(instance, progress):
        found = not health(instance).is_nothing
        _remove(instance)
    return found


def allow_plain_http(instance: Instance, registry: str) -> None:
    """Let the node pull from a registry of this machine without TLS, from now on.

    Args:
        instance: The cluster.
        registry: As host:port, as it stands in references.
    """
    folder = instance.state / "registries" / registry
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hosts.toml").write_text(f'server = "http://{registry}"\n')


def health(instance: Instance) -> Health:
    """Look at what there is of a cluster."""
    pids = tuple(processes.find(instance.state))
    leavings = {
        str(instance.state): instance.state.exists(),
        f"interface {instance.interface}": network.is_connected(instance),
        f"control group {instance.cgroup}": cgroups.exists(instance.cgroup),
    }
    held = network.reserved(instance)
    api = _api(instance, held) if held and pids else None
    is_serving = api is not None and api.get("/readyz") == b"ok"
    return Health(
        pids,
        tuple(name for name, is_there in leavings.items() if is_there),
        is_serving,
        is_serving and api is not None and _is_node_ready(api, instance.node),
    )


def load(instance: Instance, image: Image, progress: Progress) -> None:
    """Put an image where the node's pods find it, unless it is there.

    Args:
        instance: The cluster, running.
        image: What `images.build` made.
        progress: Told about each step.

    Raises:
        NotRunningError: There is no such cluster.
        CommandError: The image could not be exported or imported.
    """
    _require_root()
    if not (instance.state / "containerd.sock").exists():
        message = f"cluster {instance.name} is not running"
        raise NotRunningError(message)
    known = _images(instance)
    if image.reference in known and known[image.reference] == known.get(image.identifier):
        progress(f"{image.reference} is loaded already")
        return
    with images.exported(image, progress) as file:
        progress(f"loading {image.reference} into cluster {instance.name}")
        _import(instance, file)
    deadline = time.monotonic() + _HEALTH_SECONDS
    while not is_usable(_images(instance), image.reference) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def is_usable(known: Mapping[str, str], reference: str) -> bool:
    """Tell whether pods can be started from an image: kubelet's side has then given it a second name, its digest.

    Args:
        known: Name to digest of all images.
        reference: Name and tag.
    """
    digest = known.get(reference)
    return digest is not None and any(name.startswith("sha256:") and other == digest for name, other in known.items())


def image_digests(listing: str) -> dict[str, str]:
    """Parse what `ctr images ls` prints.

    Args:
        listing: Its text: a heading, then a line an image, beginning with name, media type and digest.
    """
    lines = (line.split() for line in listing.splitlines()[1:])
    return {fields[0]: fields[2] for fields in lines if len(fields) > 2}  # noqa: PLR2004 - name, type, digest


def _images(instance: Instance) -> dict[str, str]:
    return image_digests(ctr(instance, "images", "ls"))


def _import(instance: Instance, file: Path) -> None:
    ctr(instance, "images", "import", "--local", str(file))


def ctr(instance: Instance, *arguments: str) -> str:
    """Run containerd's command line client in the namespace that kubelet uses."""
    program = binaries.ensure_one("ctr")
    return output(
        [program, "--address", f"{instance.state}/containerd.sock", "--namespace", "k8s.io", *arguments],
        timeout=_IMPORT_SECONDS,
    )


def host_address(instance: Instance) -> str:
    """Return the address at which pods reach programs on this machine.

    Raises:
        NotRunningError: There is no such cluster.
    """
    held = network.reserved(instance)
    if not held:
        message = f"cluster {instance.name} is not running"
        raise NotRunningError(message)
    return held.host


def _require_root() -> None:
    if os.geteuid():
        message = "a node needs namespaces, mounts and control groups: run this as root (sudo)"
        raise UnsupportedError(message)


@contextlib.contextmanager
def _locked(instance: Instance, progress: Progress) -> Iterator[None]:
    what = f"starting or stopping cluster {instance.name}"
    try:
        with cache.locked(instance.lock, what=what, progress=progress, timeout=_LOCK_SECONDS, is_temporary=True):
            yield
    finally:
        with contextlib.suppress(OSError):  # it is the last cluster's to remove
            STATE_ROOT.rmdir()


def _start(instance: Instance, programs: Binaries, progress: Progress) -> None:
    addresses = network.reserve(instance, progress)
    cgroups.create(instance.cgroup)
    specification, api = _configure(instance, addresses, programs)
    progress(f"starting the control plane at {api.url}")
    _launch(instance, specification, programs)

    watch = controlplane.Watch(
        instance.name, instance.state, lambda: bool(processes.find(instance.state)), _START_SECONDS
    )
    watch.until("the node's namespaces", lambda: _is_connected(instance, addresses))
    watch.until("the container runtime", lambda: _imports_pause_image(instance, programs))
    watch.until("the control plane", lambda: controlplane.is_serving(api))
    progress("control plane ready; waiting for the node")
    watch.until("the node", lambda: _is_node_ready(api, instance.node))
    watch.until("the rules of Services", lambda: _has_service_rules(addresses))
    progress("node ready")


def _configure(instance: Instance, addresses: Network, programs: Binaries) -> tuple[Path, controlplane.Api]:
    state = instance.state
    endpoint = config.Endpoint(addresses.node, _API_PORT, str(addresses.services), is_published=True)
    issued = controlplane.issue(state, endpoint, str(addresses.services[1]))
    authority = issued.authority.certificate
    user = issued.authority.client("kubelet", f"system:node:{instance.node}", ("system:nodes",))
    controlplane.write_kubeconfig(state / "kubelet.kubeconfig", endpoint.url, authority, user)
    serving = issued.authority.server("kubelet-server", instance.node, (instance.node, addresses.node))
    documents = {
        "kubelet.yaml": config.kubelet_configuration(state, authority, serving, instance.cgroup, addresses.host),
        "kube-proxy.yaml": config.kube_proxy_configuration(state, instance.node, str(addresses.pods)),
    }
    for name, document in documents.items():
        (state / name).write_text(yaml.safe_dump(document, sort_keys=False))
    (state / "cni").mkdir()
    (state / "cni" / "10-pods.conflist").write_text(
        json.dumps(config.pod_network(state, str(addresses.pods)), indent=1)
    )
    (state / "resolv.conf").write_text(f"nameserver {addresses.host}\noptions timeout:1 attempts:1\n")
    runc = str(packages.which("runc"))
    (state / "containerd.toml").write_text(config.toml(config.containerd_configuration(state, runc)))
    daemons: tuple[config.Daemon, ...] = (
        config.containerd(programs["containerd"], state),
        *controlplane.daemons(programs, state, endpoint, issued.identity),
        config.kube_scheduler(programs["kube-scheduler"], state, endpoint),
        config.kubelet(programs["kubelet"], state, instance.node, addresses.node, endpoint),
        config.kube_proxy(programs["kube-proxy"], state, endpoint),
    )
    daemons = tuple(replace(daemon, needs=(f"{state}/{_CONNECTED}", *daemon.needs)) for daemon in daemons)
    specification = controlplane.write_specification(state, daemons, setup=_SETUP, restart=True, parent=0)
    return specification, controlplane.Api(endpoint.url, authority, issued.admin)


def _launch(instance: Instance, specification: Path, programs: Binaries) -> None:
    folders = dict.fromkeys(str(path.parent) for path in programs.paths.values())
    environment = {"PATH": ":".join([*folders, _PATH]), "HOME": "/root", processes.MARK: str(instance.state)}
    log = instance.state / "supervisor.log"
    namespaces = ("--fork", "--pid", "--mount-proc", "--mount", "--net", "--uts", "--ipc", "--kill-child")
    command = ["unshare", *namespaces, "--", *controlplane.supervisor_command(specification)]
    # setsid forks and leaves at once: whoever started the cluster has no child to wait for.
    output(
        ["setsid", "--fork", "sh", "-c", 'log=$1; shift; exec "$@" >"$log" 2>&1 </dev/null', "sh", str(log), *command],
        env=environment,
    )


def _is_connected(instance: Instance, addresses: Network) -> bool:
    pid = processes.first_of_node(instance.state)
    if pid is None:
        return False
    network.connect(instance, addresses, pid)
    (instance.state / _CONNECTED).touch()
    return True


def _imports_pause_image(instance: Instance, programs: Binaries) -> bool:
    if not (instance.state / "containerd.sock").exists():
        return False
    file = instance.state / "pause.tar"
    if not file.exists():
        file.write_bytes(archive(programs["pause"], config.PAUSE_IMAGE, platform.machine()))
    try:
        _import(instance, file)
    except CommandError:
        return False
    return True


def _api(instance: Instance, addresses: Network) -> controlplane.Api | None:
    keys = instance.state / "pki"
    try:
        return controlplane.Api(
            f"https://{addresses.node}:{_API_PORT}", keys / "ca.crt", Pair(keys / "admin.crt", keys / "admin.key")
        )
    except OSError:  # it was killed before it had written its keys
        return None


def _is_node_ready(api: controlplane.Api, node: str) -> bool:
    body = api.get(f"/api/v1/nodes/{node}")
    if body is None:
        return False
    found = json.loads(body)
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in found["status"].get("conditions", ()))
    return ready and not found["spec"].get("taints")


def _has_service_rules(addresses: Network) -> bool:
    connection = http.client.HTTPConnection(addresses.node, config.PROXY_HEALTH_PORT, timeout=_HEALTH_SECONDS)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _remove(instance: Instance) -> None:
    processes.kill(instance.state)
    network.disconnect(instance)
    cgroups.remove(instance.cgroup)
    _remove_folder(instance.state)
    if not any(path.is_dir() for path in STATE_ROOT.glob("*")):
        with contextlib.suppress(OSError):
            _CNI_STATE.rmdir()  # where another program has put something, this is refused


def _remove_folder(state: Path) -> None:
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    inside = sorted((place for place in mounted if place.startswith(f"{state}/")), reverse=True)
    for place in inside:  # nothing of ours is mounted outside the node's namespace; never delete through a mount
        output(["umount", "--lazy", place])
    deadline = time.monotonic() + _HEALTH_SECONDS
    while state.exists():
        # What the kernel is still letting go of is gone at the next try; after the deadline the reason is told.
        shutil.rmtree(state, ignore_errors=time.monotonic() < deadline)
