"""Where data comes from: a file, or a URL that is fetched once, with the digest that its bytes should have."""

import contextlib
import hashlib
import ipaddress
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

import httpx

from aiops_training.errors import DataError

LARGEST: Final = 2 * 1024**3  # bytes
TIMEOUT: Final = httpx.Timeout(30.0)  # seconds without a byte
_REDIRECTS: Final = 5


@contextlib.contextmanager
def fetched(where: str, sha256: str | None = None) -> Iterator[Path]:
    """The data as a file, for the length of a with block.

    Args:
        where: a path, or a URL with https (http on this machine alone).
        sha256: what the bytes should have; 64 hexadecimal digits.

    Raises:
        DataError: it is not there, or it is not what the digest says.
    """
    if "://" not in where:
        path = Path(where)
        if sha256:
            _check(where, _digest(path), sha256)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="aiops-data-") as folder:
        path = Path(folder) / (PurePosixPath(httpx.URL(where).path).name or "data.csv")
        _check(where, _download(where, path), sha256)
        yield path


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own, so that what is sent there meets no network."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _download(where: str, path: Path) -> str:
    try:
        with httpx.Client(timeout=TIMEOUT) as client:
            url = httpx.URL(where)
            for _ in range(_REDIRECTS + 1):
                _check_scheme(url)  # of each step: a redirect must not lead off https
                with client.stream("GET", url) as answer:
                    if answer.next_request is None:
                        return _save(answer.raise_for_status(), path)
                    url = answer.next_request.url
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        message = f"{where} cannot be fetched: {error or type(error).__name__}"
        raise DataError(message) from error
    message = f"{where} cannot be fetched: more than {_REDIRECTS} redirects"
    raise DataError(message)


def _save(answer: httpx.Response, path: Path) -> str:
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for chunk in answer.iter_bytes():
            size += len(chunk)
            if size > LARGEST:
                message = f"{answer.url} has more than {LARGEST:,} bytes"
                raise DataError(message)
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _check_scheme(url: httpx.URL) -> None:
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(url.host)):
        message = f"{url} is not fetched: data comes from a file or over https (http on this machine alone)"
        raise DataError(message)


def _check(where: str, found: str, wanted: str | None) -> None:
    if wanted and found != wanted.lower().removeprefix("sha256:"):
        message = f"{where} has the digest sha256:{found}, not the one that was asked for; nothing was trained"
        raise DataError(message)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise DataError(message) from error
