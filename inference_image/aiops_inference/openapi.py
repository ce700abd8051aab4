"""What /openapi.json says of what FastAPI cannot see into: the schemas of answers, the errors, the predictions.

Clients are generated from it and servers are checked against it, so it says what is so: each status, each media type.
"""

from collections.abc import Mapping
from typing import Any, Final

from aiops_drift import Profile
from aiops_inference.tensors import DTYPES, SIZE

Document = dict[str, Any]

IRIS: Final = [[5.1, 3.5, 1.4, 0.2], [6.5, 3.0, 5.5, 1.8]]  # until the model is known
TYPICAL: Final = (2, 6)  # of the baseline's deciles: the values of two rows that surprise nobody
TAGS: Final = [
    {"name": "Predict", "description": "This product's own form, with the drift of the request's rows in each answer."},
    {"name": "V1", "description": "The form of TensorFlow Serving and KServe's V1."},
    {"name": "V2", "description": "The Open Inference Protocol."},
    {
        "name": "Drift",
        "description": "What this pod has seen: one pod's share. The service's verdict is in its resource.",
    },
    {"name": "Operations", "description": "For Kubernetes, Prometheus and people who look after them."},
]

_TEXT: Final[Document] = {"type": "string"}
_FLAG: Final[Document] = {"type": "string", "enum": ["true", "1", "yes", "on", "false", "0", "no", "off"]}
_ERROR: Final[Document] = {
    "type": "object",
    "required": ["error", "reason"],
    "properties": {
        "error": {"type": "string", "description": "One sentence that names the place."},
        "reason": {"type": "string"},
        "place": {"type": "string", "examples": ["inputs[1][2]"]},
    },
}
_UNAVAILABLE: Final[Document] = {
    "type": "object",
    "required": ["status", "reason", "message"],
    "properties": {"status": {"const": "unavailable"}, "reason": {"type": "string"}, "message": {"type": "string"}},
}
_LOADED: Final[Document] = {
    "type": "object",
    "required": ["status", "model"],
    "properties": {
        "status": {"const": "ok"},
        "model": {
            "type": "object",
            "required": ["digest", "features", "classes", "task"],
            "properties": {
                "digest": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
                "features": {"type": "array", "items": {"type": "string"}},
                "classes": {"type": ["array", "null"], "items": {"type": "string"}},
                "task": {"type": "string"},
            },
        },
    },
}
_MEANINGS: Final = {
    400: "Not such a request, with the place of the fault.",
    404: "Another name or version than that of the model that is served.",
    408: "The body did not arrive in time.",
    413: "Too many bytes or rows.",
    415: "The body is compressed.",
    422: "The model cannot take these values.",
    503: "No model is loaded, the model failed, or too many rows wait already; Retry-After says when to come back.",
}
_REFUSED: Final = (400, 408, 413, 415, 422, 503)  # predictions that are asked for by no name


def _json(schema: Document, **more: Any) -> Document:  # noqa: ANN401 - OpenAPI's own fields
    return {"content": {"application/json": {"schema": schema, **more}}}


def _errors(*statuses: int) -> Document:
    return {str(status): {"description": _MEANINGS[status], **_json(_ERROR)} for status in statuses}


def _path(name: str, description: str) -> Document:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "description": description}


_NAME: Final = _path("name", "The service's name.")
_VERSION: Final = _path("version", "The first digits of the model file's digest.")

_EXPLANATION: Final[Document] = {
    "type": "array",
    "description": "Only with ?explain=true: each feature and what it was compared with.",
    "items": {
        "type": "object",
        "properties": {
            "feature": {"type": "string"},
            "z": {"type": "number", "description": "|value - baseline_mean| / baseline_std"},
            "value": {"type": "number", "description": "Mean of the request's rows."},
            "baseline_mean": {"type": "number"},
            "baseline_std": {"type": "number"},
            "threshold": {"type": "number"},
            "drifted": {"type": "boolean"},
        },
    },
}

_PROBABILITIES: Final[Document] = {
    "type": "array",
    "description": "Only with ?probabilities=true: a list a row with a number a class; of several targets a list of such lists.",
    "items": {"type": "array", "items": {}},
}
_CLASSES: Final[Document] = {
    "type": "array",
    "description": "Only with ?probabilities=true: names of the classes in the order of their probabilities, where they are known; of several targets a list for each.",
    "items": {},
}

ROWS: Final[Document] = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "array", "items": {"type": "number"}},
    "description": "Rows; each has one finite number a feature, in the order that /health lists.",
}
_ROWS: Final[Document] = {"$ref": "#/components/schemas/Rows"}

_PREDICT: Final[Document] = {
    "post": {
        "summary": "Predict rows, and judge whether they look like the training data",
        "operationId": "predict",
        "tags": ["Predict"],
        "parameters": [
            {
                "name": "explain",
                "in": "query",
                "schema": _FLAG,
                "description": "Add each feature's z-score and what it was compared with.",
            },
            {
                "name": "probabilities",
                "in": "query",
                "schema": _FLAG,
                "description": "Add a classifier's probabilities, and the classes in their order.",
            },
        ],
        "requestBody": {
            "required": True,
            **_json(
                {"type": "object", "required": ["inputs"], "properties": {"inputs": _ROWS}},
            ),
        },
        "responses": {
            "200": {
                "description": "One prediction a row.",
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "required": ["predictions", "drift_detected", "drift_score"],
                            "properties": {
                                "predictions": {"type": "array", "items": {}},
                                "drift_detected": {"type": "boolean"},
                                "drift_score": {"type": "number", "description": "The largest z-score of any feature."},
                                "explanation": _EXPLANATION,
                                "probabilities": _PROBABILITIES,
                                "classes": _CLASSES,
                            },
                        },
                        "example": {"predictions": [0, 2], "drift_detected": False, "drift_score": 0.4662},
                    }
                },
            },
            **_errors(*_REFUSED),
        },
    }
}

_TENSOR_PROPERTIES: Final[Document] = {
    "name": {"type": "string"},
    "shape": {"type": "array", "items": {"type": "integer"}},
    "datatype": {"type": "string", "enum": [*DTYPES, "BYTES"]},
    "parameters": {"type": "object"},
    "data": {"type": "array", "items": {}},
}
_IN: Final[Document] = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        **_TENSOR_PROPERTIES,
        "shape": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "integer", "minimum": 1}},
        "datatype": {"type": "string", "enum": list(DTYPES)},
    },
    # Its values are here, or behind the JSON.
    "anyOf": [
        {"required": ["data"]},
        {
            "required": ["parameters"],
            "properties": {
                "parameters": {
                    "type": "object",
                    "required": [SIZE],
                    "properties": {SIZE: {"type": "integer", "minimum": 1}},
                }
            },
        },
    ],
}
_OUT: Final[Document] = {
    "type": "object",
    "required": ["name", "shape", "datatype", "data"],
    "properties": _TENSOR_PROPERTIES,
}
_DESCRIBED: Final[Document] = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {name: _TENSOR_PROPERTIES[name] for name in ("name", "datatype", "shape")},
}
_BYTES: Final[Document] = {
    "application/octet-stream": {
        "schema": {
            "type": "string",
            "format": "binary",
            "description": "Such JSON, of the size that Inference-Header-Content-Length says, and tensors as bytes behind it.",
        }
    }
}


def _operation(summary: str, name: str, tag: str, request: Document, answer: Document) -> Document:
    versioned = name.endswith("_version")
    return {
        "post": {
            "summary": summary,
            "operationId": name,
            "tags": [tag],
            "parameters": [_NAME, _VERSION] if versioned else [_NAME],
            "requestBody": {"required": True, **request},
            "responses": {"200": {"description": "One prediction a row.", **answer}, **_errors(404, *_REFUSED)},
        }
    }


_V1_PREDICT: Final = _operation(
    "Predict rows, in the form of TensorFlow Serving",
    "v1_predict",
    "V1",
    _json({"type": "object", "required": ["instances"], "properties": {"instances": _ROWS}}),
    _json(
        {
            "type": "object",
            "required": ["predictions"],
            "properties": {"predictions": {"type": "array", "items": {}}},
        },
        example={"predictions": [0]},
    ),
)
_INFER_REQUEST: Final = _json(
    {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": _TEXT,
            "parameters": {
                "type": "object",
                "properties": {"binary_data_output": {"type": "boolean"}},
            },
            "inputs": {"type": "array", "minItems": 1, "items": _IN},
            "outputs": {
                "type": "array",
                "maxItems": 2,
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"type": "string", "enum": ["predict", "predict_proba"]},
                        "parameters": {
                            "type": "object",
                            "properties": {"binary_data": {"type": "boolean"}},
                        },
                    },
                },
            },
        },
    },
)
_INFER_ANSWER: Final = _json(
    {
        "type": "object",
        "required": ["model_name", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": _OUT},
        },
    }
)
for _either in (_INFER_REQUEST, _INFER_ANSWER):
    _either["content"] |= _BYTES

_PREDICTIONS: Final = {
    "/predict": _PREDICT,
    "/v1/models/{name}:predict": _V1_PREDICT,
    **{
        f"/v2/models/{{name}}{version}/infer": _operation(
            "Predict tensors, in the form of the Open Inference Protocol",
            f"v2_infer{'_version' if version else ''}",
            "V2",
            _INFER_REQUEST,
            _INFER_ANSWER,
        )
        for version in ("", "/versions/{version}")
    },
}


def _object(*required: str, **properties: Document) -> Document:
    return {"type": "object", "required": list(required), "properties": properties}


_TEXTS: Final[Document] = {"type": "array", "items": _TEXT}
_TENSORS: Final[Document] = {"type": "array", "items": _DESCRIBED}
_MODEL_READY: Final = _object("name", "ready", name=_TEXT, ready={"type": "boolean"})
_METADATA: Final = _object(
    "name",
    "versions",
    "platform",
    "inputs",
    "outputs",
    name=_TEXT,
    versions=_TEXTS,
    platform=_TEXT,
    inputs=_TENSORS,
    outputs=_TENSORS,
)
_AFTER: Final[Document] = {
    "name": "after",
    "in": "query",
    "schema": {"type": "string", "pattern": "^-?[0-9]{1,18}$"},
    "description": "Leave out the blocks up to this number.",
}


def _reads() -> Mapping[str, tuple[Document, Document]]:
    """Of each path that is only read, the schema of its answer and what else it may answer."""
    service = dict.fromkeys(("service", "version"), _TEXT) | {"links": {"type": "object"}}
    about = {"anyOf": [{**state, "required": [*state["required"], *service]} for state in (_LOADED, _UNAVAILABLE)]}
    not_ready = {"description": "The model cannot be asked.", **_json(_UNAVAILABLE)}
    model_not_ready = {"description": "The model cannot be asked.", **_json({"anyOf": [_MODEL_READY, _ERROR]})}
    reads: dict[str, tuple[Document, Document]] = {
        "/": (about, {}),
        "/health": (_LOADED, {"503": not_ready}),
        "/livez": (_object("status", status={"const": "ok"}), {}),
        "/drift": (_object("version", "incarnation", "model", "rows", "counts", "blocks"), _errors(400, 503)),
        "/v1/models": (_object("models", models=_TEXTS), {}),
        "/v1/models/{name}": (_MODEL_READY, {**_errors(404), "503": model_not_ready}),
        "/v2": (_object("name", "version", "extensions", name=_TEXT, version=_TEXT, extensions=_TEXTS), {}),
        "/v2/health/live": (_object("live", live={"const": True}), {}),
        "/v2/health/ready": (
            _object("ready", ready={"const": True}),
            {"503": {"description": "Not ready.", **_json(_object("ready", ready={"const": False}))}},
        ),
    }
    for version in ("", "/versions/{version}"):
        path = f"/v2/models/{{name}}{version}"
        reads[path] = (_METADATA, _errors(404, 503))
        reads[f"{path}/ready"] = (_MODEL_READY, {**_errors(404), "503": model_not_ready})
    return reads


def complete(document: Document, profile: Profile | None, names: Mapping[str, str], max_rows: int) -> Document:
    """FastAPI's document with all that it could not know.

    Args:
        document: as FastAPI made it; it stays as it is.
        profile: of what the model wants; None while there is no model.
        names: an example of each path parameter.
        max_rows: of one request.
    """
    paths = {**document["paths"]}
    for path, (schema, others) in _reads().items():
        answers = {"200": {"description": "As asked for.", **_json(schema)}, **others}
        paths[path] = {"get": {**paths[path]["get"], "responses": answers}}
    paths["/drift"]["get"]["parameters"] = [_AFTER]
    report = paths["/drift/report"]["get"]
    paths["/drift/report"] = {"get": {**report, "responses": {**report["responses"], **_errors(503)}}}
    text = {"description": "As asked for.", "content": {"text/plain": {"schema": _TEXT}}}
    paths["/metrics"] = {"get": {**paths["/metrics"]["get"], "responses": {"200": text}}}
    bodies = _bodies(example_rows(profile))
    paths |= {path: {"post": _with_body(of["post"], bodies[path])} for path, of in _PREDICTIONS.items()}
    width = {} if profile is None else {"minItems": len(profile.names), "maxItems": len(profile.names)}
    schemas = {"Rows": {**ROWS, "maxItems": max_rows, "items": {**ROWS["items"], **width}}}
    return {**document, "paths": _with_examples(paths, names), "components": {"schemas": schemas}}


def example_rows(profile: Profile | None) -> list[list[float]]:
    """Two rows that look like the baseline's, at its third and seventh decile."""
    if profile is None:
        return IRIS
    return [[feature.edges[decile] for feature in profile.features] for decile in TYPICAL]


def _bodies(rows: list[list[float]]) -> Mapping[str, Document]:
    """An example of a body for each path that predicts."""
    tensor = {"name": "inputs", "shape": [1, len(rows[0])], "datatype": "FP64", "data": rows[0]}
    infer = {"id": "42", "inputs": [tensor], "outputs": [{"name": "predict"}]}
    own = {"/predict": {"inputs": rows}, "/v1/models/{name}:predict": {"instances": rows[:1]}}
    return {path: own.get(path, infer) for path in _PREDICTIONS}


def _with_body(operation: Document, example: Document) -> Document:
    request = operation["requestBody"]
    content = {**request["content"]}
    content["application/json"] = {**content["application/json"], "example": example}
    return {**operation, "requestBody": {**request, "content": content}}


def _with_examples(paths: Document, examples: Mapping[str, str]) -> Document:
    """The same paths, whose parameters have these examples by name."""

    def exemplified(parameters: list[Document]) -> list[Document]:
        return [
            parameter | ({"example": examples[parameter["name"]]} if examples.get(parameter["name"]) else {})
            for parameter in parameters
        ]

    return {
        path: {
            method: operation
            | ({"parameters": exemplified(operation["parameters"])} if "parameters" in operation else {})
            for method, operation in operations.items()
        }
        for path, operations in paths.items()
    }
