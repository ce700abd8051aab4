"""Events and causes as sentences."""

import json

import pytest

from aiops_cloud import history

ENTERED = {"id": 1, "type": "TaskStateEntered", "stateEnteredEventDetails": {"name": "Retrain"}}
SUBMITTED = {"id": 2, "type": "TaskSubmitted", "taskSubmittedEventDetails": {"output": '{"JobId": "j-1"}'}}
FAILED = {
    "id": 3,
    "type": "TaskFailed",
    "taskFailedEventDetails": {"error": "States.TaskFailed", "cause": "no room"},
}


def test_each_event_that_tells_something_is_a_line():
    """The state's name stands before what happened in it."""
    expected = ["Retrain: entered", "Retrain: submitted, Batch job j-1", "Retrain: failed: States.TaskFailed: no room"]
    assert expected == history.lines([ENTERED, SUBMITTED, FAILED])


def test_what_was_told_is_not_told_again():
    """The state is still known of events that were told before."""
    assert ["Retrain: failed: States.TaskFailed: no room"] == history.lines([ENTERED, SUBMITTED, FAILED], after=2)


def test_an_event_without_details_is_told_shortly():
    """A task that times out has a cause or none."""
    timed_out = {"id": 2, "type": "TaskTimedOut", "taskTimedOutEventDetails": {"error": "States.Timeout"}}
    assert ["Retrain: failed: States.Timeout"] == history.lines([ENTERED, timed_out], after=1)


def test_a_batch_job_is_told_with_its_reasons_and_its_log():
    """The last attempt says how it ended; the job's definition where its log is."""
    job = {
        "JobId": "j-1",
        "Status": "FAILED",
        "StatusReason": "Essential container in task exited",
        "Attempts": [{"Container": {"ExitCode": 3, "LogStreamName": "a/default/1"}}],
        "Container": {"LogConfiguration": {"Options": {"awslogs-group": "/aiops-quality/training"}}},
    }
    expected = (
        "States.TaskFailed: Batch job j-1 FAILED; exit code 3; Essential container in task exited; "
        "its log: aws logs tail /aiops-quality/training --log-stream-names a/default/1"
    )
    assert expected == history.cause("States.TaskFailed", json.dumps(job))


@pytest.mark.parametrize(
    ("error", "text", "expected"),
    [
        ("InvalidInput", "say more", "InvalidInput: say more"),
        ("States.Timeout", None, "States.Timeout"),
        (None, None, "no error named"),
        ("E", '{"JobId"', 'E: {"JobId"'),
        ("E", "[1]", "E: [1]"),
        ("E", '{"JobId": "j", "Attempts": [], "Container": null}', "E: Batch job j FAILED"),
    ],
)
def test_any_cause_is_a_sentence(error, text, expected):
    """Text that is no job is told as it is."""
    assert expected == history.cause(error, text)
