"""Whether a changed revision is first compared with the one that serves, as its shadow, and what becomes of it; pure.

What was decided stands in `status.shadow` before anything is done about it, so that it outlives the operator.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple

from aiops_drift import Agreement
from aiops_operator import names, podsview, resources, rollback
from aiops_operator.api import Drift, InferenceService, Shadow
from aiops_operator.conditions import MAX_MESSAGE, Problem, timestamp
from aiops_operator.podsview import Finding
from aiops_operator.resources import Stored
from aiops_operator.rollout import progress_of

WAITING: Final = "Waiting"
STARTING: Final = "Starting"
COMPARING: Final = "Comparing"
PROMOTED: Final = "Promoted"
REJECTED: Final = "Rejected"
DRIFTED: Final = "InputDrifted"
REASONS: Final = {state: f"Shadow{state}" for state in (WAITING, STARTING, COMPARING, PROMOTED, REJECTED)}
# One row of a hundred may be refused, by a client's odd request or a restart. More is a model that cannot do the work.
MOST_FAILED: Final = 0.01
MOST_RESTARTS: Final = 3  # of its container; a pod that was ready once has no deadline any more
# By which the time at which a comparison began may be ahead of the clock, so that no two are the same.
AHEAD: Final = dt.timedelta(minutes=1)
MAX_CAUSE: Final = 256  # characters of what a pod says
STEPS: Final = 10  # rows are shown by so many parts of those that are wanted: each that is shown is a write

_EVIDENCE: Final = ("rows", "failedRows", "distance", "model", "drift")

Course = Literal["roll", "wait", "compare", "keep"]


@dataclass(frozen=True)
class Compared:
    """What was heard of a revision and of the one that serves.

    Attributes:
        agreement: of their predictions, over the rows of all pods.
        finding: what the shadow's own pods say of these rows.
        problem: why it had no prediction for some, as a serving pod says; empty where that is not known.
    """

    agreement: Agreement = field(default_factory=Agreement)
    finding: Finding = field(default_factory=Finding)
    problem: str = ""


@dataclass(frozen=True)
class Seen:
    """What a decision is made from, besides the status before.

    Attributes:
        deployment: of the shadow; None where there is none.
        problem: what keeps its pod from being ready.
        restarts: of its pod's container.
        compared: what was heard.
    """

    deployment: Mapping[str, Any] | None = None
    problem: Problem | None = None
    restarts: int = 0
    compared: Compared = field(default_factory=Compared)


def course(service: InferenceService, wanted: Stored, live: Mapping[str, Any] | None) -> Course:
    """What is done about the revision that the spec asks for.

    Args:
        service: with the status as last written.
        wanted: what the spec asks for.
        live: the Deployment; None where there is none.

    Returns:
        `roll` it out; `wait` for the end of the rollout before, or for pods that serve; `compare` it; or `keep` what serves,
        because it was compared and rejected.
    """
    if service.shadow is None or live is None:
        return "roll"
    applied = resources.stored_template(live)
    if applied is None or applied.hash == wanted.hash:
        return "roll"
    history = resources.history_of(live)
    # What has failed since is told by the rollback; what served before was good, and who wants it back wants it now.
    known = {revision.hash for revision in (history.good, history.failed) if revision is not None}
    decided = decision(service, wanted)
    if decided == PROMOTED or wanted.hash in known:
        return "roll"
    if rollback.is_good(service, applied, live):
        undecided: Course = "compare" if service.replicas else "wait"
        return "keep" if decided == REJECTED else undecided
    return "wait" if _is_worth_waiting(service, live) else "roll"


def _is_worth_waiting(service: InferenceService, live: Mapping[str, Any]) -> bool:
    """Whether a rollout that is not over yet ends in a revision that can be compared with, without what mends it."""
    good = resources.history_of(live).good
    if good is None or not (live.get("status") or {}).get("availableReplicas"):
        return False
    return rollback.pinned(good.template) or not progress_of(service, live).exceeded


def decision(service: InferenceService, wanted: Stored) -> str:
    """What was decided on a revision by what the spec still asks of it; empty where nothing was."""
    shown, asked = service.status.get("shadow") or {}, service.shadow
    if asked is None or shown.get("revision") != wanted.hash or shown.get("state") not in {PROMOTED, REJECTED}:
        return ""
    if shown["state"] == REJECTED and not _same_criteria(shown, asked, service.drift):
        return ""
    return str(shown["state"])


class Comparison(NamedTuple):
    """A revision that is compared.

    Attributes:
        revision: its hash.
        since: when that began: counts of an earlier comparison of it do not count.
        ready: whether its pod has been seen to be ready, so that it is to be given copies of requests.
    """

    revision: str
    since: str
    ready: bool

    @property
    def name(self) -> str:
        """What the pods are to call it."""
        return f"{self.revision}@{self.since}"


def going_on(service: InferenceService, way: Course | None, wanted: Stored | None) -> Comparison | None:
    """The comparison that the status shows; None where none goes on. Artifacts that are not known for a while (`way` is None) end none."""
    shown = service.status.get("shadow") or {}
    if service.shadow is None or way not in {"compare", None} or shown.get("state") not in {STARTING, COMPARING}:
        return None
    found = Comparison(str(shown.get("revision", "")), str(shown.get("since", "")), shown["state"] == COMPARING)
    return found if wanted is None or found.revision == wanted.hash else None


def step(
    service: InferenceService, way: Course | None, wanted: Stored | None, seen: Seen, now: dt.datetime
) -> dict[str, Any]:
    """`status.shadow`; empty where there is nothing to say.

    A paused service's stays as it is, and that of one whose artifacts are not known (`way` is None).
    """
    shown: Mapping[str, Any] = service.status.get("shadow") or {}
    asked = service.shadow
    if service.paused or way is None or wanted is None:
        return dict(shown)
    if way == "keep" or (way == "roll" and shown.get("state") == PROMOTED and shown.get("revision") == wanted.hash):
        return dict(shown) if asked is not None else {}
    if way == "roll" or asked is None:
        return {}
    if shown.get("revision") != wanted.hash or shown.get("state") in {PROMOTED, REJECTED}:
        shown = {"since": _since(shown, now)}
    begun = {
        "revision": wanted.hash,
        "since": shown.get("since") or timestamp(now),
        "minRows": asked.min_rows,
        "maxDistance": _text(asked.max_distance),
    }
    if way == "wait":
        until = "the rollout before it is over" if service.replicas else "there are pods that serve: spec.replicas is 0"
        message = f"Revision {wanted.hash} is compared once {until}."
        return begun | {"state": WAITING, "message": message}
    return begun | _compared(service, shown, wanted, seen, now)


def _since(before: Mapping[str, Any], now: dt.datetime) -> str:
    """When a comparison begins: never in the same second as the one before, for it tells their counts apart."""
    try:
        later = dt.datetime.fromisoformat(before["since"]) + dt.timedelta(seconds=1)
        return timestamp(later if now < later < now + AHEAD else now)
    except (KeyError, TypeError, ValueError, OverflowError):  # what stands in a status may be anybody's
        return timestamp(now)


def problem(shown: Mapping[str, Any]) -> Problem | None:
    """Why a service is not as its spec says, where a shadow is why."""
    state = shown.get("state")
    if state not in REASONS:
        return None
    return Problem(REASONS[state], str(shown.get("message", "")), stalled=state == REJECTED)


def events(before: Mapping[str, Any], after: Mapping[str, Any]) -> Sequence[tuple[str, str, str]]:
    """The Events of a change of `status.shadow`, as type, reason and message; of a rejection the condition Stalled tells."""
    was, now = ((entry.get("revision"), entry.get("state")) for entry in (before, after))
    if was == now or now[1] not in {STARTING, PROMOTED}:
        return ()
    return (("Normal", REASONS[str(now[1])], str(after.get("message", ""))),)


def moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether something is now to be done that was not."""
    steps = [(entry.get("revision"), entry.get("state")) for entry in (before, after)]
    return steps[0] != steps[1] and steps[1][1] in {COMPARING, PROMOTED, REJECTED}


def gist(service: InferenceService, compared: Compared) -> tuple[object, ...]:
    """What must change in what was heard for the service to be looked at again."""
    asked = service.shadow
    if asked is None:
        return ()
    drifting = podsview.detected(compared.finding, service.drift)
    found = compared.agreement
    failed, decided = podsview.rounded_samples(found.failed), _verdict(asked, compared, drifting) is not None
    return (
        _shown_rows(asked, found.rows),
        failed,
        decided,
        drifting,
        tuple(sorted(set(compared.finding.models.values()))),
    )


def _compared(
    service: InferenceService, shown: Mapping[str, Any], wanted: Stored, seen: Seen, now: dt.datetime
) -> dict[str, Any]:
    """The part of `status.shadow` that comes from the shadow itself."""
    asked = service.shadow or Shadow()
    begun = shown.get("state") == COMPARING
    alone = progress_of(replace(service, replicas=1, autoscaling=None), seen.deployment)
    if seen.restarts >= MOST_RESTARTS or (alone.exceeded and not begun):
        late = f"it was started again {seen.restarts} times" if seen.restarts >= MOST_RESTARTS else alone.message
        why = seen.problem or Problem(rollback.TOO_LATE, late)
        return _decided(REJECTED, why.reason, f"its pod does not get ready: {why.message}", wanted, now)
    trouble = f" {seen.problem.message}" if seen.problem else ""
    if not begun and not alone.complete:
        message = f"Revision {wanted.hash} is started as a shadow.{trouble}"
        return {"state": STARTING, "message": message[:MAX_MESSAGE]}
    drifting = podsview.detected(seen.compared.finding, service.drift)
    verdict = _verdict(asked, seen.compared, drifting)
    evidence = _evidence(asked, seen.compared, drifting, exact=verdict is not None)
    if verdict is not None:
        if verdict[1] == DRIFTED:
            evidence["drift"] |= {"criteria": _criteria(service.drift)}
        return evidence | _decided(*verdict, wanted, now)
    kept = {name: shown[name] for name in _EVIDENCE if name in shown}
    if begun and not trouble and not seen.compared.finding.polled:
        # An operator that has just begun has heard nothing, which says nothing of what the one before has heard.
        return kept | {"state": COMPARING, "message": str(shown.get("message", ""))}
    if begun and _steps(kept) == _steps(evidence):
        evidence = kept  # a distance that moves within a step is no reason to write
    message = _progress(asked, evidence, wanted, _because(seen.compared)) + trouble
    return evidence | {"state": COMPARING, "message": message[:MAX_MESSAGE]}


def _steps(evidence: Mapping[str, Any]) -> tuple[object, ...]:
    """What must move for the figures to be shown anew."""
    drifting = (evidence.get("drift") or {}).get("detected")
    return (evidence.get("rows"), evidence.get("failedRows"), evidence.get("model"), drifting)


def _verdict(asked: Shadow, compared: Compared, drifting: bool | None) -> tuple[str, str, str] | None:  # noqa: FBT001 - unknown, too
    """State, reason and a sentence; None where more rows are needed."""
    found = compared.agreement
    given = found.rows + found.failed
    if given < asked.min_rows:
        return None
    if found.failed > MOST_FAILED * given:
        text = f"it has no prediction for {found.failed} of {given} rows that the one before answers"
        return REJECTED, "PredictionsFail", f"{text}{_because(compared)}"
    distance = found.distance or 0.0
    at = f"over {found.rows} rows its predictions are at a distance of {_text(distance)}"
    if distance > asked.max_distance:
        return (
            REJECTED,
            "PredictionsDiffer",
            f"{at}, beyond spec.rollout.shadow.maxDistance, {_text(asked.max_distance)}",
        )
    if drifting is None:
        return None
    if drifting:
        return REJECTED, DRIFTED, f"the rows that it was given have drifted from its baseline ({at})"
    return PROMOTED, "Compared", f"{at}, within {_text(asked.max_distance)}, and the rows look like its baseline"


def _because(compared: Compared) -> str:
    return f" ({compared.problem[:MAX_CAUSE]})" if compared.problem else ""


def _decided(state: str, reason: str, text: str, wanted: Stored, now: dt.datetime) -> dict[str, Any]:
    sentence = (
        f"Revision {wanted.hash} is rolled out: {text}."
        if state == PROMOTED
        else f"Revision {wanted.hash} is not rolled out: {text.rstrip('.')}. The one before serves on, until the spec or its artifacts change."
    )
    return {
        "state": state,
        "reason": reason,
        "decidedAt": timestamp(now),
        "message": sentence[:MAX_MESSAGE],
    }


def _evidence(asked: Shadow, compared: Compared, drifting: bool | None, *, exact: bool) -> dict[str, Any]:  # noqa: FBT001 - as above
    """The figures, rounded unless a decision rests on them."""
    found, finding = compared.agreement, compared.finding
    evidence: dict[str, Any] = {"rows": found.rows if exact else _shown_rows(asked, found.rows)}
    if found.failed:
        evidence["failedRows"] = found.failed if exact else podsview.rounded_samples(found.failed)
    if found.distance is not None:
        evidence["distance"] = _text(found.distance)
    if finding.models:
        evidence["model"] = podsview.digests(min(finding.models.values()))
    if finding.verdict is not None and drifting is not None:
        said = finding.verdict
        drift = {
            "detected": drifting,
            "score": podsview.damped(None, said.score, said.threshold),
            "threshold": podsview.number(said.threshold),
        }
        evidence["drift"] = drift | ({"worstFeature": said.feature} if said.feature else {})
    return evidence


def _progress(asked: Shadow, evidence: Mapping[str, Any], wanted: Stored, because: str) -> str:
    if not evidence["rows"] and "failedRows" not in evidence:
        return (
            f"Revision {wanted.hash} waits for rows to be compared: pods begin to copy requests within a minute or two, those of "
            "an image that cannot never do."
        )
    failed = f", {evidence['failedRows']} without a prediction{because}" if "failedRows" in evidence else ""
    distance = (
        f" at a distance of {evidence['distance']} (at most {_text(asked.max_distance)})"
        if "distance" in evidence
        else ""
    )
    known = "" if "drift" in evidence else " Whether they have drifted from its baseline is not known yet."
    return f"Revision {wanted.hash}: {evidence['rows']} of {asked.min_rows} rows compared{distance}{failed}.{known}"


def _shown_rows(asked: Shadow, rows: int) -> int:
    if rows >= asked.min_rows:
        return podsview.rounded_samples(rows)
    part = max(1, asked.min_rows // STEPS)
    return rows // part * part


def _same_criteria(shown: Mapping[str, Any], asked: Shadow, drift: Drift) -> bool:
    """Whether a revision was rejected by what is asked for now."""
    same = (shown.get("minRows"), shown.get("maxDistance")) == (asked.min_rows, _text(asked.max_distance))
    judged_by = (shown.get("drift") or {}).get("criteria")
    return same and (shown.get("reason") != DRIFTED or judged_by in {None, _criteria(drift)})


def _criteria(drift: Drift) -> str:
    """Tells apart what the rows can be judged by."""
    asked = (drift.thresholds, drift.expectations_mode, drift.average_run_length, drift.false_alarm_interval)
    return names.fingerprint(repr(asked))


def _text(distance: float) -> str:
    """Three digits that count."""
    return f"{distance:.3g}"
