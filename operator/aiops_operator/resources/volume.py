"""The volume that holds the artifacts in a pod."""

from dataclasses import dataclass, field
from typing import Any, Final

from aiops_operator.api import ClaimSource, ImageSource, InferenceService, UriSource

MAX_MODEL_BYTES: Final = 2 << 30  # what the inference image takes unless it is told otherwise
ROOM: Final = 64 << 20  # bytes of a volume beside the files that are fetched into it


@dataclass(frozen=True)
class Mount:
    """Where the pods find their artifacts.

    Attributes:
        volume: the source part of a pod's volume.
        identity: what the template's hash says of the content.
        display: for `status.model.artifacts`.
        sub_path: directory in the volume, empty for its root.
        fetched: from where an init container fills the volume; None where it comes filled.
    """

    volume: dict[str, Any] = field(hash=False)
    identity: str
    display: str
    sub_path: str = ""
    fetched: UriSource | None = None


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


def uri_mount(service: InferenceService, source: UriSource) -> Mount:
    """An empty volume that an init container fills: what the directory holds may change without a rollout.

    It has room for MAX_MODEL_BYTES, and no bound where only the pod knows how many these are.
    """
    given = {entry["name"]: entry.get("value", "") for entry in service.pod_template.get("env", ())}
    limit = given.get("MAX_MODEL_BYTES", str(MAX_MODEL_BYTES))
    known = limit.isascii() and limit.isdigit()
    volume = {"emptyDir": {"sizeLimit": f"{(int(limit) + ROOM) >> 20}Mi"} if known else {}}
    return Mount(volume, f"uri:{source.uri}:{source.secret or ''}", source.uri, fetched=source)
