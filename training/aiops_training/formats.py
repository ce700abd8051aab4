"""A fitted model as a file: skops, which loads without running code, joblib's pickle, or ONNX."""

import io
import json
import zipfile
from typing import Any, Final, Literal

import joblib
from skops import io as skops

from aiops_training.errors import FormatError

Format = Literal["skops", "pickle", "onnx"]

CHOICES: Final = ("auto", "skops", "pickle", "onnx")
NAMES: Final[dict[Format, str]] = {"skops": "model.skops", "pickle": "model.pkl", "onnx": "model.onnx"}
# Whose versions decide what the file is once it is loaded; an ONNX graph does not depend on what wrote it.
LIBRARIES: Final[dict[Format, tuple[str, ...]]] = {
    "skops": ("numpy", "scikit-learn", "skops"),
    "pickle": ("numpy", "scikit-learn", "joblib"),
    "onnx": (),
}
INPUT: Final = "inputs"
_SCHEMA: Final = "schema.json"
_LONG_AGO: Final = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip archive knows


def choose(model: Any, wanted: str) -> tuple[Format, str]:  # noqa: ANN401 - any scikit-learn estimator
    """The format that is written where `wanted` is asked for, and why, where that is worth a line.

    Args:
        model: fitted.
        wanted: one of `CHOICES`; `auto` is skops where skops trusts all types of the model, and a pickle elsewhere.
    """
    if wanted in NAMES:
        return wanted, ""
    try:
        untrusted = skops.get_untrusted_types(data=skops.dumps(model))
    except TypeError as error:  # of its own, or of the object that cannot be taken apart
        return "pickle", f"{NAMES['pickle']} is a pickle, because skops cannot hold this model: {error}"
    if untrusted:
        return "pickle", f"{NAMES['pickle']} is a pickle, because skops does not trust {', '.join(untrusted)}"
    return "skops", ""


def dumped(model: Any, form: Format) -> bytes:  # noqa: ANN401 - any scikit-learn estimator
    """The file's bytes: the same for the same model and libraries.

    Raises:
        FormatError: the format cannot hold this model, or is not there.
    """
    if form == "pickle":
        buffer = io.BytesIO()
        joblib.dump(model, buffer)
        return buffer.getvalue()
    if form == "onnx":
        return _onnx(model)
    try:
        content = skops.dumps(model)
    except TypeError as error:  # as above
        message = f"skops cannot hold this model: {error}; write it with --format pickle"
        raise FormatError(message) from error
    if untrusted := skops.get_untrusted_types(data=content):
        message = f"no server would load it: skops does not trust {', '.join(untrusted)}; write it with --format pickle"
        raise FormatError(message)
    return settled(content)


def settled(content: bytes) -> bytes:
    """What skops wrote, without the time and the addresses in memory that are in it.

    Objects are told apart by their addresses, and files are named after them; running numbers do as well.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    numbers: dict[int, int] = {}
    names: dict[str, str] = {}

    def renamed(value: Any) -> Any:  # noqa: ANN401 - JSON
        if isinstance(value, list):
            return list(map(renamed, value))
        if not isinstance(value, dict):
            return value
        settled: dict[str, Any] = {}
        for key, entry in value.items():
            if key == "__id__":
                settled[key] = numbers.setdefault(entry, len(numbers) + 1)
            elif key == "file" and isinstance(entry, str) and entry in members:
                settled[key] = names.setdefault(entry, f"{len(names) + 1}.{entry.rpartition('.')[2]}")
            else:
                settled[key] = renamed(entry)
        return settled

    schema = renamed(json.loads(members[_SCHEMA]))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for old, new in names.items():
            archive.writestr(zipfile.ZipInfo(new, _LONG_AGO), members[old])
        archive.writestr(zipfile.ZipInfo(_SCHEMA, _LONG_AGO), json.dumps(schema, separators=(",", ":")))
    return buffer.getvalue()


def _onnx(model: Any) -> bytes:  # noqa: ANN401 - any scikit-learn estimator
    try:
        from skl2onnx import to_onnx  # noqa: PLC0415 - of an optional dependency
        from skl2onnx.common.data_types import DoubleTensorType  # noqa: PLC0415 - as above
    except ImportError as error:
        message = "--format onnx needs skl2onnx: pip install 'aiops-training[onnx]'"
        raise FormatError(message) from error
    options = {"zipmap": False} if hasattr(model, "classes_") else {}
    try:
        inputs = [(INPUT, DoubleTensorType([None, model.n_features_in_]))]
        graph = to_onnx(model, initial_types=inputs, options={id(model): options})
    except Exception as error:
        message = f"skl2onnx cannot convert this model: {' '.join(str(error).split())}"
        raise FormatError(message) from error
    content: bytes = graph.SerializeToString(deterministic=True)
    return content
