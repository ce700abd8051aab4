"""The model in service, and what it says of rows: from its artifacts, or asked where it runs."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import httpx
import joblib
import numpy as np
import numpy.typing as npt
from skops import io as skops
from skops.io.exceptions import UntrustedTypesFoundException

from aiops_training import artifacts, formats
from aiops_training.artifacts import BASELINE
from aiops_training.comparison import Answers
from aiops_training.errors import ServedError

TIMEOUT: Final = httpx.Timeout(60.0)  # seconds
_ROWS: Final = 500  # a request


class Served(Protocol):
    """A model that can be asked."""

    @property
    def features(self) -> tuple[str, ...] | None:
        """Names of what it takes, in order; None where it does not say."""

    @property
    def digest(self) -> str:
        """SHA-256 of its file, 64 hexadecimal digits; empty where it does not say."""

    def answers(self, rows: npt.NDArray[np.float64]) -> Answers:
        """What it says of rows, shape (n, F).

        Raises:
            ServedError: it does not answer.
        """

    def knows(self, rows: npt.NDArray[np.float64]) -> int | None:
        """How many of these rows it was trained on; None where it does not say."""


@dataclass(frozen=True)
class Files:
    """A model from its artifacts.

    Attributes:
        model: what they hold; has a `predict`.
        features: names of what it takes.
        digest: SHA-256 of its file.
        baseline: the rows that it was trained on, shape (n, F); None where they are not there.
    """

    model: Any
    features: tuple[str, ...] | None
    digest: str
    baseline: npt.NDArray[np.float64] | None

    def answers(self, rows: npt.NDArray[np.float64]) -> Answers:
        """As `Served.answers`."""
        try:
            predictions = np.asarray(self.model.predict(rows))
            if not hasattr(self.model, "predict_proba"):
                return Answers(predictions)
            return Answers(predictions, np.asarray(self.model.predict_proba(rows)), np.asarray(self.model.classes_))
        except ValueError as error:
            message = f"the model does not take these rows: {' '.join(str(error).split())}"
            raise ServedError(message) from error

    def knows(self, rows: npt.NDArray[np.float64]) -> int | None:
        """As `Served.knows`."""
        if self.baseline is None:
            return None
        learnt = {row.tobytes() for row in np.ascontiguousarray(self.baseline, dtype=np.float64)}
        return sum(row.tobytes() in learnt for row in np.ascontiguousarray(rows))


@dataclass(frozen=True)
class Service:
    """A model that is asked over HTTP. The service counts each row that it is asked: its verdict on drift sees them.

    Attributes:
        url: without a path.
        features: names of what it takes.
        digest: SHA-256 of its file.
    """

    url: str
    features: tuple[str, ...] | None
    digest: str

    def answers(self, rows: npt.NDArray[np.float64]) -> Answers:
        """As `Served.answers`; without probabilities."""
        found: list[Any] = []
        with httpx.Client(timeout=TIMEOUT) as client:
            for start in range(0, len(rows), _ROWS):
                asked = {"inputs": rows[start : start + _ROWS].tolist()}
                found += _asked(client, "POST", f"{self.url}/predict", asked)["predictions"]
        return Answers(np.asarray(found))

    def knows(self, rows: npt.NDArray[np.float64]) -> None:
        """As `Served.knows`: it does not say."""


def from_files(files: Mapping[str, bytes], *, trust_pickle: bool = False) -> Files:
    """A model from its artifacts, as `artifacts.build` makes them.

    Args:
        files: bytes by name; the digests in the manifest are compared before anything is loaded.
        trust_pickle: load a pickle, too, which can run any code.

    Raises:
        ArtifactsError: something is missing, or has another digest than the manifest says.
        ServedError: the model cannot be loaded, or is not to be trusted.
    """
    manifest = artifacts.checked(files)
    name = artifacts.model_file(files)
    if name == formats.NAMES["onnx"]:
        message = f"{name} is not loaded here; ask the running service by its URL"
        raise ServedError(message)
    if name == formats.NAMES["pickle"] and not trust_pickle:
        message = (
            f"{name} is a pickle, which runs what it holds when it is loaded; --trust-pickle if you made it yourself"
        )
        raise ServedError(message)
    try:
        model = (
            joblib.load(io.BytesIO(files[name])) if trust_pickle and name.endswith(".pkl") else skops.loads(files[name])
        )
    except UntrustedTypesFoundException as error:
        message = f"{name} is not loaded: {' '.join(str(error).split())}"
        raise ServedError(message) from error
    except Exception as error:
        message = f"{name} cannot be loaded: {type(error).__name__}: {' '.join(str(error).split())}"
        raise ServedError(message) from error
    baseline = np.load(io.BytesIO(files[BASELINE]), allow_pickle=False) if BASELINE in files else None
    return Files(model, tuple(manifest["features"]), hashlib.sha256(files[name]).hexdigest(), baseline)


def from_service(url: str) -> Service:
    """A model that runs, by its URL; it is asked what it is.

    Raises:
        ServedError: nobody answers there.
    """
    base = url.rstrip("/")
    with httpx.Client(timeout=TIMEOUT) as client:
        model = _asked(client, "GET", f"{base}/health").get("model") or {}
    features = model.get("features")
    return Service(base, tuple(features) if features else None, str(model.get("digest", "")).removeprefix("sha256:"))


def _asked(client: httpx.Client, method: str, url: str, body: object = None) -> dict[str, Any]:
    try:
        answer = client.request(method, url, json=body) if body is not None else client.request(method, url)
        if answer.is_error:
            message = f"{url} answered {answer.status_code}: {answer.text[:200]}"
            raise ServedError(message)
        found: dict[str, Any] = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        message = f"{url} cannot be asked: {error or type(error).__name__}"
        raise ServedError(message) from error
    return found
