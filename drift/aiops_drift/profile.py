"""The baseline in numbers: what each feature looked like in training, and the scores of values against it."""

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from aiops_drift.calibration import Calibration, calibrate
from aiops_drift.errors import ProfileError
from aiops_drift.scores import KNOTS, score_map

Rows = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]

PROFILE_VERSION: Final = 2
BINS: Final = 10
MAX_FEATURES: Final = 2048
MAX_NAME_LENGTH: Final = 253
Z_CAP: Final = 1e6  # a z-score beyond it says nothing more, and the mean of finite numbers could overflow
MOST_CATEGORIES: Final = 20
SCORE_DIGITS: Final = 6
_FIRST: Final = np.zeros(1, dtype=np.intp)
FLAT: Final = 1e-12  # a spread below this part of the mean is rounding, not spread


@dataclass(frozen=True)
class Feature:
    """One column of the baseline: an input of the model, or an output.

    Attributes:
        name: as the training data called it.
        mean: of the baseline's rows, in the feature's own unit.
        std: population standard deviation, same unit; 0 for a constant feature.
        edges: the inner edges of the quantile bins, ascending, same unit; a value equal to an edge is in the bin above it.
        probabilities: the share of the baseline's rows in each bin, one more than edges.
        knots: values whose scores are known, ascending, same unit; see `aiops_drift.scores`.
        location: the location score at each knot.
        spread: the spread score at each knot.
        inflation: long-run variance over variance, at least 1; above 1 where rows depend on those before them.
        memory: over how many rows they do; -1 where no end of it was found, as in sorted rows, which count as independent.
        categories: all values there are, ascending, where they are few whole numbers, each seen more than once; else empty.
    """

    name: str
    mean: float
    std: float
    edges: tuple[float, ...]
    probabilities: tuple[float, ...]
    knots: tuple[float, ...] = (0.0,)
    location: tuple[float, ...] = (0.0,)
    spread: tuple[float, ...] = (0.0,)
    inflation: float = 1.0
    memory: int = 0
    categories: tuple[float, ...] = ()


@dataclass(frozen=True)
class Profile:
    """The baseline, column by column; made once from the training rows and carried in `manifest.json`.

    Attributes:
        features: the model's inputs, in the order of the columns.
        rows: of the baseline.
        outputs: the model's outputs for rows that it was not fitted to; empty where these are not known.
        calibration: run lengths; None where they were not simulated.
    """

    features: tuple[Feature, ...]
    rows: int
    outputs: tuple[Feature, ...] = ()
    calibration: Calibration | None = None

    @classmethod
    def from_rows(
        cls, rows: npt.ArrayLike, names: Sequence[str] | None = None, outputs: npt.ArrayLike | None = None
    ) -> "Profile":
        """Describe baseline rows; `calibrated` adds the run lengths.

        Args:
            rows: shape (n, F), finite, n ≥ 2, in the order in which they were seen.
            names: F distinct names; `feature 0`, `feature 1`, … where left out.
            outputs: what the model says of each row, shape (n, O), where it was not fitted to them.

        Raises:
            ProfileError: rows of another shape, not finite, or names that do not fit them.
        """
        values = _table(rows, "the baseline")
        chosen = [f"feature {i}" for i in range(values.shape[1])] if names is None else [str(name) for name in names]
        if len(chosen) != values.shape[1]:
            message = f"the baseline has {values.shape[1]} columns, but {len(chosen)} feature names were given"
            raise ProfileError(message)
        said = _table(outputs, "the outputs") if outputs is not None else np.empty((values.shape[0], 0))
        if said.shape[0] != values.shape[0]:
            message = f"there are {said.shape[0]} outputs for {values.shape[0]} rows"
            raise ProfileError(message)
        return cls._checked(
            tuple(_describe(name, values[:, column]) for column, name in enumerate(chosen)),
            int(values.shape[0]),
            tuple(_describe(name, said[:, column]) for column, name in enumerate(output_names(said.shape[1], chosen))),
        )

    def calibrated(self, rows: npt.ArrayLike, outputs: npt.ArrayLike | None = None) -> "Profile":
        """The same profile with run lengths, simulated from the rows that it was made of.

        Raises:
            ProfileError: other rows than those.
        """
        values = _table(rows, "the baseline")
        if outputs is not None:
            values = np.hstack([values, _table(outputs, "the outputs")])
        if values.shape != (self.rows, len(self.columns)):
            message = f"the profile is of {self.rows} rows and {len(self.columns)} columns, not {values.shape}"
            raise ProfileError(message)
        memory = max(0, *(feature.memory for feature in self.columns))
        return replace(self, calibration=calibrate(np.vstack(self.rank_scores(values.T)).T, memory))

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "Profile":
        """Read what `to_dict` wrote.

        Raises:
            ProfileError: a document of another version or form.
        """
        if isinstance(document, Mapping) and document.get("version") != PROFILE_VERSION:
            message = f"profile version {document.get('version')!r} is not {PROFILE_VERSION}; train again"
            raise ProfileError(message)
        try:
            rows = int(document["rows"])
            features, outputs = (
                tuple(_feature_from(entry) for entry in document[name]) for name in ("features", "outputs")
            )
            found = document["calibration"]
            calibration = None if found is None else Calibration.from_dict(found)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            message = f"the profile is malformed: {type(error).__name__}: {error}"
            raise ProfileError(message) from error
        return cls._checked(features, rows, outputs, calibration)

    @classmethod
    def _checked(
        cls,
        features: tuple[Feature, ...],
        rows: int,
        outputs: tuple[Feature, ...] = (),
        calibration: Calibration | None = None,
    ) -> "Profile":
        columns = (*features, *outputs)
        names = [feature.name for feature in columns]
        problem = ""
        if not features or len(columns) > MAX_FEATURES:
            problem = f"{len(features)} features and {len(outputs)} outputs; 1 to {MAX_FEATURES} can be watched"
        elif len(set(names)) != len(names):
            problem = f"two features have one name: {min(n for n in set(names) if names.count(n) > 1)!r}"
        elif not all(map(is_name, names)):
            problem = f"a feature's name must have 1 to {MAX_NAME_LENGTH} characters that can be shown"
        else:
            problem = next(filter(None, map(_problem, columns)), "")
        if problem:
            message = f"the profile cannot be used: {problem}"
            raise ProfileError(message)
        return cls(features, rows, outputs, calibration)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; `Profile.from_dict` reads it back to an equal value."""
        return {
            "version": PROFILE_VERSION,
            "rows": self.rows,
            "calibration": self.calibration.to_dict() if self.calibration else None,
            "features": [_feature_to_dict(feature) for feature in self.features],
            "outputs": [_feature_to_dict(feature) for feature in self.outputs],
        }

    @cached_property
    def digest(self) -> str:
        """`sha256:…` over the canonical JSON form: equal profiles, equal digests."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":")).encode()
        return f"sha256:{hashlib.sha256(canonical).hexdigest()}"

    @cached_property
    def columns(self) -> tuple[Feature, ...]:
        """Inputs, then outputs: C columns."""
        return (*self.features, *self.outputs)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The inputs' names, in the order of the columns."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """The names of all columns, the outputs' last."""
        return tuple(feature.name for feature in self.columns)

    @cached_property
    def means(self) -> Rows:
        """Of the inputs, shape (F,)."""
        return self._means[: len(self.features), 0]

    @cached_property
    def stds(self) -> Rows:
        """Of the inputs, shape (F,); 0 for a constant feature."""
        return np.array([feature.std for feature in self.features])

    @cached_property
    def constant(self) -> npt.NDArray[np.bool_]:
        """Shape (C,): which columns never varied in the baseline."""
        return np.array([feature.std == 0 for feature in self.columns])

    @cached_property
    def _means(self) -> Rows:
        """Shape (C, 1), as the next two."""
        return np.array([[feature.mean] for feature in self.columns])

    @cached_property
    def _divisors(self) -> Rows:
        return np.array([[feature.std or 1.0] for feature in self.columns])

    @cached_property
    def _ends(self) -> tuple[Rows, Rows]:
        """The outer knots."""
        return (
            np.array([[feature.knots[0]] for feature in self.columns]),
            np.array([[feature.knots[-1]] for feature in self.columns]),
        )

    @cached_property
    def _constant(self) -> npt.NDArray[np.intp]:
        """Which columns never varied, ascending."""
        return np.flatnonzero(self.constant)

    @cached_property
    def _stretches(self) -> "_Stretches":
        return _Stretches.of(self.columns)

    # What is asked of many values comes column by column, because each has its own numbers to be compared with.

    def z_scores(self, values: Rows, cap: float = Z_CAP) -> Rows:
        """(value - μ) / σ, within ±`cap`; 0 throughout a constant feature, which has a rule of its own.

        Args:
            values: by columns, shape (F, n) or, with the outputs, (C, n); the answer has the same.
            cap: what an absurd value is cut to.
        """
        width = values.shape[0]
        with np.errstate(over="ignore"):  # 1e308 over a small σ is infinite, and capped like any absurd value
            z = (values - self._means[:width]) / self._divisors[:width]
        # Twice as fast as np.clip, for a request of few rows.
        np.minimum(z, cap, out=z)
        np.maximum(z, -cap, out=z)
        if self._constant.size:
            z[self.constant[:width]] = 0.0
        return z

    def stretches(self, values: Rows) -> Places:
        """In which stretch between neighbouring knots and edges of its column each value lies: shape (C, n) as they have.

        For `rank_scores` and `bins`, which both need it; a NaN is in its column's last.
        """
        return self._stretches.of_values(values)

    def rank_scores(self, values: Rows, stretches: Places | None = None) -> tuple[Rows, Rows]:
        """Location and spread of each value, shape (C, n) as they have; NaN where the value is.

        `stretches` saves a second look at what `Profile.stretches` has found.
        """
        found = self.stretches(values) if stretches is None else stretches
        start, location, rise, spread, widening = (line.take(found) for line in self._stretches.lines)
        beyond = np.minimum(np.maximum(values, self._ends[0]), self._ends[1])
        beyond -= start
        rise *= beyond
        location += rise
        widening *= beyond
        spread += widening
        return location, spread

    def bins(self, stretches: Places, given: Flags | None, blocks: int) -> npt.NDArray[np.int64]:
        """How many values of each block are in each quantile bin.

        Args:
            stretches: of the values, shape (C, n).
            given: which of them are not NaN, the same shape; None where all are.
            blocks: as many, of n / blocks rows each.

        Returns:
            Shape (blocks, C, BINS).
        """
        columns, rows = stretches.shape
        cells = columns * BINS
        places = self._stretches.cells.take(stretches)
        places += np.arange(0, blocks * cells, cells).repeat(rows // blocks)
        counted = places.ravel() if given is None else places[given]
        return np.bincount(counted, minlength=blocks * cells).reshape(blocks, columns, BINS)

    def unseen(self, values: Rows) -> Flags | None:
        """Which values, shape (C, n), are not among those of a constant or categorical column; False where NaN.

        None where all are.
        """
        columns, known = self._known
        if not columns.size:
            return None
        some = values[columns]
        strange = ~(np.logical_or.reduce(some == known, axis=0) | np.isnan(some))
        if not strange.any():
            return None
        unseen = np.zeros(values.shape, dtype=np.bool_)
        unseen[columns] = strange
        return unseen

    @cached_property
    def _known(self) -> tuple[npt.NDArray[np.intp], Rows]:
        """The columns that have few values, and all that they have: shape (most, columns, 1), NaN where one has fewer."""
        few = {
            i: feature.categories or (feature.mean,)
            for i, feature in enumerate(self.columns)
            if feature.categories or feature.std == 0
        }
        most = max(map(len, few.values()), default=0)
        table = np.full((most, len(few), 1), math.nan)
        for place, values in enumerate(few.values()):
            table[: len(values), place, 0] = values
        return np.array(list(few), dtype=np.intp), table


class _Stretches(NamedTuple):
    """The real line of each column, cut at its knots and edges; one table for all columns, one after another.

    Attributes:
        cuts: of each column, ascending.
        first: where each column's stretches begin in the table, shape (C, 1).
        lines: what scores in a stretch begin with and rise by, shape (5, stretches): the knot below, location and its slope,
            spread and its slope.
        cells: the quantile bin of each stretch, shape (stretches,); those of a column go on where the one before it ends.
    """

    cuts: tuple[Rows, ...]
    first: Places
    lines: Rows
    cells: Places

    @classmethod
    def of(cls, columns: Sequence[Feature]) -> "_Stretches":
        """Of these columns."""
        cuts = tuple(np.unique([*feature.knots, *feature.edges]) for feature in columns)
        lengths = [cut.size + 1 for cut in cuts]  # the first stretch is below the first cut
        lines, cells = [], []
        for column, (feature, cut) in enumerate(zip(columns, cuts, strict=True)):
            starts = np.concatenate([[-math.inf], cut])
            knot = np.maximum(np.searchsorted(feature.knots, starts, side="right") - 1, 0)
            location, spread = feature.location, feature.spread
            rises = (location, _slopes(feature.knots, location), spread, _slopes(feature.knots, spread))
            lines.append(np.stack([np.asarray(table)[knot] for table in (feature.knots, *rises)]))
            cells.append(np.searchsorted(feature.edges, starts, side="right") + column * BINS)
        first = (np.cumsum(lengths) - lengths).astype(np.intp)
        return cls(cuts, first[:, None], np.hstack(lines), np.concatenate(cells).astype(np.intp))

    def of_values(self, values: Rows) -> Places:
        """The place in the table of each value, shape (C, n)."""
        # Column by column: a search in some thirty numbers is quicker than a comparison with each.
        found = np.empty(values.shape, dtype=np.intp)
        for column, (cut, given) in enumerate(zip(self.cuts, values, strict=True)):
            found[column] = cut.searchsorted(given, side="right")
        found += self.first
        return found


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
    z = profile.z_scores(np.ascontiguousarray(rows.T))
    if len(sizes) == 1 < rows.shape[0]:
        z = np.add.reduceat(z, _FIRST, axis=1)
        z /= rows.shape[0]
    elif len(sizes) < rows.shape[0]:
        lengths = np.array(sizes)
        z = np.add.reduceat(z, np.cumsum(lengths) - lengths, axis=1)
        z /= lengths
    return np.abs(z, out=z).T


def output_names(count: int, taken: Sequence[str]) -> list[str]:
    """What the outputs are called: `prediction`, or `prediction 0`, …, never as an input is."""
    name = "prediction"
    while any(other.startswith(name) for other in taken):
        name = f"model {name}"
    return [name] if count == 1 else [f"{name} {i}" for i in range(count)]


def _table(rows: npt.ArrayLike, what: str) -> Rows:
    try:
        values = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError) as error:
        message = f"{what} is not an array of numbers: {error}"
        raise ProfileError(message) from error
    if values.ndim != 2 or values.shape[0] < 2 or values.shape[1] < 1:  # noqa: PLR2004 - two axes, two rows for a spread
        message = f"{what} must have the shape (rows ≥ 2, features ≥ 1), not {values.shape}"
        raise ProfileError(message)
    if not np.isfinite(values).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
        message = f"{what} holds a value that is not finite at row {row}, column {column}"
        raise ProfileError(message)
    return values


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
    scores = score_map(column if std else np.full_like(column, mean))
    return Feature(
        name=name,
        mean=mean,
        std=std,
        edges=tuple(map(float, edges)),
        probabilities=tuple(float(share) for share in inside / column.size),
        knots=scores.knots,
        location=_rounded(scores.location),
        spread=_rounded(scores.spread),
        inflation=round(scores.inflation, SCORE_DIGITS),
        memory=scores.memory,
        categories=_categories(column) if std else (),
    )


def _rounded(scores: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(score, SCORE_DIGITS) for score in scores)


def _categories(column: Rows) -> tuple[float, ...]:
    """All values, where nothing speaks for others: Good and Turing's estimate of the share unseen is that of singletons."""
    values, times = np.unique(column, return_counts=True)
    few = values.size <= MOST_CATEGORIES and bool((times > 1).all()) and bool((values == np.rint(values)).all())
    return tuple(values.tolist()) if few else ()


def _problem(feature: Feature) -> str:
    numbers = (
        *(feature.mean, feature.std, feature.inflation, *feature.edges, *feature.probabilities),
        *(*feature.knots, *feature.location, *feature.spread, *feature.categories),
    )
    if not all(map(math.isfinite, numbers)) or feature.std < 0 or feature.inflation < 1:
        return f"feature {feature.name!r} has numbers that are not finite, or a negative deviation"
    if len(feature.edges) != BINS - 1 or len(feature.probabilities) != BINS:
        return f"feature {feature.name!r} does not have {BINS} bins"
    if not 1 <= len(feature.knots) == len(feature.location) == len(feature.spread) <= KNOTS:
        return f"feature {feature.name!r} does not have 1 to {KNOTS} knots with their scores"
    if any(later <= earlier for earlier, later in itertools.pairwise(feature.knots)):
        return f"the knots of feature {feature.name!r} do not ascend"
    return ""


def _feature_to_dict(feature: Feature) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(feature).items()
    }


def _feature_from(entry: Mapping[str, Any]) -> Feature:
    return Feature(
        name=str(entry["name"]),
        mean=float(entry["mean"]),
        std=float(entry["std"]),
        inflation=float(entry["inflation"]),
        memory=int(entry["memory"]),
        **{
            name: tuple(map(float, entry[name]))
            for name in ("edges", "probabilities", "knots", "location", "spread", "categories")
        },
    )


def _slopes(knots: Sequence[float], scores: Sequence[float]) -> list[float]:
    """Of the line that begins at each knot; 0 at the last."""
    rises = zip(itertools.pairwise(knots), itertools.pairwise(scores), strict=True)
    return [*((high - low) / (right - left) for (left, right), (low, high) in rises), 0.0]
