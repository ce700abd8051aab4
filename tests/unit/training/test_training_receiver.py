"""Events of drift become dispatches."""

import base64
import datetime as dt
import json

import pytest
from standardwebhooks import Webhook

from aiops_training.errors import ReceiverError
from aiops_training.receiver import ONSET, REMEMBERED, DispatchError, Seen, handle, webhook

SECRET = f"whsec_{base64.b64encode(b'k' * 32).decode()}"
EVENT = {
    "type": ONSET,
    "subject": "shop/iris",
    "data": {"episode": "e1", "score": "9", "features": [], "worstFeature": "x"},
}


def sent(event=EVENT, identity="e1.onset", age=0, secret=SECRET):
    """Headers and body as the operator sends them."""
    body = json.dumps(event)
    then = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=age)
    signature = Webhook(secret).sign(identity, then, body)
    headers = {"webhook-id": identity, "webhook-timestamp": str(int(then.timestamp())), "webhook-signature": signature}
    return headers, body.encode()


def test_an_onset_is_dispatched_once():
    """However often the operator sends it."""
    dispatched, seen, verifier = [], Seen(), webhook(SECRET)

    codes = [handle(verifier, seen, dispatched.append, *sent())[0] for _ in range(3)]

    assert [202, 200, 200] == codes
    assert [{"subject": "shop/iris", "episode": "e1", "score": "9", "worstFeature": "x"}] == dispatched


def test_the_end_of_an_episode_starts_nothing():
    """It is taken, so that the operator does not send it again."""
    dispatched = []
    cleared = EVENT | {"type": "io.aiops-quality.drift.cleared"}

    assert 200 == handle(webhook(SECRET), Seen(), dispatched.append, *sent(cleared))[0]
    assert [] == dispatched


def test_what_github_does_not_take_comes_again():
    """The operator gets an error, and the next attempt is not taken for a repetition."""
    seen, verifier, answers = Seen(), webhook(SECRET), [DispatchError("down"), None]

    def dispatch(_):
        if error := answers.pop(0):
            raise error

    assert [502, 202] == [handle(verifier, seen, dispatch, *sent())[0] for _ in range(2)]


def test_while_one_is_dispatched_another_of_its_kind_waits():
    """Two at once start one workflow."""
    seen, verifier, inner = Seen(), webhook(SECRET), []

    def dispatch(_):
        inner.append(handle(verifier, seen, inner.append, *sent())[0])

    assert (202, [503]) == (handle(verifier, seen, dispatch, *sent())[0], inner)


def without(name):
    """As sent, but for one header."""
    headers, body = sent()
    return {key: value for key, value in headers.items() if key != name}, body


@pytest.mark.parametrize(
    "made",
    [
        lambda: sent(age=600),
        lambda: sent(age=-600),
        lambda: sent(secret=f"whsec_{base64.b64encode(b'x' * 32).decode()}"),
        lambda: (sent()[0], sent(EVENT | {"subject": "other"})[1]),
        lambda: (sent()[0] | {"webhook-id": "another"}, sent()[1]),
        lambda: without("webhook-id"),
        lambda: without("webhook-timestamp"),
        lambda: without("webhook-signature"),
        lambda: ({**sent()[0], "webhook-timestamp": "soon"}, sent()[1]),
    ],
)
def test_what_is_not_signed_now_is_not_taken(made):
    """Old, of the future, another's, changed, or without what it takes."""
    dispatched = []

    assert 401 == handle(webhook(SECRET), Seen(), dispatched.append, *made())[0]
    assert [] == dispatched


@pytest.mark.parametrize(
    "made",
    [
        lambda: sent([]),
        lambda: sent({"no": "type"}),
        lambda: sent("text"),
        lambda: ({**sent()[0], "webhook-signature": "v1"}, sent()[1]),
        lambda: (sent()[0], b"\xff"),
    ],
)
def test_what_is_no_event_is_refused(made):
    """Even where it is signed."""
    assert 400 == handle(webhook(SECRET), Seen(), [].append, *made())[0]


@pytest.mark.parametrize("secret", ["", "whsec_", "secret", "whsec_ä"])
def test_a_secret_that_is_none_stops_the_start(secret):
    """And is not repeated."""
    with pytest.raises(ReceiverError, match="whsec_ and base64"):
        webhook(secret)


def test_memory_of_events_is_bounded():
    """The oldest is forgotten."""
    seen = Seen()
    for number in range(REMEMBERED + 1):
        seen.begin(str(number))
        seen.end(str(number), done=True)

    assert (None, 200) == (seen.begin("0"), seen.begin(str(REMEMBERED)))
