"""`python -m aiops_inference`: one model, one port, one process unless told otherwise; the environment tells everything."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from aiops_inference.errors import SettingsError
from aiops_inference.settings import Settings

VARIABLES = """environment (all optional):
  MODEL_PATH         model file (default /models/model.pkl): .pkl, .joblib, .skops or .onnx; where it is not there, a file
                     beside it that differs in that ending alone; manifest.json is looked for beside it
  BASELINE_PATH      training rows (default /models/baseline.npy)
  EXPECTATIONS_PATH  Great Expectations suite (default /models/expectations.json)
  MODEL_SHA256       digest of the only model file that may be loaded
  DRIFT_WEBHOOK      URL that drift is posted to
  DRIFT_WEBHOOK_SECRET  key that signs it, whsec_ and base64 (default: no signature)
  REQUIRE_WEBHOOK    true: refuse to start without DRIFT_WEBHOOK
  DRIFT_THRESHOLD    z-score above which a feature has drifted (default: the file's, or 5.0)
  DRIFT_STATE        file that the drift counts outlive the process in, one for each (default /tmp/aiops-drift/state.json),
                     or off
  RUNTIME_CONFIG     settings that may change while running (default /etc/aiops/runtime.yaml)
  SERVICE_NAME       name in webhooks (default: the host name)
  HOST, PORT         address to listen on (default 0.0.0.0, 8000)
  WORKERS            processes that serve, 1 to 64 (default 1); each has its own copy of the model and its own
                     DRIFT_STATE, a file with -0, -1 and so on at its end
  LOG_LEVEL          DEBUG, INFO, WARNING or ERROR (default INFO)
  LOG_PREDICTIONS    share of requests that get a log line, 0 to 1 (default 1)
  MAX_BODY_BYTES     of one request (default 8 MiB)
  MAX_ROWS           of one request (default 10000)
  MAX_WAITING_ROWS   of all requests that wait for the model; beyond it the answer is 503 (default 20000)
  MAX_MODEL_BYTES    of each artifact (default 2 GiB)
  DRAIN_SECONDS      between SIGTERM and the end of listening (default 2)

exit status: 0 ended by a signal, 2 settings refused, 3 the port cannot be bound"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the environment, then serve until a signal ends it; returns the exit status."""
    # As process 1 of a container there is no default action: until the server has handlers, SIGTERM would be ignored.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    parser = argparse.ArgumentParser(
        prog="aiops_inference",
        description="Serve a model over HTTP and watch its inputs for drift.",
        epilog=VARIABLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(arguments)
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        print(f"aiops-inference: {error}", file=sys.stderr)
        return 2
    if settings.workers > 1:
        return _one_of_several(settings)
    from aiops_inference.server import serve  # noqa: PLC0415 - a refusal need not wait for the imports of a server

    serve(settings)
    return 0


def _one_of_several(settings: Settings) -> int:
    """Be a worker where a parent says so, and otherwise the parent."""
    from aiops_inference.workers import VARIABLE, Worker, supervise  # noqa: PLC0415 - one process does not need them

    if VARIABLE not in os.environ:
        return supervise(settings)
    try:
        worker = Worker.from_text(os.environ[VARIABLE])
    except SettingsError as error:
        print(f"aiops-inference: {error}", file=sys.stderr)
        return 2
    from aiops_inference.server import serve  # noqa: PLC0415 - the parent does without it

    serve(settings, worker)
    return 0


if __name__ == "__main__":
    sys.exit(main())
