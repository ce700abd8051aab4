"""The baseline in numbers: what each feature looked like in training, and z-scores against it."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aiops_drift.errors import ProfileError

Rows = npt.NDArray[np.float64]

PROFILE_VERSION: Final = 1
BINS: Final = 10
MAX_FEATURES: Final = 2048
MAX_NAME_LENGTH: Final = 253
Z_CAP: Final = 1e6  # a z-score beyond it says nothing more, and the mean of finite numbers could overflow
FLAT: Final = 1e-12  # a spread below this part of the mean is rounding, not spread


@dataclass(frozen=True)
class Feature:
    """One column of the baseline.

    Attributes:
        name: as the training data called it.
        mean: of the baseline's rows, in the feature's own unit.
        std: population standard deviation, same unit; 0 for a constant feature.
        edges: the inner edges of the quantile bins, ascending, same unit; a value equal to an edge is in the bin above it.
        probabilities: the share of the baseline's rows in each bin, one more than edges.
    """

    name: str
    mean: float
    std: float
    edges: tuple[float, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Profile:
    """The baseline, feature by feature; made once from the training rows and carried in `manifest.json`."""

    features: tuple[Feature, ...]
    rows: int

    @classmethod
    def from_rows(cls, rows: npt.ArrayLike, names: Sequence[str] | None = None) -> "Profile":
        """Describe baseline rows.

        Args:
            rows: shape (n, F), finite, n ≥ 2.
            names: F distinct names; `feature 0`, `feature 1`, … where left out.

        Raises:
            ProfileError: rows of another shape, not finite, or names that do not fit them.
        """
        try:
            values = np.asarray(rows, dtype=np.float64)
        except (TypeError, ValueError) as error:
            message = f"the baseline is not an array of numbers: {error}"
            raise ProfileError(message) from error
        if values.ndim != 2 or values.shape[0] < 2 or values.shape[1] < 1:  # noqa: PLR2004 - two axes, two rows for a spread
            message = f"the baseline must have the shape (rows ≥ 2, features ≥ 1), not {values.shape}"
            raise ProfileError(message)
        if not np.isfinite(values).all():
            row, column = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
            message = f"the baseline holds a value that is not finite at row {row}, column {column}"
            raise ProfileError(message)
        chosen = [f"feature {i}" for i in range(values.shape[1])] if names is None else [str(name) for name in names]
        if len(chosen) != values.shape[1]:
            message = f"the baseline has {values.shape[1]} columns, but {len(chosen)} feature names were given"
            raise ProfileError(message)
        return cls._checked(
            tuple(_describe(name, values[:, column]) for column, name in enumerate(chosen)), int(values.shape[0])
        )

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "Profile":
        """Read what `to_dict` wrote.

        Raises:
            ProfileError: a document of another version or form.
        """
        try:
            version, rows = document["version"], int(document["rows"])
            features = tuple(
                Feature(
                    name=str(entry["name"]),
                    mean=float(entry["mean"]),
                    std=float(entry["std"]),
                    edges=tuple(float(edge) for edge in entry["edges"]),
                    probabilities=tuple(float(share) for share in entry["probabilities"]),
                )
                for entry in document["features"]
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            message = f"the profile is malformed: {type(error).__name__}: {error}"
            raise ProfileError(message) from error
        if version != PROFILE_VERSION:
            message = f"profile version {version!r} is not {PROFILE_VERSION}; train again"
            raise ProfileError(message)
        return cls._checked(features, rows)

    @classmethod
    def _checked(cls, features: tuple[Feature, ...], rows: int) -> "Profile":
        names = [feature.name for feature in features]
        problem = ""
        if not 1 <= len(features) <= MAX_FEATURES:
            problem = f"{len(features)} features; 1 to {MAX_FEATURES} can be watched"
        elif len(set(names)) != len(names):
            problem = f"two features have one name: {min(n for n in set(names) if names.count(n) > 1)!r}"
        elif not all(map(is_name, names)):
            problem = f"a feature's name must have 1 to {MAX_NAME_LENGTH} characters that can be shown"
        for feature in features:
            numbers = (feature.mean, feature.std, *feature.edges, *feature.probabilities)
            if not all(map(math.isfinite, numbers)) or feature.std < 0:
                problem = f"feature {feature.name!r} has numbers that are not finite, or a negative deviation"
            elif len(feature.edges) != BINS - 1 or len(feature.probabilities) != BINS:
                problem = f"feature {feature.name!r} does not have {BINS} bins"
        if problem:
            message = f"the profile cannot be used: {problem}"
            raise ProfileError(message)
        return cls(features, rows)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; `Profile.from_dict` reads it back to an equal value."""
        return {
            "version": PROFILE_VERSION,
            "rows": self.rows,
            "features": [
                {
                    "name": feature.name,
                    "mean": feature.mean,
                    "std": feature.std,
                    "edges": list(feature.edges),
                    "probabilities": list(feature.probabilities),
                }
                for feature in self.features
            ],
        }

    @cached_property
    def digest(self) -> str:
        """`sha256:…` over the canonical JSON form: equal profiles, equal digests."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":")).encode()
        return f"sha256:{hashlib.sha256(canonical).hexdigest()}"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The features' names, in the order of the columns."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def means(self) -> Rows:
        """Shape (F,)."""
        return np.array([feature.mean for feature in self.features])

    @cached_property
    def stds(self) -> Rows:
        """Shape (F,); 0 for a constant feature."""
        return np.array([feature.std for feature in self.features])

    @cached_property
    def constant(self) -> npt.NDArray[np.bool_]:
        """Shape (F,): which features never varied in the baseline."""
        constant: npt.NDArray[np.bool_] = self.stds == 0
        return constant

    @cached_property
    def edges(self) -> Rows:
        """Shape (F, BINS - 1)."""
        return np.array([feature.edges for feature in self.features])

    @cached_property
    def _divisors(self) -> Rows:
        return np.where(self.constant, 1.0, self.stds)

    def z_scores(self, rows: Rows) -> Rows:
        """(row - μ) / σ per value, shape (n, F), within ±1e6; 0 throughout a constant feature, which has a rule of its own."""
        with np.errstate(over="ignore"):  # 1e308 over a small σ is infinite, and capped like any absurd value
            z = (rows - self.means) / self._divisors
        np.clip(z, -Z_CAP, Z_CAP, out=z)
        z[:, self.constant] = 0.0
        return z


def is_name(text: str) -> bool:
    """Whether a feature can be called so where people read it: not empty, not too long, no control characters."""
    return 1 <= len(text) <= MAX_NAME_LENGTH and text.isprintable()


def request_scores(profile: Profile, rows: Rows, sizes: Sequence[int]) -> Rows:
    """The seed's rule for each of several requests: |mean of its rows - μ| / σ per feature, shape (requests, F).

    The largest is the request's score. Finite for any finite rows (each value's z is capped at 1e6); 0 for a constant feature.

    Args:
        profile: the baseline.
        rows: those of all requests one after another, shape (n, F).
        sizes: how many of them each request has, at least 1; together n.
    """
    z = profile.z_scores(rows)
    if len(sizes) < rows.shape[0]:
        lengths = np.array(sizes)
        z = np.add.reduceat(z, np.cumsum(lengths) - lengths, axis=0) / lengths[:, None]
    scores: Rows = np.abs(z)
    return scores


def _describe(name: str, column: Rows) -> Feature:
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = float(column.mean()), float(column.std())
    if not (math.isfinite(mean) and math.isfinite(std)):
        message = f"feature {name!r} of the baseline is too large for its mean and deviation to be finite"
        raise ProfileError(message)
    if std <= FLAT * abs(mean):
        mean, std = float(column[0]), 0.0
    edges = np.quantile(column, np.arange(1, BINS) / BINS)
    inside = np.bincount(np.searchsorted(edges, column, side="right"), minlength=BINS)
    return Feature(name, mean, std, tuple(map(float, edges)), tuple(float(share) for share in inside / column.size))
