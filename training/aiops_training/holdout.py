"""Rows that a model is not trained on, so that they can judge it."""

from dataclasses import replace

import numpy as np
from sklearn.model_selection import train_test_split

from aiops_training.datasets import Dataset
from aiops_training.errors import DataError


def split(dataset: Dataset, share: float, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Rows to train on, and rows held out; both in their order, each class in both by its share.

    Args:
        dataset: all rows.
        share: of the rows that are held out, between 0 and 1.
        seed: of the choice; the same gives the same.

    Raises:
        DataError: too few rows of a class.
    """
    places = np.arange(len(dataset.rows))
    classes = dataset.target if dataset.task == "classification" else None
    try:
        kept, held = train_test_split(places, test_size=share, random_state=seed, stratify=classes)
    except ValueError as error:
        message = f"{dataset.name}: no rows can be held out: {' '.join(str(error).split())}"
        raise DataError(message) from error
    return (
        replace(dataset, rows=dataset.rows[np.sort(kept)], target=dataset.target[np.sort(kept)]),
        replace(dataset, rows=dataset.rows[np.sort(held)], target=dataset.target[np.sort(held)]),
    )
