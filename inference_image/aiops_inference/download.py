"""From a remote directory to files in place: resumable, bounded, verified, and moved there only when all are whole.

What has been fetched is kept in `.fetch` beside the model, under a name that changes with the content: a container that is
started again goes on where the one before was cut off, and never puts the bytes of two versions together.
"""

import asyncio
import contextlib
import hashlib
import os
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiops_inference import loaders
from aiops_inference.artifacts import MANIFEST_NAME
from aiops_inference.errors import (
    ArtifactAccessDeniedError,
    ArtifactNotFoundError,
    ArtifactNotStoredError,
    ArtifactTooLargeError,
    ArtifactUnreachableError,
    DigestMismatchError,
)
from aiops_inference.objectstore import Directory, Remote
from aiops_inference.settings import FetchSettings
from aiops_inference.telemetry import Log

PARTS: Final = ".fetch"
ATTEMPTS: Final = 6  # without a byte between them
FIRST_PAUSE: Final = 0.2  # seconds; doubled with each attempt, and anything from nothing to that is waited
PROGRESS_INTERVAL: Final = 5.0  # seconds between two lines about one file
FINGERPRINT_DIGITS: Final = 16


@dataclass(frozen=True)
class Item:
    """A file to fetch: from where, by way of which unfinished file, to which place."""

    remote: Remote
    part: Path
    place: Path


async def fetch(settings: FetchSettings, directory: Directory, log: Log) -> None:
    """Bring model, baseline and, where they are there, expectations and manifest into place.

    Raises:
        ArtifactError, ArtifactUnreachableError: with one sentence; what was in place before is as it was.
    """
    there = loaders.found(settings.model_path)
    # The model is moved last: where it is there, all are. A restart of the pod then needs no store.
    if settings.model_sha256 and there.is_file() and _digest(there) == settings.model_sha256:
        log.info("fetched before", file=there.name, digest=f"sha256:{settings.model_sha256}")
        return
    items = _items(settings, directory, await _look(settings, directory, log))
    with _stored(items[-1].place):
        _make_room(settings, items)
        for item in items:
            await _complete(item, directory, log)
        _verify(settings, items[-1])
        for item in items:
            _move(item)


async def _look(settings: FetchSettings, directory: Directory, log: Log) -> list[tuple[Remote, Path]]:
    """What is to be fetched, and to where; the model is last.

    Raises:
        ArtifactNotFoundError: there is no model, or no baseline.
    """
    model = await _model(settings, directory)
    try:
        baseline = await directory.look(settings.baseline_path.name)
    except ArtifactNotFoundError as error:
        message = f"{error}: put it beside the model, or correct spec.model.baselineFile"
        raise ArtifactNotFoundError(message) from error
    found = [(baseline, settings.baseline_path)]
    for path in (settings.expectations_path, settings.model_path.with_name(MANIFEST_NAME)):
        try:
            found.append((await directory.look(path.name), path))
        except ArtifactNotFoundError:
            log.info("not there", file=path.name)
        except ArtifactAccessDeniedError as error:
            log.warning("taken for not there", file=path.name, message=str(error))
    return [*found, (model, settings.model_path.with_name(model.name))]


async def _model(settings: FetchSettings, directory: Directory) -> Remote:
    """The first of the files that the server would look for."""
    names = list(dict.fromkeys(path.name for path in loaders.candidates(settings.model_path)))
    denied: ArtifactAccessDeniedError | None = None
    for name in names:
        try:
            return await directory.look(name)
        except ArtifactNotFoundError:
            continue
        except ArtifactAccessDeniedError as error:
            denied = denied or error
    if denied is not None:
        raise denied
    message = f"{directory.uri} holds no {' and no '.join(names)}: correct spec.model.artifacts.uri or modelFile"
    raise ArtifactNotFoundError(message)


def _items(settings: FetchSettings, directory: Directory, found: Sequence[tuple[Remote, Path]]) -> list[Item]:
    """Raises ArtifactTooLargeError: they have more than MAX_MODEL_BYTES in all."""
    size = sum(remote.size for remote, _ in found)
    if size > settings.max_model_bytes:
        message = (
            f"the files of {directory.uri} have {size} bytes, more than MAX_MODEL_BYTES, {settings.max_model_bytes}:"
            " raise it in spec.podTemplate.env"
        )
        raise ArtifactTooLargeError(message)
    return [Item(remote, place.parent / PARTS / _part(directory, remote), place) for remote, place in found]


def _part(directory: Directory, remote: Remote) -> str:
    told = "\n".join((directory.uri, remote.name, remote.version, str(remote.size)))
    return f"{remote.name}-{hashlib.sha256(told.encode()).hexdigest()[:FINGERPRINT_DIGITS]}"


def _make_room(settings: FetchSettings, items: Sequence[Item]) -> None:
    """Forget what other versions have left, and see that the disk takes what is missing.

    Raises:
        ArtifactNotStoredError: it does not.
    """
    folder = settings.model_path.parent / PARTS
    folder.mkdir(exist_ok=True)
    wanted = {item.part for item in items}
    for path in folder.iterdir():
        if path not in wanted:
            path.unlink()
    missing = sum(item.remote.size - _kept(item) for item in items)
    free = shutil.disk_usage(folder).free
    if missing > free:
        message = f"{folder.parent} has {free} bytes left, and {missing} are missing"
        raise ArtifactNotStoredError(message)


async def _complete(item: Item, directory: Directory, log: Log) -> None:
    """Fetch what is missing of a file; a body that is cut off is taken up again, as long as something comes."""
    remote, attempt, have = item.remote, 0, _kept(item)
    log.info("fetching", file=remote.name, bytes=remote.size, **({"from": have} if have else {}))
    item.part.touch()
    while have < remote.size:
        failure = ArtifactUnreachableError(f"{directory.uri}/{remote.name} ends before its {remote.size} bytes")
        try:
            await _append(item, directory, have, log)
        except ArtifactUnreachableError as error:
            failure = error
        now = _size(item.part)
        if now < remote.size:
            now = _kept(item)
            attempt = 0 if now > have else attempt + 1
            if attempt == ATTEMPTS:
                raise failure
            log.warning("interrupted", file=remote.name, bytes=now, of=remote.size, message=str(failure))
            await asyncio.sleep(random.uniform(0, FIRST_PAUSE * 2**attempt))  # noqa: S311 - no secret
        have = now
    log.info("fetched", file=remote.name, bytes=remote.size)


def _kept(item: Item) -> int:
    """Bytes of an unfinished file; none are kept where nothing tells one version of it from another."""
    if not item.remote.version:
        item.part.unlink(missing_ok=True)
    return _size(item.part)


async def _append(item: Item, directory: Directory, have: int, log: Log) -> None:
    spoken = time.monotonic()
    with item.part.open("ab", buffering=0) as file:
        async for chunk in directory.read(item.remote, have):
            view = memoryview(chunk)[: item.remote.size - have]
            while view:
                written = file.write(view)
                view, have = view[written:], have + written
            if time.monotonic() - spoken > PROGRESS_INTERVAL:
                spoken = time.monotonic()
                log.info("fetching", file=item.remote.name, bytes=have, of=item.remote.size)


def _verify(settings: FetchSettings, model: Item) -> None:
    """Raises DigestMismatchError: these are not the bytes that may be loaded; they are forgotten."""
    digest = _digest(model.part)
    if settings.model_sha256 and digest != settings.model_sha256:
        model.part.unlink()
        message = (
            f"{model.remote.name} has the digest sha256:{digest}, but MODEL_SHA256 (spec.model.sha256) allows "
            f"sha256:{settings.model_sha256}"
        )
        raise DigestMismatchError(message)


def _move(item: Item) -> None:
    """Into place, whole, whatever happens to the node a moment later."""
    with item.part.open("rb") as file:
        os.fsync(file.fileno())
    item.part.replace(item.place)
    folder = os.open(item.place.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def _stored(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{place.parent} does not take the files: {error.strerror or error}"
        raise ArtifactNotStoredError(message) from error
