"""What can go wrong in the operator, as one tree.

```
OperatorError
├── SettingsError           an environment variable that cannot be used; ends the process at start
├── SpecError               a spec that the CRD of this version would have refused
├── ApiError                an answer of the API server other than 2xx, or none
│   ├── NotFoundError           404
│   ├── ConflictError           409: somebody else wrote first, or owns the field
│   ├── ExpiredError            410: what is asked for has happened too long ago
│   ├── ForbiddenError          401 and 403
│   ├── InvalidError            400, 413 and 422: the same request will never succeed
│   └── UnavailableError        429, 5xx, refused or timed out: the same request may succeed later
└── PodError                a pod that did not answer, or not with what was asked for
```
"""


class OperatorError(Exception):
    """Root of the tree; its text says what is wrong in one line."""


class SettingsError(OperatorError):
    """An environment variable that cannot be used."""


class SpecError(OperatorError):
    """A spec that the CRD of this version would have refused."""


class ApiError(OperatorError):
    """An answer of the API server other than 2xx, or none.

    Attributes:
        status: HTTP status, 0 where there was no answer.
        message: what the server said, in one line.
        retry_after: seconds in which it asks not to be asked again; 0 where it says nothing of that.
    """

    def __init__(self, status: int, message: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{status or 'no answer'}: {message}")
        self.status = status
        self.message = message
        self.retry_after = retry_after


class NotFoundError(ApiError):
    """404."""


class ConflictError(ApiError):
    """409: somebody else wrote first, or owns the field."""


class ExpiredError(ApiError):
    """410: what is asked for has happened too long ago; a listing tells what is."""


class ForbiddenError(ApiError):
    """401 and 403."""


class InvalidError(ApiError):
    """400, 413 and 422: the same request will never succeed."""


class UnavailableError(ApiError):
    """429, 5xx, refused or timed out: the same request may succeed later."""


class PodError(OperatorError):
    """A pod that did not answer, or not with what was asked for."""
