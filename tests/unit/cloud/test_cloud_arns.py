"""Names of state machines and executions."""

import pytest

from aiops_cloud import arns
from aiops_cloud.errors import SettingsError

MACHINE = "arn:aws:states:eu-central-1:123456789012:stateMachine:retraining"
EXECUTION = "arn:aws:states:eu-central-1:123456789012:execution:retraining:run-1"


def test_the_execution_of_a_machine():
    """Its ARN is known before it is started, and reads back to the same."""
    execution = arns.state_machine(MACHINE).execution("run-1")
    assert arns.Execution(EXECUTION, "eu-central-1", "run-1") == execution
    assert execution == arns.execution(EXECUTION)


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_other_partitions(partition):
    """AWS has more than one."""
    arn = MACHINE.replace("arn:aws:", f"arn:{partition}:")
    assert arns.StateMachine(arn, "eu-central-1") == arns.state_machine(arn)


@pytest.mark.parametrize("text", [None, "", "retraining", EXECUTION, f"{MACHINE}:prod", MACHINE.replace("12345", "x")])
def test_no_state_machine(text):
    """The sentence shows what is expected."""
    with pytest.raises(SettingsError, match="state machine"):
        arns.state_machine(text)


@pytest.mark.parametrize("text", ["", "run-1", MACHINE, EXECUTION.rpartition(":")[0]])
def test_no_execution(text):
    """The sentence shows what is expected."""
    with pytest.raises(SettingsError, match="is not the ARN of an execution"):
        arns.execution(text)


@pytest.mark.parametrize("name", ["", "two words", "a" * 81, "é", "a\n"])
def test_no_name(name):
    """Step Functions would refuse it."""
    with pytest.raises(SettingsError, match="is not a name for an execution"):
        arns.state_machine(MACHINE).execution(name)
