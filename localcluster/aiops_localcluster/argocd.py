"""Argo CD beside a cluster: its programs as processes of this machine, for the length of a with block.

They take the cluster from KUBECONFIG, keep their state in Redis and in a folder of their own, and listen on loopback only.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiops_localcluster import binaries, packages
from aiops_localcluster.cluster import Cluster
from aiops_localcluster.commands import output
from aiops_localcluster.daemon import daemon, free_ports, listens, wait_until
from aiops_localcluster.errors import CommandError

NAMESPACE = "argocd"
NEEDS = {"redis-server": "redis-server", "git": "git"}
_KINDS = ("applications", "applicationsets", "appprojects")
_CONFIG = ("argocd-cm", "argocd-secret", "argocd-rbac-cm", "argocd-cmd-params-cm")


@dataclass(frozen=True)
class ArgoCD:
    """A running Argo CD.

    Attributes:
        program: The CLI.
        server: Where its API is, as host:port; anybody may do anything there.
        environment: What the CLI is run with.
    """

    program: Path
    server: str
    environment: Mapping[str, str]

    def run(self, *arguments: str, timeout: float = 120) -> str:
        """Run the CLI, such as `run("app", "sync", "aiops-quality")`, and return what it printed.

        Raises:
            CommandError: It failed; with what it said.
        """
        where = ("--server", self.server, "--plaintext", "--auth-token", "none")
        return output([self.program, *arguments, *where], timeout=timeout, env=self.environment)


@contextlib.contextmanager
def argo_cd(cluster: Cluster, customizations: Mapping[str, str]) -> Iterator[ArgoCD]:
    """Install Argo CD's kinds and configuration, and run it.

    Args:
        cluster: A cluster that runs.
        customizations: Further keys of the ConfigMap argocd-cm.

    Raises:
        LocalClusterError: A program could not be had or did not start.
    """
    packages.ensure(NEEDS, cluster.progress)
    program = cluster.tool("argocd")
    with tempfile.TemporaryDirectory(prefix="argocd-") as folder, contextlib.ExitStack() as running:
        place = Path(folder)
        environment = _environment(cluster, place)
        _install(cluster, customizations)
        redis, server, repository, *metrics = free_ports(6)
        links = {name: place / "bin" / f"argocd-{name}" for name in ("server", "repo-server", "application-controller")}
        for link in links.values():
            link.symlink_to(program)  # the name decides what the program is
        stores = ("--redis", f"127.0.0.1:{redis}")
        trees = ("--repo-server", f"127.0.0.1:{repository}")
        redis_server = packages.which("redis-server") or Path("redis-server")

        def start(what: str, ready: Callable[[], bool], *command: object) -> None:
            log = place / f"{what}.log"
            running.enter_context(daemon([str(part) for part in command], ready, log, environment))

        start(
            *("redis", lambda: listens(redis), redis_server, "--port", redis, "--bind", "127.0.0.1"),
            *("--save", "", "--appendonly", "no", "--dir", place),
        )
        # It makes the project `default`, without which an Application waits half a minute.
        start(
            *(
                "server",
                lambda: _has_project(cluster),
                links["server"],
                "-n",
                NAMESPACE,
                "--insecure",
                "--disable-auth",
            ),
            *(
                "--address",
                "127.0.0.1",
                "--port",
                server,
                "--metrics-address",
                "127.0.0.1",
                "--metrics-port",
                metrics[0],
            ),
            *(*stores, *trees, "--dex-server", "http://127.0.0.1:1"),
        )
        start(
            *("repo-server", lambda: listens(repository), links["repo-server"], "--address", "127.0.0.1"),
            *("--port", repository, "--metrics-address", "127.0.0.1", "--metrics-port", metrics[1], *stores),
            *("--revision-cache-expiration", "1s"),
        )
        start(
            *("application-controller", lambda: listens(metrics[2]), links["application-controller"], "-n", NAMESPACE),
            *(*stores, *trees, "--metrics-port", metrics[2], "--app-resync", "5", "--app-resync-jitter", "0"),
            *(
                "--self-heal-backoff-timeout-seconds",
                "1",
                "--self-heal-backoff-factor",
                "1",
                "--persist-resource-health",
            ),
        )
        yield ArgoCD(program, f"127.0.0.1:{server}", environment)


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
    folders = {
        name: place / name.lower()
        for name in (
            "ARGOCD_GNUPGHOME",
            "ARGOCD_TLS_DATA_PATH",
            "ARGOCD_SSH_DATA_PATH",
            "ARGOCD_PLUGINSOCKFILEPATH",
            "TMPDIR",
            "HOME",
        )
    }
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
    manifests = binaries.module_folder("argocd") / "manifests"
    kubectl: list[str | Path] = [cluster.tool("kubectl"), f"--kubeconfig={cluster.kubeconfig}"]
    crds = [f"--filename={path}" for path in sorted((manifests / "crds").glob("*-crd.yaml"))]
    output([*kubectl, "apply", "--server-side", "--force-conflicts", *crds], timeout=60)
    wait_until(lambda: all(_is_served(kubectl, kind) for kind in _KINDS), lambda: "Argo CD's kinds are not served")
    if NAMESPACE not in output([*kubectl, "get", "namespaces", "--output=jsonpath={.items[*].metadata.name}"]).split():
        output([*kubectl, "create", "namespace", NAMESPACE])
    config = [f"--filename={manifests / 'base' / 'config' / name}.yaml" for name in _CONFIG]
    output([*kubectl, f"--namespace={NAMESPACE}", "apply", "--server-side", "--force-conflicts", *config])
    patch = json.dumps({"data": dict(customizations)})
    output(
        [*kubectl, f"--namespace={NAMESPACE}", "patch", "configmap", "argocd-cm", "--type=merge", f"--patch={patch}"]
    )


def _is_served(kubectl: Sequence[str | Path], kind: str) -> bool:
    try:
        output([*kubectl, "get", "--raw", f"/apis/argoproj.io/v1alpha1/{kind}"])
    except CommandError:
        return False
    return True


def _has_project(cluster: Cluster) -> bool:
    kubectl: list[str | Path] = [
        cluster.tool("kubectl"),
        f"--kubeconfig={cluster.kubeconfig}",
        f"--namespace={NAMESPACE}",
    ]
    found = output([*kubectl, "get", "appprojects", "--output=name"])
    keys = output([*kubectl, "get", "secret", "argocd-secret", "--output=jsonpath={.data}"])
    return "default" in found and "server.secretkey" in keys
