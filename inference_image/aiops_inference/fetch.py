"""`python -m aiops_inference.fetch`: what an init container does: artifacts from a URI to the place that the server reads them at.

Its end is told in a sentence of JSON, `{"reason": …, "message": …}`, where Kubernetes looks for the last words of a container.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aiops_inference.errors import ArtifactError, ArtifactUnreachableError, InferenceError, SettingsError
from aiops_inference.settings import FetchSettings

STOPPED: Final = 128 + signal.SIGTERM  # not 0: the files are not all there
MAX_LAST_WORDS: Final = 1024  # characters; Kubernetes keeps 4096 bytes
VARIABLES = """environment:
  ARTIFACTS_URI      directory with the files, such as s3://models/iris/v3: s3, gs, az, abfs, abfss or https
  MODEL_PATH, BASELINE_PATH, EXPECTATIONS_PATH
                     where they go to, and so what they are called there (defaults as the server's); manifest.json goes
                     beside the model
  MODEL_SHA256       digest of the only model file that may be put there
  MAX_MODEL_BYTES    of all files (default 2 GiB)
  LOG_LEVEL          DEBUG, INFO, WARNING or ERROR (default INFO)
  TERMINATION_LOG    file for the reason of a failure (default /dev/termination-log), where there is one
credentials:
  s3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL, AWS_ALLOW_HTTP, AWS_SKIP_SIGNATURE, ...
  gs: GOOGLE_SERVICE_ACCOUNT_KEY, GOOGLE_SKIP_SIGNATURE
  az: AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_KEY, ...
  https: ARTIFACTS_AUTHORIZATION, the header's value; all: ARTIFACTS_CA_CERTIFICATE, in PEM

exit status: 0 all files are in place, 1 they are not, 2 settings refused, 143 ended by SIGTERM"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch once; returns the exit status."""
    # As process 1 of a container there is no default action.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))
    parser = argparse.ArgumentParser(
        prog="aiops_inference.fetch",
        description="Fetch a model's artifacts, and go on where it was cut off.",
        epilog=VARIABLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(arguments)
    try:
        settings = FetchSettings.from_environment(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"aiops-inference: {error}\n")
        _last_words(error)
        return 2
    return asyncio.run(_until_stopped(settings))


async def _until_stopped(settings: FetchSettings) -> int:
    # Only now: a refusal need not wait for these.
    from aiops_inference import download, objectstore, telemetry  # noqa: PLC0415

    log = telemetry.Log(settings.log_level)
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await download.fetch(settings, objectstore.Directory(settings.uri, os.environ), log)
    except (ArtifactError, ArtifactUnreachableError) as error:
        log.failure("not fetched", reason=error.reason, message=str(error))
        _last_words(error)
        return 1
    except asyncio.CancelledError:
        log.info("stopped")
        return STOPPED
    finally:
        log.finish()
    return 0


def _last_words(error: InferenceError) -> None:
    path = Path(os.environ.get("TERMINATION_LOG") or "/dev/termination-log")
    # Not created: outside of a container nobody reads it.
    with contextlib.suppress(OSError), path.open("r+b") as file:
        file.truncate()
        file.write(json.dumps({"reason": error.reason, "message": str(error)[:MAX_LAST_WORDS]}).encode())


if __name__ == "__main__":
    ended = main()
    sys.stderr.flush()
    os._exit(ended)  # the library's threads do not always outlive an interpreter that is taken down in order
