"""An ONNX graph with the face of a scikit-learn estimator, run by onnxruntime on one thread of the CPU.

What skl2onnx writes is understood: a regressor's one output, and a classifier's labels with its probabilities, as a table or
(ZipMap) as one map a row. Inputs are one tensor of all features, or one for each.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime

Rows = npt.NDArray[np.float64]

_DTYPES: Final = {
    "tensor(double)": np.float64,
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}
SINGLE_TOLERANCE: Final = 1e-4  # relative: what seven digits leave of a sum of many terms
# Weights outside of the file would be bytes that nobody has verified: they are looked for where nothing is.
NOWHERE: Final = "/nonexistent/aiops-quality"


class OnnxModel:
    """Predicts rows of shape (n, F).

    Attributes:
        n_features_in_: F; None where the graph leaves it open.
        feature_names_in_: the inputs' names where there is one for each feature; else None.
        classes_: of a classifier, in the order of its probabilities; None where neither graph nor manifest tell.
        golden_tolerance: how far its answers may be from the original's, relative; None where it calculates as exactly.
        predict_proba: there for a classifier alone.
    """

    def __init__(self, content: bytes, classes: Sequence[str] | None = None) -> None:
        """Make a session of the graph's bytes; `classes` are the names of a classifier's classes.

        Raises:
            ValueError: inputs that rows of numbers cannot be given to, or other classes than those of the names.
            Exception: whatever onnxruntime says of bytes that are no graph, or of one that it cannot run.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what is wrong is in its exceptions
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", NOWHERE)
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self._inputs = [(entry.name, _dtype(entry), _width(entry, alone=len(inputs) == 1)) for entry in inputs]
        widths = [width for _, _, width in self._inputs if width]
        self.n_features_in_ = sum(widths) if len(widths) == len(inputs) else None
        each = len(inputs) > 1 and set(widths) == {1}
        self.feature_names_in_ = np.array([name for name, _, _ in self._inputs]) if each else None
        self.golden_tolerance = SINGLE_TOLERANCE if np.float32 in {dtype for _, dtype, _ in self._inputs} else None
        self._label = outputs[0].name
        self._probabilities = outputs[1].name if len(outputs) == 2 else None  # noqa: PLR2004 - labels and probabilities
        self.classes_: npt.NDArray[Any] | None = None
        if self._probabilities is not None:
            self.predict_proba = self._predict_proba
            self.classes_ = self._classes(outputs[0].type, classes)

    def predict(self, rows: Rows) -> npt.NDArray[Any]:
        """One answer a row: a label, a number, or several numbers."""
        answer = np.asarray(self._run(self._label, rows))
        # skl2onnx writes the one output of a regressor as a column.
        return answer[:, 0] if answer.ndim == 2 and answer.shape[1] == 1 else answer  # noqa: PLR2004 - a table has two axes

    def _predict_proba(self, rows: Rows) -> Any:  # noqa: ANN401 - a table, or one for each target
        answer = self._run(self._probabilities, rows)
        if isinstance(answer, list) and answer and isinstance(answer[0], dict):
            return np.array([list(row.values()) for row in answer], dtype=np.float64)
        return answer

    def _run(self, output: str | None, rows: Rows) -> Any:  # noqa: ANN401 - whatever the graph gives
        feed, start = {}, 0
        with np.errstate(over="raise"):  # a number that a float32 cannot hold
            for name, dtype, width in self._inputs:
                part = rows if width is None or width == rows.shape[1] else rows[:, start : start + width]
                feed[name] = np.ascontiguousarray(part, dtype=dtype)
                start += width or 0
        return self._session.run([output], feed)[0]

    def _classes(self, kind: str, names: Sequence[str] | None) -> npt.NDArray[Any] | None:
        """The labels that the graph answers with: of its own maps, or by the names of the classes."""
        answer = self._run(self._probabilities, np.zeros((1, self.n_features_in_))) if self.n_features_in_ else None
        if isinstance(answer, list):
            return np.array(list(answer[0])) if isinstance(answer[0], dict) else None
        count = None if answer is None else answer.shape[1]
        if names is not None and count not in (None, len(names)):
            message = f"the graph has {count} probabilities, but manifest.json has {len(names)} classes"
            raise ValueError(message)
        if names is None or kind == "tensor(string)":
            labels = names if kind == "tensor(string)" else range(count or 0)
            return np.array(labels) if labels else None
        return _numbers(names)


def _numbers(names: Sequence[str]) -> npt.NDArray[Any]:
    """The labels behind the names of classes: these, where they are numbers, or their places."""
    try:
        labels = np.array(names, dtype=np.float64)
    except ValueError:
        return np.arange(len(names))
    whole: npt.NDArray[Any] = labels.astype(np.int64)
    return whole if np.array_equal(whole, labels) else labels


def _dtype(entry: Any) -> Any:  # noqa: ANN401 - onnxruntime ships no types
    if entry.type not in _DTYPES:
        message = f"the input {entry.name} is a {entry.type}; rows are numbers, for one of {', '.join(_DTYPES)}"
        raise ValueError(message)
    return _DTYPES[entry.type]


def _width(entry: Any, *, alone: bool) -> int | None:  # noqa: ANN401 - as above
    shape = entry.shape
    if len(shape) != 2 or isinstance(shape[0], int):  # noqa: PLR2004 - a table has two axes
        message = f"the input {entry.name} has the shape {shape}; it must be [None, features], for any number of rows"
        raise ValueError(message)
    if isinstance(shape[1], int):
        return shape[1]
    return None if alone else 1
