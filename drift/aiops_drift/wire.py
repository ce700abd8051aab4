"""The `GET /drift` document: what crosses from pod to operator, checked on arrival."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from aiops_drift.counts import BLOCK_ROWS, Z_LIMIT, Block, Counts
from aiops_drift.errors import WireError
from aiops_drift.profile import BINS, MAX_FEATURES, MAX_NAME_LENGTH, is_name

WIRE_VERSION: Final = 1
KEPT_BLOCKS: Final = 512
KEPT_NUMBERS: Final = 2**15  # blocks times features that a pod keeps, so that a report of many features stays small
FEWEST_BLOCKS: Final = 32
MAX_COUNT: Final = 2**53  # beyond it a JSON number is not an exact integer
MAX_TEXT: Final = 1024
MAX_INCARNATION: Final = 64
MAX_FAILED: Final = 100
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")

ExpectationsState = Literal["disabled", "pending", "passed", "failed", "error"]


@dataclass(frozen=True)
class Expectations:
    """What Great Expectations last said in this pod.

    Attributes:
        state: `pending` until a first batch was validated; `error` where the suite could not be applied at all.
        evaluated_rows: rows of the batch that the state speaks of.
        batches: batches validated so far in this incarnation; tells a new answer from one that was read before.
        failed: the expectations that failed, as `type(column)`.
        message: one line for a person, empty where there is nothing to say.
    """

    state: ExpectationsState = "disabled"
    evaluated_rows: int = 0
    batches: int = 0
    failed: tuple[str, ...] = ()
    message: str = ""


@dataclass(frozen=True)
class Report:
    """One pod's drift counts and whose they are.

    Attributes:
        incarnation: identity of these counts: new when they start from nothing.
        model: digest of the model file's bytes.
        profile: digest of the profile that z-scores are against.
        features: names, in the order of the columns.
        rows: all rows seen, those of the open block too.
        now: the pod's clock when it answered, seconds since the epoch; what was closed is as old as it says by this clock.
        counts: over all closed blocks since the incarnation began, with bins.
        blocks: the closed blocks still kept (512 at most, fewer of many features), ascending numbers without gaps.
        expectations: what Great Expectations last said.
    """

    incarnation: str
    model: str
    profile: str
    features: tuple[str, ...]
    rows: int
    now: float
    counts: Counts
    blocks: tuple[Block, ...]
    expectations: Expectations = Expectations()

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; `Report.from_dict` reads it back to an equal value."""
        return {
            "version": WIRE_VERSION,
            "incarnation": self.incarnation,
            "model": self.model,
            "profile": self.profile,
            "features": list(self.features),
            "rows": self.rows,
            "now": self.now,
            "counts": {**_sums_to_dict(self.counts), "bins": [list(bins) for bins in self.counts.bins]},
            "blocks": [
                {"number": block.number, "closed": block.closed, **_sums_to_dict(block.counts)} for block in self.blocks
            ],
            "expectations": {
                "state": self.expectations.state,
                "evaluated_rows": self.expectations.evaluated_rows,
                "batches": self.expectations.batches,
                "failed": list(self.expectations.failed),
                "message": self.expectations.message,
            },
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
            features=features,
            rows=fields.integer("rows"),
            now=fields.number("now", MAX_COUNT),
            counts=_sums_from(fields.fields("counts"), len(features), bins=True),
            blocks=blocks,
            expectations=_expectations_from(fields.fields("expectations")),
        )


def kept_blocks(features: int) -> int:
    """How many closed blocks a pod keeps for a poller that was away: fewer where each is large."""
    return min(KEPT_BLOCKS, max(FEWEST_BLOCKS, KEPT_NUMBERS // features))


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

    def items(self, name: str, most: int) -> Sequence[object]:
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
        if not _is_count(value):
            raise self._wrong(name, "a whole number from 0 to 2⁵³")
        return int(value)  # type: ignore[arg-type]  # _is_count has looked

    def integers(self, name: str, length: int) -> tuple[int, ...]:
        values = self.items(name, length)
        if len(values) != length or not all(map(_is_count, values)):
            raise self._wrong(name, f"{length} whole numbers from 0 to 2⁵³")
        return tuple(int(value) for value in values)  # type: ignore[call-overload]

    def number(self, name: str, limit: float) -> float:
        value = self._value.get(name)
        if not _is_number(value, limit):
            raise self._wrong(name, f"a number within ±{limit:g}")
        return float(value)  # type: ignore[arg-type]

    def numbers(self, name: str, length: int, limit: float) -> tuple[float, ...]:
        values = self.items(name, length)
        if len(values) != length or not all(_is_number(value, limit) for value in values):
            raise self._wrong(name, f"{length} numbers within ±{limit:g}")
        return tuple(float(value) for value in values)  # type: ignore[arg-type]

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        value = self._value.get(name)
        if not isinstance(value, str) or value not in choices:
            raise self._wrong(name, f"one of {', '.join(choices)}")
        return value


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT


def _is_number(value: object, limit: float) -> bool:
    # NaN fails every comparison, and an integer of 400 digits can be compared but not converted.
    return isinstance(value, int | float) and not isinstance(value, bool) and -limit <= value <= limit


def _sums_to_dict(counts: Counts) -> dict[str, Any]:
    return {
        "n": counts.n,
        "sum_z": list(counts.sum_z),
        "sum_z2": list(counts.sum_z2),
        "off_constant": list(counts.off_constant),
    }


def _sums_from(fields: _Fields, features: int, *, bins: bool) -> Counts:
    n = fields.integer("n")
    return Counts(
        n=n,
        sum_z=fields.numbers("sum_z", features, Z_LIMIT * n),
        sum_z2=fields.numbers("sum_z2", features, Z_LIMIT * Z_LIMIT * n),
        off_constant=fields.integers("off_constant", features),
        bins=_bins_from(fields, features) if bins else (),
    )


def _bins_from(fields: _Fields, features: int) -> tuple[tuple[int, ...], ...]:
    lists = fields.items("bins", features)
    if len(lists) != features:
        message = f"bins does not have {features} lists"
        raise WireError(message)
    return tuple(_Fields({"bins": entry}, f"bins[{i}]").integers("bins", BINS) for i, entry in enumerate(lists))


def _block_from(fields: _Fields, features: int) -> Block:
    counts = _sums_from(fields, features, bins=False)
    if counts.n != BLOCK_ROWS:
        message = f"a block has {BLOCK_ROWS} rows, not {counts.n}"
        raise WireError(message)
    return Block(fields.integer("number"), fields.number("closed", MAX_COUNT), counts)


def _expectations_from(fields: _Fields) -> Expectations:
    state = fields.choice("state", get_args(ExpectationsState))
    return Expectations(
        state=state,  # type: ignore[arg-type]  # choice has looked
        evaluated_rows=fields.integer("evaluated_rows"),
        batches=fields.integer("batches"),
        failed=fields.texts("failed", MAX_FAILED, MAX_TEXT),
        message=fields.text("message"),
    )
