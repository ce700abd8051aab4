"""MLServer with its scikit-learn runtime, without a pool of processes."""

import json
import os
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    directory = Path(tempfile.mkdtemp())
    port = int(sys.argv[1])
    settings = {
        "http_port": port,
        "grpc_port": port + 1,
        "metrics_port": port + 2,
        "parallel_workers": 0,
        "host": "127.0.0.1",
    }
    (directory / "settings.json").write_text(json.dumps(settings))
    model = {
        "name": "iris",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": os.environ["MODEL_PATH"]},
    }
    (directory / "model-settings.json").write_text(json.dumps(model))
    command = str(Path(sys.executable).with_name("mlserver"))
    os.execv(command, [command, "start", str(directory)])  # noqa: S606 - becomes the server
