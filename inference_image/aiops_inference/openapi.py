"""What /docs says of `/predict`, which FastAPI cannot see into."""

from typing import Any, Final

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

_PROBABILITIES: Final[dict[str, Any]] = {
    "type": "array",
    "description": "Only with ?probabilities=true: a list a row with a number a class; of several targets a list of such lists.",
    "items": {"type": "array", "items": {}},
}
_CLASSES: Final[dict[str, Any]] = {
    "type": "array",
    "description": "Only with ?probabilities=true: names of the classes in the order of their probabilities, where they are known; of several targets a list for each.",
    "items": {},
}

PREDICT: Final[dict[str, Any]] = {
    "post": {
        "summary": "Predict rows, and judge whether they look like the training data",
        "operationId": "predict",
        "parameters": [
            {
                "name": "explain",
                "in": "query",
                "schema": {"type": "boolean", "default": False},
                "description": "Add each feature's z-score and what it was compared with.",
            },
            {
                "name": "probabilities",
                "in": "query",
                "schema": {"type": "boolean", "default": False},
                "description": "Add a classifier's probabilities, and the classes in their order.",
            },
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
                                "probabilities": _PROBABILITIES,
                                "classes": _CLASSES,
                            },
                        },
                        "example": {"predictions": [0, 2], "drift_detected": False, "drift_score": 0.4662},
                    }
                },
            },
            "400": {"description": "Not JSON, or not rows of finite numbers of the right width.", **_ERROR},
            "413": {"description": "Too many bytes or rows.", **_ERROR},
            "422": {"description": "The model refuses these values, or has no probabilities.", **_ERROR},
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
