"""What operator and inference image must say alike, though neither knows the other."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_inference import errors, loaders
from aiops_operator.conditions import FATAL_POD_REASONS, reason_or
from aiops_operator.resources import model_key
from aiops_operator.resources.model_configmap import MODEL_SUFFIXES

DOCUMENT = Path(__file__).parents[3] / "docs" / "status.md"


def kinds(root):
    """All errors below this one."""
    return {below for kind in root.__subclasses__() for below in {kind, *kinds(kind)}}


REASONS = sorted(kind("").reason for kind in kinds(errors.ArtifactError))


@pytest.mark.parametrize("reason", REASONS)
def test_what_keeps_a_pod_from_its_model_is_in_the_resource(reason):
    """The operator takes the reason for one that a person must act on, as it stands, and the documentation has it."""
    assert reason in FATAL_POD_REASONS
    assert reason == reason_or(reason, "Other")
    assert f"`{reason}`" in DOCUMENT.read_text()


def test_no_reason_is_documented_that_no_pod_gives():
    """A row of the table has them all."""
    (row,) = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| `DigestMismatch`")]

    assert set(REASONS) == set(re.findall(r"`(\w+)`", row))


NAMES = st.sampled_from(["model", "v1.2", "a.b", "model.pkl", "-", "m."]).flatmap(
    lambda stem: st.sampled_from([stem, *(stem + suffix for suffix in (*loaders.SUFFIXES, ".h5"))])
)


@given(NAMES.filter(lambda name: name.endswith((".pkl", ".joblib"))), st.sets(NAMES, max_size=4))
def test_both_take_the_same_file_for_the_model(tmp_path_factory, model_file, keys):
    """Of whatever a ConfigMap holds, for every modelFile that the API takes."""
    directory = tmp_path_factory.mktemp("models")
    for key in keys:
        (directory / key).touch()
    found = loaders.found(directory / model_file)

    assert loaders.SUFFIXES == MODEL_SUFFIXES
    assert (found.name if found.exists() else None) == model_key(dict.fromkeys(keys, "sha256:0"), model_file)
