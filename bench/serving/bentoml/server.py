"""BentoML with one worker."""

import os
import sys
from pathlib import Path

import bentoml
import joblib
import numpy as np


@bentoml.service(workers=1)
class Iris:
    """One scikit-learn model."""

    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL_PATH"])

    @bentoml.api
    def predict(self, inputs: list[list[float]]) -> list[int]:
        """Predict."""
        answer: list[int] = self.model.predict(np.array(inputs)).tolist()
        return answer


if __name__ == "__main__":
    command = str(Path(sys.executable).with_name("bentoml"))
    os.chdir(Path(__file__).parent)
    os.environ["BENTOML_DO_NOT_TRACK"] = "true"
    os.execv(command, [command, "serve", "server:Iris", "--host", "127.0.0.1", "--port", sys.argv[1]])  # noqa: S606
