"""The artifacts as an OCI image of one layer, which Kubernetes mounts as a volume; the same files give the same digest. Pure."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiops_training.errors import RegistryError

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
MANIFEST_TYPES: Final = (
    MANIFEST_TYPE,
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_TYPES: Final = (LAYER_TYPE, "application/vnd.docker.image.rootfs.diff.tar.gzip")
LARGEST: Final = 2 * 1024**3  # bytes that a layer may unpack to
_MODE: Final = 0o444


@dataclass(frozen=True)
class Blob:
    """Bytes with their digest, as a registry keeps them."""

    media_type: str
    content: bytes

    @property
    def digest(self) -> str:
        """As `sha256:…`."""
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    @property
    def descriptor(self) -> dict[str, Any]:
        """What stands in a manifest for it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.content)}


@dataclass(frozen=True)
class Image:
    """An image: its manifest, and the blobs that it names."""

    manifest: Blob
    config: Blob
    layer: Blob


def build(files: Mapping[str, bytes]) -> Image:
    """An image with the files in its root.

    It has a real configuration and a layer of a standard type: containerd mounts images, and no other artifacts. What runs
    nothing has no platform of its own; the one that is named is what runtimes ask for where they are not told otherwise.
    """
    unpacked = io.BytesIO()
    with tarfile.open(fileobj=unpacked, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(files[name]), _MODE
            archive.addfile(entry, io.BytesIO(files[name]))
    layer = Blob(LAYER_TYPE, gzip.compress(unpacked.getvalue(), mtime=0))
    config = Blob(
        CONFIG_TYPE,
        _json(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {},
                "rootfs": {
                    "type": "layers",
                    "diff_ids": [f"sha256:{hashlib.sha256(unpacked.getvalue()).hexdigest()}"],
                },
            }
        ),
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config.descriptor,
        "layers": [layer.descriptor],
    }
    return Image(Blob(MANIFEST_TYPE, _json(manifest)), config, layer)


def unpacked(layer: bytes) -> dict[str, bytes]:
    """The files in the root of a layer by name.

    Raises:
        RegistryError: it is no archive, or unpacks to more than 2 GiB.
    """
    found: dict[str, bytes] = {}
    total = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(layer), mode="r:gz") as archive:
            for entry in archive:
                total += entry.size
                if total > LARGEST:
                    message = f"a layer of the image unpacks to more than {LARGEST:,} bytes"
                    raise RegistryError(message)
                name = entry.name.removeprefix("./").removeprefix("/")
                if entry.isfile() and "/" not in name and (content := archive.extractfile(entry)):
                    found[name] = content.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        message = f"a layer of the image cannot be unpacked: {error}"
        raise RegistryError(message) from error
    return found


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
