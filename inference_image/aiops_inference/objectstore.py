"""A directory of an object store or a web server: what is in it, and its bytes from any place on.

The library obstore speaks to s3, gs, az and https: it signs, tries again with backoff and jitter, and takes up a body that was
cut off. It finds credentials in the environment by the names that each cloud's own tools give them; nothing here reads them.
"""

import contextlib
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    BaseError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

from aiops_inference.errors import (
    MAX_FOREIGN_TEXT,
    ArtifactAccessDeniedError,
    ArtifactNotFoundError,
    ArtifactUnreachableError,
)

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

CHUNK: Final = 256 << 10  # bytes that are held until they are handed on
RETRIES: "Final[RetryConfig]" = {"max_retries": 6, "retry_timeout": timedelta(minutes=1)}
# A body may take hours, as long as something comes.
TIMEOUTS: "Final[ClientConfig]" = {"timeout": "24h", "read_timeout": "30s", "connect_timeout": "10s"}
AUTHORIZATION: Final = "ARTIFACTS_AUTHORIZATION"
CERTIFICATE: Final = "ARTIFACTS_CA_CERTIFICATE"
_AZURE: Final = (("AZURE_",), "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_KEY")
# By scheme: how the variables with its credentials begin, and which they are.
CREDENTIALS: Final = {
    "s3": (
        ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY", "AWS_CONTAINER", "AWS_SKIP"),
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SKIP_SIGNATURE=true where everybody may read)",
    ),
    "gs": (("GOOGLE_",), "GOOGLE_SERVICE_ACCOUNT_KEY (GOOGLE_SKIP_SIGNATURE=true where everybody may read)"),
    "az": _AZURE,
    "abfs": _AZURE,
    "abfss": _AZURE,
    "https": ((AUTHORIZATION,), AUTHORIZATION),
}
_QUERY: Final = re.compile(r"\?[^\s:]*")  # of a URL in an error: it may be a signature


@dataclass(frozen=True)
class Remote:
    """A file of the directory.

    Attributes:
        name: in the directory.
        size: in bytes.
        version: changes with its content: an entity tag, or else the time of the last change; empty where neither is known.
        condition: what a request for its bytes says, so that it is answered with those of this version alone.
    """

    name: str
    size: int
    version: str
    condition: "GetOptions" = field(hash=False)


class Directory:
    """A directory that files are fetched from."""

    def __init__(self, uri: str, environ: Mapping[str, str]) -> None:
        """Look at the URI and the environment; nothing is asked for yet.

        Raises:
            ArtifactAccessDeniedError: credentials that are incomplete or malformed.
        """
        self.uri = uri.rstrip("/")
        scheme = urlsplit(uri).scheme
        prefixes, variables = CREDENTIALS[scheme]
        given = any(value and name.startswith(prefixes) for name, value in environ.items())
        self._unnamed = not given and scheme != "https"  # then a cloud's own service for credentials was asked
        self._advice = (
            "look at the Secret of spec.model.artifacts.secretRef"
            if given
            else f"no credentials are given: name a Secret with {variables} in spec.model.artifacts.secretRef"
        )
        try:
            self._store = _open(scheme, self.uri, _client(environ))
        except (BaseError, ValueError) as error:
            message = f"{self.uri} cannot be opened: {_text(error)}; {self._advice}"
            raise ArtifactAccessDeniedError(message) from error

    async def look(self, name: str) -> Remote:
        """What is known of a file.

        Raises:
            ArtifactNotFoundError: there is none.
            ArtifactAccessDeniedError: it may not be read; S3 says so, too, of what is not there to those who may not list.
            ArtifactUnreachableError: no answer, or one that makes no sense, after some tries.
        """
        with self._explained(name):
            meta = await obstore.head_async(self._store, name)
        tag, changed = meta["e_tag"], meta["last_modified"]
        # Of a web server that tells no time the library says 1970.
        dated: GetOptions = {"if_unmodified_since": changed} if changed.timestamp() else {}
        # A weak tag is equal to none, not even itself.
        strong = tag is not None and not tag.startswith("W/")
        version = tag or (changed.isoformat() if dated else "")
        return Remote(name, meta["size"], version, {"if_match": tag} if strong else dated)

    async def read(self, file: Remote, offset: int) -> AsyncIterator[bytes]:
        """The bytes of a file from a place on, in pieces.

        Raises:
            ArtifactNotFoundError, ArtifactAccessDeniedError, ArtifactUnreachableError: as `look`, at any time.
        """
        skipped = 0
        with self._explained(file.name):
            try:
                part: GetOptions = {"range": {"offset": offset}} if offset else {}
                result = await obstore.get_async(self._store, file.name, options={**file.condition, **part})
            except NotSupportedError:  # a web server that knows no ranges
                result = await obstore.get_async(self._store, file.name, options=file.condition)
                skipped = offset
            async for chunk in result.stream(min_chunk_size=CHUNK):
                yield chunk[skipped:]
                skipped = max(0, skipped - len(chunk))

    @contextlib.contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        """Turn what the library raises into what a person can act on."""
        where = f"{self.uri}/{name}"
        try:
            yield
        except FileNotFoundError as error:
            message = f"{where} is not there"
            raise ArtifactNotFoundError(message) from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            message = f"{where} may not be read; {self._advice}"
            raise ArtifactAccessDeniedError(message) from error
        except PreconditionError as error:
            message = f"{where} has changed while it was fetched"
            raise ArtifactUnreachableError(message) from error
        except (BaseError, ValueError, OSError) as error:
            message = f"{where} cannot be reached: {_text(error)}" + (f"; {self._advice}" if self._unnamed else "")
            raise ArtifactUnreachableError(message) from error


def _open(scheme: str, uri: str, client: "ClientConfig") -> "ObjectStore":
    match scheme:
        case "s3":
            return S3Store.from_url(uri, client_options=client, retry_config=RETRIES)
        case "gs":
            return GCSStore.from_url(uri, client_options=client, retry_config=RETRIES)
        case "https":
            return HTTPStore.from_url(uri, client_options=client, retry_config=RETRIES)
        case _:
            return AzureStore.from_url(uri, client_options=client, retry_config=RETRIES)


def _client(environ: Mapping[str, str]) -> "ClientConfig":
    allowed = any(environ.get(f"{cloud}_ALLOW_HTTP", "").lower() == "true" for cloud in ("AWS", "AZURE"))
    client: ClientConfig = {**TIMEOUTS, "allow_http": allowed}
    if authorization := environ.get(AUTHORIZATION):
        client["default_headers"] = {"authorization": authorization}
    if certificate := environ.get(CERTIFICATE):
        client["root_certificate"] = certificate
    return client


def _text(error: BaseException) -> str:
    """The library's own words, without what only its authors need, and without queries."""
    said = _QUERY.sub("", " ".join(str(error).split("Debug source")[0].split()))
    return said if len(said) <= MAX_FOREIGN_TEXT else said[:MAX_FOREIGN_TEXT] + "…"
