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
        return sums(profile, values[None]).counts(values.shape[0])

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


def sums(profile: Profile, values: Rows) -> Sums:
    """Sums of values, shape (blocks, rows, C), over the rows of each block."""
    blocks, rows, columns = values.shape
    flat = values.reshape(-1, columns)
    missing = np.isnan(flat)
    stretches = profile.stretches(flat)
    scores = np.empty((3, *flat.shape))
    z = profile.z_scores(flat)
    np.minimum(z, Z_LIMIT, out=z)
    np.maximum(z, -Z_LIMIT, out=scores[0])
    scores[1], scores[2] = profile.rank_scores(flat, stretches)
    if missing.any():
        scores[:, missing] = 0.0
    scores *= GRID
    np.rint(scores, out=scores)
    z_sums, location_sums, spread_sums = _over_rows(scores.reshape(3, blocks, rows, columns)) / GRID
    return Sums(
        z_sums,
        location_sums,
        spread_sums,
        _counted(missing.reshape(values.shape)),
        _counted(profile.unseen(flat).reshape(values.shape)),
        profile.bins(stretches.reshape(values.shape), ~missing.reshape(values.shape)),
    )


def _over_rows(scores: Rows) -> Rows:
    """The sum over the last axis but one, in halves: sums on the grid are exact in any order, and this one is twice as fast."""
    while scores.shape[-2] > 1 and scores.shape[-2] % 2 == 0:
        half = scores.shape[-2] // 2
        scores = scores[..., :half, :] + scores[..., half:, :]
    total: Rows = np.add.reduce(scores, axis=-2)
    return total


def _counted(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """How many are set, of the shape (blocks, rows, C), in each block; mostly none is."""
    blocks, _, columns = flags.shape
    if not flags.any():
        return np.zeros((blocks, columns), dtype=np.int64)
    counted: npt.NDArray[np.int64] = np.add.reduce(flags, axis=1, dtype=np.int64)
    return counted
