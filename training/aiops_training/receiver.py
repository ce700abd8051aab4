"""A receiver for the operator's events (`operator.driftSink`): an episode of drift becomes a repository_dispatch on GitHub.

An event is taken when its Standard Webhooks signature and time are right. It is answered once GitHub has taken it, so that the
operator tries again where GitHub did not; one that comes again after that starts nothing.
"""

import http.server
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import httpx
from standardwebhooks import Webhook, WebhookVerificationError

from aiops_training.errors import ReceiverError

ONSET: Final = "io.aiops-quality.drift.onset"
LARGEST: Final = 64 * 1024  # bytes of an event
REMEMBERED: Final = 4096  # identities of events
SECONDS: Final = 8.0  # for GitHub's answer; the operator waits ten for ours
_KEPT: Final = ("episode", "score", "threshold", "worstFeature", "modelDigest")
_LOG: Final = logging.getLogger(__name__)

Headers = dict[str, str]
Dispatch = Callable[[dict[str, Any]], None]


class DispatchError(Exception):
    """GitHub did not take it; its text says why."""


@dataclass
class Seen:
    """Identities of events that have been dealt with, and of those that are being dealt with now."""

    _done: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _now: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, identity: str) -> HTTPStatus | None:
        """None where it is ours to deal with; else what to answer."""
        with self._lock:
            if identity in self._done:
                return HTTPStatus.OK
            if identity in self._now:
                return HTTPStatus.SERVICE_UNAVAILABLE
            self._now.add(identity)
            return None

    def end(self, identity: str, *, done: bool) -> None:
        """It was dealt with, or is to come again."""
        with self._lock:
            self._now.discard(identity)
            if done:
                self._done[identity] = None
                while len(self._done) > REMEMBERED:
                    self._done.popitem(last=False)


def webhook(secret: str) -> Webhook:
    """What verifies events.

    Args:
        secret: `whsec_…`, as the operator has it.

    Raises:
        ReceiverError: it is none.
    """
    try:
        if not secret.startswith("whsec_"):
            raise ValueError  # noqa: TRY301 - one message for all that it is not
        return Webhook(secret)
    except Exception as error:
        message = "the secret is not whsec_ and base64; it is the one in the Secret that operator.driftSink names"
        raise ReceiverError(message) from error


def handle(verifier: Webhook, seen: Seen, dispatch: Dispatch, headers: Headers, body: bytes) -> tuple[HTTPStatus, str]:
    """Deal with one event.

    Args:
        verifier: of signatures.
        seen: what came before.
        dispatch: hands an event's data to GitHub.
        headers: of the request, names in lower case.
        body: of the request.

    Returns:
        The answer's code and text.
    """
    try:
        event = verifier.verify(body, headers)
        kind, data = event["type"], event.get("data") or {}
        payload = {"subject": event.get("subject"), **{name: data[name] for name in _KEPT if name in data}}
    except WebhookVerificationError as error:
        return HTTPStatus.UNAUTHORIZED, f"not taken: {error}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return HTTPStatus.BAD_REQUEST, "not taken: no event in JSON"
    if kind != ONSET:
        return HTTPStatus.OK, f"{kind} starts nothing"
    identity = headers["webhook-id"]
    answer = seen.begin(identity)
    if answer is not None:
        return answer, f"{identity} came before"
    done = False
    try:
        dispatch(payload)
        done = True
    except DispatchError as error:
        return HTTPStatus.BAD_GATEWAY, str(error)
    finally:
        seen.end(identity, done=done)
    return HTTPStatus.ACCEPTED, f"{identity} dispatched"


@dataclass(frozen=True)
class GitHub:
    """A repository's dispatches.

    Attributes:
        api: such as https://api.github.com.
        repository: owner/name.
        event_type: that workflows filter on.
        token: with the right to write the repository's contents.
    """

    api: str
    repository: str
    event_type: str
    token: str = field(repr=False)

    def dispatch(self, payload: dict[str, Any]) -> None:
        """Start the workflows that wait for it.

        Raises:
            DispatchError: it was not taken.
        """
        url = f"{self.api.rstrip('/')}/repos/{self.repository}/dispatches"
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/vnd.github+json"}
        body = {"event_type": self.event_type, "client_payload": payload}
        try:
            answer = httpx.post(url, headers=headers, json=body, timeout=SECONDS)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            message = f"{url} cannot be reached: {error or type(error).__name__}"
            raise DispatchError(message) from error
        if answer.status_code != HTTPStatus.NO_CONTENT:
            message = f"{url} answered {answer.status_code}"
            raise DispatchError(message)


def server(address: tuple[str, int], verifier: Webhook, dispatch: Dispatch) -> http.server.ThreadingHTTPServer:
    """A server that takes events on any path, and answers `GET /healthz`.

    Raises:
        ReceiverError: the address is taken.
    """
    seen = Seen()

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 10  # seconds for a client to say what it has to say

        def do_GET(self) -> None:
            """Say that we are there."""
            self._answer(*((HTTPStatus.OK, "ok") if self.path == "/healthz" else (HTTPStatus.NOT_FOUND, "not here")))

        def do_POST(self) -> None:
            """Take an event."""
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or int(length) > LARGEST:
                self.close_connection = True
                self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"an event has a length, of {LARGEST} bytes at most")
                return
            body = self.rfile.read(int(length))
            headers = {name.lower(): value for name, value in self.headers.items()}
            code, said = handle(verifier, seen, dispatch, headers, body)
            _LOG.log(logging.WARNING if code >= HTTPStatus.BAD_REQUEST else logging.INFO, "%d %s", code, said)
            self._answer(code, said)

        def _answer(self, code: HTTPStatus, said: str) -> None:
            body = f"{said}\n".encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing of each request; what is taken is said above."""

    try:
        return http.server.ThreadingHTTPServer(address, Handler)
    except OSError as error:
        message = f"cannot listen at {address[0]}:{address[1]}: {error.strerror}"
        raise ReceiverError(message) from error
