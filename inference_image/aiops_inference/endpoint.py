"""`POST /predict` as a bare ASGI application: between the parser and the model there is nothing that costs time."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from aiops_inference import forms
from aiops_inference.caller import REQUEST_ID, Caller, caller_of
from aiops_inference.errors import (
    InferenceError,
    InvalidParameterError,
    RequestError,
    RequestTimeoutError,
    TooLargeError,
    UnavailableError,
    UnsupportedEncodingError,
)
from aiops_inference.forms import Form
from aiops_inference.predictor import refuse_probabilities
from aiops_inference.service import Service
from aiops_inference.tensors import HEADER, Encoded

BODY_TIMEOUT: Final = 30.0  # seconds from the end of the headers to the end of the body
CLIENT_LEFT: Final = 499  # the status that is counted where nobody waits for the answer, or nobody can get it
MAX_SHOWN: Final = 40
UNAVAILABLE: Final = 503
RETRY_AFTER: Final = b"1"  # seconds: a queue is short, and another pod may have none

_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})


class ClientLeftError(Exception):
    """The connection was closed before the body was complete."""


class PredictEndpoint:
    """Reads a bounded body, asks the service, answers JSON; every outcome is counted."""

    def __init__(self, service: Service, form_of: Callable[[Scope], Form]) -> None:
        """Answer in the form that `form_of` finds for a request; it may raise what a request is refused with."""
        self._service = service
        self._form_of = form_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = time.perf_counter()
        caller = caller_of(scope["headers"])
        try:
            status, content = await self._answer(scope, receive, caller)
            await send_json(send, status, content, caller.request_id, close=self._service.draining)
        except (ClientLeftError, RuntimeError, OSError):  # the last two: a transport closed while the model predicted
            status = CLIENT_LEFT
        self._service.metrics.answers.count(status, time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, caller: Caller) -> tuple[int, bytes]:
        answered: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()

        def answer(status: int, content: bytes) -> None:
            if not answered.done():
                answered.set_result((status, content))

        asked = None
        try:
            form = self._form_of(scope)
            body = await read_body(scope, receive, self._service.settings.max_body_bytes)
        except (RequestError, UnavailableError) as error:
            self._service.refuse(answer, error, caller)
        else:
            asked = self._service.submit(body, answer, caller, form)
        try:
            return await answered
        finally:
            if asked is not None:
                asked.left = True


def form_of_predict(service: Service) -> Callable[[Scope], Form]:
    """Finds the form of `/predict`: with an explanation, or probabilities, where the query asks for them.

    It raises InvalidParameterError where the query says neither yes nor no, NotReadyError where probabilities are asked for
    and no model is loaded, and InputsRefusedError where the model has none.
    """

    def form_of(scope: Scope) -> Form:
        query = scope["query_string"]
        if not query:
            return forms.plain
        said = parse_qs(query.decode("latin-1"), keep_blank_values=True)
        explained = _asks_for("explain", said)
        if not _asks_for("probabilities", said):
            return forms.explained if explained else forms.plain
        if not service.model().artifacts.predictor.has_probabilities:
            refuse_probabilities("?probabilities")
        return forms.explained_with_probabilities if explained else forms.with_probabilities

    return form_of


def _asks_for(name: str, said: Mapping[str, list[str]]) -> bool:
    value = said.get(name, ["false"])[-1].lower()
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    message = f"{name} is {value[:MAX_SHOWN]!a}; it must be true or false"
    raise InvalidParameterError(message, f"?{name}")


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The request's body, of which never more than `limit` bytes and one network buffer are held.

    Raises:
        TooLargeError: as soon as it is known, by the length that is announced or by the bytes that came.
        UnsupportedEncodingError: the body is compressed.
        RequestTimeoutError: it did not arrive in time.
        ClientLeftError: the client closed the connection.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise _too_large(limit)
        if name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
            message = "the body has a Content-Encoding; send it as plain JSON"
            raise UnsupportedEncodingError(message)
    chunks, size, more = [], 0, True
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            while more and size <= limit:
                body, more = await _next(receive)
                chunks.append(body)
                size += len(body)
    except TimeoutError as error:
        raise body_timeout() from error
    if size > limit:
        raise _too_large(limit)
    return b"".join(chunks)


def body_timeout() -> RequestTimeoutError:
    """What is said of a body that does not come."""
    return RequestTimeoutError(f"the body did not arrive within {BODY_TIMEOUT:g} s")


async def send_json(send: Send, status: int, content: bytes, request_id: bytes = b"", *, close: bool = False) -> None:
    """Answer with encoded JSON, or JSON and tensors; `close` tells the client to connect anew, and so to another pod."""
    headers = [(b"content-length", str(len(content)).encode())]
    if isinstance(content, Encoded):
        headers += [(b"content-type", b"application/octet-stream"), (HEADER, str(content.json_size).encode())]
    else:
        headers.append((b"content-type", b"application/json"))
    if status == UNAVAILABLE:
        headers.append((b"retry-after", RETRY_AFTER))
    if request_id:
        headers.append((REQUEST_ID, request_id))
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def _next(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientLeftError
    return message.get("body", b""), message.get("more_body", False)


def _too_large(limit: int) -> InferenceError:
    return TooLargeError(f"the body has more than {limit} bytes; send the rows in several requests")
