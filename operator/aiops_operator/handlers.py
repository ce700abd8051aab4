"""The Kopf decorators, and nothing else: whatever happens to an InferenceService, who is told decides what to do.

Only `on.event` is used: Kopf then writes nothing to any object, neither a finalizer nor an annotation, and needs no right to.
"""

import itertools
import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol, cast

import kopf
from kubernetes.aio import client

from aiops_operator import names

SERVER_TIMEOUT: Final = 290  # whole seconds until the API server ends a watch, which Kopf then takes up again
CLIENT_TIMEOUT: Final = 320.0
CONNECT_TIMEOUT: Final = 10.0
REQUEST_TIMEOUT: Final = 60.0

logger = logging.getLogger(__name__)


class Causes(Protocol):
    """Who is told of what the watches deliver."""

    def resource(self, body: Mapping[str, Any], *, ended: bool) -> None:
        """An InferenceService looks like this now, or did when it ended."""


class EndlessBackoff:
    """How long Kopf waits between tries of a request: it never gives up, for a watcher that has is never started again."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1, 1, 2, 3, 5, 8), itertools.repeat(10))


class NoDiff(kopf.DiffBaseStorage):
    """Nothing is compared with what was handled before: Kopf need not copy each object to be able to."""

    def build(self, **_: object) -> kopf.BodyEssence:
        """Nothing matters."""
        return cast("kopf.BodyEssence", {})

    def fetch(self, **_: object) -> None:
        """Nothing is known."""

    def store(self, **_: object) -> None:
        """Nothing is kept."""


def registry(causes: Causes, configuration: client.Configuration, *, scanning: bool) -> kopf.OperatorRegistry:
    """All handlers; `scanning` is whether Kopf may list and watch CRDs."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.startup(registry=handlers)
    async def configure(settings: kopf.OperatorSettings, **_: object) -> None:
        apply_settings(settings, scanning=scanning)

    @kopf.on.login(registry=handlers)
    async def login(**_: object) -> kopf.ConnectionInfo:
        return await connection(configuration)

    kind = names.INFERENCE_SERVICE

    @kopf.on.event(kind.group, kind.version, kind.plural, registry=handlers)
    async def on_resource(event: Mapping[str, Any], **_: object) -> None:
        causes.resource(event["object"], ended=event["type"] == "DELETED")

    return handlers


def apply_settings(settings: kopf.OperatorSettings, *, scanning: bool) -> None:
    """Kopf's settings: watches that never give up, and no Events of Kopf's own."""
    settings.watching.server_timeout = SERVER_TIMEOUT
    settings.watching.client_timeout = CLIENT_TIMEOUT
    settings.watching.connect_timeout = CONNECT_TIMEOUT
    settings.networking.request_timeout = REQUEST_TIMEOUT
    settings.networking.connect_timeout = CONNECT_TIMEOUT
    settings.networking.error_backoffs = EndlessBackoff()
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = NoDiff()
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
