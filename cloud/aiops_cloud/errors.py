"""What can go wrong between a workflow and AWS.

```
CloudError (Exception)
├── SettingsError       a setting that is missing or malformed
├── AccessError         no credentials, wrong ones, or a role that may not do it; or AWS does not answer
├── NotFoundError       AWS knows no such state machine or execution
├── ConflictError       an execution of this name is there already, with another input
├── ExecutionError      the execution ended badly; its text is the cause
└── StillRunningError   the time to follow is over; the execution goes on
```
"""


class CloudError(Exception):
    """Root of the tree; its text says what is wrong and what to do.

    Attributes:
        code: What the command exits with.
    """

    code = 1


class SettingsError(CloudError):
    """A setting that is missing or malformed."""

    code = 2


class AccessError(CloudError):
    """No credentials, wrong ones, or a role that may not do it; or AWS does not answer."""


class NotFoundError(CloudError):
    """AWS knows no such state machine or execution."""


class ConflictError(CloudError):
    """An execution of this name is there already, with another input."""


class ExecutionError(CloudError):
    """The execution ended badly."""


class StillRunningError(CloudError):
    """The time to follow is over; the execution goes on."""

    code = 124  # as timeout(1)
