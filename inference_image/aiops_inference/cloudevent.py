"""What a webhook carries: a CloudEvent 1.0 in JSON, signed as Standard Webhooks asks for.

Sources: the CloudEvents specification 1.0.2, JSON format, structured mode; the Standard Webhooks specification 1.0.
"""

import base64
import datetime as dt
import hashlib
import hmac
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiops_inference.codec import encode

CONTENT_TYPE: Final = "application/cloudevents+json"
DRIFT_DETECTED: Final = "io.aiops-quality.drift.detected"
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the prefix is no secret
SECRET_BYTES: Final = range(24, 65)


@dataclass(frozen=True)
class Event:
    """One event, with the identity by which a receiver knows it again when it comes twice."""

    id: str
    detector: str
    body: bytes


def drift_detected(service: str, detector: str, data: Mapping[str, Any], now: float) -> Event:
    """The event that `detector` saw drift in `service` at `now`, seconds since the epoch."""
    identity = str(uuid.uuid4())
    document = {
        "specversion": "1.0",
        "id": identity,
        "source": f"/inferenceservices/{service}",
        "type": DRIFT_DETECTED,
        "subject": str(data.get("feature") or detector),
        "time": dt.datetime.fromtimestamp(now, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": {"event": "drift", "detector": detector, "service": service, **data},
    }
    return Event(identity, detector, encode(document))


def headers(event: Event, secret: bytes, now: float) -> dict[str, str]:
    """What goes with each attempt; the signature where there is a secret."""
    timestamp = str(int(now))
    sent = {"content-type": CONTENT_TYPE, "webhook-id": event.id, "webhook-timestamp": timestamp}
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
