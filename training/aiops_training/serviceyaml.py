"""The InferenceService in a manifest: what it serves, and the same text with another model; every other byte stays. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import yaml

from aiops_training.errors import PromotionError

Source = Literal["image", "configMap", "persistentVolumeClaim"]

KIND: Final = "InferenceService"
GROUP: Final = "aiops-quality.io/"
_REFERENCES: Final[dict[Source, str]] = {"image": "reference", "configMap": "name"}


@dataclass(frozen=True)
class Declared:
    """What a manifest says of the model in service.

    Attributes:
        service: name of the InferenceService.
        source: where its artifacts are.
        reference: the image's reference, or the ConfigMap's name.
        sha256: of the model's file; empty where it is not said.
    """

    service: str
    source: Source
    reference: str
    sha256: str


def declared(text: str, service: str | None = None) -> Declared:
    """Read what is served.

    Args:
        text: YAML, of one or more documents.
        service: name of the InferenceService; where left out there must be one only.

    Raises:
        PromotionError: it is not YAML, there is no such InferenceService, or it has its model from elsewhere.
    """
    return _found(text, service)[0]


def edited(text: str, reference: str, sha256: str, service: str | None = None) -> str:
    """The text with another reference and another sha256.

    Args:
        text: as for `declared`.
        reference: the image's reference, or the ConfigMap's name, whichever the manifest has.
        sha256: of the model's file, 64 hexadecimal digits; the line is added where there is none.
        service: as for `declared`.

    Raises:
        PromotionError: as `declared`.
    """
    _, model, place = _found(text, service)
    # Always quoted: digits with one e among them would be a number.
    changes = [(place.start_mark.index, place.end_mark.index, reference)]
    if digest := _child(model, "sha256"):
        changes.append((digest.start_mark.index, digest.end_mark.index, f'"{sha256}"'))
    else:
        first = model.value[0][0].start_mark
        separator = ", " if model.flow_style else f"\n{' ' * first.column}"
        changes.append((first.index, first.index, f'sha256: "{sha256}"{separator}'))
    for start, end, new in sorted(changes, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def config_map(text: str, name: str) -> dict[str, Any] | None:
    """The ConfigMap of this name among a text's documents; None where there is none, or the text is not YAML."""
    for document in _loaded(text):
        metadata = document.get("metadata") if document.get("kind") == "ConfigMap" else None
        if isinstance(metadata, dict) and metadata.get("name") == name:
            return document
    return None


def documents(text: str) -> int:
    """How many objects a text holds; 0 where it is not YAML."""
    return len(_loaded(text))


def _loaded(text: str) -> list[dict[str, Any]]:
    try:
        return [document for document in yaml.safe_load_all(text) if isinstance(document, dict)]
    except yaml.YAMLError:
        return []


def _found(text: str, service: str | None) -> tuple[Declared, yaml.MappingNode, yaml.Node]:
    """What is declared, the mapping `spec.model`, and the scalar that refers to the artifacts."""
    try:
        documents = [node for node in yaml.compose_all(text, yaml.SafeLoader) if isinstance(node, yaml.MappingNode)]
    except yaml.YAMLError as error:
        message = (
            f"it is not YAML: {' '.join(str(error).split())}; a template cannot be edited, the manifest it makes can"
        )
        raise PromotionError(message) from error
    services = {_text(_walk(node, "metadata", "name")): node for node in documents if _is_service(node)}
    if service is None and len(services) != 1:
        which = f"it holds {', '.join(sorted(services))}; say which" if services else f"it holds no {KIND}"
        raise PromotionError(which)
    if service is not None and service not in services:
        message = f"it holds no {KIND} {service!r}, but {', '.join(sorted(services)) or 'none'}"
        raise PromotionError(message)
    name = service or next(iter(services))
    model = _walk(services[name], "spec", "model")
    artifacts = _child(model, "artifacts")
    if not isinstance(model, yaml.MappingNode) or not isinstance(artifacts, yaml.MappingNode):
        message = f"{KIND} {name} has no spec.model.artifacts"
        raise PromotionError(message)
    for source, key in _REFERENCES.items():
        if place := _walk(artifacts, source, key):
            digest = _child(model, "sha256")
            return Declared(name, source, _text(place), _text(digest) if digest else ""), model, place
    message = (
        f"{KIND} {name} has its model neither from an image nor from a ConfigMap, which are what can be promoted to"
    )
    raise PromotionError(message)


def _is_service(node: yaml.MappingNode) -> bool:
    version = _child(node, "apiVersion")
    return _text(_child(node, "kind")) == KIND and _text(version).startswith(GROUP)


def _walk(node: yaml.Node | None, *keys: str) -> yaml.Node | None:
    for key in keys:
        node = _child(node, key)
    return node


def _child(node: yaml.Node | None, key: str) -> yaml.Node | None:
    return next((value for name, value in _pairs(node) if _text(name) == key), None)


def _pairs(node: yaml.Node | None) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    return iter(node.value if isinstance(node, yaml.MappingNode) else ())


def _text(node: yaml.Node | None) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""
