"""Which revision a service is to run: the one that its spec asks for, or the last good one where that one has failed; pure.

A revision is a pod template with its hash. What is remembered stands in annotations of the Deployment and in the status, so that
it outlives the operator.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiops_operator import resources
from aiops_operator.api import InferenceService
from aiops_operator.conditions import Problem, condition_of
from aiops_operator.resources import Failed, History, Stored
from aiops_operator.rollout import Rollout, progress_of

ROLLED_BACK: Final = "RolledBack"
IMPOSSIBLE: Final = "RollbackImpossible"
TOO_LATE: Final = "ProgressDeadlineExceeded"
_SAYS_NOTHING: Final = frozenset({"", "RolloutInProgress", ROLLED_BACK, IMPOSSIBLE})
MAX_CAUSE: Final = 512  # characters of what a failed revision is remembered by


@dataclass(frozen=True)
class Decision:
    """What a Deployment is to be made of.

    Attributes:
        revision: the one to run.
        history: what to remember beside it.
        problem: why it is not the one that the spec asks for, or cannot be another.
    """

    revision: Stored
    history: History
    problem: Problem | None = None


def decide(service: InferenceService, wanted: Stored, live: Mapping[str, Any] | None) -> Decision:
    """Choose between the revision that the spec asks for and the last good one.

    Args:
        service: with the status as last written.
        wanted: what the spec asks for.
        live: the Deployment; None where there is none.
    """
    applied = resources.stored_template(live) if live is not None else None
    if live is None or applied is None:
        return Decision(wanted, History())
    history = resources.history_of(live)
    if applied.hash != wanted.hash:
        if history.failed is not None and history.failed.hash == wanted.hash:
            return Decision(applied, history, _rolled_back(history.failed))
        good = applied if is_good(service, applied, live) else history.good
        return Decision(wanted, History(good if good != wanted else None))
    return _progressed(service, wanted, progress_of(service, live), history)


def _progressed(service: InferenceService, wanted: Stored, rollout: Rollout, history: History) -> Decision:
    """The Deployment has what the spec asks for: is it given up?"""
    if not rollout.exceeded or wanted.hash == service.status.get("goodRevision"):
        return Decision(wanted, History(history.good))
    good = history.good
    if good is None or good.hash == wanted.hash:
        return Decision(wanted, history)
    failed = history.failed or _failed(service, wanted, rollout.message)
    if not pinned(good.template):
        return Decision(wanted, History(good, failed), _impossible(failed))
    return Decision(good, History(None, failed), _rolled_back(failed))


def pinned(template: Mapping[str, Any]) -> bool:
    """Whether a template's pods load the same model whenever they start: else putting it back would only pretend to help."""
    volumes = {volume["name"]: volume for volume in template["spec"].get("volumes", ())}
    artifacts = volumes.get("artifacts", {})
    if "configMap" in artifacts or "@sha256:" in (artifacts.get("image") or {}).get("reference", ""):
        return True
    containers = template["spec"].get("containers", ())
    return any(entry["name"] == "MODEL_SHA256" for container in containers for entry in container.get("env", ()))


def is_good(service: InferenceService, revision: Stored, live: Mapping[str, Any]) -> bool:
    """Whether a revision that a Deployment has was once rolled out in full, with pods."""
    if revision.hash == service.status.get("goodRevision"):
        return True
    return service.replicas > 0 and progress_of(service, live).complete


def _failed(service: InferenceService, wanted: Stored, progress: str) -> Failed:
    """The cause is what the status has said until now: it was read from the pods that are about to go."""
    said = condition_of(service.status, "Ready")
    reason = said.get("reason", "")
    if reason in _SAYS_NOTHING:
        return Failed(wanted.hash, TOO_LATE, progress[:MAX_CAUSE])
    return Failed(wanted.hash, reason, said.get("message", "")[:MAX_CAUSE])


def _rolled_back(failed: Failed) -> Problem:
    text = f"The revision that the spec asks for has failed ({failed.reason}: {failed.message}) "
    return Problem(ROLLED_BACK, f"{text}and the last good one is back until the spec or its artifacts change.")


def _impossible(failed: Failed) -> Problem:
    text = f"The revision that the spec asks for has failed ({failed.reason}: {failed.message}) "
    advice = (
        "what the one before loads may have changed too: correct it, and name spec.model.sha256 or a digest next time."
    )
    return Problem(IMPOSSIBLE, f"{text}and {advice}")
