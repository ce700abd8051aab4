"""One line in a manifest."""

import contextlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aiops_training.errors import PromotionError
from aiops_training.serviceyaml import Declared, declared, edited

DIGEST = "12345e" + "7" * 58  # without quotes YAML would read a number
HEAD = "apiVersion: aiops-quality.io/v1alpha1\nkind: InferenceService\nmetadata: {name: iris}\nspec:\n  model:\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "    artifacts:\n      image:\n        reference: old  # kept\n    sha256: abc # too\n",
            f'    artifacts:\n      image:\n        reference: new  # kept\n    sha256: "{DIGEST}" # too\n',
        ),
        (
            "    # first\n    modelFile: m.pkl\n    artifacts: {image: {reference: 'old'}}\n",
            f'    # first\n    sha256: "{DIGEST}"\n    modelFile: m.pkl\n    artifacts: {{image: {{reference: new}}}}\n',
        ),
        (
            "    artifacts:\r\n      configMap: {name: old}\r\n    sha256: 'abc'\r\n",
            f'    artifacts:\r\n      configMap: {{name: new}}\r\n    sha256: "{DIGEST}"\r\n',
        ),
    ],
)
def test_two_lines_change(before, after):
    """Comments, order, quotes and line ends of all others stay."""
    text = edited(HEAD + before, "new", DIGEST)

    assert HEAD + after == text
    assert ("new", DIGEST) == (declared(text).reference, yaml.safe_load(text)["spec"]["model"]["sha256"])


def test_a_model_in_one_line_is_edited_in_that_line():
    """JSON is YAML, too."""
    text = HEAD.replace("  model:\n", "  model: {artifacts: {image: {reference: old}}}\n")
    assert Declared("iris", "image", "new", DIGEST) == declared(edited(text, "new", DIGEST))


OTHER = HEAD.replace("iris", "other") + "    artifacts: {image: {reference: theirs}}\n"
MINE = HEAD + "    artifacts: {image: {reference: old}}\n"


def test_of_several_documents_one_is_edited():
    """The others stay, whatever they are."""
    text = f"# all services\n{OTHER}---\n{MINE}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: iris}}\n"

    changed = edited(text, "new", DIGEST, "iris")

    assert text.replace("reference: old", "reference: new") == changed.replace(f'    sha256: "{DIGEST}"\n', "")
    assert "theirs" == declared(changed, "other").reference


@pytest.mark.parametrize(
    ("text", "service", "why"),
    [
        ("{{- if .Values.x }}\nkind: InferenceService\n{{- end }}", None, "it is not YAML"),
        ("a: [", None, "it is not YAML"),
        ("", None, "it holds no InferenceService"),
        ("- 1\n", None, "it holds no InferenceService"),
        (f"{MINE}---\n{OTHER}", None, "it holds iris, other; say which"),
        (MINE, "wine", "no InferenceService 'wine', but iris"),
        (HEAD.replace("aiops-quality.io", "serving.kserve.io"), None, "it holds no InferenceService"),
        (HEAD, None, "no spec.model.artifacts"),
        (HEAD + "    artifacts: {persistentVolumeClaim: {claimName: models}}\n", None, "neither from an image"),
    ],
)
def test_what_cannot_be_edited_is_refused(text, service, why):
    """With what is wrong."""
    with pytest.raises(PromotionError, match=why):
        edited(text, "new", DIGEST, service)


@given(st.text(alphabet=" \n-:{}[]#'\"abcreference", max_size=80))
def test_whatever_stands_there_is_edited_or_refused(text):
    """A repository holds what people write: nothing else comes out of it than a PromotionError."""
    with contextlib.suppress(PromotionError):
        edited(HEAD + text, "new", DIGEST)
