"""The state machine's definition, as cfn-lint reads it."""

import json
import subprocess
import sys

import pytest

ARN = "arn:aws:batch:eu-central-1:123456789012"


def lint(tmp_path, given):
    """Let cfn-lint look at a template that holds the definition; its exit code and what it said."""
    template = {
        "Resources": {
            "Retraining": {
                "Type": "AWS::StepFunctions::StateMachine",
                "Properties": {"RoleArn": "arn:aws:iam::123456789012:role/retraining", "Definition": given},
            }
        }
    }
    path = tmp_path / "template.json"
    path.write_text(json.dumps(template))
    done = subprocess.run(
        [sys.executable, "-c", "from cfnlint.runner import main; main()", str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def given(render):
    """The definition as Step Functions gets it."""
    return json.loads(
        render(partition="aws", job_queue=f"{ARN}:job-queue/a-b", job_definition=f"{ARN}:job-definition/a-b:1")
    )


def test_the_definition_is_one(tmp_path, given):
    """cfn-lint has nothing to say."""
    assert (0, "") == lint(tmp_path, given)


def test_the_check_sees_what_is_wrong(tmp_path, given):
    """A transition to nowhere and a field of no state are told."""
    given["StartAt"] = "Nowhere"
    given["States"]["Retrain"]["Timeout"] = 5
    code, said = lint(tmp_path, given)
    assert 0 != code
    assert "Missing 'Next' target 'Nowhere'" in said
    assert "'Timeout' was unexpected" in said


def test_every_state_is_reached(given):
    """From the start, by Next, Default and Choices."""
    reached, open_ends = set(), [given["StartAt"]]
    while open_ends:
        name = open_ends.pop()
        if name in reached:
            continue
        reached.add(name)
        state = given["States"][name]
        branches = [state, *state.get("Choices", []), *state.get("Catch", [])]
        open_ends += [branch[key] for branch in branches for key in ("Next", "Default") if key in branch]
    assert set(given["States"]) == reached
