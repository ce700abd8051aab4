"""The operator's settings: read once from the environment, then frozen."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from aiops_operator import cloudevent
from aiops_operator.errors import SettingsError

LOG_FORMATS: Final = ("json", "plain")
LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
MAX_PORT: Final = 65535
PEER_FIELDS: Final = frozenset({"namespaceSelector", "podSelector", "ipBlock"})


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

    drift_sink_url: str = field(default="", repr=False)
    """DRIFT_SINK_URL: http or https; gets a CloudEvent when an episode of drift begins or is over. Empty: nobody does."""

    drift_sink_secret: bytes = field(default=b"", repr=False)
    """DRIFT_SINK_SECRET: `whsec_` and the base64 of 24 to 64 bytes, to sign them with; empty: they are not signed."""

    network_policy_peers: tuple[Mapping[str, Any], ...] = ()
    """NETWORK_POLICY_PEERS: a JSON list of NetworkPolicy peers (the operator's own pods, Prometheus) that every
    NetworkPolicy of `spec.networkPolicy` lets in."""

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
            drift_sink_url=_sink_url(environ),
            drift_sink_secret=_sink_secret(environ),
            network_policy_peers=_peers(environ),
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


def _sink_url(environ: Mapping[str, str]) -> str:
    """Neither this nor the next repeats what was given: a URL's path often is its password."""
    url = environ.get("DRIFT_SINK_URL", "")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if url and not (usable and url.isascii() and url.isprintable() and " " not in url):
        message = "DRIFT_SINK_URL must be a URL such as https://events.example.com/drift, in ASCII"
        raise SettingsError(message)
    return url


def _sink_secret(environ: Mapping[str, str]) -> bytes:
    text = environ.get("DRIFT_SINK_SECRET", "")
    try:
        return cloudevent.parse_secret(text) if text else b""
    except ValueError as error:
        message = f"DRIFT_SINK_SECRET cannot be used: {error}"
        raise SettingsError(message) from None


def _peers(environ: Mapping[str, str]) -> tuple[Mapping[str, Any], ...]:
    value = environ.get("NETWORK_POLICY_PEERS") or "[]"
    try:
        peers = json.loads(value)
    except (ValueError, RecursionError):
        peers = None
    if not isinstance(peers, list) or not all(map(_is_peer, peers)):
        message = (
            f"NETWORK_POLICY_PEERS must be a JSON list of objects with {', '.join(sorted(PEER_FIELDS))}, not {value!r}"
        )
        raise SettingsError(message)
    # The API server keeps no empty parts: with them each look at a policy would seem to find another.
    return tuple({name: {key: at for key, at in part.items() if at} for name, part in peer.items()} for peer in peers)


def _is_peer(peer: object) -> bool:
    """An object without a selector would be refused with each policy, and one with an unknown field lets in too many."""
    return (
        isinstance(peer, dict)
        and bool(peer)
        and peer.keys() <= PEER_FIELDS
        and all(isinstance(part, dict) for part in peer.values())
    )


def _choice(environ: Mapping[str, str], name: str, default: str, choices: tuple[str, ...]) -> str:
    value = environ.get(name) or default
    matching = [choice for choice in choices if choice.lower() == value.lower()]
    if not matching:
        message = f"{name} must be one of {', '.join(choices)}, not {value!r}"
        raise SettingsError(message)
    return matching[0]
