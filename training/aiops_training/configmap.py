"""The artifacts as a ConfigMap manifest, ready for `kubectl apply --server-side`."""

import base64
from collections.abc import Mapping
from typing import Any, Final

import yaml

from aiops_training.errors import PackageError

LARGEST: Final = 1024 * 1024  # what the API server takes in the values of one ConfigMap


def manifest(name: str, files: Mapping[str, bytes], metadata: Mapping[str, Any] | None = None) -> str:
    """A v1 ConfigMap as YAML: JSON files readable under `data`, all others under `binaryData`.

    Args:
        name: of the ConfigMap.
        files: bytes by name.
        metadata: further metadata.

    Raises:
        PackageError: more than 1 MiB.
    """
    total = sum(map(len, files.values()))
    if total > LARGEST:
        message = (
            f"the artifacts have {total:,} bytes; a ConfigMap holds {LARGEST:,}. Serve them from a persistentVolumeClaim "
            "or an OCI image instead (spec.model.artifacts), or train on fewer rows"
        )
        raise PackageError(message)
    document = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {**(metadata or {}), "name": name},
        "binaryData": {
            file: base64.b64encode(data).decode() for file, data in sorted(files.items()) if not file.endswith(".json")
        },
        "data": {file: data.decode() for file, data in sorted(files.items()) if file.endswith(".json")},
    }
    return yaml.safe_dump(document, sort_keys=False)


def files(document: Mapping[str, Any]) -> dict[str, bytes]:
    """The files in a ConfigMap by name.

    Raises:
        PackageError: its values are not what they should be.
    """
    try:
        binary = {name: base64.b64decode(value) for name, value in (document.get("binaryData") or {}).items()}
        return {name: value.encode() for name, value in (document.get("data") or {}).items()} | binary
    except (AttributeError, TypeError, ValueError) as error:
        message = f"a ConfigMap's data is not what it should be: {error}"
        raise PackageError(message) from error
