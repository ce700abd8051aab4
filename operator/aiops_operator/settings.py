"""The operator's settings: read once from the environment, then frozen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiops_operator.errors import SettingsError

LOG_FORMATS: Final = ("json", "plain")
LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
MAX_PORT: Final = 65535


@dataclass(frozen=True)
class Settings:
    """What an installation decides; each attribute names its variable."""

    inference_image: str = "aiops-quality:latest"
    """INFERENCE_IMAGE: the image of services whose `spec.image` is left out."""

    watch_namespaces: tuple[str, ...] = ()
    """WATCH_NAMESPACES: comma-separated; empty watches all namespaces. Named namespaces need only a Role in each, and
    then CRDs that come later are found by discovery alone (up to `DISCOVERY_INTERVAL` seconds later)."""

    port: int = 8080
    """OPERATOR_PORT: serves /metrics, /healthz (liveness) and /readyz. 0 takes any free port, which is logged."""

    lease_name: str = ""
    """LEASE_NAME: the Lease by which one of several operators is the one that writes; empty: this one is alone."""

    lease_namespace: str = ""
    """LEASE_NAMESPACE: where that Lease is; needed with LEASE_NAME."""

    poll_interval: float = 5.0
    """POLL_INTERVAL: seconds between two looks at the `/drift` of a service's pods."""

    resync_interval: float = 600.0
    """RESYNC_INTERVAL: seconds after which a service is looked at again although nothing happened, ±10%."""

    log_format: str = "json"
    """LOG_FORMAT: `json` (one object a line) or `plain`."""

    log_level: str = "INFO"
    """LOG_LEVEL: DEBUG, INFO, WARNING or ERROR."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the settings; a variable that is empty counts as unset.

        Raises:
            SettingsError: a value that cannot be used, with the variable's name.
        """
        default = cls()
        return cls(
            inference_image=environ.get("INFERENCE_IMAGE") or default.inference_image,
            watch_namespaces=_names(environ.get("WATCH_NAMESPACES", "")),
            port=_port(environ, default.port),
            lease_name=environ.get("LEASE_NAME", ""),
            lease_namespace=_lease_namespace(environ),
            poll_interval=_seconds(environ, "POLL_INTERVAL", default.poll_interval),
            resync_interval=_seconds(environ, "RESYNC_INTERVAL", default.resync_interval),
            log_format=_choice(environ, "LOG_FORMAT", default.log_format, LOG_FORMATS),
            log_level=_choice(environ, "LOG_LEVEL", default.log_level, LOG_LEVELS),
        )


def _names(value: str) -> tuple[str, ...]:
    names = (name.strip() for name in value.split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    value = environ.get(name) or str(default)
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        message = f"{name} must be a number of seconds greater than 0, not {value!r}"
        raise SettingsError(message)
    return seconds


def _port(environ: Mapping[str, str], default: int) -> int:
    value = environ.get("OPERATOR_PORT") or str(default)
    if not value.isascii() or not value.isdigit() or int(value) > MAX_PORT:
        message = f"OPERATOR_PORT must be a port from 0 to {MAX_PORT}, not {value!r}"
        raise SettingsError(message)
    return int(value)


def _lease_namespace(environ: Mapping[str, str]) -> str:
    namespace = environ.get("LEASE_NAMESPACE", "")
    if environ.get("LEASE_NAME") and not namespace:
        message = "LEASE_NAMESPACE must name the namespace of the Lease that LEASE_NAME names"
        raise SettingsError(message)
    return namespace


def _choice(environ: Mapping[str, str], name: str, default: str, choices: tuple[str, ...]) -> str:
    value = environ.get(name) or default
    matching = [choice for choice in choices if choice.lower() == value.lower()]
    if not matching:
        message = f"{name} must be one of {', '.join(choices)}, not {value!r}"
        raise SettingsError(message)
    return matching[0]
