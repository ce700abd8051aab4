"""The command line: `python -m aiops_cloud`."""

import argparse
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NoReturn

from aiops_cloud import arns, stepfunctions
from aiops_cloud.errors import CloudError, SettingsError

_EPILOG = """\
exit codes: 0 the execution succeeded; 1 it failed, or AWS refuses; 2 a setting is missing or malformed;
124 it still runs after --timeout; 130 and 143 interrupted (the execution goes on, `follow` follows it again).

  python -m aiops_cloud train --service aiops-quality --data s3://my-bucket/data/rows.csv
  python -m aiops_cloud follow arn:aws:states:eu-central-1:123456789012:execution:aiops-quality-retraining:NAME
"""


def parser() -> argparse.ArgumentParser:
    """The options and their help."""
    options = argparse.ArgumentParser(
        prog="python -m aiops_cloud",
        description="Start a retraining on AWS Step Functions and follow it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--timeout", type=_seconds, default=7200.0, metavar="SECONDS", help="stop following after (default: 7200)"
    )
    common.add_argument(
        "--every", type=_seconds, default=5.0, metavar="SECONDS", help="between two looks at it (default: 5)"
    )
    commands = options.add_subparsers(dest="command", required=True, metavar="COMMAND")
    train = commands.add_parser("train", help="start a retraining and follow it", parents=[common])
    train.add_argument(
        "--state-machine",
        default=os.environ.get("STATE_MACHINE_ARN"),
        metavar="ARN",
        help="the state machine (default: $STATE_MACHINE_ARN)",
    )
    train.add_argument(
        "--service", default="aiops-quality", help="InferenceService to retrain for (default: aiops-quality)"
    )
    train.add_argument(
        "--data",
        default=os.environ.get("TRAINING_DATA"),
        metavar="URI",
        help="the rows, s3://BUCKET/KEY (default: $TRAINING_DATA)",
    )
    train.add_argument("--reason", default="started by hand", help="why; kept with the execution")
    train.add_argument("--name", help="of the execution; one that runs under it is followed (default: a new one)")
    follow = commands.add_parser("follow", help="follow an execution that runs", parents=[common])
    follow.add_argument("execution", metavar="ARN", help="of the execution")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 when the execution succeeded, else as the help says, with a sentence on stderr."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    chosen = parser().parse_args(arguments)
    try:
        output = _train(chosen) if chosen.command == "train" else _follow(arns.execution(chosen.execution), chosen)
    except CloudError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    print(json.dumps(output, indent=2))
    return 0


def _train(chosen: argparse.Namespace) -> dict[str, object]:
    machine = arns.state_machine(chosen.state_machine)
    if not (chosen.data or "").startswith("s3://"):
        message = f"no data to train on: --data or TRAINING_DATA has to be s3://BUCKET/KEY; it is {chosen.data!r}"
        raise SettingsError(message)
    execution = machine.execution(chosen.name or f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}")
    given = {"service": chosen.service, "data": chosen.data, "reason": chosen.reason}
    try:
        stepfunctions.start(machine, execution, given)
    except SystemExit:
        _say_how_to_go_on(execution)  # whether it was started is not known: its name is, and so is what to ask for
        raise
    print(f"started {execution.arn}", file=sys.stderr, flush=True)
    return _follow(execution, chosen)


def _follow(execution: arns.Execution, chosen: argparse.Namespace) -> dict[str, object]:
    begun = time.monotonic()

    def progress(line: str) -> None:
        print(f"[{time.monotonic() - begun:6.1f} s] {line}", file=sys.stderr, flush=True)

    try:
        return stepfunctions.follow(execution, progress, timeout=chosen.timeout, every=chosen.every)
    except SystemExit:
        _say_how_to_go_on(execution)
        raise


def _say_how_to_go_on(execution: arns.Execution) -> None:
    print(f"no longer followed; the execution goes on. Follow it again: {execution.follow_again}", file=sys.stderr)
    stop = f"aws stepfunctions stop-execution --region {execution.region} --execution-arn {execution.arn}"
    print(f"To end it: {stop}", file=sys.stderr, flush=True)


def _stop(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        message = f"{text!r} is not a number of seconds above 0"
        raise argparse.ArgumentTypeError(message)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
