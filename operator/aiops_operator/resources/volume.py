"""The volume that holds the artifacts in a pod."""

from dataclasses import dataclass, field
from typing import Any

from aiops_operator.api import ClaimSource, ImageSource


@dataclass(frozen=True)
class Mount:
    """Where the pods find their artifacts.

    Attributes:
        volume: the source part of a pod's volume.
        identity: what the template's hash says of the content.
        display: for `status.model.artifacts`.
        sub_path: directory in the volume, empty for its root.
    """

    volume: dict[str, Any] = field(hash=False)
    identity: str
    display: str
    sub_path: str = ""


def config_map_mount(name: str, digest: str) -> Mount:
    """The immutable copy of a ConfigMap, with the digest of its content."""
    return Mount({"configMap": {"name": name}}, digest, name)


def claim_mount(source: ClaimSource) -> Mount:
    """A directory of a claim, mounted read-only: the content may change without a rollout."""
    volume = {"persistentVolumeClaim": {"claimName": source.claim_name, "readOnly": True}}
    display = f"{source.claim_name}/{source.path}" if source.path else source.claim_name
    return Mount(volume, f"claim:{display}", display, source.path)


def image_mount(source: ImageSource) -> Mount:
    """An OCI image that the kubelet mounts."""
    image = {"reference": source.reference} | ({"pullPolicy": source.pull_policy} if source.pull_policy else {})
    return Mount({"image": image}, f"image:{source.reference}:{source.pull_policy or ''}", source.reference)
