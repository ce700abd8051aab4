"""Asks a server through Triton's HTTP client and writes what it understood to stdout, as JSON; arguments: host:port, model."""

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

url, model = sys.argv[1:]
ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]])


def tensor(datatype, *, binary):
    """Both rows in a datatype."""
    made = triton.InferInput("inputs", list(ROWS.shape), datatype)
    made.set_data_from_numpy(
        ROWS.astype({"FP16": np.float16, "FP32": np.float32, "FP64": np.float64}[datatype]), binary
    )
    return made


def refusal(ask):
    """What the client raises."""
    try:
        ask()
    except InferenceServerException as error:
        return [error.status(), error.message()]
    return None


with triton.InferenceServerClient(url) as client:
    found = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model ready": client.is_model_ready(model),
        "other model ready": client.is_model_ready("other"),
        "extensions": client.get_server_metadata()["extensions"],
        "metadata": client.get_model_metadata(model),
    }
    version = found["metadata"]["versions"][0]
    plain = client.infer(
        model,
        [tensor("FP64", binary=False)],
        outputs=[triton.InferRequestedOutput(name, binary_data=False) for name in ("predict", "predict_proba")],
        request_id="42",
    )
    found["JSON"] = plain.get_response()
    found["by default"] = {
        datatype: client.infer(model, [tensor(datatype, binary=True)], model_version=version)
        .as_numpy("predict")
        .tolist()
        for datatype in ("FP16", "FP32", "FP64")
    }
    both = client.infer(
        model,
        [tensor("FP32", binary=True)],
        outputs=[
            triton.InferRequestedOutput("predict_proba"),
            triton.InferRequestedOutput("predict", binary_data=False),
        ],
    )
    found["bytes"] = {
        "bytes": both.get_output("predict_proba")["parameters"],
        "rows": both.as_numpy("predict_proba").sum(axis=1).round(6).tolist(),
        "labels": both.as_numpy("predict").tolist(),
    }
    text = triton.InferInput("inputs", [1, 4], "BYTES")
    text.set_data_from_numpy(np.array([["5.1", "3.5", "1.4", "0.2"]], dtype=object))
    found["refused"] = {
        "text": refusal(lambda: client.infer(model, [text])),
        "other output": refusal(
            lambda: client.infer(model, [tensor("FP64", binary=False)], outputs=[triton.InferRequestedOutput("x")])
        ),
        "other model": refusal(lambda: client.infer("other", [tensor("FP64", binary=False)])),
        "other version": refusal(lambda: client.infer(model, [tensor("FP64", binary=False)], model_version="9")),
    }
json.dump(found, sys.stdout)
