"""A Kubernetes that the demo and the tests run on: the one we start here, kind's, or one that the user has."""

import os
import shutil
from abc import ABC, abstractmethod
from pathlib import Path

from aiops_localcluster import binaries, cache, images, local
from aiops_localcluster.commands import output, run_long
from aiops_localcluster.errors import CommandError, NotRunningError, TimeoutExpiredError, UnsupportedError
from aiops_localcluster.instance import Instance, default_instance
from aiops_localcluster.progress import Lines, Progress

KINDS = ("local", "kind", "current")
_KIND_SECONDS = 600.0
_PUSH_SECONDS = 600.0


class Cluster(ABC):
    """One cluster.

    Attributes:
        instance: Names it; of no meaning for `current`.
        progress: Told about each step.
    """

    kind: str

    def __init__(self, instance: Instance, progress: Progress) -> None:
        self.instance = instance
        self.progress = progress
        self._tools: dict[str, Path] = {}

    @property
    @abstractmethod
    def kubeconfig(self) -> Path:
        """The file that kubectl and clients are given."""

    @abstractmethod
    def up(self) -> None:
        """Start it, or find it running.

        Raises:
            LocalClusterError: It cannot be started; what was begun is removed.
        """

    @abstractmethod
    def down(self) -> None:
        """Remove it, if it is ours to remove, with all that it holds."""

    @abstractmethod
    def load(self, reference: str) -> str:
        """Make an image that was built here usable by pods.

        Args:
            reference: What `images.build` returned.

        Returns:
            The name that pods use; another one where the image went to a registry.
        """

    @abstractmethod
    def status(self) -> str:
        """Say what runs and how to reach it."""

    @abstractmethod
    def is_running(self) -> bool:
        """Tell whether it can be used now."""

    def tool(self, name: str) -> Path:
        """Return the path of a program such as "kubectl" or "helm" in the version that fits, building it if need be.

        It is looked for once: a look may ask a program on PATH for its version, and callers ask before each command.
        """
        if name not in self._tools:
            self._tools[name] = binaries.ensure_one(name, self.progress)
        return self._tools[name]


class LocalCluster(Cluster):
    """Control plane and node on this machine; see `aiops_localcluster.local`."""

    kind = "local"

    @property
    def kubeconfig(self) -> Path:
        """The file that kubectl and clients are given."""
        return self.instance.state / "kubeconfig"

    @property
    def host_address(self) -> str:
        """Address at which pods reach programs on this machine."""
        return local.host_address(self.instance)

    def up(self) -> None:
        """Start it, or find it running."""
        local.up(self.instance, self.progress)

    def down(self) -> None:
        """Remove it with all that it holds."""
        was_there = local.down(self.instance, self.progress)
        self.progress(f"cluster {self.instance.name} {'removed' if was_there else 'was not there'}")

    def load(self, reference: str) -> str:
        """Hand the image to the node's container runtime."""
        local.load(self.instance, images.find(reference, self.progress), self.progress)
        return reference

    def is_running(self) -> bool:
        """Tell whether the API server answers and pods can run."""
        return local.health(self.instance).is_good

    def status(self) -> str:
        """Say what runs and how to reach it."""
        health = local.health(self.instance)
        if health.is_nothing:
            return f"cluster {self.instance.name} is not running"
        if not health.is_good:
            return (
                f"cluster {self.instance.name} is broken: API server "
                f"{'answers' if health.is_serving else 'does not answer'}, "
                f"node {'ready' if health.is_node_ready else 'not ready'}, "
                f"{len(health.processes)} processes; logs: {self.instance.state}/*.log; `up` starts it anew"
            )
        table = output([self.tool("kubectl"), f"--kubeconfig={self.kubeconfig}", "get", "nodes", "-o", "wide"])
        return (
            f"cluster {self.instance.name} is running: {len(health.processes)} processes, logs in {self.instance.state}\n"
            f"pods reach this machine at {self.host_address}\n{table}export KUBECONFIG={self.kubeconfig}"
        )


class KindCluster(Cluster):
    """A cluster that kind makes in Docker; written after kind's documentation, not covered by our tests."""

    kind = "kind"

    @property
    def kubeconfig(self) -> Path:
        """The file that kubectl and clients are given."""
        return cache.folder() / "kind" / f"{self.instance.name}.kubeconfig"

    def up(self) -> None:
        """Create it, or find it there."""
        self._require_tools()
        self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        if not self.is_running():
            self.progress(f"creating kind cluster {self.instance.name}: a minute or two")
            command = ["kind", "create", "cluster", f"--name={self.instance.name}", "--wait=120s"]
            run_long(
                [*command, f"--kubeconfig={self.kubeconfig}"],
                "creating the kind cluster",
                progress=self.progress,
                timeout=_KIND_SECONDS,
            )
        self._kind("export", "kubeconfig", f"--kubeconfig={self.kubeconfig}")

    def down(self) -> None:
        """Delete it."""
        self._require_tools()
        self._kind("delete", "cluster", f"--kubeconfig={self.kubeconfig}")
        self.kubeconfig.unlink(missing_ok=True)

    def load(self, reference: str) -> str:
        """Hand the image to kind's nodes."""
        self._require_tools()
        with images.exported(images.find(reference, self.progress), self.progress) as file:
            self._kind("load", "image-archive", str(file))
        return reference

    def is_running(self) -> bool:
        """Tell whether kind knows it."""
        return self.instance.name in output(["kind", "get", "clusters"], timeout=60).split()

    def status(self) -> str:
        """Say what runs and how to reach it."""
        self._require_tools()
        if not self.is_running():
            return f"there is no kind cluster {self.instance.name}"
        return f"kind cluster {self.instance.name} is there\nexport KUBECONFIG={self.kubeconfig}"

    def _kind(self, *arguments: str) -> str:
        return output(["kind", *arguments, f"--name={self.instance.name}"], timeout=_KIND_SECONDS)

    def _require_tools(self) -> None:
        missing = [program for program in ("docker", "kind") if not shutil.which(program)]
        if missing or images.builder() != "docker":
            lack = " and ".join(missing) or "a docker daemon that answers"
            message = f"--cluster kind needs {lack}; see https://kind.sigs.k8s.io, or use --cluster local"
            raise UnsupportedError(message)


class CurrentCluster(Cluster):
    """The cluster that the user's kubeconfig points to, neither started nor removed; not covered by our tests."""

    kind = "current"

    @property
    def kubeconfig(self) -> Path:
        """The first file of $KUBECONFIG, or ~/.kube/config."""
        first = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
        return Path(first) if first else Path.home() / ".kube" / "config"

    def up(self) -> None:
        """Make sure that it answers."""
        if not self.is_running():
            message = f"no cluster answers under the current context of {self.kubeconfig}: see `kubectl cluster-info`"
            raise NotRunningError(message)

    def down(self) -> None:
        """Leave it alone."""
        self.progress(f"the cluster of {self.kubeconfig} is yours; nothing is removed")

    def load(self, reference: str) -> str:
        """Push the image to $IMAGE_REGISTRY."""
        registry = os.environ.get("IMAGE_REGISTRY", "").rstrip("/")
        if not registry or images.builder() != "docker":
            message = (
                f"how your cluster gets {reference} is yours to say: set IMAGE_REGISTRY to a registry that it pulls from "
                "and that a docker daemon here may push to (such as IMAGE_REGISTRY=registry.example.com/team)"
            )
            raise UnsupportedError(message)
        target = f"{registry}/{reference.rpartition('/')[2]}"
        output(["docker", "tag", reference, target])
        run_long(["docker", "push", target], f"pushing {target}", progress=self.progress, timeout=_PUSH_SECONDS)
        return target

    def is_running(self) -> bool:
        """Tell whether it answers."""
        try:
            output([self.tool("kubectl"), f"--kubeconfig={self.kubeconfig}", "get", "--raw=/readyz"])
        except (CommandError, TimeoutExpiredError):
            return False
        return True

    def status(self) -> str:
        """Say what runs and how to reach it."""
        return f"the cluster of {self.kubeconfig} {'answers' if self.is_running() else 'does not answer'}"


def open_cluster(kind: str = "local", instance: str | None = None, progress: Progress | None = None) -> Cluster:
    """Name a cluster, without touching it.

    Args:
        kind: "local", "kind" or "current".
        instance: Name of the instance; this clone's by default.
        progress: Told about each step; lines on stderr by default.

    Raises:
        LocalClusterError: There is no such kind, or the name cannot be used.
    """
    kinds: dict[str, type[Cluster]] = {known.kind: known for known in (LocalCluster, KindCluster, CurrentCluster)}
    if kind not in kinds:
        message = f"unknown kind of cluster {kind!r}: use {', '.join(kinds)}"
        raise UnsupportedError(message)
    return kinds[kind](Instance(instance) if instance else default_instance(), progress or Lines())
