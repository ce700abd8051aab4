"""The model, and the micro-batching in front of it."""

import asyncio
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt

from aiops_inference.caller import NOBODY, Caller
from aiops_inference.errors import (
    InferenceError,
    InputsRefusedError,
    OverloadedError,
    PredictionFailedError,
    describe,
)
from aiops_inference.linear import fast_predict

Rows = npt.NDArray[np.float64]

# What scikit-learn says at each call of a model that was fitted to a table with names and is given rows without: they are in
# the order of those names, which was compared when the model was loaded.
NAMELESS: Final = "X does not have valid feature names"
MAX_BATCH_ROWS: Final = 4096  # rows that are put into one call: more would make the first of them wait


class Predictor:
    """A loaded model that answers with plain Python values.

    Attributes:
        width: features that the model wants; None where it does not say.
        names: of its features, where it was fitted to a table with names.
        task: `classification` or `regression`.
        classes: names of the classes as text, or of those of each target a tuple; None for a regression.
        targets: the classes themselves of each target, in the order of its probabilities; empty for a regression.
        labels: those of the one target; None for a regression and for several.
        tolerance: how far its answers may be from those of training, relative; None for what any model may.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - whatever was pickled; only predict() is asked of it
        self._model = model
        self._predict: Callable[[Rows], Any] = model.predict
        self._predict_proba: Callable[[Rows], Any] | None = getattr(model, "predict_proba", None)
        width = getattr(model, "n_features_in_", None)
        self.width: int | None = None if width is None else int(width)
        names = getattr(model, "feature_names_in_", None)
        self.names: tuple[str, ...] | None = None if names is None else tuple(map(str, names))
        self.tolerance: float | None = getattr(model, "golden_tolerance", None)
        classes = getattr(model, "classes_", None)
        self.task = "regression" if classes is None and self._predict_proba is None else "classification"
        # A classifier of several targets has a list of classes for each; its answers have no one order.
        self.targets: tuple[tuple[Any, ...], ...] = ()
        self.classes: tuple[Any, ...] | None = None if classes is None else tuple(map(str, classes))
        if isinstance(classes, np.ndarray) and classes.ndim == 1:
            self.targets = (tuple(classes.tolist()),)
        elif isinstance(classes, list) and all(isinstance(each, np.ndarray) for each in classes):
            self.targets = tuple(tuple(each.tolist()) for each in classes)
            self.classes = tuple(tuple(map(str, each)) for each in self.targets)
        self.labels: tuple[Any, ...] | None = self.targets[0] if len(self.targets) == 1 else None
        warnings.filterwarnings("ignore", NAMELESS, UserWarning)

    def call(self, classes: Sequence[str]) -> None:
        """Name the classes, where there is a name for each of the one target's."""
        if self.labels is not None and len(self.labels) == len(classes):
            self.classes = tuple(classes)

    def settle(self, rows: Rows) -> str:
        """Find out whether the model looks columns up by name, and give it tables then; returns what is worth a line of that.

        Args:
            rows: a few of the baseline, shape (n, F).
        """
        if self.names is None or len(self.names) != rows.shape[1]:
            return ""
        try:
            self._model.predict(rows)
        except Exception:  # noqa: BLE001 - what is wrong, if tables do not help, is for the golden rows to say
            table = _tables(self.names)
            try:
                self._model.predict(table(rows))
            except Exception:  # noqa: BLE001 - as above
                return ""
            self._predict = _of_table(self._model.predict, table)
            if self._predict_proba is not None:
                self._predict_proba = _of_table(self._predict_proba, table)
            return "the model looks its columns up by name: each call makes a table for it, which takes some 0.1 ms"
        return ""

    def hasten(self, rows: Rows) -> None:
        """Predict faster from now on, where there is a way that gives the same answers for these rows of the baseline."""
        self._predict = fast_predict(self._model, rows) or self._predict

    @property
    def has_probabilities(self) -> bool:
        """Whether `probabilities` can answer."""
        return self._predict_proba is not None

    def answer(self, rows: Rows) -> npt.NDArray[Any]:
        """What the model says of rows, shape (n, …); `listed` makes plain values of it.

        Raises:
            InputsRefusedError: the model says that it cannot take these values.
            PredictionFailedError: anything else that the model does instead of answering.
        """
        return _of_rows(self._asked(self._predict, rows), rows)

    def predict(self, rows: Rows) -> list[Any]:
        """The same as plain values; it raises the same."""
        return listed(self.answer(rows))

    def probabilities(self, rows: Rows) -> list[Any]:
        """One list a row, with a probability for each class, in the order of the classes; of several targets a list of such.

        Raises:
            InputsRefusedError: the model has no probabilities, or cannot take these values.
            PredictionFailedError: anything else that the model does instead of answering.
        """
        if self._predict_proba is None:
            refuse_probabilities("outputs")
        answer = self._asked(self._predict_proba, rows)
        if isinstance(answer, list) and answer and all(isinstance(table, np.ndarray) for table in answer):
            return list(map(list, zip(*(listed(_of_rows(table, rows)) for table in answer), strict=True)))
        return listed(_of_rows(answer, rows))

    def _asked(self, method: Callable[[Rows], Any], rows: Rows) -> Any:  # noqa: ANN401 - what the model answers
        try:
            return method(rows)
        except (ValueError, ArithmeticError) as error:
            message = f"the model refuses these inputs: {describe(error)}"
            raise InputsRefusedError(message, "inputs") from error
        except Exception as error:
            message = f"the model failed: {describe(error)}"
            raise PredictionFailedError(message) from error


def refuse_probabilities(place: str) -> NoReturn:
    """Say that probabilities are asked for of a model that has none.

    Raises:
        InputsRefusedError: always.
    """
    message = "the model has no probabilities; ask for its predictions alone"
    raise InputsRefusedError(message, place)


def listed(answer: npt.NDArray[Any]) -> list[Any]:
    """Plain values, one a row: an int, a string, a float, or a list of these for several outputs."""
    values: list[Any] = answer.tolist()
    return _plain(values) if answer.dtype.kind == "O" else values


def _of_rows(answer: Any, rows: Rows) -> npt.NDArray[Any]:  # noqa: ANN401 - an array, a table of pandas, a sparse matrix, a list
    """An array with an entry for each row.

    Raises:
        PredictionFailedError: the answer has no such form.
    """
    array = answer if type(answer) is np.ndarray else _array(answer)
    if array.ndim == 0 or array.shape[0] != rows.shape[0]:
        message = f"the model answered with the shape {array.shape} for {rows.shape[0]} rows"
        raise PredictionFailedError(message)
    return array


def _array(answer: Any) -> npt.NDArray[Any]:  # noqa: ANN401 - as above
    try:
        return np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer)
    except Exception as error:
        message = f"the model answered with a {type(answer).__name__}, which is no table: {describe(error)}"
        raise PredictionFailedError(message) from error


def _plain(value: Any) -> Any:  # noqa: ANN401 - an entry of an array of objects, which may be scalars of NumPy
    if isinstance(value, list):
        return list(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value


def _tables(names: Sequence[str]) -> Callable[[Rows], Any]:
    import pandas as pd  # noqa: PLC0415 - 30 MB, for models alone that ask for it

    columns = pd.Index(names)
    return lambda rows: pd.DataFrame(rows, columns=columns, copy=False)


def _of_table(method: Callable[[Any], Any], table: Callable[[Rows], Any]) -> Callable[[Rows], Any]:
    return lambda rows: method(table(rows))


@dataclass(slots=True, eq=False)
class Asked:
    """One request that waits for its turn.

    Attributes:
        rows: shape (n, F).
        answer: called once with the status and the body of the answer.
        document: makes the answer of what was predicted.
        caller: who asked.
        came: when its body was whole, in seconds of `time.perf_counter`.
        queued: when it began to wait, of the same clock.
        left: nobody waits for the answer any more.
    """

    rows: Rows
    answer: Callable[[int, bytes], None]
    document: Any = None  # a forms.Document, which this module need not know
    caller: Caller = NOBODY
    came: float = 0.0
    queued: float = 0.0
    left: bool = False


class Batcher:
    """Puts the rows of all requests that wait in one tick of the event loop into one call of the model.

    Nobody waits for a batch to fill: under load it fills by itself, because predicting 64 rows takes as long as one.
    """

    def __init__(
        self,
        predictor: Predictor,
        settle: Callable[[list[Asked], Rows, npt.NDArray[Any]], None],
        fail: Callable[[Asked, InferenceError], None],
        most_rows: int,
        on_call: Callable[[], object] = lambda: None,
    ) -> None:
        """Begin with nobody waiting.

        Args:
            predictor: the model.
            settle: given requests that were predicted together, their rows one after another, and as many answers.
            fail: given a request that cannot be predicted, and why.
            most_rows: rows that may wait; a request that finds as many waiting is turned away.
            on_call: told of each call of the model.
        """
        self._predictor = predictor
        self._settle = settle
        self._fail = fail
        self._most_rows = most_rows
        self._on_call = on_call
        self._waiting: list[Asked] = []
        self._rows = 0

    def submit(self, asked: Asked) -> None:
        """Let a request wait for the end of this tick.

        Raises:
            OverloadedError: too many rows wait already.
        """
        if self._rows >= self._most_rows:
            message = f"{self._rows} rows wait to be predicted already; try again"
            raise OverloadedError(message)
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(asked)
        self._rows += asked.rows.shape[0]

    def _flush(self) -> None:
        """Predict for those who have waited longest; who is left over has its turn after whatever else is due."""
        rows, taken = 0, 0
        for asked in self._waiting:
            rows += asked.rows.shape[0]
            if taken and rows > MAX_BATCH_ROWS:
                asyncio.get_running_loop().call_soon(self._flush)
                break
            taken += 1
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        self._rows -= sum(asked.rows.shape[0] for asked in batch)
        self._predict([asked for asked in batch if not asked.left])

    def _predict(self, batch: list[Asked]) -> None:
        """Where a batch fails each request is asked for alone, so that one cannot fail the others."""
        if not batch:
            return
        self._on_call()
        rows = batch[0].rows if len(batch) == 1 else np.concatenate([asked.rows for asked in batch])
        try:
            answer = self._predictor.answer(rows)
        except InferenceError as error:
            if len(batch) == 1:
                self._fail(batch[0], error)
                return
            for asked in batch:
                self._predict([asked])
            return
        self._settle(batch, rows, answer)
