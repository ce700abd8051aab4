"""What an execution's events and its cause say, as sentences; no I/O."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

Event = Mapping[str, Any]


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
    attempts = job.get("Attempts") or [{}]
    container = {**(attempts[-1].get("Container") or {}), **(job.get("Container") or {})}
    parts = [f"{name}: Batch job {job['JobId']} {job.get('Status', 'FAILED')}"]
    if (code := container.get("ExitCode")) is not None:
        parts.append(f"exit code {code}")
    parts += [str(reason) for reason in (job.get("StatusReason"), container.get("Reason")) if reason]
    if stream := container.get("LogStreamName"):
        options = (container.get("LogConfiguration") or {}).get("Options") or {}
        group = options.get("awslogs-group", "/aws/batch/job")
        parts.append(f"its log: aws logs tail {group} --log-stream-names {stream}")
    return "; ".join(parts)


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
