"""A model into git: the line that refers to it and the line with its digest, in one commit that says why."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiops_training import artifacts, configmap, git, serviceyaml
from aiops_training.artifacts import MANIFEST
from aiops_training.errors import PromotionError
from aiops_training.serviceyaml import Declared

_DIGITS: Final = 12
_CONTENT: Final = re.compile(rf"-[0-9a-f]{{{_DIGITS}}}$")


@dataclass(frozen=True)
class Place:
    """Where a model is promoted to.

    Attributes:
        checkout: of the repository.
        file: the manifest's path in it.
        service: name of the InferenceService; None where the file has one only.
    """

    checkout: git.Checkout
    file: str
    service: str | None = None

    def text(self) -> str:
        """The manifest as it is in the checkout, line ends and all.

        Raises:
            PromotionError: it is not there.
        """
        try:
            return self.checkout.file(self.file).read_bytes().decode()
        except (OSError, UnicodeError) as error:
            message = f"{self.file} cannot be read in {self.checkout.url}, branch {self.checkout.branch}: {error}"
            raise PromotionError(message) from error

    def declared(self) -> Declared:
        """What the manifest says of the model in service.

        Raises:
            PromotionError: as `serviceyaml.declared`.
        """
        with_file = f"{self.file} in {self.checkout.url}, branch {self.checkout.branch}: "
        try:
            return serviceyaml.declared(self.text(), self.service)
        except PromotionError as error:
            message = f"{with_file}{error}"
            raise PromotionError(message) from error


def promote(place: Place, files: Mapping[str, bytes], image: str | None, why: str, expected: Declared) -> str:
    """Commit and push.

    Args:
        place: where to.
        files: the artifacts.
        image: the reference that they have in a registry; None where they go into a ConfigMap in the repository.
        why: the commit's text below its first line.
        expected: what was in service when the model was judged.

    Returns:
        The commit; empty where the repository has this model already.

    Raises:
        PromotionError: another model has come into service meanwhile, or the push is refused.
        PackageError: the files do not fit into a ConfigMap.
    """
    sha256 = hashlib.sha256(files[artifacts.model_file(files)]).hexdigest()

    def change() -> str:
        now = place.declared()
        if (now.reference, now.sha256) != (expected.reference, expected.sha256):
            if now.sha256 == sha256:
                return ""  # it is there already
            message = f"another model has come into service meanwhile, {now.reference}: train again to compare with it"
            raise PromotionError(message)
        if (now.source == "image") != (image is not None):
            wanted = "an image; push to a registry" if now.source == "image" else "a ConfigMap; do without a registry"
            message = f"{now.service} has its model from {wanted}"
            raise PromotionError(message)
        if image is not None:
            reference = image
        else:
            reference = _content_name(now.reference, files)
            _write_config_map(place, now.reference, reference, files)
        path = place.checkout.file(place.file)
        path.write_bytes(serviceyaml.edited(place.text(), reference, sha256, now.service).encode())
        return f"{now.service}: model {sha256[:7]}{f' for {now.sha256[:7]}' if now.sha256 else ''}\n\n{why}\n"

    return git.publish(place.checkout, change)


def config_map_files(place: Place, name: str) -> dict[str, bytes]:
    """The artifacts in a ConfigMap whose manifest is beside the service's.

    Raises:
        PromotionError: there is no such manifest.
        PackageError: it is no proper one.
    """
    found = _manifest_of(place, name)
    if found is None:
        message = f"no file beside {place.file} holds the ConfigMap {name}, so that the model in service cannot be read"
        raise PromotionError(message)
    document = serviceyaml.config_map(found.read_text(encoding="utf-8"), name) or {}
    return configmap.files(document)


def _write_config_map(place: Place, old: str, new: str, files: Mapping[str, bytes]) -> None:
    """In place of the old one; its name follows from what is in it, so that service and artifacts change in one step."""
    found = _manifest_of(place, old)
    path = found or place.checkout.file(place.file).parent / f"{_CONTENT.sub('', old)}.configmap.yaml"
    before = serviceyaml.config_map(found.read_text(encoding="utf-8"), old) if found else None
    if not found and path.exists():
        message = f"{path.name} is there and does not hold the ConfigMap {old}: give it another name"
        raise PromotionError(message)
    if found and not _alone(found):
        message = f"{found.name} holds more than the ConfigMap {old}: give it a file of its own"
        raise PromotionError(message)
    metadata = (before or {}).get("metadata")
    path.write_text(configmap.manifest(new, files, metadata if isinstance(metadata, dict) else None), encoding="utf-8")


def _manifest_of(place: Place, name: str) -> Path | None:
    folder = place.checkout.file(place.file).parent
    for path in sorted(folder.iterdir()):
        if (
            path.suffix in {".yaml", ".yml"}
            and path.is_file()
            and not path.is_symlink()
            and serviceyaml.config_map(path.read_text(encoding="utf-8"), name)
        ):
            return path
    return None


def _alone(path: Path) -> bool:
    return serviceyaml.documents(path.read_text(encoding="utf-8")) == 1


def _content_name(old: str, files: Mapping[str, bytes]) -> str:
    return f"{_CONTENT.sub('', old)}-{hashlib.sha256(files[MANIFEST]).hexdigest()[:_DIGITS]}"
