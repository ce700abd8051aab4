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
from aiops_training.model import Evaluation, golden

BASELINE: Final = "baseline.npy"
EXPECTATIONS: Final = "expectations.json"
MANIFEST: Final = "manifest.json"


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

    A model of another format that an earlier run has left is removed: the manifest is not of it any more.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name in sorted(files, key=lambda name: name == MANIFEST):
        partial = directory / f".{name}.partial"
        partial.write_bytes(files[name])
        partial.replace(directory / name)
    for name in set(formats.NAMES.values()) - files.keys():
        (directory / name).unlink(missing_ok=True)


def _saved(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, dataset.rows, allow_pickle=False)
    return buffer.getvalue()


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
