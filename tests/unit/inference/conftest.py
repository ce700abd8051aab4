"""Artifacts as training writes them, and a served application without a socket."""

import asyncio
import contextlib
import hashlib
import io
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import joblib
import numpy as np
import pytest
import sklearn
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aiops_drift import Profile
from aiops_inference.app import create_app
from aiops_inference.service import Service
from aiops_inference.settings import Settings
from aiops_inference.telemetry import Log

DEADLINE = 20.0


@dataclass
class Directory:
    """An artifact directory; what is put in the attributes is what `write` writes."""

    path: Path
    model: Any
    rows: np.ndarray
    names: list[str]
    classes: list[str] | None = None
    task: str = "classification"
    manifest: dict[str, Any] | None = field(default=None)
    model_name: str = "model.pkl"
    content: bytes | None = None

    def write(self, *, manifest: bool = True) -> Settings:
        """Write model.pkl (or `content` as `model_name`), baseline.npy and, unless told otherwise, manifest.json."""
        if self.content is None:
            joblib.dump(self.model, self.path / self.model_name)
        else:
            (self.path / self.model_name).write_bytes(self.content)
        np.save(self.path / "baseline.npy", self.rows)
        if manifest:
            self.write_manifest()
        return self.settings

    def write_manifest(self, **changes: object) -> None:
        """Write the manifest of the files as they are now, with some of its fields replaced."""
        golden = self.rows[::20][:8]
        document = {
            "schemaVersion": 1,
            "generator": "test",
            "dataset": "iris",
            "task": self.task,
            "files": {
                name: {"sha256": self.digest(name), "size": (self.path / name).stat().st_size}
                for name in (self.model_name, "baseline.npy")
            },
            "libraries": {"scikit-learn": sklearn.__version__},
            "features": self.names,
            "classes": self.classes,
            "golden": changes.get("golden")
            or {"inputs": golden.tolist(), "predictions": self.model.predict(golden).tolist()},
            "profile": Profile.from_rows(self.rows, self.names).to_dict(),
            **changes,
        }
        (self.path / "manifest.json").write_text(json.dumps(document))

    def digest(self, name: str) -> str:
        """A file's sha256 in hex."""
        return hashlib.sha256((self.path / name).read_bytes()).hexdigest()

    @property
    def settings(self) -> Settings:
        """Settings that point here."""
        return Settings(
            model_path=self.path / "model.pkl",
            baseline_path=self.path / "baseline.npy",
            expectations_path=self.path / "expectations.json",
            runtime_config=self.path / "runtime.yaml",
        )


@dataclass
class Pod:
    """A running service, a client of its routes, and what it logged."""

    service: Service
    client: httpx.AsyncClient
    stream: io.BytesIO

    def lines(self) -> list[str]:
        """The log so far."""
        return self.stream.getvalue().decode().splitlines()

    async def predict(self, body: object, **query: str) -> httpx.Response:
        """POST /predict: bytes as they are, anything else as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.post("/predict", content=content, params=query)


@pytest.fixture(scope="session")
def iris() -> tuple[Any, Any]:
    """A fitted pipeline and the data set it was fitted on."""
    data = load_iris()
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(data.data, data.target), data


@pytest.fixture
def directory(tmp_path: Path, iris: tuple[Any, Any]) -> Directory:
    """An artifact directory of the iris model, not yet written."""
    model, data = iris
    return Directory(tmp_path, model, data.data, list(data.feature_names), [str(name) for name in data.target_names])


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Waits in the event loop until a condition holds, for a bounded time."""

    async def wait(condition: Callable[[], Any]) -> Any:
        async with asyncio.timeout(DEADLINE):
            while not (value := condition()):  # noqa: ASYNC110 - the conditions are state, not events
                await asyncio.sleep(0.005)
        return value

    return wait


@pytest.fixture
def serving(eventually: Callable[[Callable[[], Any]], Any]) -> Callable[..., Any]:
    """Gives, by `async with`, a running pod that has finished loading, for better or worse."""

    @contextlib.asynccontextmanager
    async def serve(settings: Settings, **changes: Any) -> AsyncIterator[Pod]:
        stream = io.BytesIO()
        service = Service(replace(settings, **changes), Log(stream=stream))
        transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
        async with service.running(), httpx.AsyncClient(transport=transport, base_url="http://pod") as client:
            await eventually(lambda: service.health()[1].get("reason") != "Loading")
            yield Pod(service, client, stream)

    return serve
