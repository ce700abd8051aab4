"""What the process is told: the environment once, `runtime.yaml` again and again; the environment wins."""

import math
import re
import reprlib
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import yaml

from aiops_drift.wire import MAX_REVISION
from aiops_inference.cloudevent import parse_secret
from aiops_inference.errors import RuntimeConfigError, SettingsError, describe

DEFAULT_Z_SCORE: Final = 5.0
DEFAULT_COOLDOWN: Final = 300.0
DEFAULT_MIN_SAMPLES: Final = 50
DEFAULT_FALSE_ALARM_INTERVAL: Final = 30 * 86400.0
DEFAULT_PERCENT: Final = 100
MAX_ROWS_ASKED: Final = 10**12
MAX_RUNTIME_BYTES: Final = 1 << 20  # a ConfigMap cannot carry more
MAX_PORT: Final = 65535
MAX_WORKERS: Final = 64
MOST: Final = 1 << 62
DRIFT_STATE: Final = Path("/tmp/aiops-drift/state.json")  # noqa: S108 - a pod has its own emptyDir there
EXPECTATIONS_MODES: Final = ("auto", "disabled")
URI_SCHEMES: Final = ("s3", "gs", "az", "abfs", "abfss", "https")
LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")

ExpectationsMode = Literal["auto", "disabled"]

# Inside the cluster: no TLS, no password, no path. What a host may be called is for the resolver to say.
_SHADOW_URL: Final = re.compile(r"http://(?:[a-z0-9][a-z0-9._-]*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.IGNORECASE)


@dataclass(frozen=True)
class Settings:
    """The environment, checked once at the start.

    Attributes:
        model_path: MODEL_PATH, the model (.pkl, .joblib, .skops, .onnx; `loaders.found`); `manifest.json` is looked for beside it.
        baseline_path: BASELINE_PATH, the training rows as `.npy`.
        expectations_path: EXPECTATIONS_PATH, a Great Expectations 1.x suite; no file, no validation.
        model_sha256: MODEL_SHA256 in 64 hex digits, the only bytes that may be loaded; "" for any.
        webhook: DRIFT_WEBHOOK, where drift is posted to; "" for nowhere. A secret: never logged.
        webhook_secret: DRIFT_WEBHOOK_SECRET, the key that signs what is posted; empty for no signature. Never logged.
        runtime_config: RUNTIME_CONFIG, the file with what may change while the process runs.
        drift_state: DRIFT_STATE, the file that the drift counts outlive the process in, which no other may use; `off`, here None,
            for none.
        drift_threshold: DRIFT_THRESHOLD, in standard deviations; None leaves it to the file.
        service_name: SERVICE_NAME, what the webhook calls this service; the host name where unset.
        log_level: LOG_LEVEL, the least severe level that is written.
        log_predictions: LOG_PREDICTIONS, the share of requests that get their log line, 0 to 1.
        host: HOST, the address to listen on.
        port: PORT.
        workers: WORKERS, processes that serve; each has a copy of the model and counts of its own.
        max_body_bytes: MAX_BODY_BYTES, of one request.
        max_rows: MAX_ROWS, of one request.
        max_waiting_rows: MAX_WAITING_ROWS, of all requests that wait for the model; beyond it they are turned away.
        max_model_bytes: MAX_MODEL_BYTES, of each artifact file.
        drain_seconds: DRAIN_SECONDS between SIGTERM (readiness turns 503) and the end of listening.
    """

    model_path: Path = Path("/models/model.pkl")
    baseline_path: Path = Path("/models/baseline.npy")
    expectations_path: Path = Path("/models/expectations.json")
    model_sha256: str = ""
    webhook: str = field(default="", repr=False)
    webhook_secret: bytes = field(default=b"", repr=False)
    runtime_config: Path = Path("/etc/aiops/runtime.yaml")
    drift_state: Path | None = None
    drift_threshold: float | None = None
    service_name: str = "aiops-inference"
    log_level: str = "INFO"
    log_predictions: float = 1.0
    host: str = "0.0.0.0"  # noqa: S104 - a pod is reached from outside itself
    port: int = 8000
    workers: int = 1
    max_body_bytes: int = 8 << 20
    max_rows: int = 10_000
    max_waiting_rows: int = 20_000
    max_model_bytes: int = 2 << 30
    drain_seconds: float = 2.0

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the variables named above; an empty one counts as unset.

        Raises:
            SettingsError: a value out of its range, or REQUIRE_WEBHOOK without DRIFT_WEBHOOK.
        """
        read = _Environment(environ)
        webhook = read.url("DRIFT_WEBHOOK")
        if read.flag("REQUIRE_WEBHOOK") and not webhook:
            message = "REQUIRE_WEBHOOK is true, but DRIFT_WEBHOOK is empty: set it to the URL that drift is posted to"
            raise SettingsError(message)
        return cls(
            model_path=read.path("MODEL_PATH", cls.model_path),
            baseline_path=read.path("BASELINE_PATH", cls.baseline_path),
            expectations_path=read.path("EXPECTATIONS_PATH", cls.expectations_path),
            model_sha256=read.digest("MODEL_SHA256"),
            webhook=webhook,
            webhook_secret=read.secret("DRIFT_WEBHOOK_SECRET"),
            runtime_config=read.path("RUNTIME_CONFIG", cls.runtime_config),
            drift_state=read.path_or_off("DRIFT_STATE", DRIFT_STATE),
            drift_threshold=read.threshold("DRIFT_THRESHOLD"),
            service_name=read.text("SERVICE_NAME", socket.gethostname()),
            log_level=read.choice("LOG_LEVEL", cls.log_level, LOG_LEVELS),
            log_predictions=read.number("LOG_PREDICTIONS", cls.log_predictions, most=1),
            host=read.text("HOST", cls.host),
            port=read.whole("PORT", cls.port, MAX_PORT),
            workers=read.whole("WORKERS", cls.workers, MAX_WORKERS),
            max_body_bytes=read.whole("MAX_BODY_BYTES", cls.max_body_bytes),
            max_rows=read.whole("MAX_ROWS", cls.max_rows),
            max_waiting_rows=read.whole("MAX_WAITING_ROWS", cls.max_waiting_rows),
            max_model_bytes=read.whole("MAX_MODEL_BYTES", cls.max_model_bytes),
            drain_seconds=read.number("DRAIN_SECONDS", cls.drain_seconds, most=600),
        )


@dataclass(frozen=True)
class FetchSettings:
    """The environment of the init container that fetches artifacts.

    Attributes:
        uri: ARTIFACTS_URI, the directory with the files.
        model_path: MODEL_PATH, where the model goes to, `manifest.json` beside it; its name is the one in the directory.
        baseline_path: BASELINE_PATH, likewise.
        expectations_path: EXPECTATIONS_PATH, likewise.
        model_sha256: MODEL_SHA256 in 64 hex digits, the only bytes that may be put there; "" for any.
        max_model_bytes: MAX_MODEL_BYTES, of all files.
        log_level: LOG_LEVEL, the least severe level that is written.
    """

    uri: str
    model_path: Path = Settings.model_path
    baseline_path: Path = Settings.baseline_path
    expectations_path: Path = Settings.expectations_path
    model_sha256: str = ""
    max_model_bytes: int = Settings.max_model_bytes
    log_level: str = Settings.log_level

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "FetchSettings":
        """Read the variables named above; an empty one counts as unset.

        Raises:
            SettingsError: no URI, one of a scheme that is not known or with a password, or a value out of its range.
        """
        read = _Environment(environ)
        return cls(
            uri=read.uri("ARTIFACTS_URI"),
            model_path=read.path("MODEL_PATH", cls.model_path),
            baseline_path=read.path("BASELINE_PATH", cls.baseline_path),
            expectations_path=read.path("EXPECTATIONS_PATH", cls.expectations_path),
            model_sha256=read.digest("MODEL_SHA256"),
            max_model_bytes=read.whole("MAX_MODEL_BYTES", cls.max_model_bytes),
            log_level=read.choice("LOG_LEVEL", cls.log_level, LOG_LEVELS),
        )


@dataclass(frozen=True)
class ShadowSettings:
    """A second model that is given copies of rows, so that its predictions can be compared.

    Attributes:
        url: where its pods answer `/predict`: http, a host, and a port unless it is 80.
        revision: which model it is, at most 64 characters.
        share: of the requests that are copied, above 0 to 1.
    """

    url: str
    revision: str
    share: float = 1.0


@dataclass(frozen=True)
class RuntimeSettings:
    """What may change while the process runs.

    Attributes:
        z_score: the seed rule's threshold, in standard deviations of the baseline.
        features: the same for single features, by name.
        expectations: `auto` validates where there is a suite, `disabled` never.
        webhook_cooldown: seconds between two webhooks of one detector.
        webhook_muted: whether none is sent, because a person has acknowledged the drift that is on.
        min_samples: rows below which the pod's page has no verdict.
        average_run_length: rows between two false alarms on it; None where the next says it in time.
        false_alarm_interval: seconds between two; 0 where only the mean is watched.
        shadow: the second model; None where there is none.
    """

    z_score: float = DEFAULT_Z_SCORE
    features: Mapping[str, float] = field(default_factory=dict)
    expectations: ExpectationsMode = "auto"
    webhook_cooldown: float = DEFAULT_COOLDOWN
    webhook_muted: bool = False
    min_samples: int = DEFAULT_MIN_SAMPLES
    average_run_length: float | None = None
    false_alarm_interval: float = DEFAULT_FALSE_ALARM_INTERVAL
    shadow: ShadowSettings | None = None

    @classmethod
    def parse(cls, content: bytes, drift_threshold: float | None = None) -> "RuntimeSettings":
        """Read the file's bytes; `drift_threshold`, from the environment, wins over the file's `zScoreThreshold`.

        Keys that are not known are left alone: an operator may be newer than this image.

        Raises:
            RuntimeConfigError: not YAML of the expected form, or a number out of its range.
        """
        if len(content) > MAX_RUNTIME_BYTES:
            message = f"it has {len(content)} bytes, more than {MAX_RUNTIME_BYTES}"
            raise RuntimeConfigError(message)
        try:
            document = yaml.safe_load(content)
        except Exception as error:  # what a tag makes of its text raises anything: `!!bool "foo"` a KeyError, for one
            message = f"it is not YAML: {describe(error)}"
            raise RuntimeConfigError(message) from error
        try:
            return cls._from_document(document, drift_threshold)
        except RuntimeConfigError:
            raise
        except Exception as error:
            message = f"it cannot be understood: {describe(error)}"
            raise RuntimeConfigError(message) from error

    @classmethod
    def _from_document(cls, document: object, drift_threshold: float | None) -> "RuntimeSettings":
        whole = _mapping(document, "the file")
        drift = _mapping(whole.get("drift"), "drift")
        mode = _mapping(drift.get("expectations"), "drift.expectations").get("mode", "auto")
        if mode not in EXPECTATIONS_MODES:
            message = f"drift.expectations.mode is {_shown(mode)}; it must be auto or disabled"
            raise RuntimeConfigError(message)
        z_score = _positive(drift.get("zScoreThreshold", DEFAULT_Z_SCORE), "drift.zScoreThreshold")
        webhook = _mapping(drift.get("webhook"), "drift.webhook")
        cooldown = webhook.get("cooldown", DEFAULT_COOLDOWN)
        run_length = drift.get("averageRunLength")
        return cls(
            z_score=z_score if drift_threshold is None else drift_threshold,
            features=_features(drift.get("features")),
            expectations=mode,
            webhook_cooldown=_zero_or_positive(cooldown, "drift.webhook.cooldown"),
            webhook_muted=webhook.get("muted") is True,
            min_samples=int(_rows(drift.get("minSamples", DEFAULT_MIN_SAMPLES), "drift.minSamples")),
            average_run_length=None if run_length is None else _rows(run_length, "drift.averageRunLength"),
            false_alarm_interval=_zero_or_positive(
                drift.get("falseAlarmInterval", DEFAULT_FALSE_ALARM_INTERVAL), "drift.falseAlarmInterval"
            ),
            shadow=None if whole.get("shadow") is None else _shadow(_mapping(whole["shadow"], "shadow")),
        )


@dataclass
class RuntimeFile:
    """The runtime settings as last read well.

    Attributes:
        path: the file, a mounted ConfigMap; it may be absent.
        drift_threshold: the environment's override.
        current: what holds now.
    """

    path: Path
    drift_threshold: float | None = None
    current: RuntimeSettings = field(init=False)
    _content: bytes | None = field(default=None, init=False)
    _read_well: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.current = RuntimeSettings.parse(b"", self.drift_threshold)

    def refresh(self) -> bool:
        """Look at the file; True where other settings hold now.

        A file that is not there changes nothing: a mount that is being replaced must not fall back to the defaults.

        Raises:
            RuntimeConfigError: the file is broken, told once for each content; `current` stays as it was: the last good
                settings, or the defaults.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return False
        except OSError as error:
            message = f"{self.path} cannot be read: {error.strerror}"
            raise RuntimeConfigError(message) from error
        if content == self._content:
            return False
        self._content = content
        try:
            fresh = RuntimeSettings.parse(content, self.drift_threshold)
        except RuntimeConfigError as error:
            held = "the last good settings stay" if self._read_well else "the defaults are used"
            message = f"{self.path} is refused, {held}: {error}"
            raise RuntimeConfigError(message) from error
        self._read_well = True
        changed = fresh != self.current
        self.current = fresh
        return changed


def _mapping(value: object, place: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        message = f"{place} is not a mapping"
        raise RuntimeConfigError(message)
    return value


def _positive(value: object, place: str) -> float:
    # Compared with the largest float, not with infinity: an integer of 400 digits is below that.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= sys.float_info.max:
        message = f"{place} is {_shown(value)}; it must be a number above 0"
        raise RuntimeConfigError(message)
    return float(value)


def _zero_or_positive(value: object, place: str) -> float:
    """Above 0, or 0, which says that there shall be none."""
    return 0.0 if value == 0 and value is not False else _positive(value, place)


def _rows(value: object, place: str) -> float:
    rows = _positive(value, place)
    if not 1 <= rows <= MAX_ROWS_ASKED:
        message = f"{place} is {_shown(value)}; it must be a number of rows from 1 to {MAX_ROWS_ASKED}"
        raise RuntimeConfigError(message)
    return rows


def _shadow(fields: Mapping[str, Any]) -> ShadowSettings:
    url, revision, percent = fields.get("url"), fields.get("revision"), fields.get("percent", DEFAULT_PERCENT)
    if not isinstance(url, str) or not _SHADOW_URL.fullmatch(url) or not _has_port(url):
        message = f"shadow.url is {_shown(url)}; it must be http:// with a host and perhaps a port, and nothing else"
        raise RuntimeConfigError(message)
    if not isinstance(revision, str) or not 1 <= len(revision) <= MAX_REVISION:
        message = f"shadow.revision is {_shown(revision)}; it must be a text of at most {MAX_REVISION} characters"
        raise RuntimeConfigError(message)
    if type(percent) is not int or not 1 <= percent <= 100:  # noqa: PLR2004 - of a hundred
        message = f"shadow.percent is {_shown(percent)}; it must be a whole number from 1 to 100"
        raise RuntimeConfigError(message)
    return ShadowSettings(url, revision, percent / 100)


def _has_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:  # above 65535, or an address of IPv6 that is none
        return False


def _features(value: object) -> dict[str, float]:
    if value is None:
        return {}
    if not isinstance(value, list):
        message = "drift.features is not a list"
        raise RuntimeConfigError(message)
    thresholds: dict[str, float] = {}
    for i, item in enumerate(value):
        place = f"drift.features[{i}]"
        entry = _mapping(item, place)
        name = entry.get("name")
        if not isinstance(name, str) or not name:
            message = f"{place}.name is {_shown(name)}; it must be a feature's name"
            raise RuntimeConfigError(message)
        thresholds[name] = _positive(entry.get("zScoreThreshold"), f"{place}.zScoreThreshold")
    return thresholds


def _shown(value: object) -> str:
    """A wrong value in a few words: written out, aliases of aliases in YAML can be longer than any memory."""
    return reprlib.repr(value)


class _Environment:
    """Variables with their types; each error names its variable and what it should be."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str, default: str) -> str:
        return self._environ.get(name, "").strip() or default

    def path(self, name: str, default: Path) -> Path:
        return Path(self.text(name, str(default)))

    def path_or_off(self, name: str, default: Path) -> Path | None:
        return None if self.text(name, "").lower() == "off" else self.path(name, default)

    def flag(self, name: str) -> bool:
        value = self.text(name, "false").lower()
        if value in {"true", "1", "yes", "on"}:
            return True
        if value in {"false", "0", "no", "off"}:
            return False
        raise self._wrong(name, "true or false")

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        value = self.text(name, default).upper()
        if value not in choices:
            raise self._wrong(name, f"one of {', '.join(choices)}")
        return value

    def digest(self, name: str) -> str:
        value = self.text(name, "").lower().removeprefix("sha256:")
        if value and not re.fullmatch("[0-9a-f]{64}", value):
            raise self._wrong(name, "64 hexadecimal digits, with or without sha256: before them")
        return value

    def url(self, name: str) -> str:
        value = self.text(name, "")
        try:
            parts = urlsplit(value)
            fine = not value or (parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0)
        except ValueError:
            fine = False
        if not fine:  # the value itself may hold a token: it is not repeated
            message = f"{name} must be an http:// or https:// URL"
            raise SettingsError(message)
        return value

    def uri(self, name: str) -> str:
        value = self.text(name, "")
        try:
            parts = urlsplit(value)
            fine = parts.scheme in URI_SCHEMES and bool(parts.hostname) and not parts.query and not parts.fragment
            fine &= parts.scheme.startswith("abfs") or "@" not in parts.netloc
        except ValueError:
            fine = False
        if not fine or not value.isascii() or not value.isprintable():  # it may hold a signature: it is not repeated
            message = f"{name} must be a URI of {', '.join(URI_SCHEMES)} without password, query and fragment"
            raise SettingsError(message)
        return value

    def secret(self, name: str) -> bytes:
        value = self.text(name, "")
        try:
            return parse_secret(value) if value else b""
        except ValueError as error:  # the value itself is not repeated
            message = f"{name}: {error}"
            raise SettingsError(message) from None

    def whole(self, name: str, default: int, most: int = MOST) -> int:
        try:
            value = int(self.text(name, str(default)))
        except ValueError:
            value = 0
        if not 1 <= value <= most:
            raise self._wrong(name, "a whole number" + (f" from 1 to {most}" if most < MOST else ", at least 1"))
        return value

    def number(self, name: str, default: float, most: float) -> float:
        try:
            value = float(self.text(name, str(default)))
        except ValueError:
            value = math.nan
        if not 0 <= value <= most:
            raise self._wrong(name, f"a number from 0 to {most:g}")
        return value

    def threshold(self, name: str) -> float | None:
        if not self.text(name, ""):
            return None
        try:
            value = float(self.text(name, ""))
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise self._wrong(name, "a number of standard deviations above 0")
        return value

    def _wrong(self, name: str, wanted: str) -> SettingsError:
        return SettingsError(f"{name} is {self._environ.get(name, '')!r}; it must be {wanted}")
