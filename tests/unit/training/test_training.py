"""Data in, artifacts out."""

import base64
import hashlib
import io
import json
from dataclasses import replace

import great_expectations as gx
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from skops import io as skops

from aiops_drift import Profile
from aiops_training import artifacts, configmap, formats
from aiops_training.__main__ import main
from aiops_training.datasets import BUNDLED, load_bundled, load_csv
from aiops_training.errors import DataError, PackageError
from aiops_training.model import fit


@pytest.fixture(scope="module")
def iris():
    """The iris artifacts by file name."""
    dataset = load_bundled("iris")
    return artifacts.build(dataset, *fit(dataset))


def test_seed_rows_are_predicted_as_the_seed_says(iris):
    """The document's two rows are setosa and virginica."""
    model = skops.loads(iris["model.skops"])

    assert [0, 2] == model.predict([[5.1, 3.5, 1.4, 0.2], [6.5, 3.0, 5.5, 1.8]]).tolist()


def test_baseline_is_the_training_rows(iris):
    """The baseline is what the model has learned from, row for row."""
    baseline = np.load(io.BytesIO(iris["baseline.npy"]), allow_pickle=False)

    assert load_bundled("iris").rows.tolist() == baseline.tolist()


def test_manifest_vouches_for_the_files(iris):
    """Digests and sizes are those of the bytes; the profile is that of the baseline; golden answers are the model's."""
    manifest = json.loads(iris["manifest.json"])
    model = skops.loads(iris["model.skops"])

    assert {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for name, data in iris.items()
        if name != "manifest.json"
    } == manifest["files"]
    rows = load_bundled("iris").rows
    profile = Profile.from_dict(manifest["profile"])
    assert Profile.from_rows(rows, manifest["features"]).features == profile.features
    assert [("prediction", (0.0, 1.0, 2.0))] == [(output.name, output.categories) for output in profile.outputs]
    assert profile.calibration is not None
    assert model.predict(manifest["golden"]["inputs"]).tolist() == manifest["golden"]["predictions"]
    assert model.predict_proba(manifest["golden"]["inputs"]).tolist() == manifest["golden"]["probabilities"]
    assert {"python", "numpy", "scikit-learn", "skops"} == set(manifest["libraries"])
    assert ["setosa", "versicolor", "virginica"] == manifest["classes"]


@pytest.mark.parametrize("name", sorted(BUNDLED))
def test_two_runs_give_the_same_bytes(name):
    """A digest in git can be reproduced."""
    first, second = (artifacts.build(dataset, *fit(dataset)) for dataset in (load_bundled(name), load_bundled(name)))

    assert first == second


def graph_says(content, rows):
    """The first output of an ONNX graph, one value a row."""
    return onnxruntime.InferenceSession(content).run(None, {formats.INPUT: rows})[0].ravel()


@pytest.mark.parametrize("factor", [1, 10])
def test_great_expectations_loads_the_suite(iris, factor):
    """The suite passes on the baseline, and fails on it in millimetres."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    suite = context.suites.add(gx.ExpectationSuite(**json.loads(iris["expectations.json"])))
    dataset = load_bundled("iris")
    frame = pd.DataFrame(dataset.rows * factor, columns=list(dataset.features))
    batches = context.data_sources.add_pandas("p").add_dataframe_asset("a").add_batch_definition_whole_dataframe("b")

    assert (factor == 1) is batches.get_batch(batch_parameters={"dataframe": frame}).validate(suite).success


def validated(files, rows):
    """The types of the expectations that fail on rows of iris, by column."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    suite = context.suites.add(gx.ExpectationSuite(**json.loads(files["expectations.json"])))
    batches = context.data_sources.add_pandas("p").add_dataframe_asset("a").add_batch_definition_whole_dataframe("b")
    frame = pd.DataFrame(rows, columns=list(load_bundled("iris").features))
    outcome = batches.get_batch(batch_parameters={"dataframe": frame}).validate(suite)
    return {
        (result.expectation_config.kwargs["column"], result.expectation_config.type)
        for result in outcome.results
        if not result.success
    }


@pytest.mark.parametrize("absurd", [1e6, -1e6, 1e308])
def test_one_absurd_row_fails_no_expectation(iris, absurd):
    """A single request must not look like drift to the whole batch."""
    rows = load_bundled("iris").rows[:100]

    assert set() == validated(iris, np.vstack([rows, np.full((1, 4), absurd)]))


@pytest.mark.parametrize("column", range(4))
def test_a_unit_error_in_one_feature_fails_that_feature(iris, column):
    """Millimetres for centimetres, in whichever column."""
    dataset = load_bundled("iris")
    rows = dataset.rows[:100].copy()
    rows[:, column] *= 10

    assert {dataset.features[column]} == {name for name, _ in validated(iris, rows)}


@pytest.mark.parametrize("kind", range(3))
def test_fifty_rows_of_one_class_pass(iris, kind):
    """The smallest batch may be of one kind of flower."""
    assert set() == validated(iris, load_bundled("iris").rows[kind * 50 : kind * 50 + 50])


def test_configmap_holds_the_files(iris):
    """JSON is readable under data, all else base64 under binaryData, and both come back as they went in."""
    document = yaml.safe_load(configmap.manifest("iris-artifacts", iris))
    files = {name: text.encode() for name, text in document["data"].items()}
    files |= {name: base64.b64decode(text) for name, text in document["binaryData"].items()}

    assert ("v1", "ConfigMap", {"name": "iris-artifacts"}) == (
        document["apiVersion"],
        document["kind"],
        document["metadata"],
    )
    assert iris == files


def test_configmap_over_a_mebibyte_is_refused():
    """The refusal says how large it is and where else models can live."""
    with pytest.raises(PackageError) as error:
        configmap.manifest("big", {"model.pkl": bytes(1024 * 1024 + 1)})

    assert (
        "the artifacts have 1,048,577 bytes; a ConfigMap holds 1,048,576. Serve them from a persistentVolumeClaim "
        "or an OCI image instead (spec.model.artifacts), or train on fewer rows" == str(error.value)
    )


def csv(tmp_path, text):
    """A CSV file with this text."""
    path = tmp_path / "rows.csv"
    path.write_text(text)
    return path


HEADER = "a,b,kind\n"


@pytest.mark.parametrize(
    ("targets", "task"),
    [
        (["cat", "dog"] * 6, "classification"),
        ([0, 1] * 6, "classification"),
        ([True, False] * 6, "classification"),
        ([0.5, 1.25, 2.5] * 4, "regression"),
    ],
)
def test_csv_target_tells_the_task(tmp_path, targets, task):
    """Text, booleans and a few whole numbers are classes; fractions are quantities."""
    path = csv(tmp_path, HEADER + "".join(f"{i},{i * i},{target}\n" for i, target in enumerate(targets)))
    dataset = load_csv(path, "kind")
    files = artifacts.build(dataset, *fit(dataset))

    assert (task, ("a", "b"), (12, 2)) == (dataset.task, dataset.features, dataset.rows.shape)
    assert {"model.skops", "baseline.npy", "expectations.json", "manifest.json"} == set(files)
    assert files == artifacts.build(load_csv(path, "kind"), *fit(load_csv(path, "kind")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as CSV: No columns to parse from file"),
        ("a,b\n1,2\n", "has no column 'kind'; its columns are 'a', 'b'"),
        (HEADER + "1,2,x\n" * 9, ": 9 rows are too few to train on; give at least 10"),
        ("kind\n" + "x\n" * 12, ": there is no column beside the target"),
        (HEADER + "1,2,x\n" * 9 + "1,,y\n", ": line 11 has no value in column 'b'; fill it or leave the line out"),
        (HEADER + "1,red,x\n" * 12, ": column 'b' does not hold numbers only; encode it or leave it out"),
        (HEADER + "1,2,x\n" * 12, "rows: the target has one class only (x); a classifier needs two"),
        (HEADER + "1,2,x\n" * 12 + "1,3,y\n", "rows: class y has 1 rows; give each class at least 5"),
        (HEADER + "1,inf,x\n" * 12, ": line 2 has inf in column 'b'; values must be within ±1e+100"),
        (HEADER + "1,2,3\n" * 12 + "1,2,-inf\n", ": line 14 has -inf in column 'kind'; values must be within ±1e+100"),
        (HEADER + "1e308,2,x\n-1e308,2,y\n" * 6, ": line 2 has 1e+308 in column 'a'; values must be within ±1e+100"),
        (HEADER + "1,2,x,9\n" * 12, "cannot be read as CSV: line 2 has 4 fields, but the header has 3"),
        (HEADER + "1,2,x,\n" * 12, "cannot be read as CSV: line 2 has 4 fields, but the header has 3"),
        (HEADER + '1,2,"x\n\ny"\n' * 12 + "1,2,x,9\n", ": line 38 has 4 fields, but the header has 3"),
        (
            "\n" + HEADER + "1,2,x\n\n \n" * 9 + "1,,y\n",
            ": line 30 has no value in column 'b'; fill it or leave the line out",
        ),
        (HEADER + "1,2,x\n" * 9 + ",,\n", ": line 11 has no value in column 'a'; fill it or leave the line out"),
    ],
)
def test_a_csv_file_that_cannot_be_trained_on_is_refused(tmp_path, text, message):
    """The sentence names the line or the column."""
    with pytest.raises(DataError) as error:
        fit(load_csv(csv(tmp_path, text), "kind"))

    assert str(error.value).endswith(message)


def test_fractions_are_no_classes(tmp_path):
    """Where --task says classification and the target is a quantity."""
    path = csv(tmp_path, HEADER + "1,2,0\n2,1,1.5\n" * 6)
    with pytest.raises(DataError) as error:
        load_csv(path, "kind", "classification")

    assert str(error.value).endswith(
        ": the target 'kind' holds fractions such as 1.5; classes are texts or whole numbers (leave --task out)"
    )


def test_whole_numbers_with_a_point_are_classes_where_the_task_says_so(tmp_path):
    """0.0 and 1.0 are what other programs write for 0 and 1."""
    path = csv(tmp_path, HEADER + "1,2,0.0\n2,1,1.0\n" * 6)

    assert ("0.0", "1.0") == load_csv(path, "kind", "classification").classes


def test_what_the_model_does_not_take_is_a_sentence():
    """A data set that no file was read for."""
    dataset = replace(load_bundled("diabetes"), target=np.full(442, np.inf))
    with pytest.raises(DataError, match="diabetes: a model cannot be trained on this: "):
        fit(dataset)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_data_set_or_a_sentence(tmp_path_factory, data):
    """No file makes another error than the tree's."""
    path = tmp_path_factory.mktemp("csv") / "any.csv"
    path.write_bytes(data)
    with pytest.raises(DataError):
        load_csv(path, "no such column")


def test_command_line_writes_and_says_what_is_next(tmp_path, capsys):
    """The files, their digests, and the command to apply the ConfigMap."""
    assert 0 == main(["--dataset", "wine", "--output", str(tmp_path), "--configmap", "wine-artifacts"])
    assert {"model.skops", "baseline.npy", "expectations.json", "manifest.json", "configmap.yaml"} == {
        path.name for path in tmp_path.iterdir()
    }
    assert f"next: kubectl apply --server-side -f {tmp_path}/configmap.yaml" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--format", "h5"], 2, "invalid choice: 'h5'"),
        (["--dataset", "nonesuch"], 1, "error: there is no bundled data set 'nonesuch'"),
        (["--csv", "/nonesuch.csv", "--target", "x"], 1, "error: /nonesuch.csv cannot be read as CSV"),
        (["--csv", "rows.csv"], 2, "--csv and --target go together"),
        (["--task", "regression"], 2, "--task goes with --csv"),
        (["--configmap", "Not A Name"], 2, "is not a name for a ConfigMap"),
        (["--output", "/proc/nonesuch"], 1, "error: [Errno 2] No such file or directory"),
    ],
)
def test_command_line_refuses_with_a_sentence(arguments, code, message, capsys):
    """Never a traceback."""
    try:
        returned = main(arguments)
    except SystemExit as stopped:
        returned = stopped.code

    assert code == returned
    assert message in capsys.readouterr().err
