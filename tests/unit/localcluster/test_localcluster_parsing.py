import io
import json
import tarfile
from pathlib import Path

import pytest

from aiops_localcluster.cgroups import hierarchies
from aiops_localcluster.images import tagged
from aiops_localcluster.local import image_digests, is_usable
from aiops_localcluster.pauseimage import archive

VERSION_1 = """\
30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
VERSION_2 = "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
LISTING = """\
REF                     TYPE                                            DIGEST         SIZE     PLATFORMS   LABELS
localhost/a:1           application/vnd.oci.image.manifest.v1+json      sha256:aaa     1.0 MiB  linux/amd64 -
sha256:cafe             application/vnd.oci.image.manifest.v1+json      sha256:aaa     1.0 MiB  linux/amd64 io=managed
localhost/b:1           application/vnd.oci.image.manifest.v1+json      sha256:bbb     1.0 MiB  linux/amd64 -
"""
KNOWN = {"localhost/a:1": "sha256:aaa", "sha256:cafe": "sha256:aaa", "localhost/b:1": "sha256:bbb"}


@pytest.mark.parametrize(
    ("mounts", "limiting", "expected"),
    [
        (VERSION_1, True, ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/memory"]),
        (VERSION_1, False, ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"]),
        (VERSION_2, True, ["/sys/fs/cgroup"]),
        (VERSION_2, False, ["/sys/fs/cgroup"]),
        ("", True, []),
    ],
)
def test_hierarchies_of_both_versions_are_found(mounts: str, expected: list[str], *, limiting: bool) -> None:
    """Version 2 beside version 1 limits nothing, but has groups that must be removed."""
    assert [str(path) for path in hierarchies(mounts, limiting=limiting)] == expected


def test_images_of_a_node_are_read_from_its_listing() -> None:
    """Name and digest."""
    assert image_digests(LISTING) == KNOWN


@pytest.mark.parametrize(
    ("reference", "usable"), [("localhost/a:1", True), ("localhost/b:1", False), ("localhost/c:1", False)]
)
def test_an_image_is_usable_once_kubelets_side_knows_it(reference: str, *, usable: bool) -> None:
    """It then has a second name, the digest of its configuration."""
    assert is_usable(KNOWN, reference) == usable


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("localhost/aiops-quality", "localhost/aiops-quality:34bcde03ece2"),
        ("localhost/aiops-quality:dev", "localhost/aiops-quality:dev"),
        ("registry:5000/team/image", "registry:5000/team/image:34bcde03ece2"),
    ],
)
def test_a_name_without_a_tag_gets_one_of_the_content(name: str, expected: str) -> None:
    """The port of a registry is no tag."""
    assert tagged(name, "sha256:34bcde03ece2fbfdf32b4424192ce6bd") == expected


def test_pause_image_is_the_same_every_time_and_names_itself(tmp_path: Path) -> None:
    """Its index carries the name under which containerd stores it, and every blob that it names is in it."""
    program = tmp_path / "pause"
    program.write_bytes(b"ELF")
    first, second = (archive(program, "localhost/pause:1", "x86_64") for _ in range(2))
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        files = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr] # all are files
    top = json.loads(files["index.json"])["manifests"][0]
    manifest = json.loads(files[_path(top)])
    settings = json.loads(files[_path(manifest["config"])])

    assert first == second
    assert top["annotations"] == {"io.containerd.image.name": "localhost/pause:1"}
    assert (settings["architecture"], settings["config"]["Entrypoint"]) == ("amd64", ["/pause"])
    assert [_path(layer) in files for layer in manifest["layers"]] == [True]


def _path(descriptor: dict[str, str]) -> str:
    return f"blobs/{descriptor['digest'].replace(':', '/')}"
