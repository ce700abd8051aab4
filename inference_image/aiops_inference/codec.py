"""Bytes to arrays and back: the only code that looks at what a client sent.

On the good path no Python object is made of a number. Only when a body is not what it should be does Python walk the values, to
name the first one that is wrong.
"""

import itertools
import json
import math
import re
import reprlib
import sys
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import simdjson

from aiops_inference.errors import (
    InferenceError,
    InputsRefusedError,
    InvalidInputsError,
    InvalidJsonError,
    RequestError,
    TooLargeError,
    UnavailableError,
    shown,
)

Rows = npt.NDArray[np.float64]

EXAMPLE: Final = '{"inputs": [[5.1, 3.5, 1.4, 0.2]]}'
LARGEST: Final = sys.float_info.max
MAX_SECOND_LOOK: Final = 64 << 10  # bytes of broken JSON that are read again, to name the place
MAX_NAMES: Final = 20  # feature names listed in an error
MAX_SHOWN: Final = 40  # characters of a wrong value shown in an error
KEPT_BYTES: Final = 256 << 10  # of a body whose parser is kept for the next: it keeps ten times the memory
_NUMBERS: Final = frozenset({float, int})
_OF_NUMBERS: Final = b"0123456789.eE+- \t\n\r"  # all that JSON has in numbers, and the space around them
MAX_DEPTH: Final = 100  # of lists and objects in each other, where JSON has to be made the slow way
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_ORJSON_OPTIONS: Final = orjson.OPT_SERIALIZE_NUMPY
_parser: Final = simdjson.Parser()


def encode(document: object) -> bytes:
    """JSON of plain values and numpy scalars; what JSON has no form for becomes its text, and a lone surrogate U+FFFD."""
    try:
        return orjson.dumps(document, default=str, option=_ORJSON_OPTIONS)
    except TypeError:  # a lone surrogate, a whole number of more than 64 bits, a key that is no string, a circle
        return json.dumps(_plain(document), ensure_ascii=False, separators=(",", ":")).encode()


def encode_error(error: InferenceError) -> bytes:
    """`{"error": …, "reason": …}`, and the place where the fault has one."""
    foreign = isinstance(
        error, UnavailableError | InputsRefusedError
    )  # the others repeat what the client sent, as it was
    document = {"error": shown(error) if foreign else str(error), "reason": error.reason}
    if isinstance(error, RequestError) and error.place:
        document["place"] = error.place
    return encode(document)


def parse(body: bytes) -> dict[str, Any]:
    """The object that a body is.

    Raises:
        InvalidJsonError: the bytes are not JSON.
        InvalidInputsError: they are not an object.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        message = f"the body is not JSON: {error}"
        raise InvalidJsonError(message) from error
    if type(document) is not dict:
        message = f"the body is {_kind(document)}; it must be an object"
        raise InvalidInputsError(message)
    return document


def decode(body: bytes, names: Sequence[str], max_rows: int, key: str = "inputs") -> Rows:
    """The rows of a prediction request.

    Args:
        body: the request's bytes.
        names: the features that the model wants, in order.
        max_rows: more than these are refused.
        key: what the rows are called in the body.

    Returns:
        Shape (n ≥ 1, len(names)), finite.

    Raises:
        InvalidJsonError: the bytes are not JSON.
        InvalidInputsError: the JSON is not `{"inputs": [[…], …]}` with finite numbers in rows of the right width.
        TooLargeError: too many rows.
    """
    rows = _read(body, len(names), max_rows, key)
    if rows is not None:
        return rows
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _invalid_json(body, error, names, key) from error
    return _rows(_inputs(document, key), names, max_rows, key)


def _read(body: bytes, width: int, max_rows: int, key: str) -> Rows | None:
    """The rows, where all is as it should be.

    The numbers are read without a Python object for each. What the body is without them then says whether they stand in rows
    of the right length, with nothing beside them: in valid JSON nothing but a number is made of the characters left out.
    """
    parser = _parser if len(body) <= KEPT_BYTES else simdjson.Parser()
    try:
        document: Any = parser.parse(body)
        document = document[key]
        values = np.frombuffer(document.as_buffer(of_type="d"))
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return None
    rows, left = divmod(values.size, width)
    frame = b'{"%b":[%b]}' % (key.encode(), (b"[%b]," % (b"," * (width - 1)) * rows)[:-1])
    if left or not 0 < rows <= max_rows or body.translate(None, _OF_NUMBERS) != frame.translate(None, _OF_NUMBERS):
        return None
    return values.reshape(rows, width)


def _inputs(document: object, key: str) -> list[Any]:
    example = EXAMPLE.replace("inputs", key)
    if type(document) is not dict:
        message = f"the body is {_kind(document)}; it must be an object such as {example}"
        raise InvalidInputsError(message)
    if key not in document:
        message = f'the body has no "{key}"; it must be an object such as {example}'
        raise InvalidInputsError(message, key)
    inputs = document[key]
    if type(inputs) is not list:
        message = f"{key} is {_kind(inputs)}; it must be a list of rows, such as [[5.1, 3.5, 1.4, 0.2]]"
        raise InvalidInputsError(message, key)
    if not inputs:
        message = f"{key} is empty; it must have at least one row"
        raise InvalidInputsError(message, key)
    return inputs


def _rows(inputs: list[Any], names: Sequence[str], max_rows: int, key: str) -> Rows:
    if len(inputs) > max_rows:
        message = f"{key} has {len(inputs)} rows; one request may have {max_rows}"
        raise TooLargeError(message, key)
    if set(map(type, inputs)) == {list} and set(map(len, inputs)) == {len(names)}:
        values = list(itertools.chain.from_iterable(inputs))
        if set(map(type, values)) <= _NUMBERS:
            rows = np.array(values, dtype=np.float64).reshape(len(inputs), -1)
            if np.isfinite(rows).all():
                return rows
    fault = _first_fault(inputs, names, key)
    # Nothing but the conditions above leads here, and each of them has its sentence there.
    raise fault or InvalidInputsError(f"{key} cannot be read as rows of numbers", key)


def _first_fault(inputs: list[Any], names: Sequence[str], key: str) -> InvalidInputsError | None:
    for i, row in enumerate(inputs):
        place = f"{key}[{i}]"
        if type(row) is not list:
            message = f"{place} is {_kind(row)}; it must be a row, a list of {len(names)} numbers"
            return InvalidInputsError(message, place)
        for j, value in enumerate(row[: len(names)]):
            if problem := _problem(value):
                return InvalidInputsError(f"{place}[{j}] ({names[j]}) is {problem}", f"{place}[{j}]")
        if len(row) != len(names):
            count = f"{len(row)} value{'' if len(row) == 1 else 's'}"
            return InvalidInputsError(f"{place} has {count}; the model wants {_wanted(names)}", place)
    return None


def _problem(value: object) -> str:
    if type(value) not in _NUMBERS:
        return f"{_kind(value)}; it must be a number"
    # Compared, not converted: an integer of 400 digits has no float to ask. NaN fails every comparison.
    if not -LARGEST <= value <= LARGEST:  # type: ignore[operator]  # the line above left int and float
        return "not a finite number"
    return ""


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            # Escaped to ASCII: a lone surrogate could not be sent back.
            return f"the string {json.dumps(value[:MAX_SHOWN])}{'…' if len(value) > MAX_SHOWN else ''}"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return "a number"


def _wanted(names: Sequence[str]) -> str:
    listed = ", ".join(names[:MAX_NAMES])
    return f"{len(names)}: {listed}{', …' if len(names) > MAX_NAMES else ''}"


def _invalid_json(body: bytes, error: orjson.JSONDecodeError, names: Sequence[str], key: str) -> RequestError:
    """What to say of broken JSON: where NaN, Infinity or 1e400 is all that is wrong, the place in the inputs."""
    if not body.strip():
        return InvalidJsonError(f"the body is empty; it must be an object such as {EXAMPLE.replace('inputs', key)}")
    if len(body) <= MAX_SECOND_LOOK:
        try:
            fault = _first_fault(_inputs(json.loads(body), key), names, key)
        except (ValueError, RecursionError, RequestError):
            fault = None
        if fault:
            return fault
    return InvalidJsonError(f"the body is not JSON: {error}")


def _plain(value: object, depth: int = 0) -> object:
    """What `json` writes without an error, and a reader takes."""
    plain: object = value
    if isinstance(value, str):
        plain = _SURROGATES.sub("\ufffd", value)
    elif isinstance(value, float):
        plain = value if math.isfinite(value) else None
    elif value is None or isinstance(value, int):  # a bool too
        pass
    elif depth < MAX_DEPTH and isinstance(value, dict):
        plain = {_text(key): _plain(entry, depth + 1) for key, entry in value.items()}
    elif depth < MAX_DEPTH and isinstance(value, list | tuple):
        plain = [_plain(entry, depth + 1) for entry in value]
    elif isinstance(value, np.generic | np.ndarray):
        plain = _plain(value.tolist(), depth + 1)
    else:
        plain = _text(value)
    return plain


def _text(value: object) -> str:
    text = reprlib.repr(value) if isinstance(value, dict | list | tuple) else str(value)
    return _SURROGATES.sub("\ufffd", text)
