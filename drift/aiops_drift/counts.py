"""What a pod has seen, as sums that merge: a commutative group under + and -, exact in floating point."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from aiops_drift.profile import BINS, Profile, Rows

BLOCK_ROWS: Final = 16
Z_LIMIT: Final = 20.0  # what one value may weigh in a sum: an absurd row moves the mean of 50 rows by 0.4
# Sums are of multiples of 2⁻¹⁰, so that adding floats is exact (to 2⁵³ · 2⁻¹⁰, some 10¹⁰ rows) and therefore associative:
# windows merge to the same bits for any split over pods and polls. It rounds a single z by less than 0.0005.
GRID: Final = 1024.0


@dataclass(frozen=True)
class Counts:
    """Sums over some rows.

    Attributes:
        n: rows.
        sum_z: per feature, the sum of z clipped to ±20.
        sum_z2: per feature, the sum of the squares of the same.
        off_constant: per feature, values that differ from a constant feature's only one.
        bins: per feature, how many values fell in each quantile bin; () where bins were not kept.
    """

    n: int
    sum_z: tuple[float, ...]
    sum_z2: tuple[float, ...]
    off_constant: tuple[int, ...]
    bins: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def zero(cls, features: int, *, bins: bool = False) -> "Counts":
        """Of no rows; `bins` keeps empty bins, so that counts with bins can be added."""
        return cls(0, (0.0,) * features, (0.0,) * features, (0,) * features, ((0,) * BINS,) * features if bins else ())

    @classmethod
    def of(cls, profile: Profile, rows: Rows, *, bins: bool = False) -> "Counts":
        """Of these rows, shape (n, F)."""
        z = np.clip(profile.z_scores(rows), -Z_LIMIT, Z_LIMIT)
        off = (rows != profile.means) & profile.constant
        return cls(
            n=int(rows.shape[0]),
            sum_z=tuple((np.rint(z * GRID).sum(axis=0) / GRID).tolist()),
            sum_z2=tuple((np.rint(z * z * GRID).sum(axis=0) / GRID).tolist()),
            off_constant=tuple(off.sum(axis=0).tolist()),
            bins=tuple(
                tuple(np.bincount(np.searchsorted(edges, column, side="right"), minlength=BINS).tolist())
                for edges, column in zip(profile.edges, rows.T, strict=True)
            )
            if bins
            else (),
        )

    def __add__(self, other: "Counts") -> "Counts":
        return self._combined(other, 1)

    def __sub__(self, other: "Counts") -> "Counts":
        return self._combined(other, -1)

    def _combined(self, other: "Counts", sign: int) -> "Counts":
        return Counts(
            n=self.n + sign * other.n,
            sum_z=tuple(a + sign * b for a, b in zip(self.sum_z, other.sum_z, strict=True)),
            sum_z2=tuple(a + sign * b for a, b in zip(self.sum_z2, other.sum_z2, strict=True)),
            off_constant=tuple(a + sign * b for a, b in zip(self.off_constant, other.off_constant, strict=True)),
            bins=tuple(
                tuple(a + sign * b for a, b in zip(mine, theirs, strict=True))
                for mine, theirs in zip(self.bins, other.bins, strict=True)
            )
            if self.bins and other.bins
            else (),
        )

    def without_bins(self) -> "Counts":
        """The same sums, for adding to counts that keep no bins."""
        return Counts(self.n, self.sum_z, self.sum_z2, self.off_constant)


@dataclass(frozen=True)
class Block:
    """Consecutive rows of one pod, closed together.

    Attributes:
        number: 0, 1, … within the pod's incarnation.
        closed: seconds since the epoch, by the pod's clock; its age orders it among the blocks of other pods.
        counts: of its rows, without bins.
    """

    number: int
    closed: float
    counts: Counts
