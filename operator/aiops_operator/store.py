"""What the API server has said last of each object that matters; filled by the watches and by the answers to our writes.

Pure, no I/O. Objects are kept as JSON text, a fifth of what dictionaries take, and each reader gets one of its own.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from aiops_operator import names
from aiops_operator.live import references_of
from aiops_operator.names import Key, Kind

REMEMBERED_ENDS: Final = 8192  # ends of objects, so that a late answer to a write does not bring one back
REMEMBERED_STATUS: Final = frozenset({names.JOB})  # of these how they were at their end is asked for afterwards
PARTIAL: Final = "PartialObjectMetadata"  # the kind of an object of which only the metadata is known
_PARTIAL_TEXT: Final = b'{"kind":"PartialObjectMetadata"'


@dataclass(frozen=True)
class _Known:
    """An object: its resourceVersion, the service that it was made for, what it refers to, and its text."""

    version: str
    service: Key | None
    references: frozenset[tuple[Kind, Key]]
    text: bytes


class Store:
    """The objects of all kinds that are watched."""

    def __init__(self) -> None:
        self._known: defaultdict[Kind, dict[Key, _Known]] = defaultdict(dict)
        self._ends: OrderedDict[tuple[Kind, Key], tuple[str, bytes]] = OrderedDict()
        self._children: defaultdict[tuple[Kind, Key], set[Key]] = defaultdict(set)
        self._referring: defaultdict[tuple[Kind, Key], set[Key]] = defaultdict(set)

    def put(self, kind: Kind, body: Mapping[str, Any]) -> bool:
        """This is what an object looks like; whether that is news.

        What is older than what is known is no news, nor is what our own write has been answered with already.
        """
        key, version = key_of(body), str(body["metadata"]["resourceVersion"])
        known = self._known[kind].get(key)
        if known is not None:
            if known.version == version:
                if _is_partial(known.text) and body.get("kind") != PARTIAL:
                    self._set(kind, key, body, version)
                return False
            if older(version, known.version):
                return False
        elif (end := self._ends.get((kind, key))) is not None and (version == end[0] or older(version, end[0])):
            return False
        self._set(kind, key, body, version)
        return True

    def drop(self, kind: Kind, body: Mapping[str, Any]) -> bool:
        """An object has ended, and looked like this at last; whether that is news."""
        key, version = key_of(body), str(body["metadata"]["resourceVersion"])
        known = self._known[kind].get(key)
        if known is not None and older(version, known.version):
            return False  # another has its name by now
        return self._end(kind, key, version, body)

    def replace(
        self, kind: Kind, namespace: str | None, bodies: Iterable[Mapping[str, Any]], version: str
    ) -> list[dict[str, Any]]:
        """A listing at a version: what is not in it has ended. Returns what is news, ends too, as they are or were."""
        news, listed = [], set()
        for body in bodies:
            listed.add(key_of(body))
            if self.put(kind, body):
                news.append(dict(body))
        for key, known in list(self._known[kind].items()):
            # What was written after the listing was made cannot be in it.
            if key not in listed and namespace in (None, key.namespace) and not older(version, known.version):
                news.append(orjson.loads(known.text))
                self._end(kind, key, version, news[-1])
        return news

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        """An object, None where none is known."""
        known = self._known[kind].get(Key(namespace, name))
        body: dict[str, Any] | None = None if known is None else orjson.loads(known.text)
        return body

    def ended(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        """Metadata and status of an object that has ended, as they were last; None where that is not known."""
        _, text = self._ends.get((kind, Key(namespace, name)), ("", b""))
        body: dict[str, Any] | None = orjson.loads(text) if text else None
        return body

    def of_service(self, kind: Kind, service: Key) -> list[dict[str, Any]]:
        """All objects of a kind that were made for a service."""
        objects = self._known[kind]
        return [orjson.loads(objects[key].text) for key in sorted(self._children.get((kind, service), ()))]

    def referring(self, kind: Kind, key: Key) -> list[Key]:
        """The services that refer to an object, there or not."""
        return sorted(self._referring.get((kind, key), ()))

    def _set(self, kind: Kind, key: Key, body: Mapping[str, Any], version: str) -> None:
        self._forget(kind, key)
        service = service_of(body)
        references = references_of(body) if kind == names.INFERENCE_SERVICE else frozenset()
        foreign = service is None and kind != names.INFERENCE_SERVICE
        text = orjson.dumps(_identity(body) if foreign else _trimmed(body))
        self._known[kind][key] = _Known(version, service, references, text)
        if service is not None:
            self._children[kind, service].add(key)
        for reference in references:
            self._referring[reference].add(key)

    def _end(self, kind: Kind, key: Key, version: str, last: Mapping[str, Any]) -> bool:
        kept = {"metadata": last["metadata"], "status": last.get("status")} if kind in REMEMBERED_STATUS else None
        self._ends[kind, key] = (version, orjson.dumps(_trimmed(kept)) if kept else b"")
        self._ends.move_to_end((kind, key))
        if len(self._ends) > REMEMBERED_ENDS:
            self._ends.popitem(last=False)
        return self._forget(kind, key)

    def _forget(self, kind: Kind, key: Key) -> bool:
        known = self._known[kind].pop(key, None)
        if known is None:
            return False
        if known.service is not None:
            _discard(self._children, (kind, known.service), key)
        for reference in known.references:
            _discard(self._referring, reference, key)
        return True


def key_of(body: Mapping[str, Any]) -> Key:
    """Namespace and name of an object."""
    return Key(body["metadata"].get("namespace", ""), body["metadata"]["name"])


def service_of(body: Mapping[str, Any]) -> Key | None:
    """The service that an object was made for: the one that owns it, or the one that its label names; None for objects of others.

    The owner first, for a label that was edited by hand must not hide what is to be mended. Pods have no such owner.
    """
    metadata, kind = body["metadata"], names.INFERENCE_SERVICE
    owners = (
        owner["name"]
        for owner in metadata.get("ownerReferences") or ()
        if (owner["apiVersion"], owner["kind"]) == (kind.api_version, kind.kind)
    )
    name = next(owners, None) or (metadata.get("labels") or {}).get(names.LABEL_SERVICE)
    return Key(metadata.get("namespace", ""), name) if name else None


def partial(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same object without its content, which is not to be remembered."""
    return {"kind": PARTIAL, "metadata": body["metadata"]}


def is_partial(body: Mapping[str, Any]) -> bool:
    """Whether only the metadata of an object is known."""
    return body.get("kind") == PARTIAL


def older(version: str, other: str) -> bool:
    """Whether a resourceVersion is before another.

    They are decimal and ordered for all objects of one kind (KEP-5504); where a server has others, whatever comes is newer.
    """
    return version.isdecimal() and other.isdecimal() and int(version) < int(other)


def _is_partial(text: bytes) -> bool:
    return text.startswith(_PARTIAL_TEXT)


def _trimmed(body: Mapping[str, Any]) -> dict[str, Any]:
    """Without what only the API server needs to know, often half of an object."""
    metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
    # Kind first: by its beginning a text tells whether it is partial.
    return {"kind": body.get("kind"), **body, "metadata": metadata}


def _identity(body: Mapping[str, Any]) -> dict[str, Any]:
    """Of an object of others: that it is there, which version, and whether it is about to go."""
    metadata = body["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "deletionTimestamp")
    known = {name: metadata[name] for name in kept if name in metadata}
    return {"kind": PARTIAL, "metadata": known}


def _discard(index: "defaultdict[tuple[Kind, Key], set[Key]]", place: tuple[Kind, Key], key: Key) -> None:
    index[place].discard(key)
    if not index[place]:
        del index[place]
