"""What can go wrong in the server, and whom it concerns.

```
InferenceError
├── SettingsError                  the environment asks for something impossible: the process refuses to start (exit 2)
├── RuntimeConfigError             runtime.yaml cannot be read: the last good settings stay
├── ArtifactUnreachableError       time may mend it: the init container that fetches is started again
├── ArtifactError                  the pod stays up and not ready, with this reason
│   ├── ArtifactNotFoundError      of the init container, as the next two
│   ├── ArtifactAccessDeniedError
│   ├── ArtifactNotStoredError
│   ├── ModelNotFoundError
│   ├── BaselineNotFoundError
│   ├── ArtifactTooLargeError
│   ├── DigestMismatchError
│   ├── ManifestInvalidError
│   ├── BaselineInvalidError
│   ├── ModelUnloadableError
│   │   ├── LibraryVersionMismatchError
│   │   ├── ModelUntrustedError
│   │   └── OnnxRuntimeMissingError
│   ├── FeatureNamesDifferError
│   └── GoldenPredictionsDifferError
├── RequestError                   the client's fault: 4xx, nothing is counted as data
│   ├── InvalidJsonError           400
│   ├── InvalidInputsError         400, names the place
│   ├── InvalidParameterError      400
│   ├── RequestTimeoutError        408
│   ├── TooLargeError              413
│   ├── UnsupportedEncodingError   415
│   └── InputsRefusedError         422, the model itself raised on these rows
└── UnavailableError               the server's fault: 503
    ├── NotReadyError              no model yet, or the pod is leaving
    └── PredictionFailedError      the model broke in a way that no input explains
```
"""

import re
from typing import ClassVar, Final

_DIRECTORIES: Final = re.compile(r"(?<![\w./])/(?:[^\s/'\"():,;]+/)+")
MAX_FOREIGN_TEXT: Final = 300  # characters of another library's error that are repeated


def describe(error: BaseException) -> str:
    """Another library's exception as one bounded line."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= MAX_FOREIGN_TEXT else text[:MAX_FOREIGN_TEXT] + "…"


def shown(error: BaseException) -> str:
    """What a client is told where an error may repeat another library's words: paths without their directories."""
    return _DIRECTORIES.sub("", str(error))


class InferenceError(Exception):
    """Root of the tree; its text is one sentence for a person."""

    @property
    def reason(self) -> str:
        """The class as a CamelCase word, as conditions and log lines carry it."""
        return type(self).__name__.removesuffix("Error")


class SettingsError(InferenceError):
    """The environment asks for something impossible."""


class RuntimeConfigError(InferenceError):
    """The runtime settings file is not what it should be."""


class ArtifactError(InferenceError):
    """An artifact that cannot be served."""


class ArtifactUnreachableError(InferenceError):
    """A store or a web server does not answer, or not with what was asked for."""


class ArtifactNotFoundError(ArtifactError):
    """There is no such file at ARTIFACTS_URI."""


class ArtifactAccessDeniedError(ArtifactError):
    """A store or a web server does not let these credentials read."""


class ArtifactNotStoredError(ArtifactError):
    """The volume does not take the files: it is full, or cannot be written."""


class ModelNotFoundError(ArtifactError):
    """There is no readable model file at MODEL_PATH."""


class BaselineNotFoundError(ArtifactError):
    """There is no readable baseline file at BASELINE_PATH."""


class ArtifactTooLargeError(ArtifactError):
    """A file is larger than MAX_MODEL_BYTES."""


class DigestMismatchError(ArtifactError):
    """The bytes are not those that the manifest or MODEL_SHA256 names."""


class ManifestInvalidError(ArtifactError):
    """manifest.json is there, and is not a manifest of these files."""


class BaselineInvalidError(ArtifactError):
    """The baseline is not a table of finite numbers that fits the model."""


class ModelUnloadableError(ArtifactError):
    """The model file cannot be turned into something that predicts."""


class LibraryVersionMismatchError(ModelUnloadableError):
    """The model cannot be loaded, and it was saved with other library versions than these."""


class ModelUntrustedError(ModelUnloadableError):
    """A .skops file holds types that skops does not trust."""


class OnnxRuntimeMissingError(ModelUnloadableError):
    """The model is an .onnx file, and onnxruntime is not installed."""


class FeatureNamesDifferError(ArtifactError):
    """The model was fitted to other feature names than the baseline's, or to these in another order."""


class GoldenPredictionsDifferError(ArtifactError):
    """The loaded model does not predict what it predicted when it was trained."""


class RequestError(InferenceError):
    """A request that cannot be answered as it is.

    Attributes:
        status: the HTTP status of the answer.
        place: where in the body the fault is, such as `inputs[1][2]`; "" for the body as a whole.
    """

    status: ClassVar[int] = 400

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(message)
        self.place = place


class InvalidJsonError(RequestError):
    """The body is not JSON."""


class InvalidInputsError(RequestError):
    """The body is JSON, but not rows of numbers of the right width."""


class InvalidParameterError(RequestError):
    """A query parameter has a value that means nothing."""


class UnknownModelError(RequestError):
    """The path names a model, or a version of it, that is not served here."""

    status = 404


class RequestTimeoutError(RequestError):
    """The body did not arrive in time."""

    status = 408


class TooLargeError(RequestError):
    """The body has too many bytes or too many rows."""

    status = 413


class UnsupportedEncodingError(RequestError):
    """The body is compressed."""

    status = 415


class InputsRefusedError(RequestError):
    """The rows have the right form, but the model raises on them."""

    status = 422


class UnavailableError(InferenceError):
    """The request may be right; this pod cannot answer it now."""

    status: ClassVar[int] = 503


class NotReadyError(UnavailableError):
    """No model is loaded, or the pod is shutting down.

    Attributes:
        why: the reason that /health gives, such as `DigestMismatch`.
    """

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why

    @property
    def reason(self) -> str:
        """What /health says."""
        return self.why


class OverloadedError(UnavailableError):
    """So many rows wait already that the answer would come too late; later or at another pod there is room."""


class PredictionFailedError(UnavailableError):
    """The model raised, or answered with something that is not one prediction a row."""
