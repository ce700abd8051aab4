import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_localcluster.binaries import (
    CONTROL_PLANE,
    NODE,
    SOURCES,
    cache_key,
    flags,
    required_version,
    says_version,
    source_of,
    version_of,
)
from aiops_localcluster.errors import LocalClusterError

GO_MOD = """\
module example.com/wrapper

go 1.26.0

require k8s.io/kubernetes v1.37.2

require (
	k8s.io/kubernetes-extra v9.9.9 // indirect
	go.etcd.io/etcd/server/v3 v3.7.3
)
"""


@pytest.mark.parametrize(
    ("module", "version"), [("k8s.io/kubernetes", "v1.37.2"), ("go.etcd.io/etcd/server/v3", "v3.7.3")]
)
def test_version_is_read_from_go_mod(module: str, version: str) -> None:
    """On a line of its own and in a block."""
    assert required_version(GO_MOD, module) == version


def test_a_module_that_is_not_required_is_an_error() -> None:
    """Its version cannot be made up."""
    with pytest.raises(LocalClusterError, match="does not require helm"):
        required_version(GO_MOD, "helm.sh/helm/v4")


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("Kubernetes v1.37.2", True),
        ("Client Version: v1.37.2\nKustomize Version: v5.8.0", True),
        ("etcd Version: 1.37.2\nGit SHA: abc", True),
        ("containerd github.com/containerd/containerd 1.37.2+unknown", True),
        ("Kubernetes v1.37.20", False),
        ("Kubernetes v1.37.2-rc.1", False),
        ("Kubernetes v1.37.2.1", False),
        ("Kubernetes v11.37.2", False),
        ("Client Version: v1.32.4-dispatcher", False),
        ("", False),
    ],
)
def test_only_the_pinned_version_is_taken_from_path(text: str, *, matches: bool) -> None:
    """What real programs print for --version."""
    assert says_version(text, "v1.37.2") == matches


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_every_source_has_a_pinned_version(source: object) -> None:
    """Our own program apart, which has none."""
    assert hasattr(source, "module")
    assert bool(re.fullmatch(r"v\d+\.\d+\.\d+", version_of(source))) == bool(source.module)


def test_flags_put_the_version_into_kubernetes() -> None:
    """Both kubectl and kubelet would otherwise say v0.0.0, and be refused as too old."""
    assert flags(source_of("kubelet"), "v1.37.2") == (
        "-mod=readonly",
        "-trimpath",
        "-buildvcs=false",
        "-ldflags",
        (
            "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2"
            " -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37"
        ),
    )


def test_flags_leave_out_file_systems_that_need_c() -> None:
    """Containerd is built without cgo."""
    assert flags(source_of("ctr"), "v2.2.0") == (
        *("-mod=readonly", "-trimpath", "-buildvcs=false"),
        *("-tags", "no_btrfs no_devmapper no_zfs", "-ldflags", "-s -w"),
    )


def test_every_program_of_a_cluster_comes_from_somewhere() -> None:
    """Each in exactly one source."""
    programs = (*CONTROL_PLANE, *NODE, "kubectl", "helm")

    assert [sum(program in source.programs for source in SOURCES) for program in programs] == [1] * len(programs)


def test_an_unknown_program_is_an_error() -> None:
    """With the names that are known."""
    with pytest.raises(LocalClusterError, match=r"unknown program 'kubectx'; known are .*kubectl"):
        source_of("kubectx")


@given(
    st.dictionaries(st.text(max_size=9), st.binary(max_size=9), max_size=4), st.lists(st.text(max_size=9), max_size=4)
)
def test_cache_key_is_of_content_and_not_of_order(files: dict[str, bytes], given_flags: list[str]) -> None:
    """The order in which a folder is listed does not matter; a byte more in a file does."""
    backwards = dict(reversed(files.items()))
    changed = {**files, "go.sum": files.get("go.sum", b"") + b"\n"}

    assert cache_key(given_flags, files) == cache_key(given_flags, backwards) != cache_key(given_flags, changed)
