"""All I/O with the API server: get, list, apply, delete, status, event, discovery; nothing else in the package has any."""

import datetime as dt
import json
import os
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import aiohttp
from kubernetes.aio import client, config

from aiops_operator.errors import (
    ApiError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from aiops_operator.metrics import Metrics
from aiops_operator.names import COMPONENT, EVENT, FIELD_MANAGER, INFERENCE_SERVICE, Key, Kind

REQUEST_TIMEOUT: Final = 15.0  # seconds
CONNECTIONS: Final = 32
MAX_NOTE: Final = 1024  # characters of an Event's message
SERVER_ERROR: Final = 500
_JSON: Final = "application/json"
_METADATA: Final = "application/json;as={kind};g=meta.k8s.io;v=v1,application/json"
_APPLY: Final = "application/apply-patch+yaml"

_ERRORS: Final[Mapping[int, type[ApiError]]] = {
    400: InvalidError,
    401: ForbiddenError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
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
    configuration.connection_pool_maxsize = CONNECTIONS
    return configuration


class Cluster:
    """A connection to one API server; objects are plain dictionaries, as the server sends them."""

    def __init__(self, configuration: client.Configuration, metrics: Metrics) -> None:
        self._client = client.ApiClient(configuration)
        self._client.user_agent = COMPONENT
        self._metrics = metrics

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        """An object, None where there is none.

        Raises:
            ApiError: any answer but 200 and 404.
        """
        return await self._get(kind, namespace, name, _JSON)

    async def get_metadata(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        """An object's metadata alone, None where there is none: what a large ConfigMap's version is.

        Raises:
            ApiError: any answer but 200 and 404.
        """
        return await self._get(kind, namespace, name, _METADATA.format(kind="PartialObjectMetadata"))

    async def find(self, kind: Kind, namespace: str | None, selector: str = "") -> list[dict[str, Any]]:
        """The objects that a label selector finds, in one namespace or in all (None).

        Raises:
            ApiError: any answer but 200.
        """
        return await self._list(kind, namespace, selector, _JSON)

    async def find_metadata(self, kind: Kind, namespace: str | None, selector: str = "") -> list[dict[str, Any]]:
        """The metadata alone of the objects that a label selector finds, from the server's cache.

        Raises:
            ApiError: any answer but 200.
        """
        accept = _METADATA.format(kind="PartialObjectMetadataList")
        return await self._list(kind, namespace, selector, accept, resource_version="0")

    async def apply(self, kind: Kind, body: Mapping[str, Any], *, force: bool) -> dict[str, Any]:
        """Server-side apply: only the fields in the body are meant. With `force`, our values win over others' of these.

        A `metadata.resourceVersion` in the body must still be the object's.

        Raises:
            ConflictError: the object has another version; or, without `force`, others own a field with another value.
            ApiError: any other answer but 200 and 201.
        """
        metadata = body["metadata"]
        path = kind.path(metadata["namespace"], metadata["name"])
        query = {"fieldManager": FIELD_MANAGER, "force": "true" if force else "false"}
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
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
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

    async def _get(self, kind: Kind, namespace: str, name: str, accept: str) -> dict[str, Any] | None:
        try:
            return await self._request("GET", kind.path(namespace, name), accept=accept)
        except NotFoundError:
            return None

    async def _list(
        self, kind: Kind, namespace: str | None, selector: str, accept: str, resource_version: str = ""
    ) -> list[dict[str, Any]]:
        query = {"labelSelector": selector, "resourceVersion": resource_version}
        query = {name: value for name, value in query.items() if value}
        document = await self._request("GET", kind.path(namespace), query=query, accept=accept)
        items: list[dict[str, Any]] = document.get("items") or []
        return items

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
        request = await self._client.param_serialize(
            verb,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": accept, "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            response = await self._client.call_api(*request, _request_timeout=REQUEST_TIMEOUT)
            content = await response.read()  # type: ignore[no-untyped-call]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._metrics.api_requests.labels(verb, "no answer").inc()
            raise UnavailableError(0, f"{verb} {path}: {error or type(error).__name__}") from error
        self._metrics.api_requests.labels(verb, str(response.status)).inc()
        if not 200 <= response.status < 300:  # noqa: PLR2004  HTTP's own numbers
            _fail(response.status, content)
        document: dict[str, Any] = json.loads(content)
        return document


def _fail(code: int, content: bytes) -> NoReturn:
    try:
        message = str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        message = content[:MAX_NOTE].decode(errors="replace")
    default = UnavailableError if code >= SERVER_ERROR else ApiError
    raise _ERRORS.get(code, default)(code, " ".join(message.split()))
