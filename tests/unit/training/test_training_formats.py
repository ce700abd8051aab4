"""A fitted model as a file."""

import io
import json
import subprocess
import sys
import zipfile

import joblib
import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from skops import io as skops

from aiops_drift import Profile
from aiops_training import artifacts, formats, options
from aiops_training.datasets import load_bundled
from aiops_training.errors import FormatError
from aiops_training.model import Evaluation

X, Y = load_iris(return_X_y=True)
LINEAR = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(X, Y)
FOREST = RandomForestClassifier(2, random_state=0).fit(X, Y)


class Own(BaseEstimator):
    """An estimator that no library has."""

    def predict(self, rows):
        """Always the same."""
        return np.zeros(len(rows))


class Closed(Own):
    """One that skops cannot take apart."""

    def __init__(self):
        self.values = (value for value in ())


def unpacked(content):
    """The members of a .skops file by name."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize(
    ("model", "form", "why"),
    [
        (LINEAR, "skops", ""),
        (LinearRegression().fit(X, Y), "skops", ""),
        (FOREST, "pickle", "model.pkl is a pickle, because skops does not trust sklearn.tree._tree.Tree"),
        (Own(), "pickle", "model.pkl is a pickle, because skops does not trust "),
        (Closed(), "pickle", "model.pkl is a pickle, because skops cannot hold this model: "),
    ],
    ids=["pipeline", "regression", "forest", "own", "closed"],
)
def test_auto_is_skops_where_it_trusts_the_model(model, form, why):
    """Else a pickle, and a line says why."""
    chosen, said = formats.choose(model, "auto")

    assert form == chosen
    assert said.startswith(why)
    assert bool(why) is bool(said)


@pytest.mark.parametrize("wanted", ["skops", "pickle", "onnx"])
def test_what_is_asked_for_is_written(wanted):
    """Without a word."""
    assert (wanted, "") == formats.choose(LINEAR, wanted)
    assert "auto" == options.train().parse_args([]).format


@pytest.mark.parametrize(
    ("model", "form", "sentence"),
    [
        (
            FOREST,
            "skops",
            "no server would load it: skops does not trust sklearn.tree._tree.Tree; write it with --format",
        ),
        (Closed(), "skops", "skops cannot hold this model: "),
        (Own(), "onnx", "skl2onnx cannot convert this model: "),
    ],
    ids=["untrusted", "closed", "no graph"],
)
def test_a_format_that_cannot_hold_the_model_is_refused(model, form, sentence):
    """Nothing is written that no server would load."""
    with pytest.raises(FormatError) as caught:
        formats.dumped(model, form)
    assert str(caught.value).startswith(sentence)


def test_every_format_holds_the_model():
    """What is read back answers the same."""
    content = {form: formats.dumped(LINEAR, form) for form in formats.NAMES}
    graph = onnxruntime.InferenceSession(content["onnx"])

    for model in (skops.loads(content["skops"]), joblib.load(io.BytesIO(content["pickle"]))):
        assert LINEAR.predict_proba(X).tolist() == model.predict_proba(X).tolist()
    assert LINEAR.predict(X).tolist() == graph.run(None, {formats.INPUT: X})[0].tolist()


SCRIPT = """
import hashlib, sys
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from aiops_training import formats
ballast = [object() for _ in range(int(sys.argv[1]))]
model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(*load_iris(return_X_y=True))
print(*(hashlib.sha256(formats.dumped(model, form)).hexdigest() for form in formats.NAMES))
"""


def test_another_process_writes_the_same_bytes():
    """Though it has other addresses, another seed of its hashes and another time."""
    said = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT, ballast],
            env={"PYTHONHASHSEED": seed, "TZ": zone},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        for ballast, seed, zone in (("1", "1", "UTC"), ("100003", "2", "Asia/Tokyo"))
    ]
    assert said[0] == said[1]
    assert 3 == len(set(said[0]))


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.sampled_from([StandardScaler, MinMaxScaler, FunctionTransformer]), max_size=3),
    st.booleans(),
)
def test_settled_bytes_are_the_same_model(steps, shared):
    """Arrays that two parts share are one file still, nothing is lost, and settling twice changes nothing."""
    parts = [step() for step in steps]
    model = make_pipeline(*parts, LogisticRegression(max_iter=1000)).fit(X, Y)
    if shared:
        model.steps[-1][1].beside_ = model.steps[-1][1].coef_
    written = skops.dumps(model)
    settled = formats.settled(written)

    assert settled == formats.settled(settled)
    assert sorted(map(len, unpacked(written).values()))[1:-1] == sorted(map(len, unpacked(settled).values()))[1:-1]
    assert {(1980, 1, 1, 0, 0, 0)} == {entry.date_time for entry in zipfile.ZipFile(io.BytesIO(settled)).infolist()}
    again = skops.loads(settled)
    assert model.predict_proba(X).tolist() == again.predict_proba(X).tolist()
    assert not shared or again.steps[-1][1].coef_.tolist() == again.steps[-1][1].beside_.tolist()


def test_a_model_of_columns_survives_settling():
    """Names, tuples and slices are in it."""
    model = make_pipeline(
        make_column_transformer((StandardScaler(), [0, 2]), ("passthrough", slice(1, 2))),
        LogisticRegression(max_iter=1000),
    ).fit(X, np.array(["a", "b", "c"])[Y])
    again = skops.loads(formats.settled(skops.dumps(model)), trusted=["builtins.slice"])

    assert model.predict(X).tolist() == again.predict(X).tolist()


@pytest.mark.parametrize("form", formats.NAMES)
def test_the_manifest_lists_the_file_and_what_it_depends_on(form):
    """Its digest is that of the bytes; a graph depends on no library's version."""
    dataset = load_bundled("iris")
    files = artifacts.build(dataset, LINEAR, Evaluation("accuracy", 1.0, Y[:, np.newaxis].astype(float)), form)
    manifest = json.loads(files["manifest.json"])

    assert formats.NAMES[form] in manifest["files"].keys() & files.keys()
    assert len(files) == len(manifest["files"]) + 1
    assert {"python", *formats.LIBRARIES[form]} == manifest["libraries"].keys()
    assert Profile.from_dict(manifest["profile"]).names == dataset.features


def test_the_model_of_an_earlier_run_is_not_left_beside(tmp_path):
    """A server that looks for model.pkl would take the old one, which the manifest does not vouch for."""
    for name in ("model.pkl", "model.onnx", "notes.txt"):
        (tmp_path / name).write_bytes(b"old")
    artifacts.write({"model.skops": b"new", "manifest.json": b"{}"}, tmp_path)

    assert {"model.skops", "manifest.json", "notes.txt"} == {path.name for path in tmp_path.iterdir()}


def test_without_skl2onnx_the_message_says_how_to_get_it():
    """It is no dependency."""
    script = (
        "import sys; sys.modules['skl2onnx'] = None\n"
        "from aiops_training import formats\n"
        "try:\n    formats.dumped(None, 'onnx')\n"
        "except Exception as error:\n    print(type(error).__name__, error)"
    )
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert "FormatError --format onnx needs skl2onnx: pip install 'aiops-training[onnx]'\n" == said
