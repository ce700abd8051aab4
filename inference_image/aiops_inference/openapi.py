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
