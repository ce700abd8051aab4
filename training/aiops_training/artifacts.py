"""The artifact directory: model, baseline, expectations and a manifest that vouches for their bytes."""

import hashlib
import io
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from aiops_drift import Profile
from aiops_training import expectations, formats
from aiops_training.datasets import Dataset
from aiops_training.errors import ArtifactsError
from aiops_training.model import Evaluation, golden

BASELINE: Final = "baseline.npy"
EXPECTATIONS: Final = "expectations.json"
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.json.sig"


def build(
    dataset: Dataset,
    model: Any,  # noqa: ANN401 - any scikit-learn estimator
    evaluation: Evaluation,
    form: formats.Format | None = None,
) -> dict[str, bytes]:
    """The files' bytes by name. The same data and libraries give the same bytes: there is no time and no path in them.

    Args:
        dataset: what was trained on.
        model: fitted to it.
        evaluation: how good it is.
        form: of the model's file; where left out, what `formats.choose` finds.

    Raises:
        DriftError: rows that a profile cannot describe.
        FormatError: the format cannot hold the model.
    """
    form = form or formats.choose(model, "auto")[0]
    profile = Profile.from_rows(dataset.rows, dataset.features, evaluation.outputs)
    profile = profile.calibrated(dataset.rows, evaluation.outputs)
    files = {
        formats.NAMES[form]: formats.dumped(model, form),
        BASELINE: _saved(dataset),
        EXPECTATIONS: _json(expectations.suite(dataset, profile)),
    }
    manifest = {
        "schemaVersion": 1,
        "generator": f"aiops-training {version('aiops-training')}",
        "dataset": dataset.name,
        "task": dataset.task,
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in files.items()
        },
        "libraries": {
            "python": ".".join(platform.python_version_tuple()[:2]),
            **{name: version(name) for name in formats.LIBRARIES[form]},
        },
        "features": list(dataset.features),
        "classes": list(dataset.classes) if dataset.classes else None,
        "evaluation": {"metric": evaluation.metric, "score": evaluation.score},
        "golden": golden(model, dataset),
        "profile": profile.to_dict(),
    }
    return {**files, MANIFEST: _json(manifest)}


def write(files: Mapping[str, bytes], directory: Path) -> None:
    """Write the files, each whole or not at all, the manifest last: a reader never sees one that vouches for other bytes.

    A model of another format, and a signature, that an earlier run has left are removed: they are not of this manifest.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name in sorted(files, key=lambda name: name == MANIFEST):
        partial = directory / f".{name}.partial"
        partial.write_bytes(files[name])
        partial.replace(directory / name)
    for name in {*formats.NAMES.values(), SIGNATURE} - files.keys():
        (directory / name).unlink(missing_ok=True)


def read(directory: Path) -> dict[str, bytes]:
    """The files that `write` wrote, by name.

    Raises:
        ArtifactsError: they cannot be read, or are not what the manifest says.
    """
    try:
        manifest = (directory / MANIFEST).read_bytes()
        names = [*_listed(manifest), *([SIGNATURE] if (directory / SIGNATURE).exists() else [])]
        files = {name: (directory / name).read_bytes() for name in names} | {MANIFEST: manifest}
    except OSError as error:
        message = f"{error.filename} cannot be read: {error.strerror}; is {directory} what training wrote?"
        raise ArtifactsError(message) from error
    checked(files)
    return files


def checked(files: Mapping[str, bytes]) -> dict[str, Any]:
    """The manifest, once each file has the digest that stands in it.

    Raises:
        ArtifactsError: a file is missing or is another, or the manifest is none.
    """
    if MANIFEST not in files:
        message = f"there is no {MANIFEST} among the artifacts, so that nothing vouches for their bytes"
        raise ArtifactsError(message)
    for name, digest in _listed(files[MANIFEST]).items():
        if name not in files:
            message = f"{name}, which {MANIFEST} names, is not there"
            raise ArtifactsError(message)
        if hashlib.sha256(files[name]).hexdigest() != digest:
            message = f"{name} is not what {MANIFEST} says: its digest is another"
            raise ArtifactsError(message)
    manifest: dict[str, Any] = json.loads(files[MANIFEST])
    return manifest


def model_file(files: Mapping[str, bytes]) -> str:
    """The name of the model's file among checked ones.

    Raises:
        ArtifactsError: there is none.
    """
    listed = _listed(files[MANIFEST])
    name = next((name for name in formats.NAMES.values() if name in listed), None)
    if name is None:
        message = f"{MANIFEST} names no model; it names {', '.join(sorted(listed)) or 'nothing'}"
        raise ArtifactsError(message)
    return name


def _listed(manifest: bytes) -> dict[str, str]:
    """The digest of each file that a manifest names; names are those of files in one directory."""
    try:
        listed = {str(name): str(entry["sha256"]) for name, entry in json.loads(manifest)["files"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"{MANIFEST} is not as training writes it: {type(error).__name__}: {error}"
        raise ArtifactsError(message) from error
    if paths := [name for name in listed if Path(name).name != name]:
        message = f"{MANIFEST} names {paths[0]!r}, which is no name of a file beside it"
        raise ArtifactsError(message)
    return listed


def _saved(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, dataset.rows, allow_pickle=False)
    return buffer.getvalue()


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
