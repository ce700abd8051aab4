"""From verified bytes to a model, by the ending of the file's name: pickles by joblib, skops and ONNX.

Nobody but the caller vouches for the bytes: a pickle runs what it holds. A `.skops` file is loaded where skops itself trusts
every type in it, and an `.onnx` file is a graph of numbers.
"""

import io
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aiops_inference import libraries
from aiops_inference.errors import (
    ArtifactError,
    ArtifactTooLargeError,
    LibraryVersionMismatchError,
    ModelUnloadableError,
    ModelUntrustedError,
    OnnxRuntimeMissingError,
    describe,
)

# In this order they are looked for beside a MODEL_PATH that is not there; the operator has the same.
SUFFIXES: Final = (".skops", ".onnx", ".pkl", ".joblib")
HARMLESS: Final = SUFFIXES[:2]  # formats whose loading runs nothing: who names one of them is never given a pickle
MAX_TYPES: Final = 5  # that a message names
_MARKS: Final = {b"PK\x03\x04": "a zip archive, as skops writes it", b"\x80": "a pickle"}


@dataclass(frozen=True)
class Known:
    """What is known of a model beside its file.

    Attributes:
        differences: how the libraries here differ from those that saved it, a phrase each.
        classes: names of its classes, for formats that do not hold them.
        rows: of the baseline, shape (n, F), by whose answers such a format's outputs are understood.
    """

    differences: Sequence[str] = ()
    classes: Sequence[str] | None = None
    rows: npt.NDArray[np.float64] | None = None


NOTHING: Final = Known()


def found(path: Path) -> Path:
    """The model's file: `path`, or where it is not there a file beside it that differs in a known ending alone."""
    return next((other for other in candidates(path) if _is_there(other)), path)


def candidates(path: Path) -> tuple[Path, ...]:
    """The files that are looked for, in this order; no pickle in the place of what is none."""
    others = HARMLESS if path.suffix in HARMLESS else SUFFIXES
    return (path, *map(path.with_suffix, others)) if path.name else (path,)


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except OSError:  # whatever keeps it from being read is for the reading to say
        return False
    return True


def load(content: bytes, name: str, *, limit: int, known: Known = NOTHING) -> tuple[Any, list[str]]:
    """Turn verified bytes into something with a `predict`; the second value is what the libraries warned of, a line each.

    Args:
        content: of the file.
        name: of the file; its ending tells the format.
        limit: bytes that a .skops file may have when it is unpacked.
        known: beside the file.

    Raises:
        ModelUnloadableError: with the exception's text, or for an ending that stands for no format.
        LibraryVersionMismatchError: the same where the versions differ as well.
        ModelUntrustedError: skops does not trust a type in it.
        OnnxRuntimeMissingError: onnxruntime is not installed.
        ArtifactTooLargeError: it unpacks to more than the limit.
    """
    suffix = Path(name).suffix
    if suffix not in SUFFIXES:
        message = f"{name} cannot be loaded: a name must say what its file is by ending in one of {', '.join(SUFFIXES)}"
        raise ModelUnloadableError(message)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if suffix == ".skops":
                model = _skops(content, name, limit)
            elif suffix == ".onnx":
                model = _onnx(content, name, known)
            else:
                model = _pickle(content)
        except ArtifactError:
            raise
        except Exception as error:
            message = f"{name} cannot be loaded: {describe(error)}{_hint(content, suffix)}"
            if known.differences:
                message += f"; it was saved with {', '.join(known.differences)}"
                raise LibraryVersionMismatchError(message) from error
            raise ModelUnloadableError(message) from error
    if not callable(getattr(model, "predict", None)):
        message = f"{name} holds a {type(model).__name__}, which has no predict()"
        raise ModelUnloadableError(message)
    return model, sorted({_warning_text(warning.message) for warning in caught})


def _pickle(content: bytes) -> object:
    libraries.prepare(content)
    import joblib  # noqa: PLC0415 - takes a second with what it brings along; the socket is open before

    return joblib.load(io.BytesIO(content))


def _skops(content: bytes, name: str, limit: int) -> object:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > limit:
        message = f"{name} unpacks to {size} bytes, more than MAX_MODEL_BYTES, {limit} bytes"
        raise ArtifactTooLargeError(message)
    libraries.prepare_skops()
    from skops import io as skops  # noqa: PLC0415 - as joblib, and it imports all of scikit-learn
    from skops.io.exceptions import UntrustedTypesFoundException  # noqa: PLC0415 - as above

    try:
        return skops.loads(content, trusted=None)
    except UntrustedTypesFoundException as error:
        types = skops.get_untrusted_types(data=content)
        listed = ", ".join(types[:MAX_TYPES]) + (", …" if len(types) > MAX_TYPES else "")
        message = (
            f"{name} holds types that skops does not trust: {listed}; if you made the file yourself, save the model with "
            "joblib as .pkl instead (in training --format pickle), and let MODEL_SHA256 (spec.model.sha256) say which bytes "
            "may be loaded"
        )
        raise ModelUntrustedError(message) from error


def _onnx(content: bytes, name: str, known: Known) -> object:
    try:
        from aiops_inference.onnxmodel import OnnxModel  # noqa: PLC0415 - of an optional dependency
    except ImportError as error:
        message = (
            f"{name} needs onnxruntime, which is not here: pip install 'aiops-inference[onnx]', or build the image with "
            "--build-arg EXTRAS=onnx"
        )
        raise OnnxRuntimeMissingError(message) from error
    return OnnxModel(content, known.classes, known.rows)


def _hint(content: bytes, suffix: str) -> str:
    if not content:
        return "; the file is empty"
    looks = next((what for mark, what in _MARKS.items() if content.startswith(mark)), None)
    own = {".skops": b"PK\x03\x04", ".onnx": b""}.get(suffix, b"\x80")
    if looks is None or (own and content.startswith(own)):
        return ""
    return f"; by its first bytes it is {looks}, which its name must say"


def _warning_text(warning: Warning | str) -> str:
    text = describe(warning) if isinstance(warning, Warning) else warning
    # scikit-learn compares the version that a model was saved with, and only warns.
    return f"LibraryVersionMismatch: {text}" if type(warning).__name__ == "InconsistentVersionWarning" else text
