"""The Great Expectations suite that the baseline suggests, in the form that version 1 loads."""

from typing import Any, Final

import numpy as np

from aiops_drift import Profile
from aiops_training.datasets import Dataset

# Wide on purpose: a failed suite counts as drift, and a batch may hold as few as 50 rows of one kind. A unit error fails all.
VALUE_MARGIN: Final = 1.0  # deviations beyond the smallest and largest value of the baseline
MEDIAN_MARGIN: Final = 2.0  # deviations around the median; a mean would follow one absurd row, and so one request
MOSTLY: Final = 0.9


def suite(dataset: Dataset, profile: Profile) -> dict[str, Any]:
    """One expectation on the values and one on the median of each feature; none for what never varied.

    Source: the JSON form of `ExpectationSuite` in Great Expectations 1.x (`name`, `expectations` of `type` and `kwargs`).
    """
    expectations: list[dict[str, Any]] = []
    for feature, column in zip(profile.features, dataset.rows.T, strict=True):
        expectations.append(_expectation("expect_column_values_to_not_be_null", column=feature.name))
        if feature.std == 0:
            continue
        expectations.append(
            _expectation(
                "expect_column_values_to_be_between",
                column=feature.name,
                min_value=round(float(column.min()) - VALUE_MARGIN * feature.std, 6),
                max_value=round(float(column.max()) + VALUE_MARGIN * feature.std, 6),
                mostly=MOSTLY,
            )
        )
        median = float(np.median(column))
        expectations.append(
            _expectation(
                "expect_column_median_to_be_between",
                column=feature.name,
                min_value=round(median - MEDIAN_MARGIN * feature.std, 6),
                max_value=round(median + MEDIAN_MARGIN * feature.std, 6),
            )
        )
    return {"name": dataset.name, "expectations": expectations, "meta": {"generator": "aiops-training"}}


def _expectation(kind: str, **kwargs: object) -> dict[str, Any]:
    return {"type": kind, "kwargs": kwargs, "meta": {}}
