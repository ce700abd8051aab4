"""The status: pure, with the clock given."""

import datetime as dt
import re

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from aiops_drift import Expectations
from aiops_drift.verdict import FeatureScore, Verdict
from aiops_operator import podsview, status
from aiops_operator.conditions import Condition, Problem, condition_of, reason_or
from aiops_operator.podsview import Finding, Mounted
from aiops_operator.status import Observation

MONITORING = Condition("MonitoringReady", "True", "PodsAnnotated", "…")
LATER = dt.timedelta(hours=1)
PAUSED = "spec.paused is true: Deployment, Service and ConfigMaps are left as they are."
DIGEST = "sha256:" + "3f9a1c2" + "0" * 57
TYPES = ["Ready", "Available", "Reconciling", "Stalled", "DriftDetected", "DataQuality", "MonitoringReady"]


def deployment(wanted=2, updated=2, ready=2, total=None, *, observed=1, generation=1, conditions=()):
    """A live Deployment."""
    return {
        "metadata": {"generation": generation},
        "spec": {"replicas": wanted},
        "status": {
            "observedGeneration": observed,
            "replicas": updated if total is None else total,
            "updatedReplicas": updated,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "conditions": list(conditions),
        },
    }


def said(score=1.0, *, drifting=False, samples=256, threshold=5.0, feature="a", unseen=(), missing=(), **more):
    """A finding with one feature."""
    reason = "InsufficientSamples" if drifting is None else "ScoreAboveThreshold" if drifting else "WithinThresholds"
    features = (FeatureScore(feature, score, threshold),)
    verdict = Verdict(drifting, reason, score, threshold, feature, samples, features, tuple(unseen), tuple(missing))
    return Finding(**({"polled": True, "verdict": verdict, "models": {"p0": DIGEST, "p1": DIGEST}} | more))


def seen(live=None, finding=None, **more):
    """What was observed of a service with two pods."""
    live = deployment() if live is None else live
    defaults = {
        "deployment": live,
        "ready_pods": ["p0", "p1"],
        "mounted": Mounted("iris-model-ababababab", DIGEST),
        "problem": None,
        "pod_problem": None,
        "finding": finding or said(),
        "monitoring": MONITORING,
    }
    return Observation(**(defaults | more))


def refused(value="True", message="pods are forbidden: no such ServiceAccount"):
    """What the ReplicaSet's controller says of pods that it cannot make."""
    return {"type": "ReplicaFailure", "status": value, "reason": "FailedCreate", "message": message}


def short(document, *types):
    """Status and reason of some conditions."""
    entries = {entry["type"]: (entry["status"], entry["reason"]) for entry in document["conditions"]}
    return [entries[type_] for type_ in types]


def test_a_service_that_is_as_it_should_be(make, now):
    """The whole status."""
    stamp = "2030-01-02T03:04:05Z"
    texts = [
        ("Ready", "True", "RolledOut", "All 2 pods serve the latest spec."),
        ("Available", "True", "PodsReady", "http://iris.models.svc:80 is served."),
        ("Reconciling", "False", "RolledOut", "All 2 pods serve the latest spec."),
        ("Stalled", "False", "RolledOut", "All 2 pods serve the latest spec."),
        (
            "DriftDetected",
            "False",
            "WithinThresholds",
            "The rows of all pods look like the baseline: score 1.0, threshold 5, from a (mean rule).",
        ),
        ("DataQuality", "True", "ExpectationsPassed", "The latest rows meet every expectation."),
        ("MonitoringReady", "True", "PodsAnnotated", "…"),
    ]
    finding = said(expectations=Expectations("passed", 50))
    assert status.build(make({"replicas": 2}), seen(finding=finding), now) == {
        "observedGeneration": 3,
        "conditions": [
            {
                "type": type_,
                "status": value,
                "reason": reason,
                "message": message,
                "observedGeneration": 3,
                "lastTransitionTime": stamp,
            }
            for type_, value, reason, message in texts
        ],
        "url": "http://iris.models.svc:80",
        "replicas": 2,
        "readyReplicas": 2,
        "ready": "2/2",
        "selector": "app=iris,aiops-quality.io/inferenceservice=iris",
        "model": {
            "digest": DIGEST,
            "shortDigest": "3f9a1c2",
            "artifacts": "iris-model-ababababab",
            "loaded": "2/2",
        },
        "drift": {"score": "1.0", "threshold": "5", "samples": 256, "worstFeature": "a", "detected": False},
    }


@pytest.mark.parametrize(
    ("live", "more", "expected"),
    [
        (
            deployment(ready=1),
            {},
            [("False", "RolloutInProgress"), ("True", "RolloutInProgress"), ("False", "Progressing")],
        ),
        (
            deployment(total=3),
            {},
            [("False", "RolloutInProgress"), ("True", "RolloutInProgress"), ("False", "Progressing")],
        ),
        (
            deployment(generation=2),
            {},
            [("False", "RolloutInProgress"), ("True", "RolloutInProgress"), ("False", "Progressing")],
        ),
        (
            deployment(ready=1, conditions=[{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]),
            {},
            [
                ("False", "ProgressDeadlineExceeded"),
                ("False", "ProgressDeadlineExceeded"),
                ("True", "ProgressDeadlineExceeded"),
            ],
        ),
        (
            deployment(ready=1),
            {"pod_problem": Problem("ImagePullBackOff", "…", stalled=False)},
            [("False", "ImagePullBackOff"), ("True", "ImagePullBackOff"), ("False", "Progressing")],
        ),
        (
            deployment(ready=1, conditions=[{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]),
            {"pod_problem": Problem("ImagePullBackOff", "…", stalled=False)},
            [("False", "ImagePullBackOff"), ("False", "ImagePullBackOff"), ("True", "ImagePullBackOff")],
        ),
        (
            deployment(ready=1),
            {"pod_problem": Problem("ModelUnloadable", "…")},
            [("False", "ModelUnloadable"), ("False", "ModelUnloadable"), ("True", "ModelUnloadable")],
        ),
        (
            deployment(),
            {"pod_problem": Problem("ModelUnloadable", "…")},
            [("True", "RolledOut"), ("False", "RolledOut"), ("False", "RolledOut")],
        ),
        (
            deployment(updated=1, ready=1, conditions=[refused()]),
            {},
            [("False", "FailedCreate"), ("True", "FailedCreate"), ("False", "Progressing")],
        ),
        (
            deployment(
                updated=1,
                ready=1,
                conditions=[refused(), {"type": "Progressing", "reason": "ProgressDeadlineExceeded"}],
            ),
            {},
            [("False", "FailedCreate"), ("False", "FailedCreate"), ("True", "FailedCreate")],
        ),
        (
            deployment(updated=1, ready=1, conditions=[refused()]),
            {"pod_problem": Problem("ImagePullBackOff", "…", stalled=False)},
            [("False", "ImagePullBackOff"), ("True", "ImagePullBackOff"), ("False", "Progressing")],
        ),
        (
            deployment(updated=1, ready=1, conditions=[refused("False")]),
            {},
            [("False", "RolloutInProgress"), ("True", "RolloutInProgress"), ("False", "Progressing")],
        ),
        (
            deployment(ready=1, total=3, conditions=[refused()]),
            {},
            [("False", "RolloutInProgress"), ("True", "RolloutInProgress"), ("False", "Progressing")],
        ),
        (
            deployment(conditions=[refused()]),
            {},
            [("True", "RolledOut"), ("False", "RolledOut"), ("False", "RolledOut")],
        ),
        (
            deployment(),
            {"problem": Problem("ArtifactsNotFound", "…")},
            [("False", "ArtifactsNotFound"), ("False", "ArtifactsNotFound"), ("True", "ArtifactsNotFound")],
        ),
        (
            deployment(),
            {"problem": Problem("WaitingForGarbageCollection", "…", stalled=False)},
            [
                ("False", "WaitingForGarbageCollection"),
                ("True", "WaitingForGarbageCollection"),
                ("False", "Progressing"),
            ],
        ),
    ],
)
def test_what_keeps_a_service_from_being_ready(make, now, live, more, expected):
    """Ready, Reconciling and Stalled tell progress from what a person must see to."""
    document = status.build(make({"replicas": 2}), seen(live, **more), now)
    assert expected == short(document, "Ready", "Reconciling", "Stalled")


def test_why_pods_cannot_be_made_is_carried(make, now):
    """As far as the CRD has room for it."""
    messages = [
        condition_of(
            status.build(
                make({"replicas": 2}), seen(deployment(updated=1, ready=1, conditions=[refused(message=text)])), now
            ),
            "Ready",
        )["message"]
        for text in ('serviceaccount "nobody" not found', "x" * 5000)
    ]
    assert (messages[0], len(messages[1])) == ('Pods cannot be made: serviceaccount "nobody" not found', 1024)


def test_ready_and_available_are_two_things(make, now):
    """While a rollout is stuck the old pods serve."""
    document = status.build(make({"replicas": 2}), seen(deployment(updated=1, ready=2, total=3)), now)
    assert short(document, "Ready", "Available") == [("False", "RolloutInProgress"), ("True", "PodsReady")]


def test_nothing_wanted_is_ready_and_not_available(make, now):
    """Zero replicas are what was asked for."""
    document = status.build(make({"replicas": 0}), seen(deployment(0, 0, 0), ready_pods=[], finding=Finding()), now)
    expected = [("True", "ScaledToZero"), ("False", "ScaledToZero"), ("Unknown", "NoReadyPods")]
    assert expected == short(document, "Ready", "Available", "DriftDetected")


def test_no_deployment_yet(make, now):
    """The first status of all."""
    observed = Observation(None, [], Mounted(), None, None, Finding(), MONITORING)
    document = status.build(make(), observed, now)
    assert (short(document, "Ready", "Reconciling"), document["ready"]) == (
        [("False", "RolloutInProgress"), ("True", "RolloutInProgress")],
        "0/1",
    )


def test_a_paused_service_keeps_what_ready_said(make, now):
    """Of the generation it said it of; drift is judged all the same."""
    before = status.build(make({"replicas": 2}), seen(), now)
    paused = make({"replicas": 2, "paused": True}, before, generation=4)
    document = status.build(paused, seen(deployment(ready=1), finding=said(7.4, drifting=True)), now + LATER)
    ready = condition_of(document, "Ready")
    assert (ready["status"], ready["reason"], ready["observedGeneration"], document["observedGeneration"]) == (
        "True",
        "RolledOut",
        3,
        4,
    )
    assert short(document, "Reconciling", "Stalled", "DriftDetected") == [
        ("False", "Paused"),
        ("False", "Paused"),
        ("True", "ScoreAboveThreshold"),
    ]


@pytest.mark.parametrize(
    "past",
    [
        [],
        [
            {
                "type": "Ready",
                "status": "Unknown",
                "reason": "WaitingForOperator",
                "message": "No operator has seen this service yet.",
                "lastTransitionTime": "1970-01-01T00:00:00Z",
            }
        ],
    ],
)
def test_a_service_that_is_made_paused_has_been_seen(make, now, past):
    """Nothing is known of its readiness, and that is said by an operator."""
    spec = {"paused": True}
    observed = Observation(None, [], Mounted(), None, None, Finding(), MONITORING)
    first = status.build(make(spec, {"conditions": past}), observed, now)
    again = status.build(make(spec, first, generation=4), observed, now + LATER)
    expected = {"type": "Ready", "status": "Unknown", "reason": "Paused", "message": PAUSED}
    expected["lastTransitionTime"] = "2030-01-02T03:04:05Z"
    found = [condition_of(document, "Ready") for document in (first, again)]
    assert found == [expected | {"observedGeneration": 3}, expected | {"observedGeneration": 4}]


def test_the_default_of_the_crd_is_no_transition(make, now):
    """The epoch stands for never: the first look sets the time even where Unknown stays Unknown."""
    default = {
        "type": "DriftDetected",
        "status": "Unknown",
        "reason": "WaitingForOperator",
        "message": "",
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    }
    service = make({"replicas": 0}, {"conditions": [default]})
    document = status.build(service, seen(deployment(0, 0, 0), ready_pods=[], finding=Finding()), now)
    assert condition_of(document, "DriftDetected")["lastTransitionTime"] == "2030-01-02T03:04:05Z"


@pytest.mark.parametrize(
    ("finding", "drift", "quality"),
    [
        (said(samples=12, drifting=None), ("Unknown", "InsufficientSamples"), ("Unknown", "NoExpectations")),
        (said(7.4, drifting=True), ("True", "ScoreAboveThreshold"), ("Unknown", "NoExpectations")),
        (
            said(expectations=Expectations("failed", 50, 1, ("expect_x(a)",))),
            ("True", "ExpectationsFailed"),
            ("False", "ExpectationsFailed"),
        ),
        (
            said(samples=0, drifting=None, expectations=Expectations("failed", 50)),
            ("True", "ExpectationsFailed"),
            ("False", "ExpectationsFailed"),
        ),
        (
            said(7.4, drifting=True, expectations=Expectations("failed", 50)),
            ("True", "ScoreAboveThreshold"),
            ("False", "ExpectationsFailed"),
        ),
        (
            said(expectations=Expectations("pending")),
            ("False", "WithinThresholds"),
            ("Unknown", "ExpectationsPending"),
        ),
        (
            said(expectations=Expectations("error", message="no such column")),
            ("False", "WithinThresholds"),
            ("Unknown", "ExpectationsError"),
        ),
        (said(unseen=["b"]), ("False", "WithinThresholds"), ("False", "UnseenValues")),
        (said(missing=["b"]), ("False", "WithinThresholds"), ("False", "MissingValues")),
        (Finding(polled=True), ("Unknown", "WaitingForPods"), ("Unknown", "WaitingForPods")),
        (Finding(polled=True, silent="refused"), ("Unknown", "PodsUnreachable"), ("Unknown", "PodsUnreachable")),
        (Finding(), ("Unknown", "WaitingForPods"), ("Unknown", "WaitingForPods")),
    ],
)
def test_drift_and_data_quality(make, now, finding, drift, quality):
    """Every reason of the two."""
    document = status.build(make({"replicas": 2}), seen(finding=finding), now)
    assert short(document, "DriftDetected", "DataQuality") == [drift, quality]


def test_too_few_rows_say_how_many_of_how_many(make, now):
    """And nothing is detected or not."""
    document = status.build(make({"replicas": 2}), seen(finding=said(samples=12, drifting=None)), now)
    assert condition_of(document, "DriftDetected")["message"] == "12 of 50 rows."
    assert "detected" not in document["drift"]


def test_disabled_expectations_say_nothing_of_drift(make, now):
    """Even where a pod has not yet read its new settings."""
    service = make({"replicas": 2, "drift": {"expectations": {"mode": "disabled"}}})
    document = status.build(service, seen(finding=said(expectations=Expectations("failed", 50))), now)
    assert short(document, "DriftDetected", "DataQuality") == [
        ("False", "WithinThresholds"),
        ("Unknown", "ExpectationsDisabled"),
    ]


def test_an_episode_has_one_identity_and_one_beginning(make, now):
    """It stays through looks, silence and a takeover, and ends with health."""
    spec = {"replicas": 2}
    drifting = seen(finding=said(7.4, drifting=True))
    first = status.build(make(spec), drifting, now)
    again = status.build(make(spec, first), drifting, now + LATER)
    quiet = status.build(make(spec, again), seen(ready_pods=[], finding=Finding()), now + LATER)
    after = status.build(make(spec, quiet), drifting, now + 2 * LATER)
    restarted = status.build(make(spec, after), seen(finding=Finding()), now + 3 * LATER)
    healthy = status.build(make(spec, restarted), seen(finding=said(0.2)), now + 4 * LATER)
    one = ("uid-1-20300102030405", "2030-01-02T03:04:05Z")
    shown = [
        (d["drift"].get("episode"), d["drift"].get("since")) for d in (first, again, quiet, after, restarted, healthy)
    ]
    assert shown == [one, one, one, one, one, (None, None)]
    detected = [d["drift"].get("detected") for d in (first, again, quiet, after, restarted, healthy)]
    assert detected == [True, True, None, True, True, False]


def test_an_acknowledged_episode_is_still_drift(make, now):
    """The condition stays True for its own reason; the status and the message say that a person knows."""
    drifting = seen(finding=said(7.4, drifting=True))
    first = status.build(make({"replicas": 2}), drifting, now)
    name = first["drift"]["episode"]
    spec = {"replicas": 2, "drift": {"acknowledgedEpisode": name}}
    known = status.build(make(spec, first), drifting, now + LATER)
    condition = condition_of(known, "DriftDetected")
    assert ("True", "ScoreAboveThreshold", "2030-01-02T03:04:05Z") == (
        condition["status"],
        condition["reason"],
        condition["lastTransitionTime"],
    )
    assert condition["message"].endswith(f" Acknowledged: spec.drift.acknowledgedEpisode names this episode, {name}.")
    assert (True, name) == (known["drift"]["acknowledged"], known["drift"]["episode"])


def test_an_acknowledgement_lasts_as_long_as_its_episode(make, now):
    """Through silence and a takeover; not beyond the end, for a later episode, nor once it is taken back."""
    drifting, calm = seen(finding=said(7.4, drifting=True)), seen(finding=said(0.2))
    document = status.build(make({"replicas": 2}), drifting, now)
    spec = {"replicas": 2, "drift": {"acknowledgedEpisode": document["drift"]["episode"]}}
    looks = [drifting, seen(ready_pods=[], finding=Finding()), seen(finding=Finding()), drifting, calm, drifting]
    shown = []
    for number, look in enumerate(looks, 1):
        document = status.build(make(spec, document), look, now + number * LATER)
        shown.append(document["drift"].get("acknowledged"))
    assert [True, True, True, True, None, None] == shown
    spec["drift"] = {"acknowledgedEpisode": document["drift"]["episode"]}
    acknowledged = status.build(make(spec, document), drifting, now + 9 * LATER)
    taken_back = status.build(make({"replicas": 2}, acknowledged), drifting, now + 10 * LATER)
    assert (True, None) == tuple(entry["drift"].get("acknowledged") for entry in (acknowledged, taken_back))


def test_findings_about_the_data_are_told_apart_from_drift_and_all_together(make, now):
    """Expectations, unseen and missing values: none hides another, and the last two are not drift."""
    failed = Expectations("failed", 50, 1, ("expect_x(a)",))
    told = []
    for finding in (said(unseen=["b"], missing=["c", "d"]), said(unseen=["b"], missing=["c"], expectations=failed)):
        document = status.build(make({"replicas": 2}), seen(finding=finding), now)
        quality = condition_of(document, "DataQuality")
        told.append((short(document, "DriftDetected")[0], quality["status"], quality["reason"], quality["message"]))
    values = "Values that the baseline does not have: b. Values that were not given: c"
    assert told == [
        (("False", "WithinThresholds"), "False", "UnseenValues", f"{values}, d."),
        (
            ("True", "ExpectationsFailed"),
            "False",
            "ExpectationsFailed",
            f"The latest rows fail expectations: expect_x(a). {values}.",
        ),
    ]


def test_a_takeover_keeps_what_was_found_until_the_pods_have_been_asked(make, now):
    """The status of the operator before, word for word."""
    spec = {"replicas": 2}
    finding = said(7.4, drifting=True, expectations=Expectations("passed"))
    before = status.build(make(spec), seen(finding=finding), now)
    assert status.build(make(spec, before), seen(finding=Finding()), now + LATER) == before


def test_the_model_is_the_one_that_most_pods_have_loaded(make, now):
    """And loaded counts those that have loaded the one that is wanted."""
    other = "sha256:" + "e" * 64
    service = make({"replicas": 3})
    finding = said(models={"p0": other, "p1": other, "p2": DIGEST, "gone": DIGEST})
    document = status.build(service, seen(finding=finding, ready_pods=["p0", "p1", "p2"]), now)
    assert document["model"] == {
        "digest": other,
        "shortDigest": "eeeeeee",
        "artifacts": "iris-model-ababababab",
        "loaded": "1/3",
    }


def test_a_rollout_of_no_pods_proves_nothing(make, now):
    """The revision that had served stays the good one."""
    none = deployment(wanted=0, updated=0, ready=0)
    for replicas, good in ((0, "a"), (2, "b")):
        live = none if replicas == 0 else deployment()
        service = make({"replicas": replicas}, {"goodRevision": "a"})
        assert good == status.build(service, seen(live, revision="b"), now)["goodRevision"]


def test_the_first_status_waits_a_moment_for_the_pods_to_be_made(make):
    """And for nothing where there is something to say, or nothing to wait for."""
    new, none = make({"replicas": 2}), deployment(updated=0, ready=0)
    trouble = Problem("ArtifactsNotFound", "…")
    known = make(status={"conditions": [{"type": "Ready", "reason": "RolloutInProgress"}]})
    assert (1.0, 0.25, 0.0) == tuple(status.pause(new, none, None, waited) for waited in (0.0, 0.75, 9.0))
    assert 1.0 == status.pause(new, None, None, 0.0)
    for service, live, problem in (
        (new, deployment(ready=0), None),
        (new, none, trouble),
        (known, none, None),
        (make({"paused": True}), None, None),
        (make({"replicas": 0}), None, None),
    ):
        assert 0.0 == status.pause(service, live, problem, 0.0)


def test_pods_that_nobody_can_reach_serve_nobody(make, now):
    """Without a Service that is the service's own its URL leads elsewhere, or nowhere."""
    conditions = status.build(make(), seen(reachable=False), now)["conditions"]
    assert [("False", "NoService")] == [
        (entry["status"], entry["reason"]) for entry in conditions if entry["type"] == "Available"
    ]


@pytest.mark.parametrize(
    ("mounted", "loaded"),
    [
        (Mounted(), "2/3"),
        (Mounted(pods=frozenset({"p2"})), "1/3"),
        (Mounted(pods=frozenset()), "0/3"),
        (Mounted(model=DIGEST, pods=frozenset()), "1/3"),
        (Mounted(model="sha256:" + "0" * 64), "0/3"),
    ],
)
def test_pods_of_another_revision_have_not_loaded_what_is_wanted(make, now, mounted, loaded):
    """Unless its digest is known, and theirs."""
    finding = said(models={"p0": "sha256:" + "e" * 64, "p1": "sha256:" + "e" * 64, "p2": DIGEST})
    service = make({"replicas": 3})
    view = podsview.pods_view(service, ["p0", "p1", "p2"], mounted, finding, now)
    assert loaded == view.model["loaded"]


def test_features_near_their_threshold_are_listed(make, now):
    """The far ones are noise; each is compared with its own threshold."""
    features = (FeatureScore("b", 2.4, 5.0), FeatureScore("a", 4.6, 5.0), FeatureScore("c", 0.8, 1.0))
    verdict = Verdict(
        drifting=False,
        reason="WithinThresholds",
        score=4.0,
        threshold=5.0,
        feature="c",
        samples=256,
        features=features,
    )
    document = status.build(make({"replicas": 2}), seen(finding=said(verdict=verdict)), now)
    assert document["drift"]["features"] == [
        {"name": "a", "score": "4.6", "threshold": "5"},
        {"name": "c", "score": "0.8", "threshold": "1"},
    ]


CONDITIONS = st.sampled_from(["True", "False", "Unknown"])
SCORES = st.floats(0, 20)
FINDINGS = st.one_of(
    st.builds(Finding, polled=st.booleans()),
    st.builds(
        lambda score, drifting, samples: said(score, drifting=drifting, samples=samples),
        SCORES,
        st.sampled_from([True, False, None]),
        st.integers(0, 10_000),
    ),
)
LIVES = st.builds(
    deployment, st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 4), observed=st.integers(0, 2)
)
PROBLEMS = st.none() | st.builds(Problem, st.just("Something"), st.text(max_size=2000), stalled=st.booleans())
LOOKS = st.builds(
    seen,
    LIVES,
    FINDINGS,
    problem=PROBLEMS,
    pod_problem=PROBLEMS,
    ready_pods=st.lists(st.sampled_from(["p0", "p1"]), unique=True),
)
relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@relaxed
@given(LOOKS, LOOKS, st.booleans())
def test_a_second_look_at_the_same_changes_nothing(make, now, past, look, paused):
    """Whatever was seen before and is seen now: once written, the status stays as it is."""
    spec = {"replicas": 2, "paused": paused}
    before = status.build(make(spec), past, now)
    once = status.build(make(spec, before), look, now + LATER)
    assert status.build(make(spec, once), look, now + 2 * LATER) == once


@relaxed
@given(LOOKS, LOOKS)
def test_times_move_with_the_status_alone(make, now, past, look):
    """A condition's time is that of its last flip."""
    before = status.build(make({"replicas": 2}), past, now)
    after = status.build(make({"replicas": 2}, before), look, now + LATER)
    for old, new in zip(before["conditions"], after["conditions"], strict=True):
        flipped = old["status"] != new["status"]
        assert (new["lastTransitionTime"] != old["lastTransitionTime"]) == flipped


@relaxed
@given(LOOKS)
def test_conditions_are_as_the_crd_and_kstatus_want_them(make, now, look):
    """All seven, well-formed, of this generation, and never Ready while Reconciling or Stalled."""
    document = status.build(make({"replicas": 2}), look, now)
    values = {entry["type"]: entry["status"] for entry in document["conditions"]}
    assert list(values) == TYPES
    assert {entry["observedGeneration"] for entry in document["conditions"]} == {3}
    assert all(re.fullmatch(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", c["reason"]) for c in document["conditions"])
    assert all(len(entry["message"]) <= 1024 for entry in document["conditions"])
    assert not (values["Ready"] == "True" and "True" in (values["Reconciling"], values["Stalled"]))
    assert not (values["Reconciling"] == values["Stalled"] == "True")
    assert values["Ready"] != "False" or "True" in (values["Reconciling"], values["Stalled"])


# The usual thresholds, with scores of every size; and tiny ones, with scores of about their size.
SCALES = st.one_of(
    st.tuples(SCORES, st.floats(0.1, 15)),
    st.builds(lambda part, threshold: (part * threshold, threshold), st.floats(0, 4), st.floats(1e-5, 0.1)),
)


@given(st.none() | SCORES.map("{:.1f}".format), SCORES, st.floats(1, 15))
def test_a_shown_score_is_never_far_from_the_score(shown, score, threshold):
    """By about a fifth beyond the threshold, by half of it below, and always on the right side of it."""
    shown_now = podsview.damped(shown, score, threshold)
    step = 0.2 * score if score > threshold else 0.5 * threshold
    assert abs(float(shown_now) - score) < 1.25 * step + 0.05 + 1e-9
    assert (float(shown_now) > threshold) == (score > threshold) or abs(score - threshold) <= 0.05


@given(SCALES, st.floats(0, 1))
def test_a_shown_score_is_as_fine_as_its_threshold(scale, before):
    """Off by half of the larger of score, score before and threshold at most, whatever was shown before."""
    score, threshold = scale
    past = before * threshold
    shown = podsview.damped(podsview.damped(None, past, threshold), score, threshold)
    assert abs(float(shown) - score) <= 0.55 * max(score, past, threshold) + 1e-9


@given(SCALES, st.floats(-0.04, 0.04))
def test_a_score_at_rest_is_shown_as_it_was(scale, part):
    """What moves by less than a step, here by 4% of 1 at most or of the threshold below it, writes nothing."""
    score, threshold = scale
    noise = part * min(threshold, 1)
    assume(score + noise >= 0)
    assume((float(podsview.damped(None, score, threshold)) > threshold) == (score + noise > threshold))
    shown = podsview.damped(None, score, threshold)
    assert podsview.damped(shown, score + noise, threshold) == shown


@pytest.mark.parametrize(
    ("score", "threshold", "expected"),
    [
        (7.44, 5.0, "7.4"),
        (0.04, 5.0, "0.0"),
        (0.04, 0.03, "0.040"),
        (0.004, 0.03, "0.004"),
        (0.62, 0.5, "0.62"),
        (7.44, 0.03, "7.4"),
        (0.9999, 0.5, "1.00"),
        (0.0, 1e-300, "0.000000000"),
    ],
)
def test_scores_below_one_have_two_digits_that_count(score, threshold, expected):
    """The larger of score and threshold has: a score above a tiny threshold is not shown as nothing."""
    assert podsview.damped(None, score, threshold) == expected


@given(st.integers(0, 10**6))
def test_shown_samples_are_close_below(samples):
    """Exact up to the usual window, then within a tenth."""
    shown = podsview.rounded_samples(samples)
    assert shown <= samples < max(shown * 1.1 + 1, shown + 1)
    assert samples > 256 or shown == samples


@pytest.mark.parametrize("reason", ["", "no spaces", "x" * 2000, "é", "-A", 7, None, ["a"]])
def test_a_reason_that_the_crd_refuses_is_not_taken_from_a_pod(reason):
    """What a pod says is not to be trusted with the form."""
    assert reason_or(reason, "PodNotReady") == "PodNotReady"


def test_a_service_that_nobody_has_called_has_no_score(make, now):
    """Nothing is shown where nothing was measured."""
    document = status.build(make({}), seen(finding=said(0.0, drifting=None, samples=0, feature="")), now)

    assert {"threshold": "5", "samples": 0} == document["drift"]


def test_a_threshold_for_a_feature_that_is_not_there_is_named(make, now):
    """A misspelt feature would never be watched more closely, and nothing else would say so."""
    service = make({"drift": {"features": [{"name": "cpuu", "zScoreThreshold": 3}]}})
    document = status.build(service, seen(finding=said()), now)
    message = condition_of(document, "DriftDetected")["message"]

    assert message.endswith(" The model has no feature named cpuu: see spec.drift.features.")


def test_failed_expectations_are_told_with_the_score(make, now):
    """Drift beside a score below its threshold explains itself."""
    finding = said(1.8, expectations=Expectations("failed", 50, 1, ("expect_x(a)",)))
    message = condition_of(status.build(make({}), seen(finding=finding), now), "DriftDetected")["message"]

    assert "The latest rows fail expectations: expect_x(a); score 1.8, threshold 5, from a (mean rule)." == message
