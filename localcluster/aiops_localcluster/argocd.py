"""Argo CD beside a cluster: its programs as processes of this machine, for the length of a with block.

They take the cluster from KUBECONFIG, keep their state in Redis and in a folder of their own, and listen on loopback, the
controller's metrics apart, for which Argo CD knows no address.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from aiops_localcluster import binaries, packages
from aiops_localcluster.cluster import Cluster
from aiops_localcluster.commands import output
from aiops_localcluster.daemon import daemon, free_ports, listens, wait_until
from aiops_localcluster.errors import CommandError, UnsupportedError

NAMESPACE = "argocd"
_NEEDS = {"redis-server": "redis-server", "git": "git"}
_LOOPBACK = "127.0.0.1"
_KINDS = ("applications", "applicationsets", "appprojects")
_CONFIG = ("argocd-cm", "argocd-secret", "argocd-rbac-cm", "argocd-cmd-params-cm")
_FOLDERS = (
    "ARGOCD_GNUPGHOME",
    "ARGOCD_TLS_DATA_PATH",
    "ARGOCD_SSH_DATA_PATH",
    "ARGOCD_PLUGINSOCKFILEPATH",
    "TMPDIR",
    "HOME",
)


@dataclass(frozen=True)
class ArgoCD:
    """A running Argo CD.

    Attributes:
        program: The CLI.
        server: Where its API is, as host:port; anybody on this machine may do anything there.
        environment: What the CLI is run with.
    """

    program: Path
    server: str
    environment: Mapping[str, str]

    def run(self, *arguments: str, timeout: float = 120) -> str:
        """Run the CLI, such as `run("app", "sync", "aiops-quality")`, and return what it printed.

        Raises:
            CommandError: It failed; with what it said.
            TimeoutExpiredError: It took longer than `timeout` seconds.
        """
        where = ("--server", self.server, "--plaintext", "--auth-token", "none")
        return output([self.program, *arguments, *where], timeout=timeout, env=self.environment)


@dataclass(frozen=True)
class Ports:
    """A port of loopback for each thing that listens; what is only listened on has no other use."""

    redis: int
    server: int
    repositories: int
    applications: int
    server_metrics: int
    repositories_metrics: int
    sets_metrics: int
    sets_probe: int
    sets_webhook: int


@contextlib.contextmanager
def argo_cd(cluster: Cluster, customizations: Mapping[str, str] | None = None) -> Iterator[ArgoCD]:
    """Install Argo CD's kinds and configuration, and run it; what it wrote into the cluster stays there.

    Args:
        cluster: A cluster that runs, without an Argo CD.
        customizations: Further keys of the ConfigMap argocd-cm.

    Raises:
        UnsupportedError: The cluster has an Argo CD, which is left alone.
        LocalClusterError: A program could not be had or did not start.
    """
    packages.ensure(_NEEDS, cluster.progress)
    redis = packages.which("redis-server") or Path("/usr/bin/redis-server")
    program = cluster.tool("argocd")
    with tempfile.TemporaryDirectory(prefix="argocd-") as folder, contextlib.ExitStack() as running:
        place = Path(folder)
        environment = _environment(cluster, place)
        _install(cluster, customizations or {})
        ports = Ports(*free_ports(len(fields(Ports))))
        ready: dict[str, Callable[[], bool]] = {
            "redis-server": lambda: listens(ports.redis),
            # It makes the project `default`; an Application that is there before it waits half a minute.
            "argocd-server": lambda: listens(ports.server) and _has_project(cluster),
            "argocd-repo-server": lambda: listens(ports.repositories),
            "argocd-application-controller": lambda: listens(ports.applications),
            "argocd-applicationset-controller": lambda: listens(ports.sets_probe),
        }
        for name, arguments in command_lines(ports).items():
            path = place / "bin" / name
            path.symlink_to(redis if name == "redis-server" else program)  # Argo CD's program is what its name says
            running.enter_context(daemon([str(path), *arguments], ready[name], place / f"{name}.log", environment))
        cluster.progress(f"Argo CD runs; its API is at {_LOOPBACK}:{ports.server}")
        yield ArgoCD(program, f"{_LOOPBACK}:{ports.server}", environment)


def command_lines(ports: Ports) -> dict[str, tuple[str, ...]]:
    """What each program is told, in the order in which they start: name to arguments.

    Git is looked at every few seconds and a change by hand undone at once, where Argo CD's defaults are made for
    thousands of Applications.
    """
    redis = f"--redis={_LOOPBACK}:{ports.redis}"
    repositories = f"{_LOOPBACK}:{ports.repositories}"
    namespace = f"--namespace={NAMESPACE}"
    return {
        "redis-server": ("--bind", _LOOPBACK, "--port", str(ports.redis), "--save", "", "--appendonly", "no"),
        "argocd-server": (
            namespace,
            "--insecure",
            "--disable-auth",
            f"--address={_LOOPBACK}",
            f"--port={ports.server}",
            f"--metrics-address={_LOOPBACK}",
            f"--metrics-port={ports.server_metrics}",
            f"--dex-server=http://{_LOOPBACK}:1",
            f"--repo-server={repositories}",
            redis,
        ),
        "argocd-repo-server": (
            f"--address={_LOOPBACK}",
            f"--port={ports.repositories}",
            f"--metrics-address={_LOOPBACK}",
            f"--metrics-port={ports.repositories_metrics}",
            "--revision-cache-expiration=1s",
            redis,
        ),
        "argocd-application-controller": (
            namespace,
            f"--metrics-port={ports.applications}",
            f"--repo-server={repositories}",
            "--app-resync=5",
            "--app-resync-jitter=0",
            "--self-heal-backoff-timeout-seconds=1",
            "--self-heal-backoff-factor=1",
            "--persist-resource-health",
            redis,
        ),
        "argocd-applicationset-controller": (
            namespace,
            f"--metrics-addr={_LOOPBACK}:{ports.sets_metrics}",
            f"--probe-addr={_LOOPBACK}:{ports.sets_probe}",
            f"--webhook-addr={_LOOPBACK}:{ports.sets_webhook}",
            f"--argocd-repo-server={repositories}",
        ),
    }


def health(program: Path, configuration: Path, resource: Path) -> tuple[str, str]:
    """What a health script says of a resource: status and message. Needs no cluster.

    Args:
        program: `argocd`.
        configuration: A manifest of the ConfigMap argocd-cm with the script.
        resource: A manifest of the resource.

    Raises:
        CommandError: The script failed, or there is none for this kind.
    """
    arguments = ("admin", "settings", "resource-overrides", "health", resource, "--argocd-cm-path", configuration)
    said = output([program, *arguments])
    found = dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)
    if "STATUS" not in found:
        message = f"no health of {resource}: {said.strip()}"
        raise CommandError(message)
    return found["STATUS"], found.get("MESSAGE", "")


def _environment(cluster: Cluster, place: Path) -> dict[str, str]:
    folders = {name: place / name.lower() for name in _FOLDERS}
    for folder in (*folders.values(), place / "bin"):
        folder.mkdir()
    (place / "bin" / "helm").symlink_to(cluster.tool("helm"))
    return {
        **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        **{name: str(folder) for name, folder in folders.items()},
        "KUBECONFIG": str(cluster.kubeconfig),
        "ARGOCD_FAKE_IN_CLUSTER": "true",  # https://kubernetes.default.svc is then the cluster of KUBECONFIG
        "ARGOCD_GPG_ENABLED": "false",
        "PATH": f"{place / 'bin'}:{os.environ.get('PATH', '')}",
    }


def _install(cluster: Cluster, customizations: Mapping[str, str]) -> None:
    found = _kubectl(cluster, "get", "deployments,statefulsets", "--output=name").split()
    if found:
        message = f"the cluster has an Argo CD of its own in the namespace {NAMESPACE} ({found[0]}): it is left alone"
        raise UnsupportedError(message)
    manifests = binaries.module_folder("argocd") / "manifests"
    apply = ("apply", "--server-side", "--force-conflicts")
    crds = sorted((manifests / "crds").glob("*-crd.yaml"))
    _kubectl(cluster, *apply, *(f"--filename={path}" for path in crds))
    wait_until(lambda: all(_is_served(cluster, kind) for kind in _KINDS), lambda: "Argo CD's kinds are not served")
    if not _kubectl(cluster, "get", "namespace", NAMESPACE, "--ignore-not-found"):
        _kubectl(cluster, "create", "namespace", NAMESPACE)
    config = (manifests / "base" / "config" / f"{name}.yaml" for name in _CONFIG)
    _kubectl(cluster, *apply, *(f"--filename={path}" for path in config))
    patch = json.dumps({"data": dict(customizations)})
    _kubectl(cluster, "patch", "configmap", "argocd-cm", "--type=merge", f"--patch={patch}")


def _is_served(cluster: Cluster, kind: str) -> bool:
    try:
        _kubectl(cluster, "get", "--raw", f"/apis/argoproj.io/v1alpha1/{kind}")
    except CommandError:
        return False
    return True


def _has_project(cluster: Cluster) -> bool:
    projects = _kubectl(cluster, "get", "appprojects", "--output=name").splitlines()
    keys = _kubectl(cluster, "get", "secret", "argocd-secret", "--output=jsonpath={.data}")
    return "appproject.argoproj.io/default" in projects and "server.secretkey" in keys


def _kubectl(cluster: Cluster, *arguments: str) -> str:
    kubectl = (cluster.tool("kubectl"), f"--kubeconfig={cluster.kubeconfig}", f"--namespace={NAMESPACE}")
    return output([*kubectl, *arguments], timeout=90)
