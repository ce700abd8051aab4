"""Data in: one of scikit-learn's bundled data sets, or a CSV file with a target column."""

import csv
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn import datasets as bundled

from aiops_training.errors import DataError

Task = Literal["classification", "regression"]

BUNDLED: Final[dict[str, tuple[Callable[[], Any], Task]]] = {
    "iris": (bundled.load_iris, "classification"),
    "wine": (bundled.load_wine, "classification"),
    "breast_cancer": (bundled.load_breast_cancer, "classification"),
    "digits": (bundled.load_digits, "classification"),
    "diabetes": (bundled.load_diabetes, "regression"),
}
# A whole-number target with more distinct values than this is taken for a quantity, not for classes.
MOST_CLASSES: Final = 20
FEWEST_ROWS: Final = 10
LARGEST: Final = 1e100  # the sum of many squares of such values is still a number


@dataclass(frozen=True)
class Dataset:
    """Rows to learn from.

    Attributes:
        name: what the manifest calls it.
        task: what the target is.
        rows: shape (n, F), float64, finite.
        target: shape (n,): class labels, or numbers for a regression.
        features: F names.
        classes: what a person calls the classes, in the order of the labels; None for a regression.
    """

    name: str
    task: Task
    rows: npt.NDArray[np.float64]
    target: npt.NDArray[Any]
    features: tuple[str, ...]
    classes: tuple[str, ...] | None


def load_bundled(name: str) -> Dataset:
    """Load a data set that comes with scikit-learn.

    Raises:
        DataError: no data set of this name.
    """
    if name not in BUNDLED:
        message = f"there is no bundled data set {name!r}; choose one of {', '.join(sorted(BUNDLED))}, or pass --csv"
        raise DataError(message)
    load, task = BUNDLED[name]
    bunch = load()
    return Dataset(
        name=name,
        task=task,
        rows=np.asarray(bunch.data, dtype=np.float64),
        target=np.asarray(bunch.target),
        features=tuple(str(feature) for feature in bunch.feature_names),
        classes=tuple(str(label) for label in bunch.target_names) if task == "classification" else None,
    )


def load_csv(path: Path, target: str, task: Task | None = None) -> Dataset:
    """Load a CSV file: a header line, one column as the target, numbers in all others.

    Args:
        path: the file.
        target: the name of the target's column.
        task: what the target is; where left out, text and up to 20 distinct whole numbers are classes.

    Raises:
        DataError: no such file or column, a line with too many fields, a column that is not of numbers, missing values,
            too few rows.
    """
    frame, lines = _read(path)
    if target not in frame.columns:
        message = f"{path} has no column {target!r}; its columns are {', '.join(map(repr, frame.columns))}"
        raise DataError(message)
    inputs, labels = frame.drop(columns=[target]), frame[target]
    problem = _problem(frame, inputs, lines)
    if problem:
        message = f"{path}: {problem}"
        raise DataError(message)
    chosen = task or ("classification" if _looks_like_classes(labels) else "regression")
    if chosen == "regression" and not pd.api.types.is_numeric_dtype(labels):
        message = f"{path}: the target {target!r} holds text; a regression needs numbers (leave --task out)"
        raise DataError(message)
    if chosen == "classification" and (fractions := _fractions(labels)):
        message = (
            f"{path}: the target {target!r} holds fractions such as {fractions[0]}; "
            "classes are texts or whole numbers (leave --task out)"
        )
        raise DataError(message)
    values = labels.to_numpy(dtype=np.float64) if chosen == "regression" else _labels(labels)
    return Dataset(
        name=path.stem,
        task=chosen,
        rows=inputs.to_numpy(dtype=np.float64),
        target=values,
        features=tuple(map(str, inputs.columns)),
        classes=tuple(str(label) for label in np.unique(values)) if chosen == "classification" else None,
    )


def _read(path: Path) -> tuple[pd.DataFrame, list[int]]:
    """The table, and the number of the line on which each of its rows begins.

    Raises:
        DataError: the file cannot be read, or a line has more fields than the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read()
        lines = _lines(text)
        with warnings.catch_warnings():
            # Fields that no header names would shift the columns, or be dropped.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # index_col: without it a field too many in every line makes the first column a name for the rows.
            frame = pd.read_csv(io.StringIO(text, newline=""), index_col=False, low_memory=False)
    except (OSError, ValueError, csv.Error, pd.errors.ParserWarning) as error:  # pandas' parser errors are ValueErrors
        message = f"{path} cannot be read as CSV: {error}"
        raise DataError(message) from error
    return frame, lines if len(lines) == len(frame) else list(range(2, len(frame) + 2))


def _lines(text: str) -> list[int]:
    """The number of the first line of each record after the header; empty lines are no records.

    Raises:
        ValueError: a record has more fields than the header.
    """
    reader = csv.reader(io.StringIO(text, newline=""))
    starts: list[int] = []
    width, start = 0, 1
    for record in reader:
        if any(map(str.strip, record)) or len(record) > 1:
            width = width or len(record)
            if len(record) > width:
                message = f"line {start} has {len(record)} fields, but the header has {width}"
                raise ValueError(message)
            starts.append(start)
        start = reader.line_num + 1
    return starts[1:]


def _problem(frame: pd.DataFrame, inputs: pd.DataFrame, lines: list[int]) -> str:
    text = [str(name) for name in inputs.columns if not pd.api.types.is_numeric_dtype(inputs[name])]
    missing = frame.isna()
    if len(frame) < FEWEST_ROWS:
        return f"{len(frame)} rows are too few to train on; give at least {FEWEST_ROWS}"
    if inputs.columns.empty:
        return "there is no column beside the target"
    if missing.to_numpy().any():
        row, column = (int(i) for i in np.argwhere(missing.to_numpy())[0])
        return f"line {lines[row]} has no value in column {frame.columns[column]!r}; fill it or leave the line out"
    if text:
        return f"column {text[0]!r} does not hold numbers only; encode it or leave it out"
    for name in frame.select_dtypes("number"):
        beyond = np.abs(frame[name].to_numpy(dtype=np.float64)) > LARGEST
        if beyond.any():
            value = frame[name].iloc[beyond.argmax()]
            return f"line {lines[beyond.argmax()]} has {value:g} in column {name!r}; values must be within ±{LARGEST:g}"
    return ""


def _fractions(labels: "pd.Series[Any]") -> list[float]:
    if not pd.api.types.is_float_dtype(labels):
        return []
    return [float(label) for label in labels if not float(label).is_integer()]


def _looks_like_classes(labels: "pd.Series[Any]") -> bool:
    if pd.api.types.is_float_dtype(labels):
        return False
    return not pd.api.types.is_numeric_dtype(labels) or labels.nunique() <= MOST_CLASSES


def _labels(labels: "pd.Series[Any]") -> npt.NDArray[Any]:
    if pd.api.types.is_bool_dtype(labels) or not pd.api.types.is_numeric_dtype(labels):
        # A fixed-width text array: an object array would pickle with references that differ from run to run.
        return np.asarray(labels.astype(str).tolist(), dtype=np.str_)
    numbers: npt.NDArray[Any] = labels.to_numpy()
    return numbers
