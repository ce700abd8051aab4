"""What an episode of drift leads to: a Job from the template of a CronJob, once, and again where it fails; pure.

A Job's name follows from the service, the episode and the attempt: however often the operator is started anew between making a
Job and writing that down, the API server takes it once. An episode is called after when it began, so that stands in the status first.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiops_operator import names, resources
from aiops_operator.api import InferenceService, OnDrift
from aiops_operator.conditions import condition_of, timestamp
from aiops_operator.live import owner_uid

RUNNING: Final = "Running"
SUCCEEDED: Final = "Succeeded"
FAILED: Final = "Failed"
EXHAUSTED: Final = "Exhausted"
COOLING_DOWN: Final = "CoolingDown"
REFUSED: Final = "Refused"
FIRST_BACKOFF: Final = 60  # seconds between the end of an attempt and the next
LARGEST_BACKOFF: Final = 3600
REFUSED_PAUSE: Final = 60  # seconds between tries of what the cluster does not take
MAX_MESSAGE: Final = 512
_EPISODE: Final = f"{names.GROUP}/episode"  # annotation of a Job
_PREFIX: Final = 42  # characters of a service's name in that of a Job, whose pods' labels hold 63


@dataclass(frozen=True)
class Step:
    """What to do next.

    Attributes:
        status: `status.retraining` as it is to be; empty for none.
        attempt: the attempt to make a Job for; None for none.
        again_after: seconds until there is something to do that no watch tells of; None for never.
    """

    status: Mapping[str, Any] = field(default_factory=dict)
    attempt: int | None = None
    again_after: float | None = None


def step(
    service: InferenceService,
    drift: Mapping[str, Any],
    jobs: Sequence[Mapping[str, Any]],
    now: dt.datetime,
    deleted: Mapping[str, Any] | None = None,
) -> Step:
    """Decide.

    Args:
        service: with the status as last written, `status.retraining` in it.
        drift: `status.drift` of now.
        jobs: those that were made for the service.
        now: by the operator's clock.
        deleted: the Job of `status.retraining` as it was last, where it has been deleted: some are as soon as they have ended.
    """
    found = _wanted(service, drift, jobs, now, deleted)
    if found.attempt is None:
        return found
    if (service.status.get("drift") or {}).get("episode") != drift["episode"]:
        return Step(found.status, again_after=0.0)
    # One at a time: one whose making an operator could not write down before it was killed is waited for, too.
    name = job_name(service, str(drift["episode"]), found.attempt)
    others = [job["metadata"]["name"] for job in jobs if job["metadata"]["name"] != name and _outcome(job) is None]
    if not others:
        return found
    reason = (
        f"Job {service.key.namespace}/{min(others)} is of this service and has not ended: wait for it, or delete it."
    )
    return Step(refused(found.status, str(drift["episode"]), found.attempt, reason, now))


def _wanted(
    service: InferenceService,
    drift: Mapping[str, Any],
    jobs: Sequence[Mapping[str, Any]],
    now: dt.datetime,
    deleted: Mapping[str, Any] | None,
) -> Step:
    wanted = service.drift.on_drift
    before: Mapping[str, Any] = service.status.get("retraining") or {}
    if wanted is None:
        return Step()
    shown = _exhausted(_followed(before, jobs, now, deleted), wanted)
    episode = drift.get("episode")
    if not episode or drift.get("acknowledged") or shown.get("state") == RUNNING:
        return Step(shown)
    if shown.get("episode") != episode or shown.get("state") == COOLING_DOWN:
        return _first(wanted, shown, episode, now)
    attempt = shown.get("attempt", 0)
    if shown.get("state") in {FAILED, EXHAUSTED} and attempt < wanted.max_attempts:
        pause = min(FIRST_BACKOFF * 2 ** (attempt - 1), LARGEST_BACKOFF)
        # Who allows more attempts after the last does not want to wait.
        return _later(shown, attempt + 1, _ended(shown, now), pause if shown["state"] == FAILED else 0, now)
    if shown.get("state") == REFUSED:
        return _later(shown, max(attempt, 1), _ended(shown, now), REFUSED_PAUSE, now)
    return Step(shown)


def made(service: InferenceService, episode: str, attempt: int, now: dt.datetime) -> dict[str, Any]:
    """`status.retraining` once the Job of an attempt is there."""
    name = job_name(service, episode, attempt)
    wanted = service.drift.on_drift
    limit = wanted.max_attempts if wanted else attempt
    return {
        "episode": episode,
        "job": name,
        "attempt": attempt,
        "state": RUNNING,
        "startedAt": timestamp(now),
        "message": f"Job {name} runs, attempt {attempt} of {limit}.",
    }


def refused(before: Mapping[str, Any], episode: str, attempt: int, reason: str, now: dt.datetime) -> dict[str, Any]:
    """`status.retraining` where the cluster does not take the Job, or has nothing to make it of."""
    kept = {name: before[name] for name in ("startedAt", "job") if name in before}
    same = before.get("state") == REFUSED and before.get("message") == reason[:MAX_MESSAGE]
    ended = before["finishedAt"] if same and "finishedAt" in before else timestamp(now)
    return kept | {
        "episode": episode,
        "attempt": attempt,
        "state": REFUSED,
        "finishedAt": ended,
        "message": reason[:MAX_MESSAGE],
    }


def job_name(service: InferenceService, episode: str, attempt: int) -> str:
    """The same for the same attempt, and for no other."""
    digest = names.fingerprint(f"{service.uid}/{episode}/{attempt}")[: names.COPY_DIGITS]
    return f"{service.key.name[:_PREFIX].rstrip('-')}-drift-{digest}"


def job(
    service: InferenceService, cron_job: Mapping[str, Any], drift: Mapping[str, Any], attempt: int
) -> dict[str, Any]:
    """The Job that `kubectl create job --from=cronjob/…` would make, with labels that tie it to the service.

    It belongs to the CronJob, whose limits on its history clean it up. Nothing of it comes from the InferenceService but
    annotations: who may write one must not thereby run pods of their own making.
    """
    template: Mapping[str, Any] = cron_job["spec"]["jobTemplate"]
    given: Mapping[str, Any] = template.get("metadata") or {}
    owner = {
        "apiVersion": names.CRON_JOB.api_version,
        "kind": names.CRON_JOB.kind,
        "name": cron_job["metadata"]["name"],
        "uid": cron_job["metadata"]["uid"],
        "controller": True,
    }
    episode = str(drift["episode"])
    told = {key: str(drift[key]) for key in ("score", "threshold", "worstFeature") if key in drift}
    annotations = {f"{names.GROUP}/drift-{name.lower()}": value for name, value in told.items()}
    return {
        "apiVersion": names.JOB.api_version,
        "kind": names.JOB.kind,
        "metadata": {
            "name": job_name(service, episode, attempt),
            "namespace": service.key.namespace,
            "labels": {**(given.get("labels") or {}), **resources.labels(service.key.name)},
            "annotations": {
                **(given.get("annotations") or {}),
                **annotations,
                "cronjob.kubernetes.io/instantiate": "manual",
                _EPISODE: episode,
            },
            "ownerReferences": [owner],
        },
        "spec": template["spec"],
    }


def same_job(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two Jobs of one name were made of one CronJob for one episode."""
    return _made_for(one) == _made_for(other)


def _made_for(job: Mapping[str, Any]) -> tuple[str | None, str | None]:
    return (job["metadata"].get("annotations") or {}).get(_EPISODE), owner_uid(job)


def events(before: Mapping[str, Any], after: Mapping[str, Any]) -> Sequence[tuple[str, str, str]]:
    """The Events of a change of `status.retraining`, as type, reason and message."""
    types = {RUNNING: "Normal", SUCCEEDED: "Normal", FAILED: "Warning", EXHAUSTED: "Warning", REFUSED: "Warning"}
    state = after.get("state")
    moved = (before.get("state"), before.get("job")) != (state, after.get("job"))
    if not moved or state not in types:
        return ()
    reason = "RetrainingStarted" if state == RUNNING else f"Retraining{state}"
    return ((types[state], reason, str(after.get("message", ""))),)


def _first(wanted: OnDrift, shown: Mapping[str, Any], episode: str, now: dt.datetime) -> Step:
    """The first attempt of an episode, once the cooldown since the last Job is over."""
    left = wanted.cooldown - (now - _time(shown.get("startedAt"))).total_seconds()
    if left <= 0:
        return Step(shown, attempt=1)
    kept = {name: shown[name] for name in ("job", "startedAt") if name in shown}
    until = timestamp(now + dt.timedelta(seconds=left)) if shown.get("state") != COOLING_DOWN else ""
    message = f"The last Job was made less than {wanted.cooldown} s ago; the next is made at {until}."
    if shown.get("state") == COOLING_DOWN:
        message = str(shown.get("message", ""))
    return Step(kept | {"episode": episode, "state": COOLING_DOWN, "message": message}, again_after=left)


def _later(shown: Mapping[str, Any], attempt: int, since: dt.datetime, pause: float, now: dt.datetime) -> Step:
    left = pause - (now - since).total_seconds()
    return Step(shown, attempt=attempt) if left <= 0 else Step(shown, again_after=left)


def _followed(
    before: Mapping[str, Any],
    jobs: Sequence[Mapping[str, Any]],
    now: dt.datetime,
    deleted: Mapping[str, Any] | None,
) -> Mapping[str, Any]:
    """What became of the Job that was running."""
    if before.get("state") != RUNNING:
        return before
    there = next((entry for entry in jobs if entry["metadata"]["name"] == before.get("job")), None)
    outcome = _outcome(there or deleted or {})
    if outcome is None and there is not None:
        return before
    if outcome is None:
        message = f"Job {before.get('job')} was deleted before it was seen to end: how it ended is not known."
        return {**before, "state": FAILED, "finishedAt": timestamp(now), "message": message}
    state, condition = outcome
    said = f": {condition['message']}" if condition.get("message") else "."
    message = f"Job {before['job']} has {state.lower()}{said}"[:MAX_MESSAGE]
    ended = condition.get("lastTransitionTime") or timestamp(now)
    return {**before, "state": state, "finishedAt": ended, "message": message}


def _exhausted(shown: Mapping[str, Any], wanted: OnDrift) -> Mapping[str, Any]:
    """The same, but for the last attempt's failure: that no other follows."""
    if shown.get("state") != FAILED or shown.get("attempt", 0) < wanted.max_attempts:
        return shown
    message = f"Attempt {shown['attempt']} of {wanted.max_attempts} has failed, and no other follows: {shown.get('message', '')}"
    return {**shown, "state": EXHAUSTED, "message": message[:MAX_MESSAGE]}


def _outcome(job: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """How a Job has ended, and the condition that says so; None where it has not."""
    for type_, state in (("Complete", SUCCEEDED), ("Failed", FAILED)):
        condition = condition_of(job.get("status") or {}, type_)
        if condition.get("status") == "True":
            return state, condition
    return None


def _ended(shown: Mapping[str, Any], now: dt.datetime) -> dt.datetime:
    return _time(shown.get("finishedAt")) if shown.get("finishedAt") else now


def _time(text: object) -> dt.datetime:
    """RFC 3339; long ago where there is none."""
    try:
        return dt.datetime.fromisoformat(str(text))
    except ValueError:
        return dt.datetime.fromtimestamp(0, dt.UTC)
