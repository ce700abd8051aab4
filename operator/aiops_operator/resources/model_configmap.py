"""ConfigMap `<name>-model-<digest>`: the immutable copy of the artifacts, so that a good revision stays loadable."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from aiops_operator.api import InferenceService
from aiops_operator.names import CONFIG_MAP
from aiops_operator.names import model_config_map as copy_name
from aiops_operator.resources.metadata import object_metadata

# In this order the server looks for a model whose file is not there under its own name; it has the same.
MODEL_SUFFIXES: Final = (".skops", ".onnx", ".pkl", ".joblib")
HARMLESS: Final = MODEL_SUFFIXES[:2]  # whose loading runs nothing: no pickle takes the place of one


@dataclass(frozen=True)
class Artifacts:
    """What a ConfigMap holds.

    Attributes:
        digest: `sha256:<hex>` over keys and bytes, whichever of data and binaryData they stand in.
        files: `sha256:<hex>` of each file's bytes, by key.
    """

    digest: str
    files: Mapping[str, str]


def artifacts_of(config_map: Mapping[str, Any]) -> Artifacts:
    """Read and digest a ConfigMap's files; bytes that are no base64 count as they stand (the API server has checked)."""
    data, binary_data = config_map.get("data") or {}, config_map.get("binaryData") or {}
    contents = {key: text.encode() for key, text in data.items()}
    contents |= {key: _decoded(text) for key, text in binary_data.items()}
    whole, files = hashlib.sha256(), {}
    for key in sorted(contents):
        digest = hashlib.sha256(contents[key])
        files[key] = f"sha256:{digest.hexdigest()}"
        whole.update(f"{len(key)}:{key}{len(contents[key])}:".encode() + digest.digest())
    return Artifacts(f"sha256:{whole.hexdigest()}", files)


def model_key(files: Mapping[str, str], model_file: str) -> str | None:
    """The key that pods take for the model: `modelFile`, or one that differs from it in a known ending alone; None for none."""
    if model_file in files:
        return model_file
    path = PurePosixPath(model_file)
    others = map(str, map(path.with_suffix, HARMLESS if path.suffix in HARMLESS else MODEL_SUFFIXES))
    return next((key for key in others if key in files), None)


def model_config_map(service: InferenceService, source: Mapping[str, Any]) -> dict[str, Any]:
    """The copy of a ConfigMap, which nobody can change: only delete."""
    contents = {part: source[part] for part in ("data", "binaryData") if source.get(part)}
    return {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.kind,
        "metadata": object_metadata(service, copy_name(service.key.name, artifacts_of(source).digest)),
        "immutable": True,
        **contents,
    }


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return text.encode()
