"""What V2's datatypes hold, and tensors as bytes behind the JSON: its binary tensor data extension.

Source: the Open Inference Protocol's binary tensor data extension. Bytes are little-endian, row by row, without padding; a
BOOL is one byte, a text its length in four bytes and its UTF-8.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aiops_inference.codec import Rows, encode
from aiops_inference.errors import InvalidInputsError

EXTENSION: Final = "binary_tensor_data"
HEADER: Final = b"inference-header-content-length"
SIZE: Final = "binary_data_size"
MAX_DIGITS: Final = 18

# Numbers are all that a model takes; they go to it as float64, whatever they came as.
DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.uint8),
    **{
        f"{sign}INT{8 * size}": np.dtype(f"<{kind}{size}")
        for sign, kind in (("", "i"), ("U", "u"))
        for size in (1, 2, 4, 8)
    },
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}


class Encoded(bytes):
    """An answer whose first `json_size` bytes are JSON, and the others its tensors."""

    json_size: int


class Raw:
    """The bytes behind the JSON of a request, taken in the order of its inputs."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._start = 0

    @property
    def left(self) -> int:
        """How many have not been taken."""
        return len(self._content) - self._start

    def take(self, size: object, datatype: str, count: int, place: str) -> Rows:
        """The next `count` values, of a tensor that says that they have `size` bytes.

        Raises:
            InvalidInputsError: it is not what such a tensor has, or not so many are left.
        """
        dtype = DTYPES[datatype]
        if type(size) is not int or size != count * dtype.itemsize:
            message = f"{place}.parameters.{SIZE} must be {count * dtype.itemsize}: {count} values of {datatype}"
            raise InvalidInputsError(message, f"{place}.parameters.{SIZE}")
        if size > self.left:
            message = f"{place} has {size} bytes behind the JSON, but {self.left} are left; Inference-Header-Content-Length must be the size of the JSON"
            raise InvalidInputsError(message, place)
        values = np.frombuffer(self._content, dtype, count, self._start).astype(np.float64)
        self._start += size
        return values


def split(body: bytes, json_size: bytes | None) -> tuple[bytes, Raw]:
    """JSON and what is behind it; `json_size` is the header's value, None where there is none, and then all is JSON.

    Raises:
        InvalidInputsError: it is no number of bytes that the body has.
    """
    if json_size is None:
        return body, Raw(b"")
    if not json_size.isdigit() or len(json_size) > MAX_DIGITS or int(json_size) > len(body):
        message = "Inference-Header-Content-Length must be the size of the JSON in bytes, at most that of the body"
        raise InvalidInputsError(message)
    size = int(json_size)
    return body[:size], Raw(body[size:])


def first_beyond(values: Rows, datatype: str) -> int | None:
    """Where the first of the values is that the datatype does not hold: infinite, too large, or no truth value."""
    dtype = DTYPES[datatype]
    with np.errstate(over="ignore", invalid="ignore"):
        if datatype == "BOOL":
            held = (values == 0) | (values == 1)
        elif dtype.kind == "f":
            held = np.isfinite(values.astype(dtype))
        else:
            held = (values >= np.iinfo(dtype).min) & (values <= np.iinfo(dtype).max)
    return None if held.all() else int(np.flatnonzero(~held)[0])


def pack(document: dict[str, Any], names: set[str]) -> Encoded:
    """An inference response with the outputs of these names as bytes behind the JSON."""
    chunks = [b""]
    for output in document["outputs"]:
        if output["name"] in names:
            chunks.append(_content(output.pop("data"), output["datatype"]))
            output["parameters"] = {SIZE: len(chunks[-1])}
    chunks[0] = encode(document)
    packed = Encoded(b"".join(chunks))
    packed.json_size = len(chunks[0])
    return packed


def _content(values: list[Any], datatype: str) -> bytes:
    if datatype == "BYTES":
        texts = [str(value).encode(errors="replace") for value in values]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    array: npt.NDArray[Any] = np.array(values, DTYPES[datatype])
    return array.tobytes()
