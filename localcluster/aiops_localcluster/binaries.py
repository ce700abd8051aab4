"""Find or build the programs that a cluster consists of.

Each program is looked for in this order: $KUBEBUILDER_ASSETS (kube-apiserver, etcd and kubectl), PATH (only in the version
that is pinned), the cache, and at last it is built from its Go module. The pins are the go.mod and go.sum files under
localcluster/binaries/; nothing else names a version.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiops_localcluster import cache
from aiops_localcluster.commands import output, run_long
from aiops_localcluster.errors import CommandError, LocalClusterError, UnsupportedError
from aiops_localcluster.progress import Progress, silent

_MODULES = Path(__file__).resolve().parent.parent / "binaries"
_BUILD_TIMEOUT = 3600.0
_MEGABYTE = 2**20


@dataclass(frozen=True)
class Source:
    """A Go module of ours and the programs that come out of it with one build.

    Attributes:
        name: The folder under localcluster/binaries/.
        module: Module whose version is the programs' version; empty where the program is ours.
        programs: What one build makes.
        packages: What is passed to `go build`.
        tags: Build tags.
        duration: How long the build takes, for the person who waits.
        version_arguments: What makes a program print its version.
    """

    name: str
    module: str
    programs: tuple[str, ...]
    packages: tuple[str, ...]
    duration: str
    tags: str = ""
    version_arguments: tuple[str, ...] = ("--version",)


_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet")
SOURCES = (
    Source(
        name="kubernetes",
        module="k8s.io/kubernetes",
        programs=_KUBERNETES,
        packages=tuple(f"k8s.io/kubernetes/cmd/{program}" for program in _KUBERNETES),
        duration="about 9 minutes on 2 cores",
    ),
    Source(
        name="etcd",
        module="go.etcd.io/etcd/server/v3",
        programs=("etcd",),
        packages=(".",),
        duration="about 40 seconds",
    ),
    Source(
        name="containerd",
        module="github.com/containerd/containerd/v2",
        programs=("containerd", "containerd-shim-runc-v2", "ctr"),
        packages=tuple(
            f"github.com/containerd/containerd/v2/cmd/{program}"
            for program in ("containerd", "containerd-shim-runc-v2", "ctr")
        ),
        duration="about 1 minute",
        tags="no_btrfs no_devmapper no_zfs",
    ),
    Source(
        name="helm",
        module="helm.sh/helm/v4",
        programs=("helm",),
        packages=("helm.sh/helm/v4/cmd/helm",),
        duration="about 2 minutes",
        version_arguments=("version",),
    ),
    Source(
        name="argocd",
        module="github.com/argoproj/argo-cd/v3",
        programs=("argocd",),
        packages=("github.com/argoproj/argo-cd/v3/cmd",),
        duration="about 5 minutes",
    ),
    Source(
        name="prometheus",
        module="github.com/prometheus/prometheus",
        programs=("prometheus", "promtool"),
        packages=tuple(f"github.com/prometheus/prometheus/cmd/{program}" for program in ("prometheus", "promtool")),
        duration="about 5 minutes",
        tags="remove_all_sd enable_kubernetes_sd",
    ),
    Source(
        name="prometheus-operator",
        module="github.com/prometheus-operator/prometheus-operator",
        programs=("operator", "prometheus-config-reloader"),
        packages=tuple(
            f"github.com/prometheus-operator/prometheus-operator/cmd/{program}"
            for program in ("operator", "prometheus-config-reloader")
        ),
        duration="about 2 minutes",
    ),
    Source(
        name="registry",
        module="github.com/distribution/distribution/v3",
        programs=("registry",),
        packages=("github.com/distribution/distribution/v3/cmd/registry",),
        duration="about 1 minute",
    ),
    Source(
        name="actionlint",
        module="github.com/rhysd/actionlint",
        programs=("actionlint",),
        packages=("github.com/rhysd/actionlint/cmd/actionlint",),
        duration="about 15 seconds",
    ),
    Source(
        name="hclfmt",
        module="github.com/hashicorp/hcl/v2",
        programs=("hclfmt",),
        packages=("github.com/hashicorp/hcl/v2/cmd/hclfmt",),
        duration="about 10 seconds",
    ),
    Source(
        name="fake-gcs-server",
        module="github.com/fsouza/fake-gcs-server",
        programs=("fake-gcs-server",),
        packages=("github.com/fsouza/fake-gcs-server",),
        duration="about 2 minutes",
    ),
    Source(
        name="kubeconform",
        module="github.com/yannh/kubeconform",
        programs=("kubeconform",),
        packages=("github.com/yannh/kubeconform/cmd/kubeconform",),
        duration="about 15 seconds",
    ),
    Source(name="pause", module="", programs=("pause",), packages=(".",), duration="a second"),
)
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager")
NODE = ("kube-scheduler", "kubelet", "kube-proxy", "containerd", "containerd-shim-runc-v2", "ctr", "pause")
_ASSETS = ("etcd", "kube-apiserver", "kubectl")


@dataclass(frozen=True)
class Binaries:
    """Where each program is.

    Attributes:
        paths: Program name to path.
    """

    paths: Mapping[str, Path]

    def __getitem__(self, program: str) -> Path:
        """Return the path of a program that was asked for."""
        return self.paths[program]


def ensure(*programs: str, progress: Progress = silent) -> Binaries:
    """Find programs, and build those that are nowhere.

    Args:
        programs: Names such as "kube-apiserver", "kubectl" or "helm".
        progress: Told about builds.

    Returns:
        The path of each program.

    Raises:
        UnsupportedError: Something has to be built, and there is no Go.
        CommandError: A build failed.
    """
    paths: dict[str, Path] = {}
    for program in programs:
        source = source_of(program)
        found = _from_assets(program) or _from_path(program, source) or _cached(source) / program
        if not found.exists():
            _build(source, progress)
        paths[program] = found
    return Binaries(paths)


def ensure_one(program: str, progress: Progress = silent) -> Path:
    """Return the path of one program; as `ensure`."""
    return ensure(program, progress=progress)[program]


def source_of(program: str) -> Source:
    """Return the module that a program is built from.

    Raises:
        LocalClusterError: There is no such program.
    """
    for source in SOURCES:
        if program in source.programs:
            return source
    message = f"unknown program {program!r}; known are {', '.join(sorted(p for s in SOURCES for p in s.programs))}"
    raise LocalClusterError(message)


def version_of(source: Source) -> str:
    """Return the pinned version, such as "v1.37.2", as go.mod has it; empty for a program of our own."""
    return required_version((_MODULES / source.name / "go.mod").read_text(), source.module) if source.module else ""


def module_folder(program: str) -> Path:
    """Return where the module that a program is built from has its files, such as manifests; it is downloaded if need be.

    Raises:
        CommandError: There is no Go, or the module cannot be had.
    """
    source = source_of(program)
    module = f"{source.module}@{version_of(source)}"
    env = os.environ | {"GOFLAGS": "-mod=mod", "GOWORK": "off"}
    found = json.loads(output(["go", "mod", "download", "-json", module], timeout=300, env=env))
    return Path(found["Dir"])


def required_version(go_mod: str, module: str) -> str:
    """Find the version of a module in the text of a go.mod.

    Args:
        go_mod: The text.
        module: Path of the module.

    Raises:
        LocalClusterError: The text does not require it.
    """
    found = re.search(rf"^\s*(?:require\s+)?{re.escape(module)}\s+(v\S+)", go_mod, re.MULTILINE)
    if not found:
        message = f"go.mod does not require {module}"
        raise LocalClusterError(message)
    return found[1]


def says_version(text: str, version: str) -> bool:
    """Tell whether what a program printed names exactly this version.

    Args:
        text: What it printed.
        version: Such as "v1.37.2"; the leading v may be missing in the text.
    """
    return bool(re.search(rf"(?<![\w.])v?{re.escape(version.removeprefix('v'))}(?![\w.-])", text))


def flags(source: Source, version: str) -> tuple[str, ...]:
    """Return the flags of `go build` for a module.

    Args:
        source: What is built.
        version: Its version.
    """
    linker = "-s -w"
    if source.name == "kubernetes":
        major, minor, _ = version.removeprefix("v").split(".", 2)
        variables = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
        linker += "".join(f" -X k8s.io/component-base/version.{name}={value}" for name, value in variables.items())
    tags = ("-tags", source.tags) if source.tags else ()
    return ("-mod=readonly", "-trimpath", "-buildvcs=false", *tags, "-ldflags", linker)


def cache_key(flags: Iterable[str], files: Mapping[str, bytes]) -> str:
    """Return the key of a build: it changes with every flag and every byte of the module's files.

    Args:
        flags: Flags of `go build`.
        files: Name to content of the module's files.
    """
    return cache.key([*flags, *(part for name in sorted(files) for part in (name, files[name]))])


def _cached(source: Source) -> Path:
    module = _MODULES / source.name
    files = {path.name: path.read_bytes() for path in module.iterdir() if path.suffix in {".go", ".mod", ".sum"}}
    version = version_of(source)
    label = f"{source.name}-{version}" if version else source.name
    return cache.folder() / "binaries" / f"{label}-{cache_key(flags(source, version), files)}"


def _from_assets(program: str) -> Path | None:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if not assets or program not in _ASSETS:
        return None
    path = Path(assets).absolute() / program
    return path if os.access(path, os.X_OK) else None


def _from_path(program: str, source: Source) -> Path | None:
    found = shutil.which(program)
    if not found or not source.module:
        return None
    arguments = ("version", "--client") if program == "kubectl" else source.version_arguments
    try:
        said = output([found, *arguments], timeout=10)
    except LocalClusterError:
        return None
    return Path(found) if says_version(said, version_of(source)) else None


def _build(source: Source, progress: Progress) -> None:
    target = _cached(source)
    lock = target.parent / f"{source.name}.lock"
    with cache.locked(lock, what=f"building {source.name}", progress=progress, timeout=_BUILD_TIMEOUT):
        if target.exists():  # another process built it while we waited
            return
        go = shutil.which("go")
        version = version_of(source)
        if not go:
            needed = re.search(r"^go (\S+)", (_MODULES / source.name / "go.mod").read_text(), re.MULTILINE)
            message = (
                f"{source.name} {version} has to be built once, and there is no `go` on PATH: "
                f"install Go {needed[1] if needed else ''} or newer from https://go.dev/dl/"
            )
            raise UnsupportedError(message)
        programs = ", ".join(source.programs)
        label = f"{source.name} {version}".rstrip()
        progress(f"building {label} from source ({programs}): {source.duration}, once; kept in {target.parent}")
        cache.fill(target, lambda folder: _go_build(source, version, Path(go), folder, progress))
        size = sum(path.stat().st_size for path in target.iterdir()) / _MEGABYTE
        progress(f"built {label}: {len(source.programs)} programs, {size:.0f} MB")


def _go_build(source: Source, version: str, go: Path, folder: Path, progress: Progress) -> None:
    # GOFLAGS of the person's own would change what is built, and GOWORK could name other modules.
    env = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    # One package is named after its program, which Argo CD's `cmd` is not by itself.
    out = folder / source.programs[0] if len(source.packages) == 1 else f"{folder}/"
    run_long(
        [go, "build", *flags(source, version), "-o", out, *source.packages],
        f"building {source.name}",
        progress=progress,
        timeout=_BUILD_TIMEOUT,
        cwd=_MODULES / source.name,
        env=env,
    )
    missing = [program for program in source.programs if not (folder / program).exists()]
    if missing:
        message = f"the build of {source.name} ended well but made no {', '.join(missing)}"
        raise CommandError(message)
