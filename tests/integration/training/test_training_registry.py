"""Images of artifacts, into a real registry and out of it."""

import base64
import hashlib
import json
import socket

import httpx
import pytest

from aiops_training import registry
from aiops_training.errors import RegistryError


def test_what_is_pushed_comes_back(iris, open_registry):
    """The same files, under the digest that the reference has."""
    reference = registry.push(iris, f"{open_registry}/models/iris")

    assert iris == registry.pull(reference)
    assert reference == registry.push(iris, f"{open_registry}/models/iris"), "the same files make the same image"


def test_an_image_is_one_that_runtimes_unpack(iris, open_registry):
    """Its manifest and configuration are those of an image, and the layer's digests are the bytes' own."""
    reference = registry.push(iris, f"{open_registry}/models/iris:v1")
    base = f"http://{open_registry}/v2/models/iris"
    accepted = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    answer = httpx.get(f"{base}/manifests/v1", headers=accepted)

    assert reference.partition("@")[2] == f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
    config = httpx.get(f"{base}/blobs/{answer.json()['config']['digest']}").json()
    assert ("application/vnd.oci.image.config.v1+json", 1) == (
        answer.json()["config"]["mediaType"],
        len(config["rootfs"]["diff_ids"]),
    )


def test_what_has_no_tag_gets_one(iris, open_registry):
    """A registry's garbage collection takes what nothing names."""
    reference = registry.push(iris, f"{open_registry}/models/untagged")

    tags = httpx.get(f"http://{open_registry}/v2/models/untagged/tags/list").json()["tags"]
    assert [reference.partition("@sha256:")[2][:12]] == tags


def logged_in(folder, monkeypatch, where, user, password):
    """Docker's configuration after `docker login`."""
    secret = base64.b64encode(f"{user}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {where: {"auth": secret}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))


def test_credentials_come_from_dockers_configuration(iris, closed_registry, tmp_path, monkeypatch):
    """Who is logged in pushes and pulls."""
    logged_in(tmp_path, monkeypatch, closed_registry, "trainer", "correct horse")

    assert iris == registry.pull(registry.push(iris, f"{closed_registry}/models/iris"))


def test_a_registry_that_does_not_know_us_is_a_clear_error(iris, closed_registry, tmp_path, monkeypatch):
    """Without credentials, and with wrong ones."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with pytest.raises(RegistryError, match="docker login"):
        registry.push(iris, f"{closed_registry}/models/iris")

    logged_in(tmp_path, monkeypatch, closed_registry, "trainer", "wrong")
    with pytest.raises(RegistryError, match="not allowed"):
        registry.push(iris, f"{closed_registry}/models/iris")


@pytest.mark.parametrize(
    ("repository", "why"),
    [("iris", "no image's name"), ("registry.example.com/models/iris@sha256:" + "0" * 64, "gets its own")],
)
def test_a_name_that_cannot_be_pushed_to_is_refused(iris, repository, why):
    """Before anything is sent."""
    with pytest.raises(RegistryError, match=why):
        registry.push(iris, repository)


def test_a_registry_that_is_not_there_is_told_at_once(iris):
    """Not after minutes of trying."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(RegistryError, match="cannot be reached"):
        registry.push(iris, f"127.0.0.1:{port}/models/iris")


def test_an_image_that_is_not_there_is_a_clear_error(open_registry):
    """With the registry's words."""
    with pytest.raises(RegistryError, match="404"):
        registry.pull(f"{open_registry}/models/nothing:1")


def test_an_image_of_several_platforms_is_pulled(iris, open_registry):
    """As docker pushes one, with an attestation beside it: the artifacts are those of the image."""
    digest = registry.push(iris, f"{open_registry}/models/index:single").partition("@")[2]
    url = f"http://{open_registry}/v2/models/index/manifests"
    accepted = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    entry = {
        "mediaType": accepted["Accept"],
        "digest": digest,
        "size": len(httpx.get(f"{url}/{digest}", headers=accepted).content),
    }
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {**entry, "platform": {"os": "unknown", "architecture": "unknown"}},
            {**entry, "platform": {"os": "linux", "architecture": "amd64"}},
        ],
    }
    httpx.put(f"{url}/1", headers={"Content-Type": index["mediaType"]}, content=json.dumps(index)).raise_for_status()

    assert iris == registry.pull(f"{open_registry}/models/index:1")


def test_what_the_registry_spoils_is_not_taken(iris, open_registry, registry_files):
    """A blob's bytes are held against its digest."""
    reference = registry.push({**iris, "notes.txt": b"of this test alone"}, f"{open_registry}/models/spoilt")
    manifest = httpx.get(
        f"http://{open_registry}/v2/models/spoilt/manifests/{reference.partition('@')[2]}",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
    ).json()
    digest = manifest["layers"][0]["digest"].removeprefix("sha256:")
    (blob,) = registry_files.rglob(f"{digest}/data")
    content = bytearray(blob.read_bytes())
    content[100] ^= 1
    blob.write_bytes(content)

    with pytest.raises(RegistryError, match="other bytes"):
        registry.pull(reference)
