"""From files to a model that may serve: read once, verify, load those same bytes, compare golden predictions."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aiops_drift import Profile, ProfileError
from aiops_inference import loaders
from aiops_inference.codec import LARGEST
from aiops_inference.errors import (
    ArtifactError,
    ArtifactTooLargeError,
    BaselineInvalidError,
    BaselineNotFoundError,
    DigestMismatchError,
    FeatureNamesDifferError,
    GoldenPredictionsDifferError,
    InferenceError,
    ManifestInvalidError,
    ModelNotFoundError,
    ModelUnloadableError,
    RequestError,
    UnavailableError,
    describe,
)
from aiops_inference.manifest import Manifest
from aiops_inference.predictor import Predictor
from aiops_inference.settings import Settings

MANIFEST_NAME: Final = "manifest.json"
PROBE_ROWS: Final = 2
SPREAD_ROWS: Final = 1000  # at most: in a baseline that is sorted by class, each class is among them
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
    path = loaders.found(settings.model_path)
    model = _read(path, limit, ModelNotFoundError)
    baseline = _read(settings.baseline_path, limit, BaselineNotFoundError)
    suite = _read_optional(settings.expectations_path, limit)
    manifest_bytes = _read_optional(path.with_name(MANIFEST_NAME), limit)
    manifest = None if manifest_bytes is None else Manifest.parse(manifest_bytes)

    digest = hashlib.sha256(model).hexdigest()
    if settings.model_sha256 and digest != settings.model_sha256:
        message = f"{path.name} has the digest sha256:{digest}, but MODEL_SHA256 (spec.model.sha256) allows sha256:{settings.model_sha256}"
        raise DigestMismatchError(message)
    remarks: list[str] = []
    if path != settings.model_path:
        remarks.append(f"{settings.model_path.name} is not there; {path.name} beside it is served")
    if manifest:
        manifest.check(path.name, digest)
        manifest.check(settings.baseline_path.name, hashlib.sha256(baseline).hexdigest())
        suite_name = settings.expectations_path.name
        if suite is not None:
            manifest.check(suite_name, hashlib.sha256(suite).hexdigest(), must_be_listed=False)
        elif suite_name in manifest.digests:
            remarks.append(f"{suite_name} is in manifest.json, but not beside it: rows are not validated")

    rows = read_baseline(baseline)
    _check_columns(rows, manifest)
    differences = manifest.version_differences() if manifest else []
    classes = manifest.classes if manifest else None
    known = loaders.Known(differences, classes, rows[:: len(rows) // SPREAD_ROWS + 1])
    estimator, library_warnings = loaders.load(model, path.name, limit=limit, known=known)
    if differences:
        remarks.append(f"LibraryVersionMismatch: the model was saved with {', '.join(differences)}")
    remarks.extend(library_warnings)
    predictor = Predictor(estimator)
    if classes is not None:
        predictor.call(classes)
    profile = _profile(rows, manifest, predictor.names)
    _check_width(predictor, profile)
    _check_names(predictor, profile)
    remarks.extend(filter(None, [predictor.settle(rows[:PROBE_ROWS])]))
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
        classes=predictor.classes if classes is None else classes,
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

    manifest = settings.model_path.parent / MANIFEST_NAME
    models = loaders.candidates(settings.model_path)
    return tuple(map(of, (*models, settings.baseline_path, settings.expectations_path, manifest)))


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


def _check_columns(rows: npt.NDArray[np.float64], manifest: Manifest | None) -> None:
    if manifest and rows.shape[1] != len(manifest.features):
        message = f"the baseline has {rows.shape[1]} columns, but manifest.json has {len(manifest.features)} features"
        raise BaselineInvalidError(message)


def _profile(rows: npt.NDArray[np.float64], manifest: Manifest | None, names: tuple[str, ...] | None) -> Profile:
    """The manifest's, or one that is made here: a second of work, where only the model and its rows are given.

    Without a manifest the features have the names that the model knows.
    """
    if manifest and manifest.profile:
        return manifest.profile
    own = names if names and len(names) == len(set(names)) == rows.shape[1] else None
    try:
        return Profile.from_rows(rows, manifest.features if manifest else own).calibrated(rows)
    except ProfileError as error:
        raise BaselineInvalidError(str(error)) from error


def _check_width(predictor: Predictor, profile: Profile) -> None:
    if predictor.width is not None and predictor.width != len(profile.names):
        message = f"the model wants {predictor.width} features, but the baseline has {len(profile.names)}"
        raise BaselineInvalidError(message)


def _check_names(predictor: Predictor, profile: Profile) -> None:
    """Rows have no names: the model takes the baseline's columns by their order, so its names for them must be the same.

    Raises:
        FeatureNamesDifferError: they are other names, or in another order; values might be taken for others.
    """
    names = predictor.names
    if names is None or names == profile.names:
        return
    if len(names) != len(profile.names):
        what = f"{len(names)} features with names, but the baseline and manifest.json have {len(profile.names)}"
        message = f"the model was fitted to {what}"
        raise FeatureNamesDifferError(message)
    i = next(i for i, (own, other) in enumerate(zip(names, profile.names, strict=True)) if own != other)
    how = "the same features in another order" if sorted(names) == sorted(profile.names) else "features of other names"
    message = (
        f"the model was fitted to {how}: column {i} is {names[i]!r} in the model, and {profile.names[i]!r} in the baseline "
        "and manifest.json; write these with the model's names, in its order"
    )
    raise FeatureNamesDifferError(message)


def _probe(predictor: Predictor, rows: npt.NDArray[np.float64]) -> None:
    try:
        predictor.predict(rows)
    except InferenceError as error:
        message = f"the model does not predict on the baseline's own rows: {error}"
        raise ModelUnloadableError(message) from error


def _check_golden(predictor: Predictor, manifest: Manifest, differences: list[str]) -> None:
    saved = f"; the model was saved with {', '.join(differences)}" if differences else ""
    tolerance = predictor.tolerance or GOLDEN_TOLERANCE

    def compare(got: list[Any], wanted: list[Any], what: str) -> None:
        for i, (one, other) in enumerate(zip(got, wanted, strict=True)):
            if not _same(one, other, tolerance):
                message = f"golden row {i} {what} {one!r}, but manifest.json says {other!r}{saved}"
                raise GoldenPredictionsDifferError(message)

    try:
        compare(predictor.predict(manifest.golden_inputs), manifest.golden_predictions, "predicts")
        if manifest.golden_probabilities is not None:
            said = predictor.probabilities(manifest.golden_inputs)
            compare(said, manifest.golden_probabilities, "has the probabilities")
    except (RequestError, UnavailableError) as error:
        message = f"the model does not predict on the golden inputs of manifest.json: {error}{saved}"
        raise GoldenPredictionsDifferError(message) from error


def _same(got: object, wanted: object, tolerance: float) -> bool:
    if isinstance(got, list) and isinstance(wanted, list):
        return len(got) == len(wanted) and all(
            _same(one, other, tolerance) for one, other in zip(got, wanted, strict=True)
        )
    if isinstance(got, float) and isinstance(wanted, int | float):
        # An integer of 400 digits has no float to subtract from.
        return abs(wanted) <= LARGEST and abs(got - wanted) <= tolerance * max(1.0, abs(wanted))
    return got == wanted
