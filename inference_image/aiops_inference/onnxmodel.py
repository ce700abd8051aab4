"""An ONNX graph with the face of a scikit-learn estimator, run by onnxruntime on one thread of the CPU.

What skl2onnx writes is understood: a regressor's one output, and a classifier's labels with its probabilities, as a table,
(ZipMap) as one map a row, or as a table for each of several targets. Inputs are one tensor of all features, or one for each.

A graph neither says which label a column of probabilities belongs to, nor whether the column holds probabilities at all: scores
of a perceptron stand in the same place under the same name. Both are told by the answers for some rows.
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
SUM_TOLERANCE: Final = 1e-3  # of a row's probabilities, in single precision


class OnnxModel:
    """Predicts rows of shape (n, F).

    Attributes:
        n_features_in_: F; None where the graph leaves it open.
        feature_names_in_: the inputs' names where there is one for each feature; else None.
        classes_: of a classifier, in the order of its probabilities; of several targets a list of these; None where neither the
            graph nor its answers nor the manifest tell.
        golden_tolerance: how far its answers may be from the original's, relative; None where it calculates as exactly.
        predict_proba: there for a classifier with probabilities alone; of several targets it answers a list of tables.
    """

    def __init__(self, content: bytes, classes: Sequence[str] | None = None, rows: Rows | None = None) -> None:
        """Make a session of the graph's bytes.

        Args:
            content: of the file.
            classes: names of a classifier's classes.
            rows: such as will be predicted, shape (n, F), with each class among the answers if that can be; where left out, or
                of another width than the graph's, one row of zeros.

        Raises:
            ValueError: inputs that rows of numbers cannot be given to, or other classes than those of the names.
            Exception: whatever onnxruntime says of bytes that are no graph, or of one that it cannot run.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what is wrong is in its exceptions
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", NOWHERE)
        self._session = onnxruntime.InferenceSession(
            content,
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # it would try the same again, and print so among the lines of the log
        )
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self._inputs = [(entry.name, _dtype(entry), _width(entry, alone=len(inputs) == 1)) for entry in inputs]
        widths = [width for _, _, width in self._inputs if width]
        self.n_features_in_ = sum(widths) if len(widths) == len(inputs) else None
        each = len(inputs) > 1 and set(widths) == {1}
        self.feature_names_in_ = np.array([name for name, _, _ in self._inputs]) if each else None
        self.golden_tolerance = SINGLE_TOLERANCE if np.float32 in {dtype for _, dtype, _ in self._inputs} else None
        self._label = outputs[0].name
        self._probabilities = outputs[1].name if len(outputs) == 2 else None  # noqa: PLR2004 - labels and probabilities
        self.classes_: npt.NDArray[Any] | list[npt.NDArray[Any]] | None = None
        if self._probabilities is not None:
            self._understand(classes, rows)

    def predict(self, rows: Rows) -> npt.NDArray[Any]:
        """One answer a row: a label, a number, or several numbers."""
        answer = np.asarray(self._run(self._label, rows))
        # skl2onnx writes the one output of a regressor as a column.
        return answer[:, 0] if answer.ndim == 2 and answer.shape[1] == 1 else answer  # noqa: PLR2004 - a table has two axes

    def _predict_proba(self, rows: Rows) -> Any:  # noqa: ANN401 - a table, or one for each target
        tables = self._tables(self._run(self._probabilities, rows))
        return tables[0] if len(tables) == 1 else tables

    def _tables(self, answer: Any) -> list[Rows]:  # noqa: ANN401 - whatever the graph gives
        """The probabilities of each target, a table (n, classes) each."""
        if isinstance(answer, list):
            if answer and isinstance(answer[0], dict):
                return [np.array([list(row.values()) for row in answer], dtype=np.float64)]
            return answer
        return list(answer) if answer.ndim == 3 else [answer]  # noqa: PLR2004 - targets, rows, classes

    def _run(self, output: str | None, rows: Rows) -> Any:  # noqa: ANN401 - whatever the graph gives
        feed, start = {}, 0
        with np.errstate(over="raise"):  # a number that a float32 cannot hold
            for name, dtype, width in self._inputs:
                part = rows if width is None or width == rows.shape[1] else rows[:, start : start + width]
                feed[name] = np.ascontiguousarray(part, dtype=dtype)
                start += width or 0
        return self._session.run([output], feed)[0]

    def _understand(self, names: Sequence[str] | None, rows: Rows | None) -> None:
        """Find out what the second output is, and which labels its columns belong to.

        Raises:
            ValueError: there are other names than probabilities.
        """
        width = self.n_features_in_
        if rows is None or (width or rows.shape[1]) != rows.shape[1]:
            if width is None:
                return
            rows = np.zeros((1, width))
        labels, answer = self.predict(rows), self._run(self._probabilities, rows)
        tables = self._tables(answer)
        targets = [labels] if labels.ndim == 1 else list(labels.T)
        told = _named(names, labels) if labels.ndim == 1 else None
        if not _are_probabilities(tables, labels):
            self.classes_ = told
            return
        self.predict_proba = self._predict_proba
        if len(tables) != len(targets):  # of several truth values, each with its own probability
            return
        if told is not None and len(told) != tables[0].shape[1]:
            message = f"the graph has {tables[0].shape[1]} probabilities, but manifest.json has {len(told)} classes"
            raise ValueError(message)
        if isinstance(answer, list) and isinstance(answer[0], dict):
            self.classes_ = np.array(list(answer[0]))
            return
        found = [_labels(target, table, told) for target, table in zip(targets, tables, strict=True)]
        known = [each for each in found if each is not None]
        if len(known) == len(found):
            self.classes_ = known[0] if labels.ndim == 1 else known


def _are_probabilities(tables: Sequence[Rows], labels: npt.NDArray[Any]) -> bool:
    """Of one row or more all between 0 and 1, and of each target all that can be."""
    if any(table.ndim != 2 or table.shape[0] != labels.shape[0] for table in tables):  # noqa: PLR2004 - a table has two axes
        return False
    if not all(np.all((table >= -SUM_TOLERANCE) & (table <= 1 + SUM_TOLERANCE)) for table in tables):
        return False
    if labels.ndim == 2 and len(tables) == 1:  # noqa: PLR2004 - several truth values of one row exclude none of the others
        return tables[0].shape == labels.shape
    whole = all(np.allclose(table.sum(axis=1), 1, rtol=0, atol=SUM_TOLERANCE) for table in tables)
    return whole and len(tables) == (1 if labels.ndim == 1 else labels.shape[1])


def _labels(labels: npt.NDArray[Any], table: Rows, told: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
    """Which label each column of the probabilities belongs to; None where that cannot be told.

    It is the one that is mostly answered where the column has the largest. Where some column never has it, the labels are those
    that are told, or else the first whole numbers, if they agree with all the other columns.

    Args:
        labels: shape (n,).
        table: their probabilities, shape (n, classes).
        told: shape (classes,).
    """
    largest = table.argmax(axis=1)
    seen: dict[int, Any] = {}
    for column in np.unique(largest):
        values, counts = np.unique(labels[largest == column], return_counts=True)
        seen[int(column)] = values[counts.argmax()]
    if len(seen) == len(set(seen.values())) == table.shape[1]:
        return np.array([seen[column] for column in range(table.shape[1])])
    likely = np.arange(table.shape[1]) if told is None else told
    return likely if all(likely[column] == value for column, value in seen.items()) else None


def _named(names: Sequence[str] | None, labels: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """The labels behind the names of classes, if there are any names."""
    if names is None:
        return None
    return np.array(names) if labels.dtype.kind in "OU" else _numbers(names)


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
