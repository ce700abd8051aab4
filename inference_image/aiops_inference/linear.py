"""Linear models of scikit-learn by their arithmetic alone: the same answers, without some 100 µs of checks a call.

Every row was looked at before it gets here, so what an estimator's `predict` checks is known already; what is left are a
scaling, a product of matrices and a choice. They are done in the order in which scikit-learn does them, so that the last bit
agrees. Only the very classes that are named here are taken, never what descends from them, and only where the answers for rows
of the baseline are the estimator's own.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float64]
Predict = Callable[[Rows], npt.NDArray[Any]]

CLASSIFIERS: Final = ("LogisticRegression", "Perceptron", "SGDClassifier")
REGRESSORS: Final = ("ElasticNet", "Lasso", "LinearRegression", "Ridge")
MOST_ROWS: Final = 1000  # that the answers are compared on


def fast_predict(model: Any, rows: Rows) -> Predict | None:  # noqa: ANN401 - whatever was loaded
    """What answers as `model.predict` does, faster; None where there is no such thing.

    Args:
        model: fitted.
        rows: of the baseline, shape (n, F): for these both must agree in every bit.
    """
    sample = np.ascontiguousarray(rows[:MOST_ROWS])
    try:
        predict = _of(model)
        if predict is None:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            agree = all(_same(predict(part), np.asarray(model.predict(part))) for part in (sample, sample[:1]))
    except Exception:  # noqa: BLE001 - what is wrong with a model is for the model itself to say
        return None
    return predict if agree else None


def _of(model: Any) -> Predict | None:  # noqa: ANN401
    if _is(model, "sklearn.pipeline", ("Pipeline",)):
        *before, last = [step for _, step in model.steps]
        predict = _of(last)
        if predict is None or not all(_is(step, "sklearn.preprocessing", ("StandardScaler",)) for step in before):
            return None
        for scaler in reversed(before):
            mean, scale = (scaler.mean_ if scaler.with_mean else None), (scaler.scale_ if scaler.with_std else None)
            predict = functools.partial(_scaled, mean, scale, predict)
        return predict
    if _is(model, "sklearn.linear_model", CLASSIFIERS):
        return functools.partial(_chosen, model.coef_.T, model.intercept_, model.classes_)
    if _is(model, "sklearn.linear_model", REGRESSORS):
        return functools.partial(_product, model.coef_.T, model.intercept_)
    return None


def _is(model: object, package: str, names: tuple[str, ...]) -> bool:
    kind = type(model)
    return kind.__name__ in names and f"{kind.__module__}.".startswith(f"{package}.")


def _scaled(mean: Rows | None, scale: Rows | None, predict: Predict, rows: Rows) -> npt.NDArray[Any]:
    centred = rows if mean is None else rows - mean
    return predict(centred if scale is None else centred / scale)


def _product(coefficients: Rows, intercept: Rows, rows: Rows) -> Rows:
    product: Rows = rows @ coefficients + intercept
    return product


def _chosen(coefficients: Rows, intercept: Rows, classes: npt.NDArray[Any], rows: Rows) -> npt.NDArray[Any]:
    scores = rows @ coefficients + intercept
    index = scores.argmax(axis=1) if scores.shape[1] > 1 else (scores[:, 0] > 0).astype(np.intp)
    return classes.take(index, axis=0)


def _same(got: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> bool:
    return got.dtype == wanted.dtype and np.array_equal(got, wanted)
