"""The CRD's file: its copy in the chart, and that every field is described and bounded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
CRD = ROOT / "crds" / "inferenceservice.yaml"


def test_the_chart_carries_the_same_bytes() -> None:
    """helm/crds/ holds a byte-equal copy of crds/ (cp crds/inferenceservice.yaml helm/crds/)."""
    assert (ROOT / "helm" / "crds" / CRD.name).read_bytes() == CRD.read_bytes()


def test_every_field_has_a_description() -> None:
    """`kubectl explain` has a sentence to show for every field."""
    assert [path for path, schema in fields() if not schema.get("description", "").endswith(".")] == []


def test_every_string_list_and_map_is_bounded() -> None:
    """Unbounded values would make the cost of the CEL rules unbounded."""
    bound = {"string": "maxLength", "array": "maxItems", "map": "maxProperties"}
    unbounded = []
    for path, schema in fields():
        kind = "map" if "additionalProperties" in schema else schema.get("type", "")
        if kind in bound and "enum" not in schema and bound[kind] not in schema:
            unbounded.append(path)
    assert unbounded == []


def test_every_rule_has_a_message() -> None:
    """A refusal says what to write instead, not the rule that failed."""
    rules = [
        (path, rule)
        for path, schema in [("", root()), *fields()]
        for rule in schema.get("x-kubernetes-validations", [])
    ]
    assert len(rules) > 30
    assert [path for path, rule in rules if not rule.get("message")] == []


def root() -> dict[str, Any]:
    """The schema of the whole object."""
    crd = yaml.safe_load(CRD.read_text(encoding="utf-8"))
    schema: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def fields() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field under spec and status with its path."""
    for name in ("spec", "status"):
        yield from below(f".{name}", root()["properties"][name])


def below(path: str, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A field and all fields in it."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from below(f"{path}.{name}", child)
    for name, child in schema.get("items", {}).get("properties", {}).items():
        yield from below(f"{path}[].{name}", child)
