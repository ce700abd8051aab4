"""The model, and the micro-batching in front of it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aiops_inference.errors import (
    InferenceError,
    InputsRefusedError,
    OverloadedError,
    PredictionFailedError,
    describe,
)
from aiops_inference.linear import fast_predict

Rows = npt.NDArray[np.float64]

MAX_BATCH_ROWS: Final = 4096  # rows that are put into one call: more would make the first of them wait


class Predictor:
    """A loaded model that answers with plain Python values."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - whatever was pickled; only predict() is asked of it
        self._model = model
        self._predict: Callable[[Rows], Any] = model.predict
        self._predict_proba = getattr(model, "predict_proba", None)
        width = getattr(model, "n_features_in_", None)
        self.width: int | None = None if width is None else int(width)
        classes = getattr(model, "classes_", None)
        self.task = "regression" if classes is None else "classification"
        self.classes: tuple[str, ...] | None = None if classes is None else tuple(map(str, classes))
        # A classifier of several targets has a list of classes for each; its answers have no one order.
        self.labels: tuple[Any, ...] | None = None
        if isinstance(classes, np.ndarray) and classes.ndim == 1:
            self.labels = tuple(classes.tolist())

    def hasten(self, rows: Rows) -> None:
        """Predict faster from now on, where there is a way that gives the same answers for these rows of the baseline."""
        self._predict = fast_predict(self._model, rows) or self._predict

    @property
    def has_probabilities(self) -> bool:
        """Whether `probabilities` can answer."""
        return self._predict_proba is not None

    def predict(self, rows: Rows) -> list[Any]:
        """One prediction a row: an int, a string, a float, or a list of these for several outputs.

        Raises:
            InputsRefusedError: the model says that it cannot take these values.
            PredictionFailedError: anything else that the model does instead of answering.
        """
        return self._asked(self._predict, rows)

    def probabilities(self, rows: Rows) -> list[Any]:
        """One list a row, with a probability for each class, in the order of the classes.

        Raises:
            InputsRefusedError: the model has no probabilities, or cannot take these values.
            PredictionFailedError: anything else that the model does instead of answering.
        """
        if self._predict_proba is None:
            message = "the model has no probabilities; ask for predict alone"
            raise InputsRefusedError(message, "outputs")
        return self._asked(self._predict_proba, rows)

    def _asked(self, method: Callable[[Rows], Any], rows: Rows) -> list[Any]:
        try:
            predictions = np.asarray(method(rows))
        except (ValueError, ArithmeticError) as error:
            message = f"the model refuses these inputs: {describe(error)}"
            raise InputsRefusedError(message, "inputs") from error
        except Exception as error:
            message = f"the model failed: {describe(error)}"
            raise PredictionFailedError(message) from error
        if predictions.ndim == 0 or predictions.shape[0] != rows.shape[0]:
            message = f"the model answered with the shape {predictions.shape} for {rows.shape[0]} rows"
            raise PredictionFailedError(message)
        values: list[Any] = predictions.tolist()
        return values


@dataclass(slots=True, eq=False)
class Asked:
    """One request that waits for its turn.

    Attributes:
        rows: shape (n, F).
        answer: called once with the status and the body of the answer.
        document: makes the answer of what was predicted.
        left: nobody waits for the answer any more.
    """

    rows: Rows
    answer: Callable[[int, bytes], None]
    document: Any = None  # a forms.Document, which this module need not know
    left: bool = False


class Batcher:
    """Puts the rows of all requests that wait in one tick of the event loop into one call of the model.

    Nobody waits for a batch to fill: under load it fills by itself, because predicting 64 rows takes as long as one.
    """

    def __init__(
        self,
        predictor: Predictor,
        settle: Callable[[list[Asked], Rows, list[Any]], None],
        fail: Callable[[Asked, InferenceError], None],
        most_rows: int,
        on_call: Callable[[], object] = lambda: None,
    ) -> None:
        """Begin with nobody waiting.

        Args:
            predictor: the model.
            settle: given requests that were predicted together, their rows one after another, and as many predictions.
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
            predictions = self._predictor.predict(rows)
        except InferenceError as error:
            if len(batch) == 1:
                self._fail(batch[0], error)
                return
            for asked in batch:
                self._predict([asked])
            return
        self._settle(batch, rows, predictions)
