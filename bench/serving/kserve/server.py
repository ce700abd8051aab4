"""KServe's Python server with a model of its own class, as its documentation shows."""

import os
import sys
from typing import Any

import joblib
import numpy as np
from kserve import Model, ModelServer


class Iris(Model):
    """One scikit-learn model."""

    def __init__(self) -> None:
        super().__init__("iris")
        self.model = joblib.load(os.environ["MODEL_PATH"])
        self.ready = True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:  # noqa: ARG002
        """Predict."""
        return {"predictions": self.model.predict(np.array(payload["instances"])).tolist()}


if __name__ == "__main__":
    port, sys.argv = int(sys.argv[1]), sys.argv[:1]
    ModelServer(http_port=port, workers=1, enable_grpc=False).start([Iris()])
