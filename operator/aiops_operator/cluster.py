"""All I/O with the API server: get, list, apply, delete, status, event, discovery; nothing else in the package has any."""

import datetime as dt
import os
import random
import ssl
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, NoReturn

import aiohttp
import orjson
from kubernetes.aio import client, config
from opentelemetry.trace import SpanKind

from aiops_operator import retryafter
from aiops_operator.errors import (
    ApiError,
    ConflictError,
    ExpiredError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from aiops_operator.metrics import Metrics
from aiops_operator.names import COMPONENT, EVENT, FIELD_MANAGER, INFERENCE_SERVICE, LEASE, Key, Kind
from aiops_operator.tracing import tracer

REQUEST_TIMEOUT: Final = 15.0  # seconds
CONNECTIONS: Final = 32
PAGE: Final = 500  # objects of one answer to a listing
WATCH_SECONDS: Final = (
    240,
    300,
)  # until the API server ends a watch, which then goes on; spread, so that not all end at once
CONNECT_TIMEOUT: Final = 10.0
# The API server sends a bookmark each minute: a watch that says nothing for longer may be dead, whatever the connection looks
# like. Of a kind that nothing has happened to since the API server began it sends none until etcd tells of its progress, which
# by default takes ten minutes: so silence is no failure, and the watch is opened anew.
WATCH_SILENCE: Final = 90.0
READ_BUFFER: Final = 2**21  # bytes: objects are large
LONGEST_RETRY_AFTER: Final = 60.0  # seconds that the API server may ask for
MAX_NOTE: Final = 1024  # characters of an Event's message
SERVER_ERROR: Final = 500
_JSON: Final = "application/json"
_METADATA: Final = "application/json;as={kind};g=meta.k8s.io;v=v1,application/json"
_APPLY: Final = "application/apply-patch+yaml"
# What field validation warns of, keys that are there twice, no dictionary has; unknown fields are refused by every apply. It costs
# the API server a second reading of each body as YAML.
_APPLIED: Final = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Ignore"}

_ERRORS: Final[Mapping[int, type[ApiError]]] = {
    400: InvalidError,
    401: ForbiddenError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: ExpiredError,
    413: InvalidError,
    422: InvalidError,
    429: UnavailableError,
}


async def load_configuration() -> client.Configuration:
    """Where the API server is and who we are: KUBECONFIG where it is set, else the pod's service account, else ~/.kube.

    Raises:
        kubernetes.aio.config.ConfigException: none of them is there, or what is there cannot be read.
    """
    configuration = client.Configuration()
    if os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG"):
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        path = os.environ.get("KUBECONFIG")
        await config.load_kube_config(path, client_configuration=configuration, persist_config=False)  # type: ignore[no-untyped-call]
    configuration.proxy = configuration.proxy or _proxy_of_environment(configuration.host)
    return configuration


def _proxy_of_environment(url: str) -> str | None:
    address = urllib.parse.urlsplit(url)
    if urllib.request.proxy_bypass(address.hostname or ""):
        return None
    return urllib.request.getproxies().get(address.scheme)


class Cluster:
    """A connection to one API server; objects are plain dictionaries, as the server sends them."""

    def __init__(self, configuration: client.Configuration, metrics: Metrics) -> None:
        """Begin, in the running loop."""
        self._configuration = configuration
        # The client of the library copies each body twice in Python before it is written as JSON: of it we take what reads a
        # kubeconfig, renews tokens and trusts certificates.
        context = client.rest.RESTClientObject(configuration).ssl_context
        self._session = _session(context, CONNECTIONS)
        self._watching = _session(context, 0)  # watches keep their connections: requests must not wait for these
        self._metrics = metrics
        self.may_write: Callable[[], bool] = lambda: True
        """Asked before every write but one of a Lease: whether this operator is the one that writes."""

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()
        await self._watching.close()

    async def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        """An object, None where there is none.

        Raises:
            ApiError: any answer but 200 and 404.
        """
        try:
            return await self._request("GET", kind.path(namespace, name))
        except NotFoundError:
            return None

    async def find(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        """The same as `get`, for kinds that may be listed and not got.

        Raises:
            ApiError: any answer but 200.
        """
        document = await self._request("GET", kind.path(namespace), query={"fieldSelector": f"metadata.name={name}"})
        items: list[dict[str, Any]] = document.get("items") or []
        return next(iter(items), None)

    async def find_metadata(self, kind: Kind, namespace: str | None) -> list[dict[str, Any]]:
        """The metadata alone of all objects of a kind, from the server's cache.

        Raises:
            ApiError: any answer but 200.
        """
        document = await self._request(
            "GET",
            kind.path(namespace),
            query={"resourceVersion": "0"},
            accept=_METADATA.format(kind="PartialObjectMetadataList"),
        )
        items: list[dict[str, Any]] = document.get("items") or []
        return items

    async def listing(
        self, kind: Kind, namespace: str | None, selector: str, *, metadata_only: bool
    ) -> tuple[list[dict[str, Any]], str]:
        """The objects that a label selector finds, in one namespace or in all (None), and the version to watch from.

        Raises:
            ExpiredError: it took longer than the API server remembers; begin anew.
            ApiError: any other answer but 200.
        """
        accept = _METADATA.format(kind="PartialObjectMetadataList") if metadata_only else _JSON
        items: list[dict[str, Any]] = []
        query = {"labelSelector": selector, "limit": str(PAGE)}
        while True:
            sent = {name: value for name, value in query.items() if value}
            document = await self._request("GET", kind.path(namespace), query=sent, accept=accept)
            items += document.get("items") or []
            query["continue"] = document["metadata"].get("continue", "")
            if not query["continue"]:
                return items, document["metadata"]["resourceVersion"]

    async def watch(
        self, kind: Kind, namespace: str | None, selector: str, version: str, *, metadata_only: bool
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """OPENED, then what happens after a version, as it happens: ADDED, MODIFIED, DELETED or BOOKMARK, and the object.

        It ends after some minutes, or when nothing was said for `WATCH_SILENCE`, and is to be taken up again at the last
        object's version.

        Raises:
            ExpiredError: the API server does not remember what happened after this version; list anew.
            ApiError: any other answer but 200, or the connection is cut.
        """
        query = {
            "labelSelector": selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(random.randint(*WATCH_SECONDS)),  # noqa: S311  nothing is kept secret by it
        }
        path = kind.path(namespace)
        accept = _METADATA.format(kind="PartialObjectMetadata") if metadata_only else _JSON
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=WATCH_SILENCE)
        sent = {name: value for name, value in query.items() if value}
        try:
            request = await self._to(path, Accept=accept)
            answer = await self._watching.get(params=sent, timeout=timeout, **request)
            self._metrics.api_requests.labels("WATCH", str(answer.status)).inc()
            if answer.status != 200:  # noqa: PLR2004  HTTP's own number
                _fail(answer.status, await answer.read(), answer.headers)
            yield "OPENED", {}
            async for line in _lines(answer):
                event = orjson.loads(line)
                if event["type"] == "ERROR":
                    _fail(event["object"].get("code", 0), orjson.dumps(event["object"]), {})
                yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._metrics.api_requests.labels("WATCH", "no answer").inc()
            raise UnavailableError(0, f"WATCH {path}: {error or type(error).__name__}") from error

    async def create(self, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object.

        Raises:
            ConflictError: there is one of this name.
            ApiError: any other answer but 201.
        """
        return await self._request("POST", kind.path(body["metadata"]["namespace"]), body=body)

    async def replace(self, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an object that still has the `metadata.resourceVersion` in the body.

        Raises:
            ConflictError: it has changed meanwhile.
            ApiError: any other answer but 200.
        """
        metadata = body["metadata"]
        return await self._request("PUT", kind.path(metadata["namespace"], metadata["name"]), body=body)

    async def apply(self, kind: Kind, body: Mapping[str, Any], *, force: bool) -> dict[str, Any]:
        """Server-side apply: only the fields in the body are meant. With `force`, our values win over others' of these.

        A `metadata.resourceVersion` in the body must still be the object's.

        Raises:
            ConflictError: the object has another version; or, without `force`, others own a field with another value.
            ApiError: any other answer but 200 and 201.
        """
        metadata = body["metadata"]
        path = kind.path(metadata["namespace"], metadata["name"])
        query = {**_APPLIED, "force": "true" if force else "false"}
        return await self._request("PATCH", path, query=query, body=body, content_type=_APPLY)

    async def apply_status(self, key: Key, version: str, status: Mapping[str, Any]) -> dict[str, Any]:
        """Write the whole status of an InferenceService that still has this resourceVersion, through its subresource.

        A uid would say that it is still the same resource, but the API server does not look at it here.

        Raises:
            ConflictError: it has changed meanwhile, or another has its name by now.
            ApiError: any other answer but 200.
        """
        body = {
            "apiVersion": INFERENCE_SERVICE.api_version,
            "kind": INFERENCE_SERVICE.kind,
            "metadata": {"name": key.name, "namespace": key.namespace, "resourceVersion": version},
            "status": dict(status),
        }
        path = INFERENCE_SERVICE.path(key.namespace, key.name, "status")
        query = {**_APPLIED, "force": "true"}
        return await self._request("PATCH", path, query=query, body=body, content_type=_APPLY)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete an object if it is still this one; one that is gone already is fine.

        Raises:
            ApiError: any answer but 2xx and 404.
        """
        body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            await self._request("DELETE", kind.path(namespace, name), body=body)
        except NotFoundError:
            return

    async def record(  # the fields of an Event are what they are
        self, regarding: Mapping[str, Any], type_: str, reason: str, message: str, now: dt.datetime
    ) -> None:
        """Post an Event about an object (`type_` Normal or Warning).

        Raises:
            ApiError: any answer but 201.
        """
        metadata = regarding["metadata"]
        time = now.astimezone(dt.UTC)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"generateName": f"{metadata['name']}.", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": INFERENCE_SERVICE.api_version,
                "kind": INFERENCE_SERVICE.kind,
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
            "type": type_,
            "reason": reason,
            "message": message[:MAX_NOTE],
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": os.environ.get("HOSTNAME", COMPONENT),
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }
        await self._request("POST", EVENT.path(metadata["namespace"]), body=body)

    async def serves(self, kind: Kind) -> bool:
        """Whether discovery lists a kind.

        Raises:
            ApiError: any answer but 200 and 404.
        """
        try:
            document = await self._request("GET", kind.root)
        except NotFoundError:
            return False
        return any(resource.get("name") == kind.plural for resource in document.get("resources") or ())

    async def _request(  # noqa: PLR0913  what an HTTP request consists of
        self,
        verb: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        accept: str = _JSON,
        content_type: str = _JSON,
    ) -> dict[str, Any]:
        if verb != "GET" and not path.startswith(LEASE.root) and not self.may_write():
            raise UnavailableError(0, f"{verb} {path}: not sent, for another operator may write now")
        data = None if body is None else orjson.dumps(body)
        told = {"http.request.method": verb, "url.path": path}
        with tracer.start_as_current_span(verb, kind=SpanKind.CLIENT, attributes=told) as span:
            try:
                request = await self._to(path, **{"Accept": accept, "Content-Type": content_type})
                async with self._session.request(verb, params=query, data=data, **request) as response:
                    content = await response.read()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self._metrics.api_requests.labels(verb, "no answer").inc()
                raise UnavailableError(0, f"{verb} {path}: {error or type(error).__name__}") from error
            span.set_attribute("http.response.status_code", response.status)
        self._metrics.api_requests.labels(verb, str(response.status)).inc()
        if not 200 <= response.status < 300:  # noqa: PLR2004  HTTP's own numbers
            _fail(response.status, content, response.headers)
        document: dict[str, Any] = orjson.loads(content)
        return document

    async def _to(self, path: str, **headers: str) -> dict[str, Any]:
        """What every request to a path has, with the token of now."""
        configuration = self._configuration
        token = await configuration.get_api_key_with_prefix("BearerToken")
        return {
            "url": configuration.host + path,
            "headers": headers | ({"Authorization": token} if token else {}),
            "proxy": configuration.proxy,
            "proxy_headers": configuration.proxy_headers,
            "server_hostname": configuration.tls_server_name,
        }


def _session(context: ssl.SSLContext, connections: int) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ssl=context),
        headers={"User-Agent": COMPONENT},
        timeout=aiohttp.ClientTimeout(REQUEST_TIMEOUT),
        read_bufsize=READ_BUFFER,
        trust_env=False,  # else it would look for ~/.netrc, and at the environment, in a thread for each request
    )


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The lines of an answer, until it ends or nothing comes any more; aiohttp's own reader refuses those that are long."""
    rest = bytearray()
    try:
        async for chunk in response.content.iter_any():
            rest += chunk
            if b"\n" in chunk:
                *lines, last = bytes(rest).split(b"\n")
                rest = bytearray(last)
                for line in lines:
                    yield line
    except aiohttp.SocketTimeoutError:
        return
    finally:
        connection = response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()  # a peer that is silent may be gone, and with it its part in an orderly end of TLS
        response.close()


def _fail(code: int, content: bytes, headers: Mapping[str, str]) -> NoReturn:
    try:
        message = str(orjson.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        message = content[:MAX_NOTE].decode(errors="replace")
    default = UnavailableError if code >= SERVER_ERROR else ApiError
    retry_after = retryafter.seconds(headers.get("Retry-After", ""), LONGEST_RETRY_AFTER)
    raise _ERRORS.get(code, default)(code, " ".join(message.split()), retry_after or 0.0)
