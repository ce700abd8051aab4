"""Images into and out of a registry, with the credentials of docker's configuration, bounded in time."""

import contextlib
import functools
import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import requests
from oras.auth.token import TokenAuth
from oras.provider import Registry
from requests.adapters import HTTPAdapter

from aiops_training import image
from aiops_training.errors import RegistryError
from aiops_training.source import is_loopback

SECONDS: Final = 60.0  # without a byte
TAG_DIGITS: Final = 12
_REFERENCE: Final = re.compile(
    r"(?P<registry>[a-zA-Z0-9.-]+(:[0-9]+)?|\[[0-9a-f:]+\](:[0-9]+)?)/(?P<path>[a-z0-9]+([._/-]+[a-z0-9]+)*)"
    r"(:(?P<tag>[\w][\w.-]{0,127}))?(@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_UNAUTHORIZED: Final = (401, 403)
_NOT_ALLOWED: Final = "the credentials of docker's configuration are not allowed to; docker login"
_ACCEPT: Final = ", ".join(image.MANIFEST_TYPES)


def push(files: Mapping[str, bytes], repository: str, *, plain_http: bool = False) -> str:
    """Push the files as an image, and return its reference by digest. What is there already is not sent again.

    Args:
        files: artifacts by name.
        repository: such as `registry.example.com/models/iris`; with a tag, or else it gets the first digits of the digest
            as its tag, because registries collect what has none.
        plain_http: without TLS to another machine than this one.

    Raises:
        RegistryError: the registry cannot be reached, does not know who we are, or does not take it.
    """
    registry, path, tag, digest = _parsed(repository)
    if digest:
        message = f"{repository} has a digest; what is pushed gets its own"
        raise RegistryError(message)
    built = image.build(files)
    tag = tag or built.manifest.digest.removeprefix("sha256:")[:TAG_DIGITS]
    with _session(registry, path, plain_http=plain_http) as client, tempfile.TemporaryDirectory() as folder:
        container = client.get_container(f"{registry}/{path}:{tag}")
        for blob in (built.layer, built.config):
            file = Path(folder) / blob.digest
            file.write_bytes(blob.content)
            _upload(client, container, file, blob.descriptor)
        url = f"{client.prefix}://{container.manifest_url(tag)}"
        headers = {"Content-Type": image.MANIFEST_TYPE}
        # The bytes as they were hashed: the library would write the document anew.
        _answered(lambda: client.do_request(url, "PUT", data=built.manifest.content, headers=headers), url)
    return f"{registry}/{path}@{built.manifest.digest}"


def pull(reference: str, *, plain_http: bool = False) -> dict[str, bytes]:
    """The files in an image by name; each blob is held against its digest.

    Args:
        reference: with a tag or a digest.
        plain_http: as for `push`.

    Raises:
        RegistryError: the image cannot be had, or is not what its digest says.
    """
    registry, path, tag, digest = _parsed(reference)
    with _session(registry, path, plain_http=plain_http) as client:
        container = client.get_container(f"{registry}/{path}")
        document = _manifest(client, container, digest or tag or "latest")
        if "manifests" in document:  # of several platforms, as docker pushes them; artifacts are the same on each
            described = [entry for entry in document["manifests"] if entry.get("platform", {}).get("os") != "unknown"]
            document = _manifest(client, container, described[0]["digest"]) if described else {}
        try:
            layers = [(layer["mediaType"], layer["digest"]) for layer in document["layers"]]
        except (KeyError, TypeError) as error:
            message = f"{reference} is no image: its manifest has no layers"
            raise RegistryError(message) from error
        files: dict[str, bytes] = {}
        for media_type, layer in layers:
            if media_type not in image.LAYER_TYPES:
                message = f"{reference} has a layer of the type {media_type}, which is not unpacked here"
                raise RegistryError(message)
            content = _answered(functools.partial(client.get_blob, container, layer), reference).content
            _check(content, layer)
            files |= image.unpacked(content)
    return files


def _upload(client: Registry, container: Any, file: Path, descriptor: Mapping[str, Any]) -> None:  # noqa: ANN401 - of oras
    with _told(container):
        if client.blob_exists(descriptor, container):
            return
    # The token that was given for looking is not good for writing, and the library asks for no other while it has one.
    if isinstance(client.auth, TokenAuth):
        client.auth.token = None
    _answered(lambda: client.put_upload(str(file), container, descriptor), container)


def _manifest(client: Registry, container: Any, name: str) -> dict[str, Any]:  # noqa: ANN401 - of oras
    """A manifest or an index by its tag or its digest."""
    url = f"{client.prefix}://{container.manifest_url(name)}"
    answer = _answered(lambda: client.do_request(url, "GET", headers={"Accept": _ACCEPT}), url)
    if name.startswith("sha256:"):
        _check(answer.content, name)
    with _told(url):
        document: dict[str, Any] = answer.json()
    return document


def _parsed(reference: str) -> tuple[str, str, str | None, str | None]:
    found = _REFERENCE.fullmatch(reference)
    if not found:
        message = f"{reference!r} is no image's name with its registry, such as registry.example.com/models/iris:1"
        raise RegistryError(message)
    return found["registry"], found["path"], found["tag"], found["digest"]


@contextlib.contextmanager
def _session(registry: str, path: str, *, plain_http: bool) -> Iterator[Registry]:
    """A client that knows its credentials; asked first, so that a registry that is not there is told at once."""
    logging.getLogger("oras.logger").setLevel(logging.CRITICAL)  # what goes wrong is in the exceptions
    plain = plain_http or is_loopback(httpx.URL(f"https://{registry}").host)
    url = f"{'http' if plain else 'https'}://{registry}/v2/"
    with requests.Session() as session:
        _bound(session)
        try:
            asked = session.get(url)
        except requests.RequestException as error:
            message = f"the registry {registry} cannot be reached: {error}"
            raise RegistryError(message) from error
        challenge = asked.headers.get("Www-Authenticate", "") if asked.status_code in _UNAUTHORIZED else ""
        backend = "basic" if challenge.lower().startswith("basic") else "token"
        client = Registry(insecure=plain, auth_backend=backend)
        _bound(client.session)
        container = client.get_container(f"{registry}/{path}")
        client.auth.load_configs(container, configs=_docker_configuration())
        if backend == "basic" and not getattr(client.auth, "_basic_auth", None):
            message = f"{registry} asks who we are, and docker's configuration does not say: docker login {registry}"
            raise RegistryError(message)
        with client.session:
            yield client


def _bound(session: requests.Session) -> None:
    """Give each request of a session a time-out, which requests has not."""

    class Bounded(HTTPAdapter):
        def send(self, request: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - requests'
            options["timeout"] = options.get("timeout") or SECONDS
            return super().send(request, *args, **options)

    for scheme in ("http://", "https://"):
        session.mount(scheme, Bounded())


def _docker_configuration() -> list[str]:
    """Docker's own variable, which the library does not look at."""
    folder = os.environ.get("DOCKER_CONFIG")
    return [str(Path(folder) / "config.json")] if folder else []


@contextlib.contextmanager
def _told(what: object) -> Iterator[None]:
    """Turn the library's errors into ours."""
    try:
        yield
    except (requests.RequestException, ValueError, OSError) as error:
        refused = any(
            code in str(error) for code in ("'UNAUTHORIZED'", "'DENIED'")
        )  # where it wanted to know where to upload
        message = f"{what}: {_NOT_ALLOWED if refused else error}"
        raise RegistryError(message) from error


def _answered(ask: Callable[[], requests.Response], what: object) -> requests.Response:
    with _told(what):
        answer = ask()
    if not answer.ok:
        why = _NOT_ALLOWED if answer.status_code in _UNAUTHORIZED else answer.text[:300]
        message = f"{what}: the registry answered {answer.status_code}: {why}"
        raise RegistryError(message)
    return answer


def _check(content: bytes, digest: str) -> None:
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if found != digest:
        message = f"the registry gave other bytes than {digest}: {found}"
        raise RegistryError(message)
