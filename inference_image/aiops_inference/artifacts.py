"""From files to a model that may serve: read once, verify, load those same bytes, compare golden predictions."""

import hashlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aiops_drift import Profile, ProfileError
from aiops_inference import libraries
from aiops_inference.codec import LARGEST
from aiops_inference.errors import (
    ArtifactError,
    ArtifactTooLargeError,
    BaselineInvalidError,
    BaselineNotFoundError,
    DigestMismatchError,
    GoldenPredictionsDifferError,
    InferenceError,
    LibraryVersionMismatchError,
    ManifestInvalidError,
    ModelNotFoundError,
    ModelUnloadableError,
    describe,
)
from aiops_inference.manifest import Manifest
from aiops_inference.predictor import Predictor
from aiops_inference.settings import Settings

MANIFEST_NAME: Final = "manifest.json"
PROBE_ROWS: Final = 2
GOLDEN_TOLERANCE: Final = 1e-6  # relative: regressions differ in the last bits between processors


@dataclass(frozen=True)
class Artifacts:
    """What was loaded, whole and verified.

    Attributes:
        predictor: the model.
        digest: `sha256:…` of the model file's bytes.
        profile: the baseline in numbers.
        task: `classification` or `regression`.
        classes: names of the classes where they are known.
        suite: the bytes of the expectation suite; None where there is none.
        warnings: what is worth a line in the log, though it keeps nothing from being served.
    """

    predictor: Predictor
    digest: str
    profile: Profile
    task: str
    classes: tuple[str, ...] | None
    suite: bytes | None
    warnings: tuple[str, ...]


def load(settings: Settings) -> Artifacts:
    """Read and verify everything that a pod serves. Blocks: seconds, most of them importing the model's libraries.

    Raises:
        ArtifactError: with the reason of the first thing that is wrong.
    """
    limit = settings.max_model_bytes
    model = _read(settings.model_path, limit, ModelNotFoundError)
    baseline = _read(settings.baseline_path, limit, BaselineNotFoundError)
    suite = _read_optional(settings.expectations_path, limit)
    manifest_bytes = _read_optional(settings.model_path.with_name(MANIFEST_NAME), limit)
    manifest = None if manifest_bytes is None else Manifest.parse(manifest_bytes)

    digest = hashlib.sha256(model).hexdigest()
    if settings.model_sha256 and digest != settings.model_sha256:
        message = f"{settings.model_path.name} has the digest sha256:{digest}, but MODEL_SHA256 (spec.model.sha256) allows sha256:{settings.model_sha256}"
        raise DigestMismatchError(message)
    remarks: list[str] = []
    if manifest:
        manifest.check(settings.model_path.name, digest)
        manifest.check(settings.baseline_path.name, hashlib.sha256(baseline).hexdigest())
        suite_name = settings.expectations_path.name
        if suite is not None:
            manifest.check(suite_name, hashlib.sha256(suite).hexdigest(), must_be_listed=False)
        elif suite_name in manifest.digests:
            remarks.append(f"{suite_name} is in manifest.json, but not beside it: rows are not validated")

    rows = read_baseline(baseline)
    profile = _profile(rows, manifest)
    differences = manifest.version_differences() if manifest else []
    estimator, library_warnings = unpickle(model, settings.model_path.name, differences)
    if differences:
        remarks.append(f"LibraryVersionMismatch: the model was saved with {', '.join(differences)}")
    remarks.extend(library_warnings)
    predictor = Predictor(estimator)
    _check_width(predictor, profile)
    if manifest:
        _check_golden(predictor, manifest, differences)
    else:
        _probe(predictor, rows[:PROBE_ROWS])
    predictor.hasten(rows)
    return Artifacts(
        predictor=predictor,
        digest=f"sha256:{digest}",
        profile=profile,
        task=manifest.task if manifest else predictor.task,
        classes=manifest.classes if manifest else predictor.classes,
        suite=suite,
        warnings=tuple(remarks),
    )


def signature(settings: Settings) -> tuple[tuple[int, int, int] | None, ...]:
    """What changes when one of the files does: worth another try at loading."""

    def of(path: Path) -> tuple[int, int, int] | None:
        try:
            stat = path.stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_size, stat.st_mtime_ns

    manifest = settings.model_path.with_name(MANIFEST_NAME)
    return tuple(map(of, (settings.model_path, settings.baseline_path, settings.expectations_path, manifest)))


def read_baseline(content: bytes) -> npt.NDArray[np.float64]:
    """The baseline rows of a `.npy` file's bytes.

    Raises:
        BaselineInvalidError: not a two-dimensional array of finite floats.
    """
    try:
        rows = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:
        message = f"the baseline is not a .npy file of numbers: {describe(error)}"
        raise BaselineInvalidError(message) from error
    if not isinstance(rows, np.ndarray) or rows.dtype.kind not in "fiu" or rows.ndim != 2:  # noqa: PLR2004 - a table has two axes
        message = "the baseline must be one two-dimensional array of numbers, a row for each training row"
        raise BaselineInvalidError(message)
    values = rows.astype(np.float64)
    if not np.isfinite(values).all():
        message = "the baseline holds values that are not finite"
        raise BaselineInvalidError(message)
    return values


def unpickle(content: bytes, name: str, differences: list[str]) -> tuple[Any, list[str]]:
    """Turn verified bytes into a model; the second value is what the libraries warned of, in one line each.

    Raises:
        ModelUnloadableError: with the exception's text; LibraryVersionMismatchError where the versions differ as well.
    """
    libraries.prepare(content)
    import joblib  # noqa: PLC0415 - takes a second with what it brings along; the socket is open before

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = joblib.load(io.BytesIO(content))
        except Exception as error:
            message = f"{name} cannot be loaded: {describe(error)}"
            if differences:
                message += f"; it was saved with {', '.join(differences)}"
                raise LibraryVersionMismatchError(message) from error
            raise ModelUnloadableError(message) from error
    if not callable(getattr(model, "predict", None)):
        message = f"{name} holds a {type(model).__name__}, which has no predict()"
        raise ModelUnloadableError(message)
    return model, sorted({_warning_text(warning.message) for warning in caught})


def _warning_text(warning: Warning | str) -> str:
    text = describe(warning) if isinstance(warning, Warning) else warning
    # scikit-learn compares the version that a model was saved with, and only warns.
    return f"LibraryVersionMismatch: {text}" if type(warning).__name__ == "InconsistentVersionWarning" else text


def _read(path: Path, limit: int, missing: Callable[[str], ArtifactError]) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror or error}"
        raise missing(message) from error
    if len(content) > limit:
        message = f"{path} is larger than MAX_MODEL_BYTES, {limit} bytes"
        raise ArtifactTooLargeError(message)
    return content


def _read_optional(path: Path, limit: int) -> bytes | None:
    if not path.exists():
        return None
    return _read(path, limit, ManifestInvalidError)


def _profile(rows: npt.NDArray[np.float64], manifest: Manifest | None) -> Profile:
    """The manifest's, or one that is made here: a second of work, where only the model and its rows are given."""
    if manifest and rows.shape[1] != len(manifest.features):
        message = f"the baseline has {rows.shape[1]} columns, but manifest.json has {len(manifest.features)} features"
        raise BaselineInvalidError(message)
    if manifest and manifest.profile:
        return manifest.profile
    try:
        return Profile.from_rows(rows, manifest.features if manifest else None).calibrated(rows)
    except ProfileError as error:
        raise BaselineInvalidError(str(error)) from error


def _check_width(predictor: Predictor, profile: Profile) -> None:
    if predictor.width is not None and predictor.width != len(profile.names):
        message = f"the model wants {predictor.width} features, but the baseline has {len(profile.names)}"
        raise BaselineInvalidError(message)


def _probe(predictor: Predictor, rows: npt.NDArray[np.float64]) -> None:
    try:
        predictor.predict(rows)
    except InferenceError as error:
        message = f"the model does not predict on the baseline's own rows: {error}"
        raise ModelUnloadableError(message) from error


def _check_golden(predictor: Predictor, manifest: Manifest, differences: list[str]) -> None:
    saved = f"; the model was saved with {', '.join(differences)}" if differences else ""
    try:
        predictions = predictor.predict(manifest.golden_inputs)
    except InferenceError as error:
        message = f"the model does not predict on the golden inputs of manifest.json: {error}{saved}"
        raise GoldenPredictionsDifferError(message) from error
    for i, (got, wanted) in enumerate(zip(predictions, manifest.golden_predictions, strict=True)):
        if not _same(got, wanted):
            message = f"golden row {i} predicts {got!r}, but manifest.json says {wanted!r}{saved}"
            raise GoldenPredictionsDifferError(message)


def _same(got: object, wanted: object) -> bool:
    if isinstance(got, list) and isinstance(wanted, list):
        return len(got) == len(wanted) and all(map(_same, got, wanted))
    if isinstance(got, float) and isinstance(wanted, int | float):
        # An integer of 400 digits has no float to subtract from.
        return abs(wanted) <= LARGEST and abs(got - wanted) <= GOLDEN_TOLERANCE * max(1.0, abs(wanted))
    return got == wanted
