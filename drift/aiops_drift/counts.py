"""What a pod has seen, as sums that merge: a commutative group under + and -, exact in floating point."""

from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from aiops_drift.profile import BINS, Profile, Rows
from aiops_drift.sequential import BLOCK_ROWS as BLOCK_ROWS  # noqa: PLC0414 - the rule's unit is the unit of counting

Z_LIMIT: Final = 20.0  # what one value may weigh in a sum: an absurd row moves the mean of 50 rows by 0.4
# Sums are of multiples of 2⁻¹⁰, so that adding floats is exact (to 2⁵³ · 2⁻¹⁰, some 10¹⁰ rows) and therefore associative:
# windows merge to the same bits for any split over pods and polls. It rounds a single score by less than 0.0005.
GRID: Final = 1024.0
MOST_AT_ONCE: Final = 2**18  # values that are looked at together, so that a huge request does not take huge memory


@dataclass(frozen=True)
class Counts:
    """Sums over some rows, each field but the first with one entry a column (inputs, then outputs).

    Attributes:
        n: rows.
        z: the sum of z clipped to ±20.
        location: the sum of location scores.
        spread: the sum of spread scores.
        missing: values that were not given; they count nowhere else.
        unseen: values that are none of those that a constant or categorical column had in the baseline.
        bins: how many values fell in each quantile bin.
    """

    n: int
    z: tuple[float, ...]
    location: tuple[float, ...]
    spread: tuple[float, ...]
    missing: tuple[int, ...]
    unseen: tuple[int, ...]
    bins: tuple[tuple[int, ...], ...]

    @classmethod
    def zero(cls, columns: int) -> "Counts":
        """Of no rows."""
        none, no = (0.0,) * columns, (0,) * columns
        return cls(0, none, none, none, no, no, ((0,) * BINS,) * columns)

    @classmethod
    def of(cls, profile: Profile, values: Rows) -> "Counts":
        """Of these values, shape (n, C); NaN where one was not given."""
        return sums(profile, values.T, 1).counts(values.shape[0])

    def __add__(self, other: "Counts") -> "Counts":
        return self._combined(other, 1)

    def __sub__(self, other: "Counts") -> "Counts":
        return self._combined(other, -1)

    def _combined(self, other: "Counts", sign: int) -> "Counts":
        lists: dict[str, Any] = {
            name: tuple(a + sign * b for a, b in zip(getattr(self, name), getattr(other, name), strict=True))
            for name in PER_COLUMN
        }
        bins = tuple(
            tuple(a + sign * b for a, b in zip(mine, theirs, strict=True))
            for mine, theirs in zip(self.bins, other.bins, strict=True)
        )
        return Counts(n=self.n + sign * other.n, bins=bins, **lists)


PER_COLUMN: Final = tuple(field.name for field in fields(Counts) if field.name not in ("n", "bins"))


@dataclass(frozen=True)
class Block:
    """Consecutive rows of one pod, closed together.

    Attributes:
        number: 0, 1, … within the pod's incarnation.
        closed: seconds since the epoch, by the pod's clock; its age orders it among the blocks of other pods.
        counts: of its rows.
    """

    number: int
    closed: float
    counts: Counts


class Sums(NamedTuple):
    """The same as `Counts` for several blocks at once, as arrays of the shape (blocks, C); bins (blocks, C, BINS)."""

    z: Rows
    location: Rows
    spread: Rows
    missing: npt.NDArray[np.int64]
    unseen: npt.NDArray[np.int64]
    bins: npt.NDArray[np.int64]

    @classmethod
    def of(cls, counts: Counts) -> "Sums":
        """Of one block, which has these counts."""
        return cls(*(np.array([getattr(counts, name)]) for name in cls._fields))

    def total(self, before: "Sums") -> "Sums":
        """Of all blocks together, and what was before them, which is one."""
        arrays: list[npt.NDArray[Any]] = list(self)
        if self.z.shape[0] > 1:
            arrays = [np.add.reduce(array, axis=0, keepdims=True) for array in arrays]
        return Sums(*(old + array for old, array in zip(before, arrays, strict=True)))

    def counts(self, rows: int, block: int = 0) -> Counts:
        """Of one block, which has so many rows."""
        lists: dict[str, Any] = {name: tuple(getattr(self, name)[block].tolist()) for name in PER_COLUMN}
        return Counts(n=rows, bins=tuple(map(tuple, self.bins[block].tolist())), **lists)


def sums(profile: Profile, values: Rows, blocks: int) -> Sums:
    """Sums of values, by columns: shape (C, n), over the n / blocks rows of each block."""
    flat = np.ascontiguousarray(values)
    nowhere = np.isnan(flat)
    missing = nowhere if nowhere.any() else None
    stretches = profile.stretches(flat)
    scores = (profile.z_scores(flat, Z_LIMIT), *profile.rank_scores(flat, stretches))
    z, location, spread = (_on_grid(score, missing, blocks) for score in scores)
    return Sums(
        z,
        location,
        spread,
        _counted(missing, flat.shape[0], blocks),
        _counted(profile.unseen(flat), flat.shape[0], blocks),
        profile.bins(stretches, None if missing is None else ~missing, blocks),
    )


def _on_grid(scores: Rows, missing: npt.NDArray[np.bool_] | None, blocks: int) -> Rows:
    """Exact sums over the rows of each block; the scores, shape (C, n), are rounded in their place."""
    if missing is not None:
        scores[missing] = 0.0
    scores *= GRID
    np.rint(scores, out=scores)
    return _by_blocks(scores, blocks) / GRID


def _by_blocks(values: npt.NDArray[Any], blocks: int) -> npt.NDArray[Any]:
    """Sums over the rows of each block: shape (…, C, n) to (…, blocks, C)."""
    parted = values.reshape(*values.shape[:-1], blocks, values.shape[-1] // blocks)
    # Three times as fast as np.add.reduce along so short an axis; sums on the grid are exact in any order.
    totals: npt.NDArray[Any] = np.einsum("...r->...", parted)
    return totals.swapaxes(-1, -2)


def _counted(flags: npt.NDArray[np.bool_] | None, columns: int, blocks: int) -> npt.NDArray[np.int64]:
    """How many are set in each block, shape (blocks, C); None is of no flags."""
    if flags is None:
        return np.zeros((blocks, columns), dtype=np.int64)
    return _by_blocks(flags.astype(np.int64), blocks)
