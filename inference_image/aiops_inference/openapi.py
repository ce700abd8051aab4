"""What /docs says of the routes that FastAPI cannot see into, with examples that the served model answers."""

from collections.abc import Mapping
from typing import Any, Final

from aiops_drift import Profile

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

_ERROR: Final[dict[str, Any]] = {
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error", "reason"],
                "properties": {
                    "error": {"type": "string", "description": "One sentence that names the place."},
                    "reason": {"type": "string"},
                    "place": {"type": "string", "examples": ["inputs[1][2]"]},
                },
            }
        }
    }
}

AFTER: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": "after",
            "in": "query",
            "schema": {"type": "integer", "default": -1},
            "description": "Leaves out the blocks up to this number.",
        }
    ]
}
NOT_READY: Final[dict[int | str, dict[str, Any]]] = {503: {"description": "No model is loaded.", **_ERROR}}

_EXPLANATION: Final[dict[str, Any]] = {
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

PREDICT: Final[dict[str, Any]] = {
    "post": {
        "summary": "Predict rows, and judge whether they look like the training data",
        "operationId": "predict",
        "tags": ["Predict"],
        "parameters": [
            {
                "name": "explain",
                "in": "query",
                "schema": {"type": "boolean", "default": False},
                "description": "Add each feature's z-score and what it was compared with.",
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["inputs"],
                        "properties": {
                            "inputs": {
                                "type": "array",
                                "minItems": 1,
                                "items": {"type": "array", "items": {"type": "number"}},
                                "description": "Rows; each has one finite number a feature, in the order that /health lists.",
                            }
                        },
                    },
                    "example": {"inputs": [[5.1, 3.5, 1.4, 0.2], [6.5, 3.0, 5.5, 1.8]]},
                }
            },
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
                            },
                        },
                        "example": {"predictions": [0, 2], "drift_detected": False, "drift_score": 0.4662},
                    }
                },
            },
            "400": {"description": "Not JSON, or not rows of finite numbers of the right width.", **_ERROR},
            "413": {"description": "Too many bytes or rows.", **_ERROR},
            "422": {"description": "The model refuses these values.", **_ERROR},
            "503": {"description": "No model is loaded, or it failed.", **_ERROR},
        },
    }
}

V1_PATH: Final = "/v1/models/{name}:predict"
V2_PATH: Final = "/v2/models/{name}/infer"
_NAME: Final[dict[str, Any]] = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "description": "The service's name.",
}
_REFUSALS: Final[dict[str, Any]] = {
    status: {"description": meaning, **_ERROR}
    for status, meaning in {
        "400": "Not such a document, with the place of the fault.",
        "404": "Another name than that of the model that is served.",
        "408": "The body did not arrive in time.",
        "413": "Too many bytes or rows.",
        "415": "The body is compressed.",
        "422": "The model cannot take these values.",
        "503": "No model is loaded, the model failed, or too many rows wait already.",
    }.items()
}


def _operation(summary: str, name: str, tag: str, request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "post": {
            "summary": summary,
            "operationId": name,
            "tags": [tag],
            "parameters": [_NAME],
            "requestBody": {"required": True, "content": {"application/json": request}},
            "responses": {
                "200": {"description": "One prediction a row.", "content": {"application/json": answer}},
                **_REFUSALS,
            },
        }
    }


_ROWS: Final[dict[str, Any]] = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "array", "items": {"type": "number"}},
}
_TENSOR: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["name", "shape", "datatype", "data"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "datatype": {"type": "string"},
        "parameters": {"type": "object"},
        "data": {"type": "array", "items": {}},
    },
}

V1_PREDICT: Final = _operation(
    "Predict rows, in the form of TensorFlow Serving",
    "v1_predict",
    "V1",
    {
        "schema": {"type": "object", "required": ["instances"], "properties": {"instances": _ROWS}},
        "example": {"instances": [[5.1, 3.5, 1.4, 0.2]]},
    },
    {
        "schema": {
            "type": "object",
            "required": ["predictions"],
            "properties": {"predictions": {"type": "array", "items": {}}},
        },
        "example": {"predictions": [0]},
    },
)
V2_INFER: Final = _operation(
    "Predict tensors, in the form of the Open Inference Protocol",
    "v2_infer",
    "V2",
    {
        "schema": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": "string"},
                "inputs": {"type": "array", "minItems": 1, "items": _TENSOR},
                "outputs": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string", "enum": ["predict", "predict_proba"]}},
                    },
                },
            },
        },
        "example": {
            "id": "42",
            "inputs": [{"name": "inputs", "shape": [1, 4], "datatype": "FP64", "data": [5.1, 3.5, 1.4, 0.2]}],
            "outputs": [{"name": "predict"}, {"name": "predict_proba"}],
        },
    },
    {
        "schema": {
            "type": "object",
            "required": ["model_name", "outputs"],
            "properties": {
                "model_name": {"type": "string"},
                "model_version": {"type": "string"},
                "id": {"type": "string"},
                "outputs": {"type": "array", "items": _TENSOR},
            },
        }
    },
)


def example_rows(profile: Profile | None) -> list[list[float]]:
    """Two rows that look like the baseline's, at its third and seventh decile."""
    if profile is None:
        return IRIS
    return [[feature.edges[decile] for feature in profile.features] for decile in TYPICAL]


def predictions(rows: list[list[float]]) -> dict[str, Any]:
    """The paths that predict, each with these rows as its example."""
    tensor = {"name": "inputs", "shape": [1, len(rows[0])], "datatype": "FP64", "data": rows[0]}
    return {
        "/predict": _asking(PREDICT, {"inputs": rows}),
        V1_PATH: _asking(V1_PREDICT, {"instances": rows[:1]}),
        V2_PATH: _asking(V2_INFER, {"id": "42", "inputs": [tensor], "outputs": [{"name": "predict"}]}),
    }


def with_examples(paths: Mapping[str, Any], examples: Mapping[str, str]) -> dict[str, Any]:
    """The same paths, whose parameters have these examples by name."""
    return {
        path: {method: operation | _exemplified(operation, examples) for method, operation in operations.items()}
        for path, operations in paths.items()
    }


def _asking(path: Mapping[str, Any], example: object) -> dict[str, Any]:
    body = {"required": True, "content": {"application/json": {**_content(path["post"]), "example": example}}}
    return {"post": {**path["post"], "requestBody": body}}


def _content(operation: Mapping[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = operation["requestBody"]["content"]["application/json"]
    return content


def _exemplified(operation: Mapping[str, Any], examples: Mapping[str, str]) -> dict[str, Any]:
    if "parameters" not in operation:
        return {}
    return {
        "parameters": [
            parameter | ({"example": examples[parameter["name"]]} if parameter["name"] in examples else {})
            for parameter in operation["parameters"]
        ]
    }
