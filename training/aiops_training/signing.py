"""A signature over the manifest, and so over all files that it names: Ed25519, as `openssl` makes keys and verifies.

The file `manifest.json.sig` holds the 64 bytes in base64.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from aiops_training import artifacts
from aiops_training.artifacts import MANIFEST, SIGNATURE
from aiops_training.errors import SignatureError

MAKE_KEY: Final = "openssl genpkey -algorithm ed25519 -out signing.pem"


def signed(files: Mapping[str, bytes], private_key: bytes) -> dict[str, bytes]:
    """The files with a signature of their manifest.

    Args:
        files: artifacts that are what their manifest says.
        private_key: PEM (PKCS #8), without a passphrase.

    Raises:
        ArtifactsError: the files are not what the manifest says.
        SignatureError: the key is none.
    """
    artifacts.checked(files)
    try:
        key = load_pem_private_key(private_key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        message = f"the signing key cannot be read; make one with: {MAKE_KEY}"
        raise SignatureError(message) from error
    if not isinstance(key, Ed25519PrivateKey):
        message = f"the signing key is not of Ed25519; make one with: {MAKE_KEY}"
        raise SignatureError(message)
    return {**files, SIGNATURE: base64.b64encode(key.sign(files[MANIFEST])) + b"\n"}


def verify(files: Mapping[str, bytes], public_key: bytes) -> None:
    """Hold the files against their manifest, and that against its signature.

    Args:
        files: artifacts.
        public_key: PEM, of the key that should have signed.

    Raises:
        ArtifactsError: the files are not what the manifest says.
        SignatureError: there is no signature, it is another's, or the key is none.
    """
    artifacts.checked(files)
    try:
        key = load_pem_public_key(public_key)
    except (ValueError, UnsupportedAlgorithm) as error:
        message = "the public key cannot be read; make it with: openssl pkey -in signing.pem -pubout -out signing.pub"
        raise SignatureError(message) from error
    if not isinstance(key, Ed25519PublicKey):
        message = "the public key is not of Ed25519"
        raise SignatureError(message)
    if SIGNATURE not in files:
        message = f"the artifacts are not signed: there is no {SIGNATURE}"
        raise SignatureError(message)
    try:
        key.verify(base64.b64decode(files[SIGNATURE].strip(), validate=True), files[MANIFEST])
    except (InvalidSignature, binascii.Error) as error:
        message = f"{SIGNATURE} is not this key's signature of {MANIFEST}"
        raise SignatureError(message) from error
