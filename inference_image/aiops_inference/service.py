"""One pod's life: load in the background, serve, follow the runtime settings, leave in order."""

import asyncio
import contextlib
import gc
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy.typing as npt

from aiops_drift import Expectations, Report
from aiops_inference import artifacts, forms
from aiops_inference.artifacts import Artifacts
from aiops_inference.caller import NOBODY, Caller
from aiops_inference.codec import encode, encode_error
from aiops_inference.errors import (
    ArtifactError,
    InferenceError,
    NotReadyError,
    RequestError,
    RuntimeConfigError,
    UnavailableError,
    describe,
    shown,
)
from aiops_inference.expectations import Validator
from aiops_inference.forms import Answered, Form
from aiops_inference.mirror import Mirror
from aiops_inference.monitor import SCORE_DIGITS, Judgement, Monitor, Rows
from aiops_inference.notify import Notifier
from aiops_inference.predictor import Asked, Batcher, listed
from aiops_inference.reporting import ReportPage
from aiops_inference.settings import RuntimeFile, Settings
from aiops_inference.state import Keeper, StateFile, restored
from aiops_inference.telemetry import Log, Metrics, Sampler
from aiops_inference.workers import Worker

if TYPE_CHECKING:
    from aiops_inference.peers import Peers

RUNTIME_INTERVAL: Final = 2.0  # seconds between two looks at runtime.yaml
ARTIFACTS_INTERVAL: Final = 2.0  # seconds between two looks at files that could not be loaded
OK: Final = 200
INTERNAL_ERROR: Final = 500
INTERNAL: Final = {"error": "internal error; the pod's log says more", "reason": "InternalError"}
SAMPLE_ROWS: Final = 3
SAMPLE_VALUES: Final = 256  # of all rows in one log line, unless a single row has more


@dataclass(frozen=True)
class Model:
    """All that answers a prediction; it is there whole or not at all."""

    artifacts: Artifacts
    batcher: Batcher
    monitor: Monitor
    keeper: Keeper
    validator: Validator


@dataclass
class Service:
    """The state behind the routes.

    Attributes:
        settings: the environment.
        log: where lines go.
        metrics: what /metrics shows.
        draining: set at SIGTERM; readiness says no while the socket still answers.
        worker: which of several processes this is; None for one alone.
        peers: the others.
    """

    settings: Settings
    log: Log
    metrics: Metrics = field(default_factory=Metrics)
    draining: bool = False
    worker: Worker | None = None

    def __post_init__(self) -> None:
        self.peers: Peers | None = None
        if self.worker:
            from aiops_inference import peers  # noqa: PLC0415 - one process alone need not pay for its HTTP client

            self.peers = peers.Peers(self.worker)
        self._model: Model | None = None
        self._unavailable = NotReadyError("the model is being loaded", "Loading")
        self._runtime = RuntimeFile(self.settings.runtime_config, self.settings.drift_threshold)
        self._log_sampler = Sampler(self.settings.log_predictions)
        self._notifier: Notifier | None = None
        if self.settings.webhook:
            secret = self.settings.webhook_secret
            self._notifier = Notifier(self.settings.webhook, self.metrics, self.log, secret=secret)
        self._mirror: Mirror | None = None
        self._page = ReportPage(self.settings.service_name, self.peers.name if self.peers else str)
        self._last_complaint = ""
        self.metrics.watch_log(self.log)

    # Life

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load, watch and deliver in the background of the running loop until the block ends."""
        self._read_runtime()
        tasks = [asyncio.create_task(self._load()), asyncio.create_task(self._follow_runtime())]
        if self._notifier:
            self._notifier.start()
        try:
            yield
        finally:
            # Nothing is counted any more: what must outlive the process is written here, before what may take seconds.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            mirrored = asyncio.create_task(self._mirror.stop()) if self._mirror else None  # 1 s at most, meanwhile
            if self._model:
                await self._model.keeper.stop()  # 2 s at most
                await self._model.validator.stop()  # as long
            if mirrored:
                await mirrored
            if self._notifier:
                await self._notifier.stop()  # 6 s at most
            if self.peers:
                await self.peers.close()
            self.log.info("stopped")

    def drain(self) -> None:
        """Say on /health that this pod is leaving; everything else goes on."""
        self.draining = True
        self.metrics.ready.set(0)

    async def _load(self) -> None:
        """Load the artifacts; where they cannot be served, try again when one of the files has changed."""
        started = time.monotonic()
        while True:
            signature = artifacts.signature(self.settings)
            try:
                loaded = await asyncio.to_thread(artifacts.load, self.settings)
            except ArtifactError as error:
                self._unavailable = NotReadyError(str(error), error.reason)
                self.log.failure("not ready", reason=error.reason, message=str(error))
            except Exception as error:  # noqa: BLE001 - not ready with a reason is better than dead without one
                self._unavailable = NotReadyError(describe(error), "LoadFailed")
                self.log.failure("not ready", reason="LoadFailed", message=describe(error))
            else:
                await self._publish(loaded, time.monotonic() - started)
                return
            while artifacts.signature(self.settings) == signature:  # noqa: ASYNC110 - files have no event to wait for
                await asyncio.sleep(ARTIFACTS_INTERVAL)

    async def _publish(self, loaded: Artifacts, seconds: float) -> None:
        for warning in loaded.warnings:
            self.log.warning("artifacts", message=warning)
        state = StateFile(self.settings.drift_state) if self.settings.drift_state else None
        recorder = await asyncio.to_thread(restored, state, loaded.profile, loaded.digest, self.log) if state else None
        monitor = Monitor(loaded.profile, loaded.digest, self._runtime.current, loaded.predictor.labels, recorder)
        keeper = Keeper(monitor, state, self.metrics, self.log)
        validator = Validator(loaded.profile.names, self.metrics, self.log, self._on_expectations_failed)
        if "sklearn" in sys.modules:
            # Every row was looked at before it got here: scikit-learn need not look again at each call.
            sys.modules["sklearn"].set_config(assume_finite=True, skip_parameter_validation=True)
        batcher = Batcher(
            loaded.predictor,
            lambda batch, rows, answer: self._settle(model, batch, rows, answer),
            self._failed,
            self.settings.max_waiting_rows,
            self.metrics.stages.begin,
        )
        self._model = model = Model(loaded, batcher, monitor, keeper, validator)
        gc.freeze()  # what is there now stays: the collector need not walk through all libraries again and again
        keeper.start()
        self.metrics.model_info.labels(loaded.digest, loaded.task).set(1)
        self.metrics.ready.set(0 if self.draining else 1)
        self.log.info("ready", model=loaded.digest, features=loaded.profile.names, seconds=round(seconds, 2))
        await self._apply(self._model)

    async def _follow_runtime(self) -> None:
        while True:
            await asyncio.sleep(RUNTIME_INTERVAL)
            try:
                if self._read_runtime():
                    self.log.info("runtime settings", **asdict(self._runtime.current))
                    if self._model:
                        await self._apply(self._model)
            except Exception as error:  # noqa: BLE001 - settings that cannot be applied must not be the last ones looked at
                self.log.failure("runtime settings", message=f"they cannot be applied: {describe(error)}")

    def _read_runtime(self) -> bool:
        try:
            return self._runtime.refresh()
        except (
            RuntimeConfigError
        ) as error:  # all that it raises: whatever is wrong with the file, the pod serves without it
            if str(error) != self._last_complaint:
                self.log.warning("runtime settings", message=str(error))
            self._last_complaint = str(error)
            return False

    async def _apply(self, model: Model) -> None:
        """Let the current runtime settings act on a loaded model."""
        current = self._runtime.current
        if unknown := model.monitor.apply(current):
            self.log.warning("runtime settings", message=f"the model has no features named {', '.join(unknown)}")
        await self._follow_shadow(model)
        if current.expectations == "disabled":
            await model.validator.stop("switched off in the settings")
        elif self.peers and not self.peers.validates:
            await model.validator.stop("worker 0 validates for all")
        elif model.artifacts.suite is None:
            await model.validator.stop(f"there is no {self.settings.expectations_path.name}")
        else:
            model.validator.start(model.artifacts.suite)

    async def _follow_shadow(self, model: Model) -> None:
        """Copy rows to the shadow of the settings, if there is one, and to no other."""
        wanted, before = self._runtime.current.shadow, self._mirror
        if before is not None and before.change(wanted):
            return
        self._mirror = Mirror(wanted, model.artifacts.task, self.metrics, self.log) if wanted else None
        if self._mirror:
            self._mirror.start()
        if before:
            await before.stop()

    # What the routes ask for

    def health(self) -> tuple[int, dict[str, Any]]:
        """Status and document of /health: 200 only where the model is loaded and its golden predictions match."""
        try:
            model = self._ready()
        except NotReadyError as error:
            return 503, {"status": "unavailable", "reason": error.reason, "message": shown(error)}
        if self.draining:
            return 503, {"status": "unavailable", "reason": "ShuttingDown", "message": "the pod is shutting down"}
        loaded = model.artifacts
        return OK, {
            "status": "ok",
            "model": {
                "digest": loaded.digest,
                "features": loaded.profile.names,
                "classes": loaded.classes,
                "task": loaded.task,
            },
        }

    async def drift(self, after: int, *, alone: bool = False) -> dict[str, Any]:
        """The document of /drift: of all workers, unless of this one `alone`; where there are several, `after` is for none.

        Raises:
            NotReadyError: there is no model, so there are no counts.
        """
        if self.peers is None:
            return (await self._report(after)).to_dict()
        return await (self._share() if alone else self.peers.drift(self._share))

    async def _report(self, after: int) -> Report:
        model = self._ready()
        report = await model.keeper.report(model.validator.expectations, after)
        # Added last: the file of the counts outlives the process, and what a mirror has found does not.
        return replace(report, shadowed=self._mirror.shadowed) if self._mirror else report

    async def _share(self) -> dict[str, Any]:
        report = await self._report(-1)
        return (self.peers.share(report) if self.peers else report).to_dict()

    async def exposition(self, *, alone: bool = False) -> bytes:
        """The text of /metrics: of all workers, unless of this one `alone`."""
        own = self.metrics.exposition()
        if self.peers is None:
            return own
        return self.peers.own_metrics(own) if alone else await self.peers.metrics(own)

    def asked_by_peer(self, scope: Mapping[str, Any]) -> bool:
        """Whether a request is another worker's, which wants to know of this one alone."""
        return self.peers is not None and self.peers.private(scope)

    async def drift_page(self) -> bytes:
        """The document of /drift/report.

        Raises:
            NotReadyError: there is no model, so there are no counts.
        """
        model = self._ready()
        report = model.monitor.report(model.validator.expectations, time.time())
        return await self._page.html(model.artifacts.profile, report, self._runtime.current, model.artifacts.classes)

    def submit(
        self, body: bytes, answer: Callable[[int, bytes], None], caller: Caller = NOBODY, form: Form = forms.plain
    ) -> Asked | None:
        """Have a body answered, now or in this tick; `answer` is called once, with status and content.

        Returns:
            What waits, to be told when nobody does any more; None where the answer was given at once.
        """
        came = time.perf_counter()
        try:
            model = self._ready()
            rows, document = form(body, model.monitor, self.settings.max_rows)
            asked = Asked(rows, answer, document, caller, came, time.perf_counter())
            model.batcher.submit(asked)
        except (RequestError, UnavailableError) as error:
            self.refuse(answer, error, caller)
            return None
        return asked

    def model(self) -> Model:
        """What is served.

        Raises:
            NotReadyError: nothing is.
        """
        return self._ready()

    def refuse(
        self, answer: Callable[[int, bytes], None], error: RequestError | UnavailableError, caller: Caller
    ) -> None:
        """Answer with an error; those that are the server's fault are logged."""
        if error.status >= 500:  # noqa: PLR2004 - the server's fault
            self.log.failure("prediction failed", reason=error.reason, message=str(error), **caller.fields)
        answer(error.status, encode_error(error))

    def _failed(self, asked: Asked, error: InferenceError) -> None:
        if isinstance(error, RequestError | UnavailableError):
            self.refuse(asked.answer, error, asked.caller)

    def _settle(self, model: Model, batch: list[Asked], rows: Rows, answer: npt.NDArray[Any]) -> None:
        """Answer requests that were predicted together, whatever happens: nobody else would."""
        try:
            self._answer(model, batch, rows, answer)
        except Exception as error:  # noqa: BLE001 - a defect must not leave its clients waiting
            self.log.failure("internal error", message=describe(error))
            for asked in batch:  # one that has its answer already takes no other
                asked.answer(INTERNAL_ERROR, encode(INTERNAL))

    def _answer(self, model: Model, batch: list[Asked], rows: Rows, answer: npt.NDArray[Any]) -> None:
        """Count, judge, log and answer."""
        monitor, stages = model.monitor, self.metrics.stages
        stages.predicted(batch)
        judgements = monitor.observe_batch(rows, [asked.rows.shape[0] for asked in batch], time.time(), answer)
        model.validator.offer(rows)
        stages.rows += rows.shape[0]
        stages.score = round(judgements[-1].score, SCORE_DIGITS)
        stages.end("drift")
        answers: list[tuple[Asked, int, bytes]] = []
        predictions, start = listed(answer), 0
        with self.log.together():
            for asked, judgement in zip(batch, judgements, strict=True):
                said = predictions[start : start + asked.rows.shape[0]]
                start += len(said)
                self._tell(monitor, asked, said, judgement)
                answered = Answered(asked.rows, said, judgement, monitor, model.artifacts.predictor)
                try:
                    document = asked.document(answered)
                    answers.append((asked, OK, document if isinstance(document, bytes) else encode(document)))
                except (RequestError, UnavailableError) as error:  # of what was asked for beside the predictions
                    answers.append((asked, error.status, encode_error(error)))
        stages.end("encode")
        for asked, status, content in answers:
            asked.answer(status, content)
        stages.end("write")
        if self._mirror is not None:
            sizes = [asked.rows.shape[0] for asked in batch]
            self._mirror.offer(rows, predictions, sizes, [status == OK for _, status, _ in answers])

    def _tell(self, monitor: Monitor, asked: Asked, predictions: list[Any], judgement: Judgement) -> None:
        """The log line of one request, and where it has drifted, whoever wants to know."""
        if self._log_sampler():
            rows = asked.rows
            sample = max(1, min(SAMPLE_ROWS, SAMPLE_VALUES // rows.shape[1]))
            self.log.prediction(
                rows[:sample].tolist(),
                predictions[:sample],
                round(judgement.score, SCORE_DIGITS),
                asked.caller,
                drifted=judgement.drifted,
            )
        if judgement.drifted:
            feature, worst, threshold = monitor.worst(judgement)
            what = {"score": worst, "feature": feature, "threshold": threshold, "rows": len(predictions)}
            self._tell_drift("z_score", what, asked.caller.fields)

    def _ready(self) -> Model:
        if self._model is None:
            raise NotReadyError(str(self._unavailable), self._unavailable.reason)
        return self._model

    def _on_expectations_failed(self, verdict: Expectations) -> None:
        self._tell_drift("great_expectations", {"failed": verdict.failed, "rows": verdict.evaluated_rows})

    def _tell_drift(self, detector: str, what: Mapping[str, object], caller: Mapping[str, str] | None = None) -> None:
        self.metrics.drift_events.labels(detector).inc()
        self.log.drift(detector=detector, **what, **(caller or {}))
        if self._notifier and self._runtime.current.webhook_muted:
            self.metrics.webhooks.labels("suppressed").inc()
        elif self._notifier and self._model:
            data = {**what, "model": self._model.artifacts.digest, "time": round(time.time(), 3)}
            cooldown = self._runtime.current.webhook_cooldown
            self._notifier.notify(self.settings.service_name, detector, data, cooldown)
