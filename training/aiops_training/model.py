"""The model: a scaler and a linear model, deterministic, with its score on rows that it did not see."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from aiops_training.datasets import Dataset
from aiops_training.errors import DataError

FOLDS = 5


@dataclass(frozen=True)
class Evaluation:
    """How good the model is on rows that it did not see, by five folds of cross-validation.

    Attributes:
        metric: `accuracy` or `r2`.
        score: mean over the folds.
        outputs: shape (n, 1), what was said of each row by the model that did not see it: a number, or for a class its place
            among the sorted classes. What a model says of rows that it was fitted to is surer than what it says of others.
    """

    metric: str
    score: float
    outputs: npt.NDArray[np.float64]


def fit(dataset: Dataset) -> tuple[Pipeline, Evaluation]:
    """Train on all rows, and say how well the same recipe does on rows it did not see.

    Raises:
        DataError: one class only, a class with fewer rows than folds, or numbers that the model does not take.
    """
    if dataset.task == "classification":
        _check_classes(dataset)
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        metric = "accuracy"
    else:
        model = make_pipeline(StandardScaler(), Ridge())
        metric = "r2"
    try:
        scores = cross_val_score(model, dataset.rows, dataset.target, cv=FOLDS, scoring=metric)
        unseen = cross_val_predict(model, dataset.rows, dataset.target, cv=FOLDS)
        fitted: Pipeline = model.fit(dataset.rows, dataset.target)
    except ValueError as error:
        message = f"{dataset.name}: a model cannot be trained on this: {' '.join(str(error).split())}"
        raise DataError(message) from error
    outputs = np.searchsorted(fitted.classes_, unseen) if dataset.task == "classification" else unseen
    return fitted, Evaluation(metric, round(float(scores.mean()), 4), outputs.astype(np.float64).reshape(-1, 1))


def golden(model: Any, dataset: Dataset, most: int = 8) -> dict[str, Any]:  # noqa: ANN401 - any scikit-learn estimator
    """Rows spread over the data set with the model's own answers: a server that answers otherwise must not be ready."""
    picked = np.unique(np.linspace(0, len(dataset.rows) - 1, most).astype(int))
    rows = dataset.rows[picked]
    probabilities = {"probabilities": model.predict_proba(rows).tolist()} if hasattr(model, "predict_proba") else {}
    return {"inputs": rows.tolist(), "predictions": model.predict(rows).tolist(), **probabilities}


def _check_classes(dataset: Dataset) -> None:
    labels, sizes = np.unique(dataset.target, return_counts=True)
    problem = ""
    if len(labels) < 2:  # noqa: PLR2004 - a choice needs two
        problem = f"the target has one class only ({labels[0]}); a classifier needs two"
    elif sizes.min() < FOLDS:
        problem = f"class {labels[sizes.argmin()]} has {sizes.min()} rows; give each class at least {FOLDS}"
    if problem:
        message = f"{dataset.name}: {problem}"
        raise DataError(message)
