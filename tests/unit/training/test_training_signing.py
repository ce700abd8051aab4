"""Digests, signatures, images: what vouches for artifacts."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from aiops_training import artifacts, image, served, signing
from aiops_training.datasets import load_bundled
from aiops_training.errors import ArtifactsError, RegistryError, ServedError, SignatureError
from aiops_training.model import fit


def pem(key):
    """A key pair as PEM."""
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


PRIVATE, PUBLIC = pem(ed25519.Ed25519PrivateKey.generate())
OTHER_PRIVATE, OTHER_PUBLIC = pem(ed25519.Ed25519PrivateKey.generate())
RSA_PRIVATE, RSA_PUBLIC = pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))


@pytest.fixture(scope="module")
def iris():
    """The iris artifacts by file name."""
    dataset = load_bundled("iris")
    return artifacts.build(dataset, *fit(dataset))


def test_what_was_signed_is_verified(iris):
    """And only by the key's other half."""
    signed = signing.signed(iris, PRIVATE)

    signing.verify(signed, PUBLIC)
    assert signed == signing.signed(iris, PRIVATE)
    with pytest.raises(SignatureError, match="not this key's signature"):
        signing.verify(signed, OTHER_PUBLIC)


def spoilt(files, name):
    """The files with one bit of one of them turned."""
    content = bytearray(files[name])
    content[len(content) // 2] ^= 1
    return files | {name: bytes(content)}


@pytest.mark.parametrize(
    "name", ["model.skops", "baseline.npy", "expectations.json", "manifest.json", "manifest.json.sig"]
)
def test_no_byte_of_it_can_be_another(iris, name):
    """The signature is of the manifest, which has the digests of all others."""
    with pytest.raises((ArtifactsError, SignatureError)):
        signing.verify(spoilt(signing.signed(iris, PRIVATE), name), PUBLIC)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda files: {name: data for name, data in files.items() if name != "manifest.json"}, "no manifest.json"),
        (
            lambda files: {name: data for name, data in files.items() if name != "baseline.npy"},
            "baseline.npy.*not there",
        ),
        (lambda files: files | {"manifest.json": b"{"}, "not as training writes it"),
        (lambda files: files | {"manifest.json": b"[]"}, "not as training writes it"),
        (lambda files: files | {"manifest.json": b'{"files": {"../x": {"sha256": "0"}}}'}, "no name of a file"),
    ],
)
def test_artifacts_that_nothing_vouches_for_are_refused(iris, change, why):
    """With the file's name."""
    with pytest.raises(ArtifactsError, match=why):
        artifacts.checked(change(iris))


@pytest.mark.parametrize("key", [b"", b"no key", PUBLIC, RSA_PRIVATE])
def test_what_is_no_signing_key_is_refused(iris, key):
    """With the command that makes one, and without the key."""
    with pytest.raises(SignatureError, match="openssl genpkey -algorithm ed25519"):
        signing.signed(iris, key)


@pytest.mark.parametrize("key", [b"", PRIVATE, RSA_PUBLIC])
def test_what_is_no_public_key_is_refused(iris, key):
    """It verifies nothing."""
    with pytest.raises(SignatureError, match="public key"):
        signing.verify(signing.signed(iris, PRIVATE), key)


def test_unsigned_artifacts_are_not_verified(iris):
    """Where a signature is asked for."""
    with pytest.raises(SignatureError, match="not signed"):
        signing.verify(iris, PUBLIC)


def test_another_run_leaves_no_signature_behind(iris, tmp_path):
    """It would be of another manifest."""
    artifacts.write(signing.signed(iris, PRIVATE), tmp_path)
    assert signing.signed(iris, PRIVATE) == artifacts.read(tmp_path)

    artifacts.write(iris, tmp_path)
    assert iris == artifacts.read(tmp_path)


def test_an_image_is_its_files_and_nothing_else(iris):
    """The same files give the same digest, in whichever order; what comes out is what went in."""
    built = image.build(iris)

    assert built == image.build(dict(reversed(iris.items())))
    assert iris == image.unpacked(built.layer.content)
    manifest = json.loads(built.manifest.content)
    assert ([built.layer.descriptor], built.config.descriptor) == (manifest["layers"], manifest["config"])


def test_a_layer_that_is_none_is_refused():
    """Whatever a registry gave."""
    with pytest.raises(RegistryError, match="cannot be unpacked"):
        image.unpacked(b"nothing")


def test_a_pickle_is_loaded_only_where_it_is_trusted():
    """It runs what it holds."""
    dataset = load_bundled("iris")
    files = artifacts.build(dataset, *fit(dataset), "pickle")

    with pytest.raises(ServedError, match="--trust-pickle"):
        served.from_files(files)
    assert dataset.features == served.from_files(files, trust_pickle=True).features


def test_a_model_that_is_not_the_manifests_is_not_loaded(iris):
    """Digests are compared before anything is loaded."""
    with pytest.raises(ArtifactsError, match="its digest is another"):
        served.from_files(spoilt(iris, "model.skops"))
