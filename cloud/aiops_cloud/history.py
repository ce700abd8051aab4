"""What an execution's events and its cause say, as sentences; no I/O."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Event = Mapping[str, Any]


@dataclass(frozen=True)
class Log:
    """Where a Batch job wrote what it had to say.

    Attributes:
        group: CloudWatch's log group.
        stream: The stream in it, which is the job's alone.
    """

    group: str
    stream: str


def lines(events: Sequence[Event], after: int = 0) -> list[str]:
    """Say what happened, one line for each event that tells a person something.

    Args:
        events: All events of the execution, in order, as GetExecutionHistory has them.
        after: Number of the last event that was told already.

    Returns:
        Lines such as "Retrain: submitted, Batch job 2868f6e4-…".
    """
    told: list[str] = []
    state = ""
    for event in events:
        kind: str = event["type"]
        if kind.endswith("StateEntered"):
            state = event["stateEnteredEventDetails"]["name"]
        if event["id"] > after and (said := _say(event, kind)):
            told.append(f"{state}: {said}" if state else said)
    return told


def _say(event: Event, kind: str) -> str:
    if kind.endswith("StateEntered"):
        return "entered"
    match kind:
        case "TaskSubmitted":
            job = _object(event["taskSubmittedEventDetails"].get("output")).get("JobId")
            return f"submitted, Batch job {job}" if job else "submitted"
        case "TaskSucceeded":
            return "succeeded"
        case "TaskFailed" | "TaskSubmitFailed" | "TaskStartFailed" | "TaskTimedOut":
            details = event[f"{kind[0].lower()}{kind[1:]}EventDetails"]
            return f"failed: {cause(details.get('error'), details.get('cause'))}"
        case _:
            return ""


def cause(error: str | None, text: str | None) -> str:
    """Say in a sentence why something failed.

    Args:
        error: The error's name, such as "States.TaskFailed".
        text: What Step Functions gives as the cause: free text, or for a Batch job all that Batch knows of it as JSON.

    Returns:
        The error with the text, or with the job's reason, exit code and the place of its log.
    """
    name = error or "no error named"
    job = _object(text)
    if "JobId" not in job:
        return f"{name}: {text}" if text else name
    container = _container(job)
    parts = [f"{name}: Batch job {job['JobId']} {job.get('Status', 'FAILED')}"]
    if (code := container.get("ExitCode")) is not None:
        parts.append(f"exit code {code}")
    parts += [str(reason) for reason in (job.get("StatusReason"), container.get("Reason")) if reason]
    if found := log(text):
        parts.append(f"its log: aws logs tail {found.group} --log-stream-names {found.stream}")
    return "; ".join(parts)


def log(text: str | None) -> Log | None:
    """Find the log of the Batch job that a cause tells of; None where there is no job or it has not begun."""
    container = _container(_object(text))
    options = (container.get("LogConfiguration") or {}).get("Options") or {}
    stream = container.get("LogStreamName")
    return Log(options.get("awslogs-group", "/aws/batch/job"), stream) if stream else None


def _container(job: Mapping[str, Any]) -> dict[str, Any]:
    # The last attempt knows its log and how it ended, the job how its container was configured.
    attempts = job.get("Attempts") or [{}]
    return {**(attempts[-1].get("Container") or {}), **(job.get("Container") or {})}


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
