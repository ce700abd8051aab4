"""Start an execution, follow it, and read the end of a failed job's log: the only I/O with AWS."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from aiops_cloud import history
from aiops_cloud.arns import Execution, StateMachine
from aiops_cloud.errors import (
    AccessError,
    CloudError,
    ConflictError,
    ExecutionError,
    NotFoundError,
    StillRunningError,
)

_STILL_SECONDS = 30.0
_LOG_LINES = 20
# Standard retries cover throttling and short failures of AWS; what is bounded here is one request.
_CONFIG = Config(connect_timeout=10, read_timeout=30, retries={"mode": "standard", "max_attempts": 5})
_CREDENTIALS = (
    "run it where a role is assumed (aws-actions/configure-aws-credentials with id-token: write), or after `aws login`"
)


def start(machine: StateMachine, execution: Execution, given: Mapping[str, str]) -> None:
    """Start the execution; one of this name and input that runs already is taken as it is.

    Raises:
        CloudError: As the tree in `errors` says.
    """
    client = _client("stepfunctions", machine.region)
    with _clear_errors(f"start {execution.name}", machine.arn):
        client.start_execution(stateMachineArn=machine.arn, name=execution.name, input=json.dumps(given))


def follow(execution: Execution, progress: Callable[[str], None], *, timeout: float, every: float) -> dict[str, Any]:
    """Follow an execution to its end.

    Args:
        execution: Which one.
        progress: Takes a line for each step, one now and then while nothing happens, and the end of a failed job's log.
        timeout: Seconds after which it is no longer followed; the execution goes on.
        every: Seconds between two looks.

    Returns:
        The execution's output.

    Raises:
        ExecutionError: It failed, timed out or was aborted.
        StillRunningError: It had not ended after `timeout`.
        CloudError: As the tree in `errors` says.
    """
    client = _client("stepfunctions", execution.region)
    started = told = time.monotonic()
    seen = 0
    while True:
        with _clear_errors(f"follow {execution.name}", execution.arn):
            found = client.describe_execution(executionArn=execution.arn)
            pages = client.get_paginator("get_execution_history").paginate(executionArn=execution.arn)
            events = [event for page in pages for event in page["events"]]
        for line in history.lines(events, seen):
            progress(line)
            told = time.monotonic()
        seen = events[-1]["id"] if events else 0
        if found["status"] == "SUCCEEDED":
            output: dict[str, Any] = json.loads(found.get("output") or "{}")
            return output
        if found["status"] != "RUNNING":
            for line in _end_of_log(execution, history.log(found.get("cause"))):
                progress(f"  | {line}")
            message = (
                f"execution {execution.name} {found['status']}: {history.cause(found.get('error'), found.get('cause'))}"
            )
            raise ExecutionError(message)
        now = time.monotonic()
        if now - started > timeout:
            message = (
                f"execution {execution.name} still runs after {timeout:g} s; follow it with {execution.follow_again}"
            )
            raise StillRunningError(message)
        if now - told > _STILL_SECONDS:
            progress(f"... still running ({now - started:.0f} s)")
            told = now
        time.sleep(every)


def _end_of_log(execution: Execution, log: history.Log | None) -> list[str]:
    if not log:
        return []
    try:
        with _clear_errors("read the job's log", log.group):
            found = _client("logs", execution.region).get_log_events(
                logGroupName=log.group, logStreamName=log.stream, limit=_LOG_LINES, startFromHead=False
            )
    except CloudError as error:  # the cause is known without it, and comes next
        return [str(error)]
    return [event["message"] for event in found["events"]]


def _client(service: str, region: str) -> Any:  # noqa: ANN401 - boto3 makes its clients' types at run time
    with _clear_errors("use AWS", region):
        return boto3.client(service, region_name=region, config=_CONFIG)


@contextmanager
def _clear_errors(what: str, where: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise _named(error, what, where) from error
    except NoCredentialsError as error:
        message = f"cannot {what}: there are no AWS credentials; {_CREDENTIALS}"
        raise AccessError(message) from error
    except BotoCoreError as error:
        message = f"cannot {what}: {error}"
        raise AccessError(message) from error


def _named(error: ClientError, what: str, where: str) -> CloudError:
    code, text = error.response["Error"]["Code"], error.response["Error"]["Message"]
    match code:
        case "StateMachineDoesNotExist" | "ExecutionDoesNotExist":
            return NotFoundError(f"cannot {what}: AWS knows no {where}; is it applied, in this account and region?")
        case "ExecutionAlreadyExists":
            return ConflictError(f"cannot {what}: an execution of this name is there; give another --name")
        case "UnrecognizedClientException" | "InvalidSignatureException" | "ExpiredTokenException":
            return AccessError(f"cannot {what}: AWS refuses the credentials ({text}); {_CREDENTIALS}")
        case "AccessDeniedException":
            return AccessError(f"cannot {what}: the role may not do it ({text}); terraform/README.md lists the roles")
        case _:
            return AccessError(f"cannot {what}: {code}: {text}")
