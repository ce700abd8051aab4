"""Names of state machines and executions as AWS writes them."""

import re
from dataclasses import dataclass

from aiops_cloud.errors import SettingsError

_ARN = re.compile(
    r"(?P<prefix>arn:aws[a-z-]*:states):(?P<region>[a-z0-9-]+):(?P<account>\d{12}):"
    r"(?P<kind>stateMachine|execution):(?P<machine>[\w-]{1,80})(?::(?P<execution>[\w-]{1,80}))?"
)
_NAME = re.compile(r"[\w-]{1,80}", re.ASCII)


@dataclass(frozen=True)
class StateMachine:
    """A state machine.

    Attributes:
        arn: Its full name.
        region: Where it is.
    """

    arn: str
    region: str

    def execution(self, name: str) -> "Execution":
        """Return the execution that has this name.

        Raises:
            SettingsError: Step Functions takes no such name.
        """
        if not _NAME.fullmatch(name):
            message = f"{name!r} is not a name for an execution: 1 to 80 letters, digits, - and _"
            raise SettingsError(message)
        return Execution(f"{self.arn.replace(':stateMachine:', ':execution:')}:{name}", self.region, name)


@dataclass(frozen=True)
class Execution:
    """One run of a state machine.

    Attributes:
        arn: Its full name.
        region: Where it is.
        name: Its name within the state machine.
    """

    arn: str
    region: str
    name: str

    @property
    def follow_again(self) -> str:
        """The command that follows it."""
        return f"python -m aiops_cloud follow {self.arn}"


def state_machine(text: str | None) -> StateMachine:
    """Read the ARN of a state machine.

    Raises:
        SettingsError: There is none, or it is not one.
    """
    if not text:
        message = (
            "no state machine: give --state-machine ARN or set STATE_MACHINE_ARN "
            "(`tofu -chdir=terraform output -raw state_machine_arn` prints it)"
        )
        raise SettingsError(message)
    found = _ARN.fullmatch(text)
    if not found or found["kind"] != "stateMachine" or found["execution"]:
        message = (
            f"{text!r} is not the ARN of a state machine: arn:aws:states:REGION:ACCOUNT:stateMachine:NAME is expected"
        )
        raise SettingsError(message)
    return StateMachine(text, found["region"])


def execution(text: str) -> Execution:
    """Read the ARN of an execution.

    Raises:
        SettingsError: It is not one.
    """
    found = _ARN.fullmatch(text)
    if not found or found["kind"] != "execution" or not found["execution"]:
        message = (
            f"{text!r} is not the ARN of an execution: arn:aws:states:REGION:ACCOUNT:execution:MACHINE:NAME is expected"
        )
        raise SettingsError(message)
    return Execution(text, found["region"], found["execution"])
