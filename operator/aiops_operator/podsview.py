"""What a status says of the rows and models of the pods, by what they answered last and by what it said before; pure."""

import datetime as dt
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiops_drift import Expectations, Verdict
from aiops_operator import names
from aiops_operator.api import Drift, InferenceService
from aiops_operator.conditions import MAX_MESSAGE, Condition, Status, condition_of, timestamp

# The largest of many statistics is never still, and each move that is shown is a write. So a shown score moves when it crosses
# its threshold, beyond it by a part of itself, and below it by a part of the threshold that noise seldom makes up.
SCORE_STEP: Final = 0.2
STEP_AT_REST: Final = 0.5
NEAR: Final = 0.8  # part of the threshold from which a score is no longer far from it
MAX_DECIMALS: Final = 9  # of a shown score, whose threshold may be as small as it likes
MAX_FEATURES: Final = 16
EXACT_SAMPLES: Final = 256  # larger counts are shown by their two leading digits
_EXPECTATIONS: Final[Mapping[str, tuple[Status, str, str]]] = {
    "passed": ("True", "ExpectationsPassed", "The latest rows meet every expectation. "),
    "pending": ("Unknown", "ExpectationsPending", "No batch of rows has been validated yet. "),
    "error": ("Unknown", "ExpectationsError", "The expectations could not be applied: "),
    "disabled": ("Unknown", "NoExpectations", "The artifacts hold no expectations. "),
}


@dataclass(frozen=True)
class Finding:
    """What the pods of a service said when they were last asked.

    Attributes:
        polled: whether they were asked at all since the operator started.
        verdict: on the rows of all of them; None where none has answered yet.
        expectations: merged over the pods.
        models: digest of the loaded model, by pod.
        silent: why nothing was heard for a while; empty where something was.
    """

    polled: bool = False
    verdict: Verdict | None = None
    expectations: Expectations = field(default_factory=Expectations)
    models: Mapping[str, str] = field(default_factory=dict)
    silent: str = ""


@dataclass(frozen=True)
class Mounted:
    """What the pods are to load.

    Attributes:
        artifacts: what they mount, for display; empty where that is not known.
        model: digest of the model's file, where it is known beforehand.
        pods: the names of those that are to load it; None for all.
    """

    artifacts: str = ""
    model: str | None = None
    pods: frozenset[str] | None = None


@dataclass(frozen=True)
class PodsView:
    """The part of the status that comes from what the pods say."""

    drift: Mapping[str, Any]
    drift_detected: Condition
    data_quality: Condition
    model: Mapping[str, Any]

    def is_shown_by(self, status: Mapping[str, Any]) -> bool:
        """Whether a written status says just this."""
        return (
            self.drift == (status.get("drift") or {})
            and self.model == (status.get("model") or {})
            and all(
                (condition.status, condition.reason, condition.message)
                == tuple(condition_of(status, condition.type).get(name) for name in ("status", "reason", "message"))
                for condition in (self.drift_detected, self.data_quality)
            )
        )


def pods_view(
    service: InferenceService, ready_pods: Sequence[str], mounted: Mounted, finding: Finding, now: dt.datetime
) -> PodsView:
    """What the status says of the pods' rows and models, damped against the status before."""
    silence = _silence(service, ready_pods, finding)
    drift, drift_detected = _drift(service, finding, silence, now)
    return PodsView(
        drift=drift,
        drift_detected=drift_detected,
        data_quality=_data_quality(service, finding, silence),
        model=_model(service, ready_pods, mounted, finding),
    )


def acknowledged(service: InferenceService) -> bool:
    """Whether the episode that the written status shows is the one that a person has acknowledged."""
    shown = (service.status.get("drift") or {}).get("episode")
    return shown is not None and shown == service.drift.acknowledged_episode


def detected(finding: Finding, drift: Drift) -> bool | None:
    """Whether the input has drifted, by the statistics or by Great Expectations; None where that is not known."""
    if finding.expectations.state == "failed" and drift.expectations_mode != "disabled":
        return True
    return finding.verdict.drifting if finding.verdict is not None else None


# --- model ----------------------------------------------------------------------------------------------------------


def _model(service: InferenceService, ready_pods: Sequence[str], mounted: Mounted, finding: Finding) -> dict[str, Any]:
    before: Mapping[str, Any] = service.status.get("model") or {}
    loaded = {pod: finding.models[pod] for pod in ready_pods if pod in finding.models}
    digest = _most(loaded.values()) or before.get("digest")
    artifacts = mounted.artifacts or before.get("artifacts")
    model: dict[str, Any] = {}
    if digest:
        model |= digests(digest)
    if artifacts:
        model["artifacts"] = artifacts
    if finding.polled or not ready_pods:
        asked = [model for pod, model in loaded.items() if mounted.pods is None or pod in mounted.pods]
        # Pods of another revision have the wanted model only where its digest says so.
        count = list(loaded.values()).count(mounted.model) if mounted.model else asked.count(_most(asked))
        model["loaded"] = f"{count}/{service.replicas}"
    elif "loaded" in before:
        model["loaded"] = before["loaded"]
    return model


def _most(models: Iterable[str]) -> str:
    """The one that is there most often; empty for none."""
    found = list(models)
    return max(sorted(set(found)), key=found.count, default="")


def digests(digest: str) -> dict[str, str]:
    """A model's digest as a status shows it: whole, and short for tables."""
    return {"digest": digest, "shortDigest": names.short_digest(digest)}


# --- drift ----------------------------------------------------------------------------------------------------------


def _silence(service: InferenceService, ready_pods: Sequence[str], finding: Finding) -> Condition | None:
    """The condition of drift where no pod can say anything; None where one has."""
    if not ready_pods:
        message = "No pod is ready to be asked." if service.replicas else "spec.replicas is 0: there is no pod to ask."
        return Condition("DriftDetected", "Unknown", "NoReadyPods", message)
    if finding.silent:
        return Condition("DriftDetected", "Unknown", "PodsUnreachable", finding.silent[:MAX_MESSAGE])
    if finding.verdict is not None:
        return None
    known = condition_of(service.status, "DriftDetected")
    if known.get("reason") in (None, "WaitingForOperator", "NoReadyPods", "PodsUnreachable"):
        return Condition("DriftDetected", "Unknown", "WaitingForPods", "The pods have not been asked yet.")
    # A takeover: what the operator before this one found holds until the pods have been asked again.
    return Condition("DriftDetected", known["status"], known["reason"], known.get("message", ""))


def _drift(
    service: InferenceService, finding: Finding, silence: Condition | None, now: dt.datetime
) -> tuple[dict[str, Any], Condition]:
    """`status.drift` and the condition DriftDetected.

    While nobody can be asked an episode is kept: it is neither forgotten nor announced twice.
    """
    shown: Mapping[str, Any] = service.status.get("drift") or {}
    if silence is not None or finding.verdict is None:
        condition = silence or Condition("DriftDetected", "Unknown", "WaitingForPods", "")
        kept = {name: value for name, value in shown.items() if name != "detected" or condition.status != "Unknown"}
        kept.pop("acknowledged", None)
        return kept | ({"acknowledged": True} if acknowledged(service) else {}), condition
    drift, drifting = _scores(shown, finding.verdict), detected(finding, service.drift)
    if drifting is not None:
        drift["detected"] = drifting
    if drifting:
        since = shown["since"] if shown.get("episode") and shown.get("since") else timestamp(now)
        drift |= {"episode": shown.get("episode") or episode(service, since), "since": since}
        if drift["episode"] == service.drift.acknowledged_episode:
            drift["acknowledged"] = True
    return drift, _drift_condition(drift, finding.verdict, service.drift, finding.expectations)


def _drift_condition(shown: Mapping[str, Any], verdict: Verdict, drift: Drift, expectations: Expectations) -> Condition:
    worst = f", from {shown['worstFeature']}" if shown.get("worstFeature") else ""
    rule = next((f" ({entry.rule} rule)" for entry in verdict.features if entry.name == shown.get("worstFeature")), "")
    score = f"score {shown.get('score', 'unknown')}, threshold {shown['threshold']}{worst}{rule}."
    unknown = _unknown_features(verdict, drift)
    if shown.get("acknowledged"):
        # The reason stays: it says why the condition is True, which nobody's knowing of it changes.
        unknown += f" Acknowledged: spec.drift.acknowledgedEpisode names this episode, {shown['episode']}."
    if verdict.drifting:
        text = f"The rows of all pods have drifted from the baseline: {score}"
        return Condition("DriftDetected", "True", "ScoreAboveThreshold", f"{text}{unknown}")
    if expectations.state == "failed" and drift.expectations_mode != "disabled":
        text = f"{_failed_text(expectations)}; {score}{unknown}"
        return Condition("DriftDetected", "True", "ExpectationsFailed", text)
    if verdict.drifting is None:
        text = f"{rounded_samples(verdict.samples)} of {drift.thresholds.min_samples} rows.{unknown}"
        return Condition("DriftDetected", "Unknown", "InsufficientSamples", text)
    text = f"The rows of all pods look like the baseline: {score}"
    return Condition("DriftDetected", "False", "WithinThresholds", f"{text}{unknown}")


def _unknown_features(verdict: Verdict, drift: Drift) -> str:
    """A sentence where a threshold is given for a feature that the model does not have: it would never act."""
    unknown = sorted(set(drift.thresholds.features) - {feature.name for feature in verdict.features})
    listed = ", ".join(unknown)[: MAX_MESSAGE // 4]
    return f" The model has no feature named {listed}: see spec.drift.features." if unknown and verdict.features else ""


def _scores(shown: Mapping[str, Any], verdict: Verdict) -> dict[str, Any]:
    threshold = number(verdict.threshold)
    same_scale = shown.get("threshold") == threshold
    drift: dict[str, Any] = {"threshold": threshold, "samples": rounded_samples(verdict.samples)}
    if verdict.samples:
        drift["score"] = damped(shown.get("score") if same_scale else None, verdict.score, verdict.threshold)
    elif verdict.drifting and "score" in shown:
        drift["score"] = shown["score"]  # an episode that was taken over, before the first row of the new operator
    worst = _worst_feature(shown.get("worstFeature"), verdict)
    if worst:
        drift["worstFeature"] = worst
    before = {entry["name"]: entry for entry in shown.get("features") or ()}
    features = []
    for feature in sorted(verdict.features, key=lambda entry: -entry.score / entry.threshold)[:MAX_FEATURES]:
        past = before.get(feature.name, {})
        limit = number(feature.threshold)
        score = damped(past.get("score") if past.get("threshold") == limit else None, feature.score, feature.threshold)
        # Only what comes near its threshold is listed: the rest is noise, and noise must not cause writes.
        if float(score) >= NEAR * feature.threshold:
            features.append({"name": feature.name, "score": score, "threshold": limit})
    if features:
        drift["features"] = sorted(features, key=lambda entry: entry["name"])
    return drift


def _worst_feature(shown: str | None, verdict: Verdict) -> str:
    """The shown feature stays as long as it is about as bad as the worst."""
    scales = {entry.name: entry.score / entry.threshold * verdict.threshold for entry in verdict.features}
    if shown in scales and verdict.feature and scales[shown] > verdict.score - _step(verdict.score, verdict.threshold):
        return shown
    return verdict.feature


def damped(shown: str | None, score: float, threshold: float) -> str:
    """The score to show: the one shown before, unless it has moved by a step or is on the other side of the threshold."""
    try:
        past = float(shown) if shown is not None else math.nan
    except ValueError:
        past = math.nan
    near = math.isfinite(past) and abs(past - score) < _step(max(score, past), threshold)
    if shown is not None and near and (past > threshold) == (score > threshold):
        return shown
    return f"{score:.{_decimals(score, threshold)}f}"


def _decimals(score: float, threshold: float) -> int:
    """One, as in 7.4; more only where score and threshold are below 1, so that the larger has two digits that count."""
    largest = max(score, threshold)
    return min(1 - math.floor(math.log10(largest)), MAX_DECIMALS) if 0 < largest < 1 else 1


def _step(score: float, threshold: float) -> float:
    """By how much a shown score moves at least, which is more than its rounding."""
    return SCORE_STEP * score if score > threshold else STEP_AT_REST * threshold


def number(value: float) -> str:
    """A threshold as people write it: 5, 4.5."""
    return f"{value:g}"


def rounded_samples(samples: int) -> int:
    """Exact as far as the usual window goes, then rounded down to two leading digits."""
    if samples <= EXACT_SAMPLES:
        return samples
    unit: int = 10 ** (len(str(samples)) - 2)
    return samples // unit * unit


def episode(service: InferenceService, since: str) -> str:
    """Identity of an episode of drift: the same however often it is computed."""
    return f"{service.uid[:8]}-{re.sub('[^0-9]', '', since)}"


# --- data quality ---------------------------------------------------------------------------------------------------


def _data_quality(service: InferenceService, finding: Finding, silence: Condition | None) -> Condition:
    if silence is not None or finding.verdict is None:
        known = condition_of(service.status, "DataQuality")
        if silence is not None and silence.reason in ("NoReadyPods", "PodsUnreachable", "WaitingForPods"):
            return Condition("DataQuality", "Unknown", silence.reason, silence.message)
        return Condition(
            "DataQuality",
            known.get("status", "Unknown"),
            known.get("reason", "WaitingForPods"),
            known.get("message", "The pods have not been asked yet."),
        )
    expectations = finding.expectations
    disabled = service.drift.expectations_mode == "disabled"
    found = []
    if expectations.state == "failed" and not disabled:
        found.append(("ExpectationsFailed", f"{_failed_text(expectations)}."))
    for columns, reason, what in (
        (finding.verdict.unseen, "UnseenValues", "Values that the baseline does not have"),
        (finding.verdict.missing, "MissingValues", "Values that were not given"),
    ):
        if columns:
            found.append((reason, f"{what}: {', '.join(columns)[: MAX_MESSAGE // 4]}."))
    if found:
        # The first gives the reason; no finding hides another.
        return Condition("DataQuality", "False", found[0][0], " ".join(text for _, text in found))
    if disabled:
        return Condition("DataQuality", "Unknown", "ExpectationsDisabled", "spec.drift.expectations.mode is disabled.")
    status, reason, text = _EXPECTATIONS.get(expectations.state, _EXPECTATIONS["disabled"])
    return Condition("DataQuality", status, reason, f"{text}{expectations.message}".strip()[:MAX_MESSAGE])


def _failed_text(expectations: Expectations) -> str:
    listed = ", ".join(expectations.failed) or expectations.message or "no names given"
    return f"The latest rows fail expectations: {listed}"[: MAX_MESSAGE // 2]
