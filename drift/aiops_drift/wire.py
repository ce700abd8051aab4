"""The `GET /drift` document: what crosses from pod to operator, checked on arrival."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

import numpy as np

from aiops_drift.agreement import SUMS, Agreement
from aiops_drift.calibration import Calibration
from aiops_drift.counts import BLOCK_ROWS, PER_COLUMN, Z_LIMIT, Block, Counts
from aiops_drift.errors import WireError
from aiops_drift.profile import BINS, MAX_FEATURES, MAX_NAME_LENGTH, Profile, is_name

WIRE_VERSION: Final = 2
KEPT_BLOCKS: Final = 512
KEPT_NUMBERS: Final = 2**14  # blocks times columns that a pod keeps, so that a report of many columns stays small
FEWEST_BLOCKS: Final = 32
MAX_COUNT: Final = 2**53  # beyond it a JSON number is not an exact integer
MAX_TEXT: Final = 1024
MAX_INCARNATION: Final = 64
MAX_FAILED: Final = 100
MAX_CURVE: Final = 1000.0
MAX_INFLATION: Final = 1e6
MAX_REPORTS: Final = 64  # of one pod: one of each process
MAX_SUM: Final = 1e305  # of squares of predictions
MAX_REVISION: Final = 64
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")

ExpectationsState = Literal["disabled", "pending", "passed", "failed", "error"]


@dataclass(frozen=True)
class Expectations:
    """What Great Expectations last said in this pod.

    Attributes:
        state: `pending` until a first batch was validated; `error` where the suite could not be applied at all.
        evaluated_rows: rows of the batch that the state speaks of.
        batches: batches validated so far by this process; tells a new answer from one that was read before.
        failed: the expectations that failed, as `type(column)`.
        message: one line for a person, empty where there is nothing to say.
    """

    state: ExpectationsState = "disabled"
    evaluated_rows: int = 0
    batches: int = 0
    failed: tuple[str, ...] = ()
    message: str = ""


@dataclass(frozen=True)
class Baseline:
    """What the rules need to know of the baseline, beside the scores that it has already given.

    Attributes:
        names: of the columns: the model's inputs, then its outputs.
        rows: of the baseline.
        probabilities: per column, the share of the baseline's rows in each quantile bin.
        inflation: per column, long-run variance over variance.
        calibration: run lengths of the sequential rule; None where they were not simulated, and then that rule is silent.
    """

    names: tuple[str, ...]
    rows: int
    probabilities: tuple[tuple[float, ...], ...]
    inflation: tuple[float, ...]
    calibration: Calibration | None

    @classmethod
    def of(cls, profile: Profile) -> "Baseline":
        """Of a profile."""
        return cls(
            names=profile.column_names,
            rows=profile.rows,
            probabilities=tuple(feature.probabilities for feature in profile.columns),
            inflation=tuple(feature.inflation for feature in profile.columns),
            calibration=profile.calibration,
        )


@dataclass(frozen=True)
class Shadowed:
    """What a process found when it gave copies of its rows to a second model, the shadow.

    Attributes:
        incarnation: identity of this count: new when it starts from nothing.
        revision: which second model, as the process was told.
        agreement: over all rows since then.
        problem: why it first had no prediction, in one line for a person; empty where it always had.
    """

    incarnation: str
    revision: str
    agreement: Agreement
    problem: str = ""


@dataclass(frozen=True)
class Report:
    """One pod's drift counts and whose they are.

    Attributes:
        incarnation: identity of these counts: new when they start from nothing.
        model: digest of the model file's bytes.
        profile: digest of the profile that z-scores are against.
        baseline: what the rules need to know of it, and the names of the columns.
        rows: all rows seen, those of the open block too.
        now: the pod's clock when it answered, seconds since the epoch; what was closed is as old as it says by this clock.
        counts: over all closed blocks since the incarnation began.
        blocks: the closed blocks still kept (512 at most, fewer of many features), ascending numbers without gaps.
        expectations: what Great Expectations last said.
        shadowed: how a second model's predictions compare; None where there is none.
    """

    incarnation: str
    model: str
    profile: str
    baseline: Baseline
    rows: int
    now: float
    counts: Counts
    blocks: tuple[Block, ...]
    expectations: Expectations = Expectations()
    shadowed: Shadowed | None = None

    def told(self, expectations: Expectations, after: int, now: float) -> "Report":
        """The same counts as they are answered at `now`, with the blocks of numbers above `after`."""
        blocks = tuple(block for block in self.blocks if block.number > after)
        return replace(self, expectations=expectations, blocks=blocks, now=now)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; `Report.from_dict` reads it back to an equal value."""
        return {
            "version": WIRE_VERSION,
            "incarnation": self.incarnation,
            "model": self.model,
            "profile": self.profile,
            "features": list(self.baseline.names),
            "baseline": {
                "rows": self.baseline.rows,
                "probabilities": [list(shares) for shares in self.baseline.probabilities],
                "inflation": list(self.baseline.inflation),
                "calibration": self.baseline.calibration.to_dict() if self.baseline.calibration else None,
            },
            "rows": self.rows,
            "now": self.now,
            "counts": _counts_to_dict(self.counts),
            "blocks": [
                {"number": block.number, "closed": block.closed, **_counts_to_dict(block.counts)}
                for block in self.blocks
            ],
            "expectations": {
                "state": self.expectations.state,
                "evaluated_rows": self.expectations.evaluated_rows,
                "batches": self.expectations.batches,
                "failed": list(self.expectations.failed),
                "message": self.expectations.message,
            },
            **({"shadowed": _shadowed_to_dict(self.shadowed)} if self.shadowed else {}),
        }

    @classmethod
    def from_dict(cls, document: object) -> "Report":
        """Read a pod's answer, trusting none of it: a tenant's image may have written it.

        Raises:
            WireError: another version, a missing or mistyped field, a number that is not finite or out of range,
                feature lists of different lengths, names that cannot be shown, block numbers that do not ascend by one.
        """
        fields = _Fields(document, "document")
        if fields.integer("version") != WIRE_VERSION:
            message = f"/drift speaks version {fields.integer('version')}, this operator reads {WIRE_VERSION}"
            raise WireError(message)
        features = fields.texts("features", MAX_FEATURES, MAX_NAME_LENGTH)
        if not features or len(set(features)) != len(features) or not all(map(is_name, features)):
            message = "document.features is not a list of distinct names that can be shown"
            raise WireError(message)
        shadowed = fields.optional("shadowed")
        blocks = tuple(
            _block_from(_Fields(entry, f"blocks[{i}]"), len(features))
            for i, entry in enumerate(fields.items("blocks", KEPT_BLOCKS))
        )
        if any(later.number != earlier.number + 1 for earlier, later in itertools.pairwise(blocks)):
            message = "the numbers of blocks do not ascend by one"
            raise WireError(message)
        return cls(
            incarnation=fields.text("incarnation", MAX_INCARNATION),
            model=fields.digest("model"),
            profile=fields.digest("profile"),
            baseline=_baseline_from(fields.fields("baseline"), features),
            rows=fields.integer("rows"),
            now=fields.number("now", MAX_COUNT),
            counts=_counts_from(fields.fields("counts"), len(features)),
            blocks=blocks,
            expectations=_expectations_from(fields.fields("expectations")),
            shadowed=_shadowed_from(shadowed) if shadowed else None,
        )


def reports_from(document: object) -> tuple[Report, ...]:
    """Read the answer of a pod in which one process counts, or several: `{"version": …, "reports": [document, …]}`.

    Raises:
        WireError: a report that `Report.from_dict` refuses, none or too many of them, two of the same incarnation, or of
            different models, profiles or baselines.
    """
    if not isinstance(document, Mapping) or "reports" not in document:
        return (Report.from_dict(document),)
    entries = _Fields(document, "document").items("reports", MAX_REPORTS)
    reports = tuple(Report.from_dict(entry) for entry in entries)
    if not reports:
        message = "document.reports is empty"
        raise WireError(message)
    if len({report.incarnation for report in reports}) != len(reports):
        message = "two of document.reports have the same incarnation"
        raise WireError(message)
    first = reports[0]
    if any((one.model, one.profile, one.baseline) != (first.model, first.profile, first.baseline) for one in reports):
        message = "document.reports are of different models or profiles: restart the pod"
        raise WireError(message)
    return reports


def kept_blocks(columns: int) -> int:
    """How many closed blocks a pod keeps for a poller that was away: fewer where each is large."""
    return min(KEPT_BLOCKS, max(FEWEST_BLOCKS, KEPT_NUMBERS // columns))


class _Fields:
    """A JSON object with a place in the document, read field by field."""

    def __init__(self, value: object, place: str) -> None:
        if not isinstance(value, Mapping):
            message = f"{place} is not an object"
            raise WireError(message)
        self._value = value
        self._place = place

    def _wrong(self, name: str, wanted: str) -> WireError:
        return WireError(f"{self._place}.{name} is not {wanted}")

    def fields(self, name: str) -> "_Fields":
        return _Fields(self._value.get(name), f"{self._place}.{name}")

    def optional(self, name: str) -> "_Fields | None":
        return None if self._value.get(name) is None else self.fields(name)

    def rows(self, name: str, length: int, width: int) -> "_Fields":
        """A list of `length` lists of `width` entries: all of them one after another, to be read by the name of the whole."""
        entries: list[Any] = self.items(name, length)
        if len(entries) != length or not set(map(type, entries)) <= {list} or not set(map(len, entries)) <= {width}:
            raise self._wrong(name, f"{length} lists of {width}")
        return _Fields({name: list(itertools.chain.from_iterable(entries))}, self._place)

    def items(self, name: str, most: int) -> list[Any]:
        value = self._value.get(name)
        if not isinstance(value, list) or len(value) > most:
            raise self._wrong(name, f"a list of at most {most}")
        return value

    def text(self, name: str, most: int = MAX_TEXT) -> str:
        value = self._value.get(name)
        if not isinstance(value, str) or len(value) > most:
            raise self._wrong(name, f"a text of at most {most} characters")
        return value

    def digest(self, name: str) -> str:
        value = self._value.get(name)
        if not isinstance(value, str) or not DIGEST.fullmatch(value):
            raise self._wrong(name, "a digest, sha256: and 64 hexadecimal digits")
        return value

    def texts(self, name: str, most: int, longest: int) -> tuple[str, ...]:
        values = self.items(name, most)
        if not all(isinstance(value, str) and len(value) <= longest for value in values):
            raise self._wrong(name, f"a list of texts of at most {longest} characters")
        return tuple(str(value) for value in values)

    def integer(self, name: str) -> int:
        value = self._value.get(name)
        if not _are_counts([value]):
            raise self._wrong(name, "a whole number from 0 to 2⁵³")
        return int(value)  # type: ignore[arg-type]  # _are_counts has looked

    def integers(self, name: str, length: int) -> tuple[int, ...]:
        values = self.items(name, length)
        if len(values) != length or not _are_counts(values):
            raise self._wrong(name, f"{length} whole numbers from 0 to 2⁵³")
        return tuple(values)

    def number(self, name: str, limit: float) -> float:
        value = self._value.get(name)
        if not _are_numbers([value], limit):
            raise self._wrong(name, f"a number within ±{limit:g}")
        return float(value)  # type: ignore[arg-type]

    def numbers(self, name: str, length: int, limit: float) -> tuple[float, ...]:
        values = self.items(name, length)
        if len(values) != length or not _are_numbers(values, limit):
            raise self._wrong(name, f"{length} numbers within ±{limit:g}")
        return tuple(map(float, values))

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        value = self._value.get(name)
        if not isinstance(value, str) or value not in choices:
            raise self._wrong(name, f"one of {', '.join(choices)}")
        return value


# Of two million numbers, which an answer may have, each is looked at by loops of the interpreter's own.
def _are_counts(values: Sequence[Any]) -> bool:
    return set(map(type, values)) <= {int} and min(values, default=0) >= 0 and max(values, default=0) <= MAX_COUNT


def _are_numbers(values: Sequence[Any], limit: float) -> bool:
    # NaN fails every comparison, and an integer of 400 digits can be compared but not converted.
    return set(map(type, values)) <= {int, float} and all(map(float(limit).__ge__, map(abs, values)))


def _tuples(values: Sequence[Any], width: int) -> tuple[tuple[Any, ...], ...]:
    return tuple(zip(*[iter(values)] * width, strict=True))


def _counts_to_dict(counts: Counts) -> dict[str, Any]:
    return {
        "n": counts.n,
        **{name: list(getattr(counts, name)) for name in PER_COLUMN},
        "bins": [list(bins) for bins in counts.bins],
    }


def _counts_from(fields: _Fields, columns: int) -> Counts:
    n = fields.integer("n")
    return Counts(
        n=n,
        z=fields.numbers("z", columns, Z_LIMIT * n),
        # Scores by rank are far smaller than that; a limit of their own would have to be raised with each new one.
        location=fields.numbers("location", columns, Z_LIMIT * n),
        spread=fields.numbers("spread", columns, Z_LIMIT * n),
        missing=fields.integers("missing", columns),
        unseen=fields.integers("unseen", columns),
        bins=_tuples(fields.rows("bins", columns, BINS).integers("bins", columns * BINS), BINS),
    )


def _block_from(fields: _Fields, columns: int) -> Block:
    counts = _counts_from(fields, columns)
    if counts.n != BLOCK_ROWS:
        message = f"a block has {BLOCK_ROWS} rows, not {counts.n}"
        raise WireError(message)
    return Block(fields.integer("number"), fields.number("closed", MAX_COUNT), counts)


def _baseline_from(fields: _Fields, names: tuple[str, ...]) -> Baseline:
    columns = len(names)
    calibration = fields.optional("calibration")
    inflation = fields.numbers("inflation", columns, MAX_INFLATION)
    probabilities = fields.rows("probabilities", columns, BINS).numbers("probabilities", columns * BINS, 1.0)
    if min(inflation) < 1 or min(probabilities) < 0:
        message = "the baseline has an inflation below 1 or a negative probability"
        raise WireError(message)
    return Baseline(
        names=names,
        rows=max(fields.integer("rows"), 1),
        probabilities=_tuples(probabilities, BINS),
        inflation=inflation,
        calibration=Calibration(
            intercept=calibration.number("intercept", MAX_CURVE),
            slope=calibration.number("slope", MAX_CURVE),
            simulated=calibration.integer("simulated"),
            block=calibration.integer("block"),
        )
        if calibration
        else None,
    )


def _expectations_from(fields: _Fields) -> Expectations:
    state = fields.choice("state", get_args(ExpectationsState))
    return Expectations(
        state=state,  # type: ignore[arg-type]  # choice has looked
        evaluated_rows=fields.integer("evaluated_rows"),
        batches=fields.integer("batches"),
        failed=fields.texts("failed", MAX_FAILED, MAX_TEXT),
        message=fields.text("message"),
    )


def _shadowed_to_dict(shadowed: Shadowed) -> dict[str, Any]:
    found = shadowed.agreement
    return {
        "incarnation": shadowed.incarnation,
        "revision": shadowed.revision,
        "rows": found.rows,
        "differing": found.differing,
        "failed": found.failed,
        "outputs": found.outputs.tolist(),
        "problem": shadowed.problem,
    }


def _shadowed_from(fields: _Fields) -> Shadowed:
    outputs = len(fields.items("outputs", MAX_FEATURES))
    sums = fields.rows("outputs", outputs, SUMS).numbers("outputs", outputs * SUMS, MAX_SUM)
    apart = np.array(sums).reshape(outputs, SUMS)
    found = Agreement(fields.integer("rows"), fields.integer("differing"), fields.integer("failed"), apart)
    if found.differing > found.rows or (apart[:, 1:] < 0).any():
        message = "document.shadowed has more differing rows than rows, or a negative sum"
        raise WireError(message)
    return Shadowed(
        incarnation=fields.text("incarnation", MAX_INCARNATION),
        revision=fields.text("revision", MAX_REVISION),
        agreement=found,
        problem=fields.text("problem"),
    )
