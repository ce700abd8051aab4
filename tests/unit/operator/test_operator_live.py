"""Small looks at live objects."""

import copy
import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_operator import live

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_what_is_applied_is_contained_in_what_it_becomes(wanted_value):
    """Defaults of the server beside our fields do not count."""
    found = copy.deepcopy(wanted_value)
    if isinstance(found, dict):
        found |= {"added by a default": 1}
    assert live.contains(found, wanted_value)


@given(JSON, JSON)
def test_containment_in_both_directions_is_equality(one, other):
    """Whatever is taken away or edited is seen."""
    both = live.contains(one, other) and live.contains(other, one)
    assert both == (one == other)


RUNNING = {"running": {"startedAt": "2030-01-02T03:04:05Z"}}
BACKING_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}


def pod_status(**status):
    """A pod that is not ready."""
    return {"metadata": {"name": "iris-1"}, "status": status}


def waiting(reason, message="", last=None):
    """A container that waits."""
    entry = {"name": "inference", "state": {"waiting": {"reason": reason, "message": message}}}
    return pod_status(containerStatuses=[entry | ({"lastState": {"terminated": last}} if last else {})])


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (waiting("ContainerCreating"), None),
        (waiting("ErrImagePull", "no such image"), ("ImagePullBackOff", "Pod iris-1: no such image")),
        (waiting("ImagePullBackOff", "no such image"), ("ImagePullBackOff", "Pod iris-1: no such image")),
        (
            waiting("ImagePullBackOff", 'Back-off pulling image "i:1": ErrImagePull: no such image', {"exitCode": 2}),
            ("ImagePullBackOff", "Pod iris-1: no such image"),
        ),
        (
            waiting("CreateContainerConfigError", 'secret "hook" not found'),
            ("CreateContainerConfigError", 'Pod iris-1: secret "hook" not found'),
        ),
        (
            waiting("CrashLoopBackOff", "", {"exitCode": 2}),
            (
                "CrashLoopBackOff",
                "Pod iris-1: container inference ended with exit code 2, see kubectl logs iris-1 --previous",
            ),
        ),
        (
            waiting("CrashLoopBackOff", "", {"exitCode": 137, "reason": "OOMKilled"}),
            ("OOMKilled", "Pod iris-1 ran out of memory: raise spec.resources.limits.memory."),
        ),
        (
            pod_status(conditions=[{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]),
            ("Unschedulable", "Pod iris-1: 0/1 nodes"),
        ),
        (pod_status(conditions=[{"type": "PodScheduled", "status": "True"}]), None),
        (pod_status(), None),
    ],
)
def test_what_kubelet_and_scheduler_say(pod, expected):
    """Carried word for word, and never final."""
    problem = live.container_problem(pod)
    assert (problem and (problem.reason, problem.message)) == expected
    assert problem is None or not problem.stalled


@pytest.mark.parametrize("reason", ["OOMKilled", "Error"])
def test_a_server_that_ends_again_and_again_is_spoken_of_in_one_way(reason):
    """While it has just ended, waits and runs: else each turn would be a write, and an Event."""
    end = {"terminated": {"exitCode": 137, "reason": reason}}
    turns = [
        {"state": end, "lastState": end},
        {"state": BACKING_OFF, "lastState": end},
        {"state": RUNNING, "lastState": end},
    ]
    conditions = [{"type": "Ready", "status": "False", "lastTransitionTime": "2030-01-02T03:00:00Z"}]
    found = {
        live.container_problem(
            pod_status(containerStatuses=[{"name": "inference", "restartCount": 2} | turn], conditions=conditions)
        )
        for turn in turns
    }
    assert {{"OOMKilled": "OOMKilled"}.get(reason, "CrashLoopBackOff")} == {problem.reason for problem in found}
    assert 1 == len(found)


@pytest.mark.parametrize(
    ("restarts", "ready"), [(0, "2030-01-02T03:00:00Z"), (1, "2030-01-02T03:00:00Z"), (9, "2030-01-02T04:00:00Z")]
)
def test_a_server_that_starts_or_has_recovered_has_no_past(restarts, ready):
    """It was started again once, or was ready since: what it ended by then says nothing of what it is not ready for now."""
    container = {"name": "inference", "restartCount": restarts, "state": RUNNING, "lastState": ended()}
    conditions = [{"type": "Ready", "status": "False", "lastTransitionTime": ready}]
    assert live.container_problem(pod_status(containerStatuses=[container], conditions=conditions)) is None


SAID = '{"reason": "%s", "message": "it is so"}'


def ended(reason="", status=1):
    """A container that has left its last words."""
    return {"terminated": {"exitCode": status, "message": SAID % reason if reason else ""}}


@pytest.mark.parametrize(
    ("state", "last", "expected"),
    [
        (ended("DigestMismatch"), {}, ("DigestMismatch", True)),
        (BACKING_OFF, ended("ArtifactAccessDenied"), ("ArtifactAccessDenied", True)),
        (BACKING_OFF, ended("ArtifactUnreachable"), ("ArtifactUnreachable", False)),
        (RUNNING, ended("ArtifactNotFound"), ("ArtifactNotFound", True)),
        (RUNNING, {}, ("FetchingArtifacts", False)),
        (RUNNING, ended(status=143), ("FetchingArtifacts", False)),
        (BACKING_OFF, ended(), ("CrashLoopBackOff", False)),
        (BACKING_OFF, {"terminated": {"exitCode": 1, "message": "no JSON"}}, ("CrashLoopBackOff", False)),
        (BACKING_OFF, ended("no reason at all"), ("PodNotReady", False)),
        (ended(status=0), ended("ArtifactUnreachable"), None),
        ({"waiting": {"reason": "PodInitializing"}}, {}, None),
    ],
)
def test_what_the_container_that_fetches_leaves_behind(state, last, expected):
    """Its last words, while it is tried again too, so that the status stands still; nothing once it is through."""
    container = {"name": "fetch", "state": state, "lastState": last}
    problem = live.container_problem(pod_status(initContainerStatuses=[container]))
    assert (problem and (problem.reason, problem.stalled)) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, 0),
        ({"containerStatuses": [{"name": "inference", "restartCount": 3}]}, 3),
        ({"containerStatuses": [{"name": "sidecar", "restartCount": 9}, {"name": "inference"}]}, 0),
        ({"initContainerStatuses": [{"name": "fetch", "restartCount": 4}]}, 0),
    ],
)
def test_restarts_are_those_of_the_server(status, expected):
    """An init container that fetches again, or somebody's sidecar, says nothing of the model."""
    assert expected == live.restarts_of({"status": status})


@pytest.mark.parametrize(
    ("started", "expected"),
    [
        ("2030-01-02T03:04:05Z", True),
        ("2030-01-02T03:04:01Z", True),
        ("2030-01-02T03:04:00Z", False),
        ("2030-01-02T03:04:06Z", False),  # by a clock that is ahead
        (None, False),
    ],
)
def test_a_server_that_has_begun_a_moment_ago(started, expected):
    """By the clock of its node."""
    now = dt.datetime(2030, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    states = [{"running": {"startedAt": started}}, {"waiting": {}}, {}]
    found = [
        live.has_begun(pod_status(containerStatuses=[{"name": "inference", "state": state}]), now, 5.0)
        for state in states
    ]
    assert [expected, False, False] == found
    assert not live.has_begun(pod_status(), now, 5.0)
