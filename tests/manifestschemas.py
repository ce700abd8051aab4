"""JSON schemas for kubeconform, of what an API server and CRDs say of their kinds; a field that they do not name is refused."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LOCATION = "{{ .ResourceKind }}{{ .KindSuffix }}.json"  # the file of a kind, as kubeconform names it
_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
# Strings that may be written as numbers: OpenAPI 2 has no word for that.
_NUMBERS = ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "io.k8s.apimachinery.pkg.api.resource.Quantity")


def write(folder: Path, openapi: dict[str, Any], crds: Iterable[dict[str, Any]]) -> None:
    """Write a file for each kind.

    Args:
        folder: Where to.
        openapi: What an API server answers under /openapi/v2.
        crds: CustomResourceDefinitions; what they say goes before what the API server made of it.
    """
    schemas = openapi["definitions"] | {name: {"type": ["string", "number"]} for name in _NUMBERS}
    for name, schema in list(schemas.items()):
        for kind in schema.get("x-kubernetes-group-version-kind", ()):
            schemas[_file(kind["kind"], kind["group"], kind["version"])] = {"$ref": name}
    for spec in (crd["spec"] for crd in crds):
        for version in spec["versions"]:
            schema = version["schema"]["openAPIV3Schema"]
            properties = schema["properties"] | {"metadata": {"$ref": _META}}
            schemas[_file(spec["names"]["kind"], spec["group"], version["name"])] = schema | {"properties": properties}
    for name, schema in schemas.items():
        # Each in a file of its own: kubeconform reads those that a kind refers to, and not all for each kind.
        (folder / name).write_text(json.dumps(_strict(schema)).replace("#/definitions/", ""))


def _file(kind: str, group: str, version: str) -> str:
    return "-".join([kind.lower(), *([group.partition(".")[0]] if group else []), f"{version.lower()}.json"])


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    # Only where fields are declared: what `anyOf` and the like say is said of fields that are declared beside it.
    made = dict(schema)
    if "properties" in schema:
        made["properties"] = {name: _strict(field) for name, field in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    for nested in ("items", "additionalProperties"):
        if isinstance(schema.get(nested), dict):
            made[nested] = _strict(schema[nested])
    return made
