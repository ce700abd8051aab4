"""Forms of a prediction: how a body becomes rows, and what was predicted a document.

Three of them: the service's own `/predict`, V1 (TensorFlow Serving's REST API, as KServe has it) and V2 (the Open Inference
Protocol). Between the two ends all go the same way.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from aiops_inference import codec, tensors
from aiops_inference.codec import Rows
from aiops_inference.errors import InvalidInputsError, TooLargeError
from aiops_inference.monitor import SCORE_DIGITS, Judgement, Monitor
from aiops_inference.predictor import Predictor, refuse_probabilities
from aiops_inference.tensors import Raw

PREDICT: Final = "predict"
PREDICT_PROBA: Final = "predict_proba"
TENSOR: Final = "inputs"  # what the one tensor of all features is called in the model's metadata; any name is taken
MAX_AXES: Final = 2
MAX_SHOWN: Final = 40
_WHOLE: Final = frozenset({int})
_NUMBERS: Final = frozenset({int, float})
_DATATYPES: Final = {
    name: frozenset({bool}) if name == "BOOL" else _NUMBERS if dtype.kind == "f" else _WHOLE
    for name, dtype in tensors.DTYPES.items()
}


class Answered(NamedTuple):
    """What is known of one request when its rows have been predicted; a tuple, because one is made for every request.

    Attributes:
        rows: shape (n, F).
        predictions: one a row.
        judgement: the seed's rule on the rows.
        monitor: that judged.
        predictor: that predicted.
    """

    rows: Rows
    predictions: list[Any]
    judgement: Judgement
    monitor: Monitor
    predictor: Predictor


Document = Callable[[Answered], dict[str, Any] | tensors.Encoded]
Form = Callable[[bytes, Monitor, int], tuple[Rows, Document]]


def plain(body: bytes, monitor: Monitor, max_rows: int) -> tuple[Rows, Document]:
    """`/predict`."""
    return codec.decode(body, monitor.features, max_rows), _plain_document


def explained(body: bytes, monitor: Monitor, max_rows: int) -> tuple[Rows, Document]:
    """`/predict?explain=true`."""
    return codec.decode(body, monitor.features, max_rows), _explained_document


def with_probabilities(body: bytes, monitor: Monitor, max_rows: int) -> tuple[Rows, Document]:
    """`/predict?probabilities=true`."""
    return codec.decode(body, monitor.features, max_rows), _probabilities_document


def explained_with_probabilities(body: bytes, monitor: Monitor, max_rows: int) -> tuple[Rows, Document]:
    """`/predict?explain=true&probabilities=true`."""
    return codec.decode(body, monitor.features, max_rows), _whole_document


def v1(body: bytes, monitor: Monitor, max_rows: int) -> tuple[Rows, Document]:
    """`/v1/models/{name}:predict`: instances in, predictions out."""
    return codec.decode(body, monitor.features, max_rows, "instances"), _v1_document


def v2(model: str, version: str, json_size: bytes | None = None, *, has_probabilities: bool = True) -> Form:
    """`/v2/models/{name}/infer`: tensors in, tensors out.

    Args:
        model: its name, for the answer.
        version: the same.
        json_size: the header's, where bytes follow the JSON.
        has_probabilities: where the model has none, asking for them is refused.
    """

    def form(body: bytes, monitor: Monitor, max_rows: int) -> tuple[Rows, Document]:
        content, raw = tensors.split(body, json_size)
        document = codec.parse(content)
        inputs = _list(document, "inputs")
        all_binary = _flag(_parameters(document, "the body"), "binary_data_output", "the body")
        wanted = _wanted(document.get("outputs", []), binary=all_binary)
        binary = {name for name, as_bytes in wanted.items() if as_bytes}
        if PREDICT_PROBA in wanted and not has_probabilities:
            refuse_probabilities(f"outputs[{list(wanted).index(PREDICT_PROBA)}]")
        identity = document.get("id", "")
        if not isinstance(identity, str):
            message = "id is not a string"
            raise InvalidInputsError(message, "id")
        read = [_tensor(entry, f"inputs[{i}]", max_rows, raw) for i, entry in enumerate(inputs)]
        if raw.left:
            message = f"behind the JSON are {raw.left} bytes more than its inputs have"
            raise InvalidInputsError(message, "inputs")
        rows = _stacked(read, monitor.features)

        def answer(answered: Answered) -> dict[str, Any] | tensors.Encoded:
            outputs = [_output(name, answered) for name in wanted]
            known = {"model_name": model, "model_version": version, "outputs": outputs}
            if "id" in document:
                known["id"] = identity
            return tensors.pack(known, binary) if binary else known

        return rows, answer

    return form


def datatype_of(values: Sequence[Any]) -> str:
    """The protocol's name for what such values are."""
    kinds = set(map(type, values))
    if kinds <= {bool}:
        return "BOOL"
    if kinds <= {int}:
        return "INT64"
    return "FP64" if kinds <= {int, float} else "BYTES"


def _plain_document(answered: Answered) -> dict[str, Any]:
    return {
        "predictions": answered.predictions,
        "drift_detected": answered.judgement.drifted,
        "drift_score": round(answered.judgement.score, SCORE_DIGITS),
    }


def _explained_document(answered: Answered) -> dict[str, Any]:
    explanation = answered.monitor.explain(answered.rows, answered.judgement)
    return {**_plain_document(answered), "explanation": explanation}


def _probabilities_document(answered: Answered) -> dict[str, Any]:
    predictor = answered.predictor
    known = {} if predictor.classes is None else {"classes": predictor.classes}
    return {**_plain_document(answered), "probabilities": predictor.probabilities(answered.rows), **known}


def _whole_document(answered: Answered) -> dict[str, Any]:
    return {**_explained_document(answered), **_probabilities_document(answered)}


def _v1_document(answered: Answered) -> dict[str, Any]:
    return {"predictions": answered.predictions}


def _list(document: dict[str, Any], name: str) -> list[Any]:
    value = document.get(name)
    if not isinstance(value, list) or not value:
        message = f"{name} is not a list of at least one tensor"
        raise InvalidInputsError(message, name)
    return value


def _wanted(outputs: object, *, binary: bool) -> dict[str, bool]:
    """The outputs by name, and whether each is wanted as bytes: `binary` of those that do not say."""
    if outputs == []:
        return {PREDICT: binary}
    if not isinstance(outputs, list):
        message = "outputs is not a list"
        raise InvalidInputsError(message, "outputs")
    wanted: dict[str, bool] = {}
    for i, output in enumerate(outputs):
        place = f"outputs[{i}]"
        name = output.get("name") if isinstance(output, dict) else None
        if name not in (PREDICT, PREDICT_PROBA) or name in wanted:
            message = f"{place} must have the name {PREDICT} or {PREDICT_PROBA}, each once"
            raise InvalidInputsError(message, place)
        wanted[name] = _flag(_parameters(output, place), "binary_data", place, default=binary)
    return wanted


def _parameters(entry: dict[str, Any], place: str) -> dict[str, Any]:
    """Of the protocol's objects, each may have some; those that are not known are left alone."""
    parameters = entry.get("parameters", {})
    if not isinstance(parameters, dict):
        message = f"{place}: parameters is not an object"
        raise InvalidInputsError(message, place)
    return parameters


def _flag(parameters: dict[str, Any], name: str, place: str, *, default: bool = False) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        message = f"{place}: parameters.{name} is not true or false"
        raise InvalidInputsError(message, place)
    return value


@dataclass(frozen=True)
class _Tensor:
    name: str
    values: Rows
    place: str


def _tensor(entry: object, place: str, max_rows: int, raw: Raw) -> _Tensor:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        message = f"{place} is not a tensor with name, shape, datatype and data"
        raise InvalidInputsError(message, place)
    size = _parameters(entry, place).get(tensors.SIZE)
    shape = entry.get("shape")
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= MAX_AXES
        or not all(type(n) is int and n > 0 for n in shape)
    ):
        message = f"{place}.shape must be [rows, features] or [rows], of positive whole numbers"
        raise InvalidInputsError(message, f"{place}.shape")
    if shape[0] > max_rows:
        message = f"{place} has {shape[0]} rows; one request may have {max_rows}"
        raise TooLargeError(message, place)
    datatype = entry.get("datatype")
    allowed = _DATATYPES.get(datatype) if isinstance(datatype, str) else None
    if not isinstance(datatype, str) or allowed is None:
        message = f"{place}.datatype must be one of {', '.join(_DATATYPES)}; the model takes numbers"
        raise InvalidInputsError(message, f"{place}.datatype")
    if size is None:
        values = _values(_flat(entry.get("data"), f"{place}.data"), shape, datatype, allowed, f"{place}.data")
    elif entry.get("data") is not None:
        message = f"{place} has both data and parameters.{tensors.SIZE}"
        raise InvalidInputsError(message, place)
    else:
        values = raw.take(size, datatype, math.prod(shape), place)
    wrong = tensors.first_beyond(values, datatype)
    if wrong is not None:
        message = f"{place}.data[{wrong}] is not a finite number that {datatype} holds"
        raise InvalidInputsError(message, f"{place}.data[{wrong}]")
    return _Tensor(entry["name"], values.reshape(shape), place)


def _values(data: list[Any], shape: list[int], datatype: str, allowed: frozenset[type], place: str) -> Rows:
    if len(data) != math.prod(shape):
        message = f"{place} has {len(data)} values; the shape {shape} takes {math.prod(shape)}"
        raise InvalidInputsError(message, place)
    if not set(map(type, data)) <= allowed:
        wrong = next(i for i, value in enumerate(data) if type(value) not in allowed)
        message = f"{place}[{wrong}] is not {datatype}"
        raise InvalidInputsError(message, f"{place}[{wrong}]")
    try:
        return np.array(data, dtype=np.float64)
    except OverflowError:  # a whole number of 400 digits
        return np.array([math.inf if abs(value) > codec.LARGEST else value for value in data], dtype=np.float64)


def _flat(data: object, place: str) -> list[Any]:
    if not isinstance(data, list):
        message = f"{place} is not a list of values"
        raise InvalidInputsError(message, place)
    if any(isinstance(value, list) for value in data):
        if not all(isinstance(value, list) for value in data):
            message = f"{place} mixes values and lists"
            raise InvalidInputsError(message, place)
        return list(itertools.chain.from_iterable(data))
    return data


def _stacked(tensors: list[_Tensor], features: Sequence[str]) -> Rows:
    """One tensor with all features, or one for each by its name."""
    if len(tensors) == 1 and tensors[0].values.ndim == MAX_AXES and tensors[0].values.shape[1] == len(features):
        return tensors[0].values
    by_name = {tensor.name: tensor for tensor in tensors}
    if len(by_name) == len(tensors) and set(by_name) == set(features):
        columns = [by_name[name].values for name in features]
        rows = columns[0].shape[0]
        if all(column.shape in {(rows,), (rows, 1)} for column in columns):
            return np.column_stack([column.reshape(rows) for column in columns])
    listed = ", ".join(features)[: MAX_SHOWN * 10]
    message = f"inputs must be one tensor of the shape [rows, {len(features)}], or one of the shape [rows] for each of {listed}"
    raise InvalidInputsError(message, "inputs")


def _output(name: str, answered: Answered) -> dict[str, Any]:
    values = answered.predictions
    if name == PREDICT_PROBA:
        # Of several targets one after another: they may have different numbers of classes, which no third axis could hold.
        rows = answered.predictor.probabilities(answered.rows)
        values = [list(itertools.chain.from_iterable(row)) if isinstance(row[0], list) else row for row in rows]
    shape = [len(values)]
    while values and isinstance(values[0], list):
        shape.append(len(values[0]))
        values = list(itertools.chain.from_iterable(values))
    return {"name": name, "shape": shape, "datatype": datatype_of(values), "data": values}
