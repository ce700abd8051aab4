"""Which revision a service runs."""

import pytest
from revisions import COPY, live, revision

from aiops_operator import resources, rollback
from aiops_operator.resources import Failed, History

CLAIM = {"persistentVolumeClaim": {"claimName": "disk"}}
PINNED = [{"name": "MODEL_SHA256", "value": "ab" * 32}]
FAILED = Failed("b", "DigestMismatch", "it has other bytes")
A, B, C = (revision(digest) for digest in "abc")


def decided(service, wanted, deployment):
    """Which revision, which is remembered as good, which as failed, and the problem's reason."""
    found = rollback.decide(service, wanted, deployment)
    good, failed, problem = found.history.good, found.history.failed, found.problem
    return found.revision.hash, good and good.hash, failed and failed.hash, problem and problem.reason


def test_the_first_revision_has_none_before_it(make):
    """Whether it gets ready or not."""
    service = make()
    assert ("a", None, None, None) == decided(service, A, None)
    assert ("a", None, None, None) == decided(service, A, live(service, A))
    assert ("a", None, None, None) == decided(service, A, live(service, A, exceeded=True))


def test_a_good_revision_is_remembered_when_another_takes_its_place(make):
    """By what the status says, or by what the Deployment is; one that never got ready is not."""
    knowing, ignorant = make(status={"goodRevision": "a"}), make()
    assert ("b", "a", None, None) == decided(knowing, B, live(knowing, A))
    assert ("b", "a", None, None) == decided(ignorant, B, live(ignorant, A, complete=True))
    assert ("b", None, None, None) == decided(ignorant, B, live(ignorant, A))
    assert ("c", "a", None, None) == decided(knowing, C, live(knowing, B, History(A)))
    # No pods are no proof.
    idle = make({"replicas": 0}, {"goodRevision": "a"})
    none = {"status": {"observedGeneration": 1}}
    assert ("c", "a", None, None) == decided(idle, C, live(idle, B, History(A)) | none)


def test_a_revision_that_is_late_gives_way_to_the_good_one(make):
    """Until another is asked for, however often it is looked at; asked for the good one, all is well."""
    service = make(status={"goodRevision": "a"})
    late = live(service, B, History(A), exceeded=True)
    assert ("a", None, "b", "RolledBack") == decided(service, B, late)
    back = live(service, A, rollback.decide(service, B, late).history, complete=True)
    assert ("a", None, "b", "RolledBack") == decided(service, B, back)
    assert ("c", "a", None, None) == decided(service, C, back)
    assert ("a", None, None, None) == decided(service, A, back)


def test_the_cause_is_what_the_status_said(make):
    """It is kept, for the pods that could tell are gone; where it said nothing, the deadline is the cause."""
    said = {"type": "Ready", "status": "False", "reason": "DigestMismatch", "message": "it has other bytes"}
    service = make(status={"goodRevision": "a", "conditions": [said]})
    found = rollback.decide(service, B, live(service, B, History(A), exceeded=True))
    assert FAILED == found.history.failed
    assert found.problem is not None
    assert "DigestMismatch: it has other bytes" in found.problem.message
    said["reason"] = "RolloutInProgress"
    found = rollback.decide(service, B, live(service, B, History(A), exceeded=True))
    assert ("b", "ProgressDeadlineExceeded") == (found.history.failed.hash, found.history.failed.reason)


def test_a_revision_that_was_good_once_is_not_rolled_back(make):
    """It is the cluster that has changed, not the model."""
    service = make(status={"goodRevision": "b"})
    assert ("b", "a", None, None) == decided(service, B, live(service, B, History(A), exceeded=True))


def test_what_may_load_something_else_is_not_put_back(make):
    """The status says so, the same at every look, and is well again when the pods are."""
    service, before = make(status={"goodRevision": "a"}), revision("a", CLAIM)
    late = live(service, B, History(before), exceeded=True)
    assert ("b", "a", "b", "RollbackImpossible") == decided(service, B, late)
    again = live(service, B, rollback.decide(service, B, late).history, exceeded=True)
    assert rollback.decide(service, B, late) == rollback.decide(service, B, again)
    assert ("b", "a", None, None) == decided(service, B, live(service, B, History(before, FAILED), complete=True))


@pytest.mark.parametrize(
    ("volume", "env", "expected"),
    [
        (COPY, [], True),
        (CLAIM, [], False),
        (CLAIM, PINNED, True),
        ({"emptyDir": {}}, [], False),
        ({"emptyDir": {}}, PINNED, True),
        ({"image": {"reference": "registry/iris:3"}}, [], False),
        ({"image": {"reference": "registry/iris:3"}}, PINNED, True),
        ({"image": {"reference": "registry/iris@sha256:" + "0" * 64}}, [], True),
    ],
)
def test_what_is_pinned(volume, env, expected):
    """An immutable copy, a digest in the reference, or the model's own."""
    assert expected == rollback.pinned(revision("a", volume, env).template)


def test_memory_that_was_edited_by_hand_is_of_no_use(make):
    """No template comes from there that the operator has not written."""
    body = live(make(), B, History(A, FAILED))
    assert History(A, FAILED) == resources.history_of(body)
    annotations = body["metadata"]["annotations"]
    annotations["aiops-quality.io/revisions"] = annotations["aiops-quality.io/revisions"].replace(
        "0123456789", "9876543210"
    )
    assert History() == resources.history_of(body)
    assert History() == resources.history_of({"metadata": {}})
