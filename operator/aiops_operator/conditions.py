"""The vocabulary of a status: conditions, why something is wrong, and the times at which they flip; pure."""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from aiops_operator.api import InferenceService

MAX_MESSAGE: Final = 1024
MAX_REASON: Final = 128
NEVER: Final = "1970-01-01T00:00:00Z"  # the CRD's default: before any operator has looked
# What a pod says of itself that no waiting will mend.
FATAL_POD_REASONS: Final = frozenset(
    {
        "ArtifactAccessDenied",
        "ArtifactNotFound",
        "ArtifactNotStored",
        "ArtifactTooLarge",
        "BaselineInvalid",
        "BaselineNotFound",
        "DigestMismatch",
        "FeatureNamesDiffer",
        "GoldenPredictionsDiffer",
        "LibraryVersionMismatch",
        "ManifestInvalid",
        "ModelNotFound",
        "ModelUnloadable",
        "ModelUntrusted",
        "OnnxRuntimeMissing",
    }
)
_REASON: Final = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")
Status = Literal["True", "False", "Unknown"]


@dataclass(frozen=True)
class Problem:
    """Why a service cannot be as its spec says.

    Attributes:
        reason: CamelCase, for the condition.
        message: what is wrong and what to do, for a person.
        stalled: whether a person must act; otherwise time will tell.
    """

    reason: str
    message: str
    stalled: bool = True


@dataclass(frozen=True)
class Condition:
    """One condition without its times."""

    type: str
    status: Status
    reason: str
    message: str


def condition_of(status: Mapping[str, Any], type_: str) -> Mapping[str, Any]:
    """A condition of a written status; empty where it has none of this type."""
    return next((entry for entry in status.get("conditions") or () if entry.get("type") == type_), {})


def is_new(status: Mapping[str, Any]) -> bool:
    """Whether no operator has written this status."""
    return condition_of(status, "Ready").get("reason") in (None, "WaitingForOperator")


def said_by_pod(document: object) -> Problem | None:
    """What a pod says against itself, on /health or at the end of a container; None where it says nothing of use."""
    if not isinstance(document, dict) or not document.get("reason"):
        return None
    reason = reason_or(document["reason"], "PodNotReady")
    message = str(document.get("message", ""))[:MAX_MESSAGE]
    return Problem(reason, message, stalled=reason in FATAL_POD_REASONS)


def reason_or(reason: object, default: str) -> str:
    """A reason that the CRD takes: what a pod says is not to be trusted with the form."""
    return reason if isinstance(reason, str) and len(reason) <= MAX_REASON and _REASON.fullmatch(reason) else default


def timestamp(now: dt.datetime) -> str:
    """RFC 3339 in UTC, to the second."""
    return now.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def stamped(condition: Condition, service: InferenceService, now: dt.datetime) -> dict[str, Any]:
    """A condition with its times, as it is written: `lastTransitionTime` moves only where the status does."""
    past = condition_of(service.status, condition.type)
    kept = past.get("status") == condition.status and past.get("lastTransitionTime", NEVER) != NEVER
    frozen = service.paused and condition.type == "Ready" and condition.reason != "Paused"
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message[:MAX_MESSAGE],
        # A paused service's Ready speaks of the spec that was last rolled out.
        "observedGeneration": past.get("observedGeneration", service.generation) if frozen else service.generation,
        "lastTransitionTime": past["lastTransitionTime"] if kept else timestamp(now),
    }
