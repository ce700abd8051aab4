"""How far the predictions of a second model are from those that were answered, over rows that both were given.

For classes the distance is the share of rows that the two models put into different classes; for numbers the mean of
|second - first| in standard deviations of the first model's predictions, averaged over the outputs. Both are 0 where the
models agree, and need no labels.

Sums merge over processes: variances by Chan, Golub & LeVeque (1983), "Algorithms for computing the sample variance", which
does not lose the spread of large numbers as sums of squares would.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

LARGEST: Final = 1e140  # of a prediction: sums of squares stay within what a report may carry, for any number of rows
FARTHEST: Final = 1e6  # a distance beyond it says nothing more
SUMS: Final = 3  # of each output


@dataclass(frozen=True, eq=False)
class Agreement:
    """What was compared, as sums that merge under +.

    Attributes:
        rows: for which both models gave a prediction of the same form.
        differing: of these, rows whose predictions are not equal.
        failed: rows for which the second model gave no such prediction.
        outputs: shape (O, 3), one row an output where predictions are numbers, none for classes and where no row was
            compared: the mean of the first model's predictions in the output's unit, the sum of their squared deviations
            from it, and the sum of |second - first|. Read-only.
    """

    rows: int = 0
    differing: int = 0
    failed: int = 0
    outputs: Array = field(default_factory=lambda: np.empty((0, SUMS)))

    def __post_init__(self) -> None:
        self.outputs.setflags(write=False)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Agreement)
            and self._counts == other._counts
            and np.array_equal(self.outputs, other.outputs)
        )

    def __hash__(self) -> int:
        return hash(self._counts)

    @property
    def _counts(self) -> tuple[int, int, int]:
        return self.rows, self.differing, self.failed

    @classmethod
    def of_classes(cls, first: Sequence[object], second: Sequence[object]) -> "Agreement":
        """Of two classifiers' predictions, one entry a row."""
        return cls(rows=len(first), differing=sum(one != other for one, other in zip(first, second, strict=True)))

    @classmethod
    def of_values(cls, first: npt.ArrayLike, second: npt.ArrayLike) -> "Agreement":
        """Of numbers, shape (n,) or (n, O) both; a row of which the second model gave no finite numbers is failed.

        Raises:
            ValueError: two different shapes, or what is no table of numbers.
        """
        one, other = _table(first), _table(second)
        if one.shape != other.shape:
            message = f"predictions of shape {other.shape} beside {one.shape}"
            raise ValueError(message)
        known = np.isfinite(other).all(axis=1)
        failed = int(other.shape[0] - known.sum())
        # A first model that answers with an infinity is compared as if it had answered with the largest number.
        one = np.clip(np.nan_to_num(one[known], posinf=LARGEST, neginf=-LARGEST), -LARGEST, LARGEST)
        other = np.clip(other[known], -LARGEST, LARGEST)
        if not one.size:
            return cls(failed=failed)
        means = one.mean(axis=0)
        distances = np.abs(other - one)
        differing = int((distances > 0).any(axis=1).sum())
        sums = np.column_stack((means, ((one - means) ** 2).sum(axis=0), distances.sum(axis=0)))
        return cls(one.shape[0], differing, failed, sums)

    @property
    def distance(self) -> float | None:
        """From 0 (equal); None where no row was compared."""
        if self.rows == 0:
            return None
        if not self.outputs.size:
            return self.differing / self.rows
        return float(_scaled(self.outputs, self.rows).mean())

    def __add__(self, other: "Agreement") -> "Agreement":
        """Of the rows of both; where one is of classes or has other outputs, rows and differing alone are kept."""
        return Agreement(
            rows=self.rows + other.rows,
            differing=self.differing + other.differing,
            failed=self.failed + other.failed,
            outputs=_merged(self, other),
        )


def _merged(one: Agreement, other: Agreement) -> Array:
    if one.rows == 0:
        return other.outputs
    if other.rows == 0:
        return one.outputs
    if len(one.outputs) != len(other.outputs):
        return np.empty((0, SUMS))
    share = other.rows / (one.rows + other.rows)
    with np.errstate(over="ignore", invalid="ignore"):  # of sums that no model of ours reports
        gaps = other.outputs[:, 0] - one.outputs[:, 0]
        merged = one.outputs + other.outputs
        merged[:, 0] = one.outputs[:, 0] + gaps * share
        merged[:, 1] += gaps * gaps * (one.rows * share)
    return merged


def _scaled(outputs: Array, rows: int) -> Array:
    _, squares, distances = outputs.T
    with np.errstate(all="ignore"):  # what no number comes of is as far as can be, unless there is no distance
        scaled = distances / rows / np.sqrt(squares / rows)
        return np.where(distances == 0, 0.0, np.where(scaled <= FARTHEST, scaled, FARTHEST))


def _table(values: npt.ArrayLike) -> Array:
    table = np.asarray(values, dtype=np.float64)
    return table.reshape(table.shape[0], -1) if table.ndim else table.reshape(1, 1)
