"""What a user would write by hand: FastAPI, pydantic, joblib, the seed's rule and a log line, in one file."""

import logging
import os
import sys
from typing import Any

import joblib
import numpy as np
import uvicorn
from fastapi import FastAPI
from prometheus_client import Counter, Histogram, make_asgi_app
from pydantic import BaseModel

logging.basicConfig(level=logging.INFO)
THRESHOLD = 5.0
log = logging.getLogger("inference")
model = joblib.load(os.environ["MODEL_PATH"])
baseline = np.load(os.environ["BASELINE_PATH"])
mean, std = baseline.mean(axis=0), baseline.std(axis=0)
requests = Counter("inference_requests", "Requests.")
latency = Histogram("inference_latency_seconds", "Latency.")
app = FastAPI()
app.mount("/metrics", make_asgi_app())


class Request(BaseModel):
    """The body."""

    inputs: list[list[float]]


@app.get("/health")
def health() -> dict[str, str]:
    """Alive."""
    return {"status": "ok"}


@app.post("/predict")
def predict(request: Request) -> dict[str, Any]:
    """Predict, and look for drift."""
    with latency.time():
        rows = np.array(request.inputs)
        predictions = model.predict(rows).tolist()
        score = float((np.abs(rows.mean(axis=0) - mean) / std).max())
        requests.inc()
        log.info("prediction %s %s %s", rows[:3].tolist(), predictions[:3], score)
        return {"predictions": predictions, "drift_detected": score > THRESHOLD, "drift_score": score}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
