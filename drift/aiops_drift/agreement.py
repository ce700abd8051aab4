"""How far the predictions of a second model are from those that were answered, over rows that both were given.

For classes the distance is the share of rows that the two models put into different classes; for numbers the mean of
|second - first| in standard deviations of the first model's predictions, averaged over the outputs. Both are 0 where the
models agree, and need no labels.

Sums merge over processes: variances by Chan, Golub & LeVeque (1983), "Algorithms for computing the sample variance", which
does not lose the spread of large numbers as sums of squares would.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

LARGEST: Final = 1e140  # of a prediction: sums of squares stay within what a report may carry, for any number of rows
FARTHEST: Final = 1e6  # a distance beyond it says nothing more


class Apart(NamedTuple):
    """Of one output of both models, over some rows.

    Attributes:
        mean: of the first model's predictions, in the output's unit.
        squares: the sum of their squared deviations from that mean.
        distance: the sum of |second - first|.
    """

    mean: float
    squares: float
    distance: float


@dataclass(frozen=True)
class Agreement:
    """What was compared, as sums that merge under +.

    Attributes:
        rows: for which both models gave a prediction of the same form.
        differing: of these, rows whose predictions are not equal.
        failed: rows for which the second model gave no such prediction.
        outputs: one entry an output where predictions are numbers; empty for classes, and where no row was compared.
    """

    rows: int = 0
    differing: int = 0
    failed: int = 0
    outputs: tuple[Apart, ...] = ()

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
        columns = zip(
            means.tolist(), ((one - means) ** 2).sum(axis=0).tolist(), distances.sum(axis=0).tolist(), strict=True
        )
        differing = int((distances > 0).any(axis=1).sum())
        return cls(one.shape[0], differing, failed, tuple(Apart(*column) for column in columns))

    @property
    def distance(self) -> float | None:
        """From 0 (equal); None where no row was compared."""
        if self.rows == 0:
            return None
        if not self.outputs:
            return self.differing / self.rows
        return sum(_scaled(output, self.rows) for output in self.outputs) / len(self.outputs)

    def __add__(self, other: "Agreement") -> "Agreement":
        """Of the rows of both; where one is of classes or has other outputs, rows and differing alone are kept."""
        return Agreement(
            rows=self.rows + other.rows,
            differing=self.differing + other.differing,
            failed=self.failed + other.failed,
            outputs=_merged(self, other),
        )


def _merged(one: Agreement, other: Agreement) -> tuple[Apart, ...]:
    if one.rows == 0 or other.rows == 0:
        return one.outputs or other.outputs
    if len(one.outputs) != len(other.outputs):
        return ()
    total = one.rows + other.rows
    merged = []
    for mine, theirs in zip(one.outputs, other.outputs, strict=True):
        gap = theirs.mean - mine.mean
        merged.append(
            Apart(
                mean=mine.mean + gap * other.rows / total,
                squares=mine.squares + theirs.squares + gap * gap * one.rows * other.rows / total,
                distance=mine.distance + theirs.distance,
            )
        )
    return tuple(merged)


def _scaled(output: Apart, rows: int) -> float:
    if output.distance == 0:
        return 0.0
    deviation = math.sqrt(output.squares / rows)
    return min(output.distance / rows / deviation, FARTHEST) if deviation > 0 else FARTHEST


def _table(values: npt.ArrayLike) -> Array:
    table = np.asarray(values, dtype=np.float64)
    return table.reshape(table.shape[0], -1) if table.ndim else table.reshape(1, 1)
