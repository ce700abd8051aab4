"""What the administrator's sink is told."""

import base64
import datetime as dt
import hashlib
import hmac
import json

from hypothesis import given
from hypothesis import strategies as st

from aiops_operator import cloudevent
from aiops_operator.cloudevent import CLEARED, ONSET, Event
from aiops_operator.names import Key

KEY = Key("models", "iris")
SECRET = b"k" * 24
FEATURES = [{"name": "length", "score": "7.4", "threshold": "5"}]
DRIFT = {
    "detected": True,
    "episode": "uid-1-20300102030405",
    "since": "2030-01-02T03:04:05Z",
    "score": "7.4",
    "threshold": "5",
    "worstFeature": "length",
    "samples": 160,
    "features": FEATURES,
}
CONDITION = {
    "type": "DriftDetected",
    "status": "True",
    "reason": "ScoreAboveThreshold",
    "message": "They have drifted.",
}
DRIFTING = {"conditions": [CONDITION], "model": {"digest": "sha256:3f9a"}, "drift": DRIFT}
HEALTHY = {"conditions": [], "drift": {"detected": False, "score": "0.4", "threshold": "5", "samples": 128}}


def told(before, after, now):
    """The documents of a change of status."""
    return [json.loads(event.body) for event in cloudevent.of_change(KEY, before, after, now)]


def test_an_episode_that_begins_is_an_event(now):
    """With what a CloudEvent must have, and all that the status says of the drift."""
    (event,) = cloudevent.of_change(KEY, {}, DRIFTING, now)
    assert "uid-1-20300102030405.onset" == event.id
    assert {
        "specversion": "1.0",
        "id": event.id,
        "source": "/apis/aiops-quality.io/v1alpha1/namespaces/models/inferenceservices/iris",
        "type": ONSET,
        "subject": "models/iris",
        "time": "2030-01-02T03:04:05Z",
        "datacontenttype": "application/json",
        "data": DRIFT
        | {
            "namespace": "models",
            "name": "iris",
            "modelDigest": "sha256:3f9a",
            "reason": "ScoreAboveThreshold",
            "message": "They have drifted.",
        },
    } == json.loads(event.body)


def test_an_episode_that_is_over_is_another_event(now):
    """It names the episode that was, with the numbers of now."""
    (event,) = told(DRIFTING, HEALTHY, now)
    assert (CLEARED, "uid-1-20300102030405.cleared") == (event["type"], event["id"])
    assert ("0.4", DRIFT["episode"], DRIFT["since"]) == tuple(
        event["data"][name] for name in ("score", "episode", "since")
    )


def test_an_episode_that_goes_on_is_none(now):
    """Whatever else changes; nor is a status without one."""
    worse = DRIFTING | {"drift": DRIFT | {"score": "99.0", "acknowledged": True}}
    assert [[], [], [], []] == [
        told(*pair, now) for pair in ((DRIFTING, worse), (HEALTHY, {}), ({}, HEALTHY), ({}, {}))
    ]


def test_another_episode_ends_the_one_before(now):
    """The end comes first."""
    other = DRIFTING | {"drift": DRIFT | {"episode": "e-2"}}
    assert [CLEARED, ONSET] == [event["type"] for event in told(DRIFTING, other, now)]


@given(episode=st.text(min_size=1, max_size=80))
def test_whatever_a_status_calls_an_episode_fits_a_header(episode):
    """Somebody else may have written the status."""
    now = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    (event,) = cloudevent.of_change(KEY, {}, {"drift": {"episode": episode}}, now)
    assert event.id.isascii()
    assert event.id.isprintable()


def test_an_event_is_signed_where_there_is_a_secret():
    """As Standard Webhooks asks for, over id, time and body."""
    event = Event("e-1.onset", b"{}")
    plain = {
        "Content-Type": "application/cloudevents+json",
        "webhook-id": "e-1.onset",
        "webhook-timestamp": "1000",
    }
    digest = hmac.new(SECRET, b"e-1.onset.1000.{}", hashlib.sha256).digest()
    signed = plain | {"webhook-signature": f"v1,{base64.b64encode(digest).decode()}"}
    assert (plain, signed) == (cloudevent.headers(event, b"", 1000.9), cloudevent.headers(event, SECRET, 1000.9))
