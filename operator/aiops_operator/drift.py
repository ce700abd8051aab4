"""What the pods of a service say, merged into one verdict; pure.

A missed poll loses nothing and a repeated one adds nothing: a cursor per incarnation remembers the blocks already seen.
"""

import datetime as dt
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from aiops_drift import (
    RATE_SECONDS,
    Agreement,
    Baseline,
    Cursor,
    Expectations,
    Report,
    Shadowed,
    State,
    Thresholds,
    advance,
    in_order,
    observe,
    reconsider,
    run_length,
    verdict,
)
from aiops_drift.verdict import RECOVERY_FRACTION, WINDOW_ROWS
from aiops_operator.api import Drift, InferenceService
from aiops_operator.conditions import condition_of
from aiops_operator.errors import PodError
from aiops_operator.podsview import Finding
from aiops_operator.shadow import Compared

SILENT_ROUNDS: Final = 6  # polls without any answer after which the verdict is unknown
MAX_CURSORS: Final = 256  # incarnations remembered a service: more than a rollout of 100 pods makes
MAX_CURSOR_NUMBERS: Final = 2**17  # the same, times features: a pod may change its incarnation at each poll
MAX_COUNTS: Final = 256  # processes whose comparisons are remembered, beyond those that live
MAX_OUTPUTS: Final = 2**17  # the same, times outputs
BATCH_ROWS: Final = 50  # rows that a pod gathers before it validates them
BY_WEIGHT: Final = ("failed", "error", "passed", "pending", "disabled")  # of expectations, the worst first

Answer = tuple[Report, ...] | PodError


@dataclass(frozen=True)
class Pod:
    """A pod that can be asked.

    Attributes:
        name: of the pod.
        address: IP.
        newest: whether it is of the newest template.
    """

    name: str
    address: str
    newest: bool


@dataclass(frozen=True)
class Heard:
    """What a pod said when it last answered.

    Attributes:
        incarnation: the identity of the counts of the process that speaks of expectations.
        serves: digests of its model and its profile.
        expectations: what Great Expectations last said in it.
        said_at: rows of the service that had been merged when they first said so.
        incarnations: the identities of the counts of all processes.
    """

    incarnation: str
    serves: tuple[str, str]
    expectations: Expectations
    said_at: int
    incarnations: tuple[str, ...]


@dataclass(frozen=True)
class Memory:
    """What is remembered of one service between two polls.

    Attributes:
        state: the rows that count, and whether drift is on.
        identity: digests of the model and the profile that these rows belong to; None before the first answer.
        baseline: what the rules know of the profile; None before the first answer.
        cursors: how far each incarnation was read, least lately used first.
        rows: all rows merged.
        counting_from: when counting began, by the pods' clocks, and the rows merged by then; None before the first answer.
        row_rate: rows per second since; None where that is too short a time to say.
        heard: what each pod last said, by pod; one that misses a poll is not forgotten.
        silent_rounds: polls on end that no pod answered.
        settled_at: when the verdict of a status that was taken over was last settled as no drift; rows from before are not
            judged again, for the rows of other pods that settled it may be gone.
        finding: what all this says.
    """

    state: State = field(default_factory=State)
    identity: tuple[str, str] | None = None
    baseline: Baseline | None = None
    cursors: Mapping[str, Cursor] = field(default_factory=dict)
    rows: int = 0
    counting_from: tuple[float, int] | None = None
    row_rate: float | None = None
    heard: Mapping[str, Heard] = field(default_factory=dict)
    silent_rounds: int = 0
    settled_at: dt.datetime | None = None
    finding: Finding = field(default_factory=Finding)


@dataclass(frozen=True)
class Second:
    """A revision that is compared with the one that serves.

    Attributes:
        revision: its hash.
        pods: those of it that can be asked.
        memory: of what they say of the rows that they are given.
        heard: what each process of the serving pods has compared, by its identity, least lately heard first.
    """

    revision: str
    pods: tuple[Pod, ...]
    memory: Memory = field(default_factory=Memory)
    heard: Mapping[str, Shadowed] = field(default_factory=dict)

    @functools.cached_property
    def compared(self) -> Compared:
        """What all this says."""
        agreement = sum((shadowed.agreement for shadowed in self.heard.values()), Agreement())
        # The same one of several each time: what is shown must not go to and fro.
        problem = min((shadowed.problem for shadowed in self.heard.values() if shadowed.problem), default="")
        return Compared(agreement, self.memory.finding, problem)


def taken_over(service: InferenceService) -> Memory:
    """The memory of an operator that has just started: an episode in the status is neither forgotten nor begun again."""
    model = (service.status.get("model") or {}).get("digest")
    return Memory(
        state=State(drifting=_was_drifting(service.status)),
        identity=(model, "") if model else None,
        settled_at=_settled_at(service.status),
    )


def _settled_at(written: Mapping[str, Any]) -> dt.datetime | None:
    condition = condition_of(written, "DriftDetected")
    if condition.get("status") in (None, "True"):
        return None
    try:
        return dt.datetime.fromisoformat(condition["lastTransitionTime"])
    except (KeyError, TypeError, ValueError):
        return None


def _was_drifting(written: Mapping[str, Any]) -> bool:
    """Whether the episode in a status is one of scores; expectations that failed say so again by themselves."""
    drift, reason = written.get("drift") or {}, condition_of(written, "DriftDetected").get("reason")
    if not drift.get("episode") or reason == "ExpectationsFailed":
        return False
    try:
        beyond = float(drift["score"]) > RECOVERY_FRACTION * float(drift["threshold"])
    except (KeyError, TypeError, ValueError):
        beyond = False
    return beyond or reason == "ScoreAboveThreshold"


def merge(memory: Memory, answers: Mapping[Pod, Answer], drift: Drift, *, oldest: float = math.inf) -> Memory:
    """Merge one round of answers into what is remembered, and judge.

    At first contact with a pod only blocks of at most `oldest` seconds count.

    Only pods that serve the model and profile of the newest template's pods are merged; another model or profile begins
    anew. Blocks are stepped through in their order of closing, whichever pod they are from.
    """
    told = {pod: answer for pod, answer in answers.items() if not isinstance(answer, PodError)}
    if not told:
        return _silent(memory, [str(answer) for answer in answers.values()])
    # All processes of a pod serve the same: the first speaks for them.
    firsts = {pod: answer[0] for pod, answer in told.items()}
    reports = [report for answer in told.values() for report in answer]
    identity = _identity(memory.identity, firsts)
    memory, baseline = _of_identity(memory, identity, firsts)
    cursors, read = dict(memory.cursors), []
    for report in reports:
        if (report.model, report.profile) != identity or report.baseline != baseline:
            continue
        known = cursors.pop(report.incarnation, None)
        cursors[report.incarnation], fresh = advance(known, report)
        if known is None:
            fresh = tuple(block for block in fresh if report.now - block.closed <= oldest)
        read.append((report, fresh))
    blocks = in_order(read)
    rows = memory.rows + sum(block.counts.n for block in blocks)
    remembered = max(2 * max(len(answers), len(reports)), min(MAX_CURSORS, MAX_CURSOR_NUMBERS // len(baseline.names)))
    now = max(report.now for report in reports)
    counting_from = memory.counting_from or (now, rows)
    seconds = now - counting_from[0]
    memory = replace(
        memory,
        counting_from=counting_from,
        row_rate=(rows - counting_from[1]) / seconds if seconds >= RATE_SECONDS else memory.row_rate,
    )
    asked = thresholds(memory, drift)
    memory = replace(
        memory,
        state=observe(memory.state, blocks, baseline, asked),
        cursors=dict(list(cursors.items())[-remembered:]),
        rows=rows,
        heard=_heard(memory.heard, answers, rows),
        silent_rounds=0,
    )
    finding = Finding(
        polled=True,
        verdict=verdict(memory.state, baseline, asked),
        expectations=merged_expectations(timely_expectations(memory)),
        models={pod: heard.serves[0] for pod, heard in memory.heard.items()},
    )
    return replace(memory, finding=finding)


def merge_second(second: Second, answers: Mapping[Pod, Answer], own: Mapping[Pod, Answer], drift: Drift) -> Second:
    """Merge what serving pods say of a second revision, and what its `own` pods say of their rows."""
    reports = (report for answer in answers.values() if not isinstance(answer, PodError) for report in answer)
    said = [report.shadowed for report in reports if report.shadowed and report.shadowed.revision == second.revision]
    heard = dict(second.heard)
    for shadowed in said:
        heard.pop(shadowed.incarnation, None)
        heard[shadowed.incarnation] = shadowed
    outputs = max((len(shadowed.agreement.outputs) for shadowed in heard.values()), default=0)
    remembered = max(len(answers), len(said)) + min(MAX_COUNTS, MAX_OUTPUTS // max(outputs, 1))
    return replace(
        second,
        memory=merge(second.memory, own, drift) if own else second.memory,
        heard=dict(list(heard.items())[-remembered:]),
    )


def adjusted(memory: Memory, before: Drift, after: Drift) -> Memory:
    """What is remembered when the resource asks for something else.

    Rows are judged anew where what they are compared with has changed, and there alone: an episode that is acknowledged
    half-way through its recovery, or a webhook's cooldown, must not end it.
    """
    return memory if thresholds(memory, before) == thresholds(memory, after) else judged(memory, after)


def judged(memory: Memory, drift: Drift) -> Memory:
    """The same rows under thresholds that have changed."""
    if memory.finding.verdict is None or memory.baseline is None:
        return memory
    asked = thresholds(memory, drift)
    state = reconsider(memory.state, memory.baseline, asked)
    finding = replace(memory.finding, verdict=verdict(state, memory.baseline, asked))
    return replace(memory, state=state, finding=finding)


def thresholds(memory: Memory, drift: Drift) -> Thresholds:
    """What the resource asks for, with its false-alarm interval in rows."""
    rows = run_length(drift.average_run_length, drift.false_alarm_interval, memory.row_rate)
    return replace(drift.thresholds, run_length=rows)


def timely_expectations(memory: Memory) -> list[Expectations]:
    """What the pods of the current model say, without failures that the service's rows have left behind.

    A pod that gets no more rows validates none: its last failure counts until the others have seen as many rows as the
    window holds, and as all pods together need for a batch each; of several processes in a pod one validates, its share.
    """
    patience = max(WINDOW_ROWS, BATCH_ROWS * sum(len(heard.incarnations) for heard in memory.heard.values()))
    said = [heard for heard in memory.heard.values() if heard.serves == memory.identity]
    return [
        Expectations("pending")
        if heard.expectations.state == "failed" and memory.rows - heard.said_at > patience
        else heard.expectations
        for heard in said
    ]


def _heard(before: Mapping[str, Heard], answers: Mapping[Pod, Answer], rows: int) -> dict[str, Heard]:
    heard = {}
    for pod, answer in answers.items():
        past = before.get(pod.name)
        if not isinstance(answer, PodError):
            heard[pod.name] = _heard_of(past, answer, rows)
        elif past is not None:
            heard[pod.name] = past
    return heard


def _heard_of(past: Heard | None, reports: Sequence[Report], rows: int) -> Heard:
    speaker = min(reports, key=lambda report: BY_WEIGHT.index(report.expectations.state))
    incarnations = tuple(report.incarnation for report in reports)
    serves = (speaker.model, speaker.profile)
    if past is not None and past.serves == serves:
        missing = len(reports) < len(past.incarnations) and past.incarnation not in incarnations
        if missing and speaker.expectations.state == "disabled":
            return past  # the one that validates has missed a poll: it is not forgotten
        if (past.incarnation, past.expectations) == (speaker.incarnation, speaker.expectations):
            return replace(past, incarnations=incarnations)
    return Heard(speaker.incarnation, serves, speaker.expectations, rows, incarnations)


def merged_expectations(pods: Sequence[Expectations]) -> Expectations:
    """One answer for all pods: the worst that any of them says."""
    for state in BY_WEIGHT[:-1]:
        said = [expectations for expectations in pods if expectations.state == state]
        if said:
            failed = {name for expectations in said for name in expectations.failed}
            rows = sum(expectations.evaluated_rows for expectations in said)
            message = min(entry.message for entry in said)
            return Expectations(said[0].state, rows, failed=tuple(sorted(failed)), message=message)
    return Expectations()


def _silent(memory: Memory, errors: Sequence[str]) -> Memory:
    rounds = memory.silent_rounds + 1
    silent = memory.finding.silent
    if rounds >= SILENT_ROUNDS and errors:
        silent = f"No pod answers: {min(errors)}"
    return replace(memory, silent_rounds=rounds, finding=replace(memory.finding, polled=True, silent=silent))


def _identity(before: tuple[str, str] | None, reports: Mapping[Pod, Report]) -> tuple[str, str]:
    newest = [report for pod, report in reports.items() if pod.newest] or list(reports.values())
    served = [(report.model, report.profile) for report in newest]
    return max(sorted(set(served)), key=lambda identity: (served.count(identity), identity == before))


def _of_identity(memory: Memory, identity: tuple[str, str], reports: Mapping[Pod, Report]) -> tuple[Memory, Baseline]:
    if memory.identity == identity and memory.baseline is not None:
        return memory, memory.baseline
    baseline = next(report.baseline for report in reports.values() if (report.model, report.profile) == identity)
    # After a takeover only the model is known, from the status: its episode goes on, another model's does not.
    goes_on = memory.identity is None or memory.identity == (identity[0], "")
    state = State(drifting=memory.state.drifting and goes_on)
    return Memory(state=state, identity=identity, baseline=baseline, settled_at=memory.settled_at), baseline
