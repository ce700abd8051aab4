"""The model, and the micro-batching in front of it."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aiops_inference.errors import InferenceError, InputsRefusedError, PredictionFailedError, describe

Rows = npt.NDArray[np.float64]

MAX_BATCH_ROWS: Final = 4096  # rows that are put into one call: more would make the first of them wait


class Predictor:
    """A loaded model that answers with plain Python values."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - whatever was pickled; only predict() is asked of it
        self._predict = model.predict
        width = getattr(model, "n_features_in_", None)
        self.width: int | None = None if width is None else int(width)
        classes = getattr(model, "classes_", None)
        self.task = "regression" if classes is None else "classification"
        self.classes: tuple[str, ...] | None = None if classes is None else tuple(map(str, classes))
        # A classifier of several targets has a list of classes for each; its answers have no one order.
        self.labels: tuple[Any, ...] | None = None
        if isinstance(classes, np.ndarray) and classes.ndim == 1:
            self.labels = tuple(classes.tolist())

    def predict(self, rows: Rows) -> list[Any]:
        """One prediction a row: an int, a string, a float, or a list of these for several outputs.

        Raises:
            InputsRefusedError: the model says that it cannot take these values.
            PredictionFailedError: anything else that the model does instead of answering.
        """
        try:
            predictions = np.asarray(self._predict(rows))
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


class Batcher:
    """Puts the rows of all requests that wait in one tick of the event loop into one call of the model.

    Nobody waits for a batch to fill: under load it fills by itself, because predicting 64 rows takes as long as one.
    """

    def __init__(self, predictor: Predictor, on_call: Callable[[], object] = lambda: None) -> None:
        self._predictor = predictor
        self._on_call = on_call
        self._waiting: list[tuple[Rows, asyncio.Future[list[Any]]]] = []
        self._rows = 0

    async def predict(self, rows: Rows) -> list[Any]:
        """The predictions of these rows, exactly as `Predictor.predict` gives them, errors too."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._flush)
        elif self._rows + rows.shape[0] > MAX_BATCH_ROWS:
            self._flush()  # the call that is already scheduled takes those that come from here on
        future: asyncio.Future[list[Any]] = loop.create_future()
        self._waiting.append((rows, future))
        self._rows += rows.shape[0]
        return await future

    def _flush(self) -> None:
        waiting, self._waiting, self._rows = self._waiting, [], 0
        if len(waiting) > 1 and self._settle_together(waiting):
            return
        for rows, future in waiting:
            self._settle_alone(rows, future)

    def _settle_together(self, waiting: list[tuple[Rows, asyncio.Future[list[Any]]]]) -> bool:
        """False where the call failed: then each request is asked for alone, so that one cannot fail the others."""
        self._on_call()
        try:
            predictions = self._predictor.predict(np.concatenate([rows for rows, _ in waiting]))
        except InferenceError:
            return False
        start = 0
        for rows, future in waiting:
            end = start + rows.shape[0]
            if not future.done():
                future.set_result(predictions[start:end])
            start = end
        return True

    def _settle_alone(self, rows: Rows, future: asyncio.Future[list[Any]]) -> None:
        if future.done():
            return
        self._on_call()
        try:
            future.set_result(self._predictor.predict(rows))
        except InferenceError as error:
            future.set_exception(error)
