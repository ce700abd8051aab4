"""LitServe with one worker."""

import os
import sys
from typing import Any

import joblib
import litserve
import numpy as np


class Iris(litserve.LitAPI):
    """One scikit-learn model."""

    def setup(self, device: Any) -> None:  # noqa: ARG002
        """Load."""
        self.model = joblib.load(os.environ["MODEL_PATH"])

    def decode_request(self, request) -> Any:  # type: ignore[no-untyped-def]  # noqa: ANN001 - an annotation is a schema here
        """Rows."""
        return np.array(request["inputs"])

    def predict(self, x: Any) -> Any:
        """Predict."""
        return self.model.predict(x)

    def encode_response(self, output: Any) -> Any:
        """JSON."""
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    litserve.LitServer(Iris(), accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False, log_level="warning"
    )
