"""From bytes to a model, by the ending of the name."""

import asyncio
import contextlib
import io
import json
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Perceptron
from sklearn.multioutput import MultiOutputClassifier
from sklearn.tree import DecisionTreeClassifier
from skops import io as skops

from aiops_inference import loaders
from aiops_inference.artifacts import load, signature
from aiops_inference.errors import (
    ArtifactError,
    ArtifactTooLargeError,
    LibraryVersionMismatchError,
    ModelUnloadableError,
    ModelUntrustedError,
)
from aiops_inference.predictor import Predictor

X, Y = load_iris(return_X_y=True)
NAMES = load_iris().target_names
LIMIT = 10_000_000
NUMBERS = LogisticRegression(max_iter=1000).fit(X, Y)
TEXTS = LogisticRegression(max_iter=1000).fit(X, NAMES[Y])


def graph(model, *, kind=DoubleTensorType, zipmap=False, inputs=None):
    """What skl2onnx makes of a model."""
    options = {"zipmap": zipmap} if hasattr(model, "classes_") else {}
    return to_onnx(model, initial_types=inputs or [("inputs", kind([None, 4]))], options={id(model): options})


def onnx_bytes(model, **how):
    """The same as a file."""
    return graph(model, **how).SerializeToString()


def pickled(model):
    """What joblib writes."""
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    return buffer.getvalue()


def loaded(content, name, **how):
    """A predictor of these bytes."""
    model, said = loaders.load(content, name, limit=LIMIT, known=loaders.Known(**how))
    assert [] == said
    return Predictor(model)


FORMATS = {
    "model.pkl": pickled(NUMBERS),
    "model.joblib": pickled(NUMBERS),
    "model.skops": skops.dumps(NUMBERS),
    "model.onnx": onnx_bytes(NUMBERS),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_model(name):
    """The same labels, probabilities, classes and width from each."""
    predictor = loaded(FORMATS[name], name, classes=tuple(NAMES))

    assert NUMBERS.predict(X).tolist() == predictor.predict(X)
    np.testing.assert_allclose(NUMBERS.predict_proba(X), predictor.probabilities(X), atol=1e-9)
    assert ("classification", 4, (0, 1, 2)) == (predictor.task, predictor.width, predictor.labels)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "content",
    [b"", b"no model\n" * 100, *(slice(None, part) for part in (4, -1))],
    ids=["empty", "text", "four bytes", "one byte short"],
)
def test_what_is_no_model_has_a_typed_reason(name, content):
    """Cut off, empty, or something else: a sentence with the file's name, and never another exception."""
    broken = FORMATS[name][content] if isinstance(content, slice) else content
    with pytest.raises(ModelUnloadableError, match=rf"^{name} cannot be loaded: .+") as caught:
        loaders.load(broken, name, limit=LIMIT)
    assert "ModelUnloadable" == caught.value.reason
    assert str(caught.value).endswith("the file is empty") is (broken == b"")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("other", ["model.pkl", "model.skops"])
def test_a_file_of_another_format_than_its_name_is_refused(name, other):
    """By the first bytes the sentence says what it is."""
    if {name, other} in ({"model.pkl"}, {"model.skops"}, {"model.pkl", "model.joblib"}):
        return
    what = {"model.pkl": "a pickle", "model.skops": "a zip archive, as skops writes it"}[other]
    with pytest.raises(ModelUnloadableError, match=f"by its first bytes it is {what}, which its name must say"):
        loaders.load(FORMATS[other], name, limit=LIMIT)


@pytest.mark.parametrize("name", ["model.pkl", "model.skops"])
def test_something_that_does_not_predict_is_no_model(name):
    """As a dictionary of weights."""
    content = {"model.pkl": pickled, "model.skops": skops.dumps}[name]({"weights": [1, 2]})
    with pytest.raises(ModelUnloadableError, match=f"{name} holds a dict, which has no predict()"):
        loaders.load(content, name, limit=LIMIT)


@pytest.mark.parametrize("name", ["model.h5", "model", "model.PKL", "model.skops.bak"])
def test_a_name_that_says_no_format_is_refused(name, tmp_path):
    """Nothing is guessed: least of all that it is a pickle, which would run what it holds."""
    with pytest.raises(ModelUnloadableError) as caught:
        loaders.load(pickle.dumps(Command(str(tmp_path / "ran"))), name, limit=LIMIT)
    wanted = "a name must say what its file is by ending in one of .skops, .onnx, .pkl, .joblib"
    assert f"{name} cannot be loaded: {wanted}" == str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_other_versions_are_named_where_loading_fails():
    """They are the likeliest cause."""
    with pytest.raises(LibraryVersionMismatchError, match=r"; it was saved with skops 0\.1 \(here 0\.16\)"):
        loaders.load(b"PK\x03\x04", "model.skops", limit=LIMIT, known=loaders.Known(["skops 0.1 (here 0.16)"]))


class Command:
    """Runs a program when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (subprocess.check_call, (["touch", self.path],))


def hostile(path):
    """A .skops file that says of itself that it needs `subprocess.check_call`, called with a command."""
    model = LogisticRegression(max_iter=1000).fit(X, Y)
    content = skops.dumps(model)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members["schema.json"])
    text = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "is_json": True, "__id__": 1}
    call = {
        "__class__": "check_call",
        "__module__": "subprocess",
        "__loader__": "ObjectNode",
        "__id__": 2,
        "content": {**text, "content": json.dumps(str(path))},
    }
    schema["content"]["content"]["classes_"] = call
    members["schema.json"] = json.dumps(schema).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_a_hostile_skops_file_is_not_trusted(tmp_path):
    """What it names is not run, and the message names it and what to do."""
    with pytest.raises(ModelUntrustedError) as caught:
        loaders.load(hostile(tmp_path / "ran"), "model.skops", limit=LIMIT)
    assert "ModelUntrusted" == caught.value.reason
    assert "model.skops holds types that skops does not trust: subprocess.check_call; if you" in str(caught.value)
    assert "--format pickle" in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_an_untrusted_model_is_said_on_health_and_in_the_log(serving, directory, tmp_path):
    """Where the operator reads it from; the process lives."""
    directory.model_name, directory.content = "model.skops", hostile(tmp_path / "ran")

    async def scenario():
        async with serving(directory.write()) as pod:
            return pod.service.health(), pod.lines()

    (status, health), lines = asyncio.run(scenario())
    assert (503, "ModelUntrusted") == (status, health["reason"])
    assert "subprocess.check_call" in health["message"]
    assert any(line.startswith('ERROR {"event": "not ready", "reason": "ModelUntrusted"') for line in lines)


def test_trees_are_not_trusted_by_skops():
    """They hold indices that scikit-learn does not check."""
    forest = RandomForestClassifier(2, random_state=0).fit(X, Y)
    with pytest.raises(ModelUntrustedError, match=r"sklearn\.tree\._tree\.Tree"):
        loaders.load(skops.dumps(forest), "model.skops", limit=LIMIT)


def test_a_wrong_digest_is_found_before_anything_is_run(directory, tmp_path):
    """Of a pickle that runs a program, which is not in the manifest."""
    settings = directory.write()
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(Command(str(tmp_path / "ran"))))
    with pytest.raises(ArtifactError) as caught:
        load(settings)
    assert "DigestMismatch" == caught.value.reason
    with pytest.raises(ArtifactError) as caught:
        load(replace(settings, model_sha256="0" * 64))
    assert "DigestMismatch" == caught.value.reason
    assert not (tmp_path / "ran").exists()


def test_a_skops_file_that_unpacks_to_too_much_is_refused():
    """A small file may hold gigabytes of zeros."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * (LIMIT + 1))
    assert len(buffer.getvalue()) < LIMIT / 100
    with pytest.raises(ArtifactTooLargeError, match=r"unpacks to 10000001 bytes, more than MAX_MODEL_BYTES, 10000000"):
        loaders.load(buffer.getvalue(), "model.skops", limit=LIMIT)


@pytest.mark.parametrize("kind", [DoubleTensorType, FloatTensorType])
@pytest.mark.parametrize("model", [NUMBERS, TEXTS], ids=["numbers", "texts"])
def test_a_classifier_as_a_graph(model, kind):
    """Labels and a table of probabilities, in double and in single precision."""
    predictor = loaded(onnx_bytes(model, kind=kind), "model.onnx", classes=tuple(NAMES))
    accuracy = 1e-9 if kind is DoubleTensorType else 1e-5

    assert model.predict(X).tolist() == predictor.predict(X)
    np.testing.assert_allclose(model.predict_proba(X), predictor.probabilities(X), atol=accuracy)
    assert tuple(model.classes_.tolist()) == predictor.labels
    assert (kind is FloatTensorType) is (predictor.tolerance is not None)


@pytest.mark.parametrize("model", [NUMBERS, TEXTS], ids=["numbers", "texts"])
def test_a_graph_with_a_map_a_row(model):
    """ZipMap, which skl2onnx adds unless told otherwise: the classes are in it."""
    predictor = loaded(onnx_bytes(model, kind=FloatTensorType, zipmap=True), "model.onnx")

    np.testing.assert_allclose(model.predict_proba(X), predictor.probabilities(X), atol=1e-5)
    assert tuple(model.classes_.tolist()) == predictor.labels


PAIRS = np.stack([Y, Y > 0], axis=1).astype(int)


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(max_iter=1000).fit(X, Y - 1),
        LogisticRegression(max_iter=1000).fit(X, np.array([2, 3, 7])[Y]),
        TEXTS,
    ],
    ids=["from -1", "with gaps", "texts"],
)
@pytest.mark.parametrize("names", [None, ("A", "B", "C")])
def test_the_labels_of_a_graph_are_told_by_its_answers(model, names):
    """Its columns have no names, and neither places nor the names of classes are always the labels."""
    predictor = loaded(onnx_bytes(model), "model.onnx", rows=X, classes=names)

    assert tuple(model.classes_.tolist()) == predictor.labels


@pytest.mark.parametrize(
    ("labels", "names", "wanted"),
    [
        ([0, 1], None, (0, 1, 2)),
        ([-1, 0], None, None),
        ([2, 3], ("2", "3", "7"), (2, 3, 7)),
        ([2, 3], ("a", "b", "c"), None),
    ],
)
def test_labels_that_no_row_is_answered_with_are_not_made_up(labels, names, wanted):
    """They are the first whole numbers, or those of the manifest, only where these agree with all that are seen."""
    model = LogisticRegression(max_iter=1000).fit(X, np.array([*labels, 7 if names else max(labels) + 1])[Y])
    seen = X[model.predict(X) < model.classes_[2]]

    assert wanted == loaded(onnx_bytes(model), "model.onnx", rows=seen, classes=names).labels


@pytest.mark.parametrize("labels", [Y, Y > 0], ids=["three", "two"])
@pytest.mark.parametrize("rows", [X, None], ids=["rows", "zeros"])
def test_scores_are_not_taken_for_probabilities(labels, rows):
    """A perceptron's stand where probabilities would, under the same name."""
    model = Perceptron().fit(X, labels)
    predictor = loaded(onnx_bytes(model), "model.onnx", rows=rows, classes=tuple(map(str, model.classes_)))

    assert (False, "classification") == (predictor.has_probabilities, predictor.task)
    assert model.predict(X).tolist() == predictor.predict(X)
    assert len(model.classes_) == len(predictor.labels)


@pytest.mark.parametrize(
    "model",
    [
        MultiOutputClassifier(LogisticRegression(max_iter=1000)).fit(X, PAIRS),
        DecisionTreeClassifier(random_state=0).fit(X, PAIRS > 0),
        MultiOutputClassifier(LogisticRegression(max_iter=1000)).fit(X, np.array(["a", "b", "c"])[PAIRS]),
    ],
    ids=["a list of tables", "a table with three axes", "texts"],
)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_several_targets_as_a_graph(model, number):
    """Probabilities of each, whatever the number of rows, which may be that of the targets."""
    predictor = loaded(onnx_bytes(model), "model.onnx", rows=X)
    rows = X[::60][:number]

    assert model.predict(rows).tolist() == predictor.predict(rows)
    for wanted, got in zip(model.predict_proba(rows), zip(*predictor.probabilities(rows), strict=True), strict=True):
        np.testing.assert_allclose(wanted, got, atol=1e-9)
    assert tuple(tuple(each.tolist()) for each in model.classes_) == predictor.targets


@pytest.mark.parametrize("targets", [Y * 1.5, np.stack([Y * 1.5, X[:, 0]], axis=1)], ids=["one", "two"])
def test_a_regression_as_a_graph(targets):
    """One number a row, or several."""
    model = LinearRegression().fit(X, targets)
    predictor = loaded(onnx_bytes(model), "model.onnx")

    np.testing.assert_allclose(model.predict(X), predictor.predict(X), rtol=1e-9)
    assert ("regression", None, False) == (predictor.task, predictor.classes, predictor.has_probabilities)


def test_a_graph_with_an_input_for_each_feature():
    """As skl2onnx makes of a table; the names are the features'."""
    inputs = [(name, DoubleTensorType([None, 1])) for name in "abcd"]
    nodes = graph(NUMBERS)
    whole = nodes.graph.input[0].name
    columns = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, [None, 1]) for name, _ in inputs]
    del nodes.graph.input[:]
    nodes.graph.input.extend(columns)
    nodes.graph.node.insert(0, onnx.helper.make_node("Concat", list("abcd"), [whole], axis=1))
    predictor = loaded(nodes.SerializeToString(), "model.onnx")

    assert (4, tuple("abcd")) == (predictor.width, predictor.names)
    assert NUMBERS.predict(X).tolist() == predictor.predict(X)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kind": onnx.TensorProto.STRING, "shape": [None, 4]}, "the input inputs is a tensor(string)"),
        ({"kind": onnx.TensorProto.DOUBLE, "shape": [1, 4]}, "must be [None, features], for any number of rows"),
    ],
)
def test_a_graph_that_rows_cannot_be_given_to_is_refused(change, sentence):
    """Before anybody asks it."""
    given = onnx.helper.make_tensor_value_info("inputs", change["kind"], change["shape"])
    said = onnx.helper.make_tensor_value_info("said", change["kind"], change["shape"])
    node = onnx.helper.make_node("Identity", ["inputs"], ["said"])
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "copy", [given], [said]),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    with pytest.raises(ModelUnloadableError) as caught:
        loaders.load(model.SerializeToString(), "model.onnx", limit=LIMIT)
    assert sentence in str(caught.value)


def test_other_classes_than_the_manifest_names_are_refused():
    """Which name is whose could not be told."""
    with pytest.raises(ModelUnloadableError, match=r"the graph has 3 probabilities, but manifest\.json has 2 classes"):
        loaded(FORMATS["model.onnx"], "model.onnx", classes=("a", "b"))


def test_weights_outside_of_the_verified_bytes_are_not_read(tmp_path, monkeypatch):
    """A graph may name another file for them, whose bytes nobody has compared."""
    monkeypatch.chdir(tmp_path)
    weights = onnx.helper.make_tensor("w", onnx.TensorProto.DOUBLE, [4, 1], np.ones(4).tobytes(), raw=True)
    given = onnx.helper.make_tensor_value_info("inputs", onnx.TensorProto.DOUBLE, [None, 4])
    said = onnx.helper.make_tensor_value_info("said", onnx.TensorProto.DOUBLE, [None, 1])
    node = onnx.helper.make_node("MatMul", ["inputs", "w"], ["said"])
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "sum", [given], [said], [weights]),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    inside = loaded(model.SerializeToString(), "model.onnx")
    assert [4.0] == inside.predict(np.ones((1, 4)))
    onnx.save_model(model, "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").exists()
    with pytest.raises(ModelUnloadableError, match=r"External data path does not exist: .?/nonexistent"):
        loaders.load((tmp_path / "model.onnx").read_bytes(), "model.onnx", limit=LIMIT)


CHANGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=5)


def changed(content, changes):
    """The same bytes but for some."""
    broken = bytearray(content)
    for where, value in changes:
        broken[int(where * len(broken))] = value
    return bytes(broken)


def repacked(schema):
    """A .skops file whose description of the model has these bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(FORMATS["model.skops"])) as source, zipfile.ZipFile(buffer, "w") as archive:
        for name in source.namelist():
            archive.writestr(name, schema if name == "schema.json" else source.read(name))
    return buffer.getvalue()


SCHEMA = zipfile.ZipFile(io.BytesIO(FORMATS["model.skops"])).read("schema.json")


@given(CHANGES, st.sampled_from(["archive", "schema", "graph"]))
@settings(deadline=None, max_examples=150)
@example([(0.0, 0)], "schema")
def test_any_change_of_a_file_is_a_model_or_a_typed_reason(changes, what):
    """No bytes make another error than the tree's."""
    name, content = {
        "archive": ("model.skops", changed(FORMATS["model.skops"], changes)),
        "schema": ("model.skops", repacked(changed(SCHEMA, changes))),
        "graph": ("model.onnx", changed(FORMATS["model.onnx"], changes)),
    }[what]
    with contextlib.suppress(ArtifactError):
        loaders.load(content, name, limit=LIMIT)


@pytest.mark.parametrize(
    "schema", [b"[]", b"null", b'{"__class__":1}', b'{"content":' * 100_000 + b"1" + b"}" * 100_000]
)
def test_a_skops_file_that_describes_no_model_has_a_typed_reason(schema):
    """Another kind of JSON, or one that is too deep to be read."""
    with pytest.raises(ModelUnloadableError, match=r"^model\.skops cannot be loaded: "):
        loaders.load(repacked(schema), "model.skops", limit=LIMIT)


def test_a_broken_graph_prints_nothing_among_the_lines_of_the_log(capfd):
    """All that is wrong with it is in the exception."""
    content = FORMATS["model.onnx"].replace(b"MatMul", b"\xec\xfftMul")
    with pytest.raises(ModelUnloadableError, match="UnicodeDecodeError"):
        loaders.load(content, "model.onnx", limit=LIMIT)
    assert ("", "") == capfd.readouterr()


def test_a_number_that_single_precision_cannot_hold_is_the_clients_fault():
    """It would be taken for infinity."""
    predictor = loaded(onnx_bytes(NUMBERS, kind=FloatTensorType), "model.onnx")
    with pytest.raises(Exception, match="the model refuses these inputs: FloatingPointError") as caught:
        predictor.predict(np.full((1, 4), 1e300))
    assert "InputsRefused" == caught.value.reason


def test_without_onnxruntime_the_message_says_how_to_get_it():
    """A pod without it stays up and not ready."""
    script = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from aiops_inference import loaders\n"
        "try:\n    loaders.load(b'', 'model.onnx', limit=9)\n"
        "except Exception as error:\n    print(error.reason, error)"
    )
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert said.startswith("OnnxRuntimeMissing model.onnx needs onnxruntime, which is not here: ")
    assert "pip install 'aiops-inference[onnx]'" in said
    assert "--build-arg EXTRAS=onnx" in said


@pytest.mark.parametrize("name", ["model.skops", "model.onnx", "model.joblib"])
def test_the_file_beside_the_one_that_is_asked_for_is_served(serving, directory, name):
    """MODEL_PATH says model.pkl, as by default; what is there is taken, verified by its own name, and the log says so."""
    directory.model_name, directory.content = name, {**FORMATS, "model.joblib": pickled(NUMBERS)}[name]
    directory.model = NUMBERS

    async def scenario():
        async with serving(directory.write()) as pod:
            return await pod.predict({"inputs": X[:2].tolist()}), pod.service.health(), pod.lines()

    answer, (status, health), lines = asyncio.run(scenario())
    assert [0, 0] == answer.json()["predictions"]
    assert (200, "sha256:" + directory.digest(name)) == (status, health["model"]["digest"])
    assert any(f"model.pkl is not there; {name} beside it is served" in line for line in lines)


def test_of_several_files_beside_it_the_safest_is_taken(directory):
    """The file that is asked for where it is there, and else skops before ONNX before pickles."""
    path = directory.path / "model.pkl"
    assert path == loaders.found(path)
    for name in ("model.joblib", "model.onnx", "model.skops", "model.pkl"):
        before = signature(directory.settings)
        (directory.path / name).write_bytes(b"")
        assert directory.path / name == loaders.found(path)
        assert before != signature(directory.settings)


def test_a_path_without_a_name_is_no_model(directory):
    """MODEL_PATH=/ is a sentence like any other."""
    settings = replace(directory.settings, model_path=Path("/"))
    assert signature(settings) == signature(settings)
    with pytest.raises(ArtifactError, match="/ cannot be read: Is a directory"):
        load(settings)


def test_a_skops_model_is_loaded_without_pandas():
    """As scikit-learn alone is: nothing of it is needed."""
    script = (
        "import sys; from aiops_inference import libraries; libraries.prepare_skops();"
        "print('skops.io' in sys.modules, 'pandas' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert ["True", "False"] == said.stdout.split()
