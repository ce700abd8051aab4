"""What the administrator's sink is told of an episode: a CloudEvent 1.0 in JSON, signed as Standard Webhooks asks for; pure.

Sources: the CloudEvents specification 1.0.2, JSON format, structured mode; the Standard Webhooks specification 1.0.
"""

import base64
import datetime as dt
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import orjson

from aiops_operator import names
from aiops_operator.conditions import condition_of, timestamp
from aiops_operator.names import Key

CONTENT_TYPE: Final = "application/cloudevents+json"
ONSET: Final = "io.aiops-quality.drift.onset"
CLEARED: Final = "io.aiops-quality.drift.cleared"
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the prefix is no secret
SECRET_BYTES: Final = range(24, 65)
_SHOWN: Final = ("detected", "score", "threshold", "worstFeature", "samples", "features")


@dataclass(frozen=True)
class Event:
    """One event, with the identity by which a receiver knows it again when it comes twice."""

    id: str
    body: bytes


def of_change(key: Key, before: Mapping[str, Any], after: Mapping[str, Any], now: dt.datetime) -> Sequence[Event]:
    """The events of a change of status: the end of one episode, the begin of another, mostly neither.

    The numbers are those of `status.drift`, strings as there.
    """
    was, goes_on = ((entry.get("drift") or {}) for entry in (before, after))
    if was.get("episode") == goes_on.get("episode"):
        return ()
    ended = [_event(CLEARED, key, was, after, now)] if was.get("episode") else []
    begun = [_event(ONSET, key, goes_on, after, now)] if goes_on.get("episode") else []
    return (*ended, *begun)


def headers(event: Event, secret: bytes, now: float) -> dict[str, str]:
    """What goes with each attempt at `now`, seconds since the epoch; the signature where there is a secret."""
    timestamp = str(int(now))
    sent = {"Content-Type": CONTENT_TYPE, "webhook-id": event.id, "webhook-timestamp": timestamp}
    if secret:
        signed = b"%b.%b.%b" % (event.id.encode(), timestamp.encode(), event.body)
        digest = hmac.new(secret, signed, hashlib.sha256).digest()
        sent["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return sent


def parse_secret(text: str) -> bytes:
    """The key in `whsec_…`.

    Raises:
        ValueError: another form; its text does not repeat what was given.
    """
    key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True) if text.startswith(SECRET_PREFIX) else b""
    if len(key) not in SECRET_BYTES:
        message = f"it is not {SECRET_PREFIX} and the base64 of {SECRET_BYTES.start} to {SECRET_BYTES.stop - 1} bytes"
        raise ValueError(message)
    return key


def _event(type_: str, key: Key, episode: Mapping[str, Any], after: Mapping[str, Any], now: dt.datetime) -> Event:
    drift, condition = after.get("drift") or {}, condition_of(after, "DriftDetected")
    # The same however often it is made, another for the end than for the begin, and fit for a header, whatever a status says.
    identity = f"{quote(str(episode['episode']))}.{type_.rpartition('.')[2]}"
    model = (after.get("model") or {}).get("digest")
    document = {
        "specversion": "1.0",
        "id": identity,
        "source": names.INFERENCE_SERVICE.path(key.namespace, key.name),
        "type": type_,
        "subject": str(key),
        "time": timestamp(now),
        "datacontenttype": "application/json",
        "data": {
            "namespace": key.namespace,
            "name": key.name,
            "episode": episode["episode"],
            **({"since": episode["since"]} if "since" in episode else {}),
            **{name: drift[name] for name in _SHOWN if name in drift},
            **({"modelDigest": model} if model else {}),
            "reason": condition.get("reason", ""),
            "message": condition.get("message", ""),
        },
    }
    return Event(identity, orjson.dumps(document))
