"""The Kopf decorators, and nothing else: whatever happens, a key is enqueued.

Only `on.event` is used: Kopf then writes nothing to any object, neither a finalizer nor an annotation, and needs no right to.
"""

import itertools
import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

import kopf
from kubernetes.aio import client

from aiops_operator import names
from aiops_operator.names import Key, Kind

WATCHED_CHILDREN: Final = (*names.CHILD_KINDS, names.POD)
SERVER_TIMEOUT: Final = 290  # whole seconds until the API server ends a watch, which Kopf then takes up again
CLIENT_TIMEOUT: Final = 320.0
CONNECT_TIMEOUT: Final = 10.0
REQUEST_TIMEOUT: Final = 60.0

logger = logging.getLogger(__name__)


class Causes(Protocol):
    """Who is told of what the watches deliver."""

    def resource(self, key: Key, version: str | None) -> None:
        """An InferenceService has this version now; None: it is gone."""

    def child(self, kind: Kind, key: Key) -> None:
        """An object that was made for a service has changed, or is gone."""


class EndlessBackoff:
    """How long Kopf waits between tries of a request: it never gives up, for a watcher that has is never started again."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1, 1, 2, 3, 5, 8), itertools.repeat(10))


def registry(causes: Causes, configuration: client.Configuration, *, scanning: bool) -> kopf.OperatorRegistry:
    """All handlers; `scanning` is whether Kopf may list and watch CRDs."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.startup(registry=handlers)
    async def configure(settings: kopf.OperatorSettings, **_: object) -> None:
        apply_settings(settings, scanning=scanning)

    @kopf.on.login(registry=handlers)
    async def login(**_: object) -> kopf.ConnectionInfo:
        return await connection(configuration)

    @kopf.on.event(*_selector(names.INFERENCE_SERVICE), registry=handlers)
    async def on_resource(type: str | None, meta: Mapping[str, Any], **_: object) -> None:  # noqa: A002  Kopf's name
        version = None if type == "DELETED" else meta["resourceVersion"]
        causes.resource(Key(meta["namespace"], meta["name"]), version)

    for kind in WATCHED_CHILDREN:

        @kopf.on.event(*_selector(kind), registry=handlers, id=f"on_{kind.plural}", param=kind)
        async def on_child(meta: Mapping[str, Any], param: Any = None, **_: object) -> None:  # noqa: ANN401  Kopf's type
            service = meta.get("labels", {}).get(names.LABEL_SERVICE)
            if service:
                causes.child(param, Key(meta["namespace"], service))

    return handlers


def apply_settings(settings: kopf.OperatorSettings, *, scanning: bool) -> None:
    """Kopf's settings: narrow watches that never give up, and no Events of Kopf's own."""
    for kind in WATCHED_CHILDREN:
        settings.watching.label_selectors[kind.group, kind.version, kind.plural] = names.CHILD_SELECTOR
    settings.watching.server_timeout = SERVER_TIMEOUT
    settings.watching.client_timeout = CLIENT_TIMEOUT
    settings.watching.connect_timeout = CONNECT_TIMEOUT
    settings.networking.request_timeout = REQUEST_TIMEOUT
    settings.networking.connect_timeout = CONNECT_TIMEOUT
    settings.networking.error_backoffs = EndlessBackoff()
    settings.posting.enabled = False
    settings.scanning.disabled = not scanning


async def connection(configuration: client.Configuration) -> kopf.ConnectionInfo:
    """The same credentials for Kopf as for the rest; asked for again when a token has expired."""
    header = await configuration.get_api_key_with_prefix("BearerToken")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        token=header.split(" ", 1)[-1].strip() if header else None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        proxy_url=configuration.proxy,
    )


def _selector(kind: Kind) -> tuple[str, str, str]:
    return kind.group, kind.version, kind.plural
