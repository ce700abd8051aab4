import asyncio
import io
import pickle
from dataclasses import replace

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.linear_model import LinearRegression, LogisticRegression

from aiops_drift import Profile
from aiops_inference.artifacts import load, read_baseline
from aiops_inference.errors import ArtifactError, BaselineInvalidError


def break_model_missing(directory):
    """No model file."""
    (directory.path / "model.pkl").unlink()


def break_baseline_missing(directory):
    """No baseline file."""
    (directory.path / "baseline.npy").unlink()


def break_model_bytes(directory):
    """A byte of the model changed after training."""
    content = (directory.path / "model.pkl").read_bytes()
    (directory.path / "model.pkl").write_bytes(content + b"\0")


def break_baseline_bytes(directory):
    """Another baseline than the one that was trained on."""
    np.save(directory.path / "baseline.npy", directory.rows + 1)


def break_manifest_golden(directory):
    """A golden input that no float can hold."""
    directory.write_manifest(golden={"inputs": [[10**400, 1, 1, 1]], "predictions": [0]})


def break_manifest_prediction(directory):
    """A golden prediction that no float can hold, of a regression."""
    directory.task = "regression"
    directory.model = LinearRegression().fit(directory.rows, directory.rows[:, 0])
    joblib.dump(directory.model, directory.path / "model.pkl")
    directory.write_manifest(golden={"inputs": [[1, 1, 1, 1]], "predictions": [10**400]})


def break_manifest_mean(directory):
    """A mean in the profile that no float can hold."""
    profile = Profile.from_rows(directory.rows, directory.names).to_dict()
    profile["features"][0]["mean"] = 10**400
    directory.write_manifest(profile=profile)


def break_suite_bytes(directory):
    """An expectation suite that was edited after training."""
    (directory.path / "expectations.json").write_text("{}")
    files = {name: {"sha256": directory.digest(name)} for name in ("model.pkl", "baseline.npy")}
    directory.write_manifest(files={**files, "expectations.json": {"sha256": "0" * 64}})


def break_model_pickle(directory):
    """A file that was never a pickle."""
    (directory.path / "model.pkl").write_bytes(b"not a pickle")
    directory.write_manifest()


def break_model_predict(directory):
    """A pickle of something that does not predict."""
    joblib.dump({"weights": [1, 2]}, directory.path / "model.pkl")
    directory.write_manifest()


def break_libraries(directory):
    """A pickle of a class that is not here, saved with another library version."""
    (directory.path / "model.pkl").write_bytes(b"csklearn.gone\nForest\n.")
    directory.write_manifest(libraries={"scikit-learn": "0.1.2", "python": "2.7"})


def break_golden(directory):
    """A manifest that promises other predictions."""
    golden = directory.rows[:3]
    directory.write_manifest(golden={"inputs": golden.tolist(), "predictions": [0, 0, 2]})


def break_probabilities(directory):
    """A manifest that promises other probabilities."""
    golden = directory.rows[:1]
    directory.write_manifest(
        golden={"inputs": golden.tolist(), "predictions": [0], "probabilities": [[0.5, 0.25, 0.25]]}
    )


def break_probabilities_number(directory):
    """A manifest with fewer probabilities than rows."""
    golden = directory.rows[:2]
    directory.write_manifest(golden={"inputs": golden.tolist(), "predictions": [0, 0], "probabilities": [[1, 0, 0]]})


def break_feature_order(directory):
    """A model that was fitted to the baseline's features in another order."""
    table = pd.DataFrame(directory.rows, columns=directory.names[::-1])
    directory.model = LogisticRegression(max_iter=1000).fit(table, np.repeat([0, 1, 2], 50))
    joblib.dump(directory.model, directory.path / "model.pkl")
    directory.write_manifest(golden={"inputs": directory.rows[:1].tolist(), "predictions": [0]})


def break_feature_names(directory):
    """A model that was fitted to features of which one has another name."""
    named(directory, [*directory.names[:2], "weight", directory.names[3]]).write(manifest=False)
    directory.write_manifest(golden={"inputs": directory.rows[:1].tolist(), "predictions": [0]})


def break_manifest_json(directory):
    """A manifest that is cut off."""
    (directory.path / "manifest.json").write_text('{"schemaVersion": 1,')


def break_manifest_version(directory):
    """A manifest of a later form."""
    directory.write_manifest(schemaVersion=2)


def break_manifest_profile(directory):
    """A manifest without a profile."""
    directory.write_manifest(profile={"version": 2})


def break_manifest_files(directory):
    """A manifest of other files."""
    directory.write_manifest(files={})


def break_manifest_features(directory):
    """Feature names that are not those of the profile."""
    directory.write_manifest(features=["a", "b", "c", "d"])


def break_manifest_list(directory):
    """JSON, but no object."""
    (directory.path / "manifest.json").write_text("[1]")


def break_baseline_width(directory):
    """A baseline of fewer columns than the profile."""
    np.save(directory.path / "baseline.npy", directory.rows[:, :3])
    directory.write_manifest()


BREAKAGES = [
    (break_model_missing, "ModelNotFound", "model.pkl cannot be read: No such file or directory"),
    (break_baseline_missing, "BaselineNotFound", "baseline.npy cannot be read: No such file or directory"),
    (break_model_bytes, "DigestMismatch", "model.pkl has the digest sha256:"),
    (break_baseline_bytes, "DigestMismatch", "baseline.npy has the digest sha256:"),
    (break_suite_bytes, "DigestMismatch", "expectations.json has the digest sha256:"),
    (break_model_pickle, "ModelUnloadable", "model.pkl cannot be loaded: "),
    (break_model_predict, "ModelUnloadable", "model.pkl holds a dict, which has no predict()"),
    (break_libraries, "LibraryVersionMismatch", "it was saved with scikit-learn 0.1.2 (here "),
    (break_golden, "GoldenPredictionsDiffer", "golden row 2 predicts 0, but manifest.json says 2"),
    (break_probabilities, "GoldenPredictionsDiffer", "golden row 0 has the probabilities ["),
    (break_probabilities_number, "ManifestInvalid", "so must probabilities"),
    (break_feature_order, "FeatureNamesDiffer", "column 0 is 'petal width (cm)' in the model, and 'sepal length (cm)'"),
    (break_feature_names, "FeatureNamesDiffer", "of other names: column 2 is 'weight' in the model, and 'petal length"),
    (break_manifest_golden, "ManifestInvalid", "manifest.json is malformed: OverflowError"),
    (break_manifest_prediction, "GoldenPredictionsDiffer", "golden row 0 predicts"),
    (break_manifest_mean, "ManifestInvalid", "the profile is malformed: OverflowError"),
    (break_manifest_json, "ManifestInvalid", "manifest.json is malformed: JSONDecodeError"),
    (break_manifest_version, "ManifestInvalid", "schemaVersion 2; this image reads 1"),
    (break_manifest_profile, "ManifestInvalid", "the profile is malformed"),
    (break_manifest_files, "ManifestInvalid", "manifest.json does not list model.pkl"),
    (break_manifest_features, "ManifestInvalid", "features are not those of the profile"),
    (break_manifest_list, "ManifestInvalid", "manifest.json is malformed"),
    (break_baseline_width, "BaselineInvalid", "the baseline has 3 columns, but manifest.json has 4 features"),
]


@pytest.mark.parametrize(("breaks", "reason", "sentence"), BREAKAGES, ids=[case[0].__name__ for case in BREAKAGES])
def test_what_cannot_be_served_has_a_typed_reason(directory, breaks, reason, sentence):
    """The reason is a word for conditions, the message a sentence for people."""
    settings = directory.write()
    breaks(directory)
    with pytest.raises(ArtifactError) as caught:
        load(settings)
    assert reason == caught.value.reason
    assert sentence in str(caught.value)


def named(directory, names):
    """The directory with a model that was fitted to a table with these names."""
    table = pd.DataFrame(directory.rows, columns=names)
    directory.model = LogisticRegression(max_iter=1000).fit(table, np.repeat([0, 1, 2], 50))
    return directory


def test_a_model_with_the_names_of_the_manifest_is_served_without_a_word(directory):
    """Nothing is to be said."""
    settings = named(directory, directory.names).write(manifest=False)
    golden = {"inputs": directory.rows[:1].tolist(), "predictions": [0]}
    directory.write_manifest(golden=golden)
    artifacts = load(settings)

    assert ((), tuple(directory.names)) == (artifacts.warnings, artifacts.predictor.names)


def test_without_a_manifest_features_have_the_names_that_the_model_knows(directory):
    """Better than numbers."""
    assert tuple("abcd") == load(named(directory, list("abcd")).write(manifest=False)).profile.names


def test_a_profile_of_another_version_is_made_anew(directory):
    """Artifacts of an older training are served, and watched by all rules but the one on outputs."""
    settings = directory.write()
    directory.write_manifest(profile={"version": 1})
    profile = load(settings).profile

    assert (tuple(directory.names), ()) == (profile.names, profile.outputs)
    assert profile.calibration is not None


def test_the_reason_is_on_health_while_the_process_lives(serving, directory):
    """A wrong artifact makes a pod unready, not dead; predictions and counts say why they are not there."""
    settings = directory.write()
    break_golden(directory)

    async def scenario():
        async with serving(settings) as pod:
            paths = ("/health", "/livez", "/drift", "/metrics")
            answers = [await pod.client.get(path) for path in paths]
            return answers, await pod.predict({"inputs": [[1, 2, 3, 4]]}), pod.lines()

    (health, livez, drift, metrics), predict, lines = asyncio.run(scenario())
    assert [503, 200, 503, 200, 503] == [a.status_code for a in (health, livez, drift, metrics, predict)]
    assert "unavailable" == health.json()["status"]
    assert "GoldenPredictionsDiffer" == health.json()["reason"] == drift.json()["reason"] == predict.json()["reason"]
    assert health.json()["message"] == predict.json()["error"]
    assert any(line.startswith('ERROR {"event": "not ready", "reason": "GoldenPredictionsDiffer"') for line in lines)


def test_artifacts_that_arrive_late_are_loaded(serving, directory, monkeypatch, eventually):
    """A volume that is filled after the pod started needs no restart."""
    monkeypatch.setattr("aiops_inference.service.ARTIFACTS_INTERVAL", 0.01)

    async def scenario():
        async with serving(directory.settings) as pod:
            before = pod.service.health()[1]["reason"]
            directory.write()
            await eventually(lambda: pod.service.health()[0] == 200)
            return before

    assert "ModelNotFound" == asyncio.run(scenario())


@pytest.mark.parametrize("prefix", ["", "sha256:"])
def test_only_the_allowed_bytes_are_loaded(directory, prefix):
    """MODEL_SHA256 holds with and without a manifest."""
    settings = directory.write(manifest=False)
    digest = directory.digest("model.pkl")
    allowed = type(settings).from_environment({"MODEL_SHA256": prefix + digest}).model_sha256
    assert f"sha256:{digest}" == load(replace(settings, model_sha256=allowed)).digest
    with pytest.raises(ArtifactError, match=r"MODEL_SHA256 \(spec\.model\.sha256\) allows") as caught:
        load(replace(settings, model_sha256="0" * 64))
    assert "DigestMismatch" == caught.value.reason


def test_a_forbidden_model_is_not_even_unpickled(directory, tmp_path):
    """Unpickling runs code: bytes that are not allowed must not get that far."""
    settings = directory.write()

    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").write_text, ("it ran",))

    (tmp_path / "model.pkl").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ArtifactError) as caught:
        load(settings)
    assert "DigestMismatch" == caught.value.reason
    assert not (tmp_path / "ran").exists()


def test_a_file_beyond_the_limit_is_not_read(directory):
    """The limit guards the pod's memory."""
    with pytest.raises(ArtifactError, match="larger than MAX_MODEL_BYTES, 100 bytes") as caught:
        load(replace(directory.write(), max_model_bytes=100))
    assert "ArtifactTooLarge" == caught.value.reason


def test_without_a_manifest_the_baseline_is_enough(directory):
    """The seed's three files are served as they are, with features that have numbers for names."""
    artifacts = load(directory.write(manifest=False))
    assert ("feature 0", "feature 1", "feature 2", "feature 3") == artifacts.profile.names
    assert ("classification", ("0", "1", "2"), None) == (artifacts.task, artifacts.classes, artifacts.suite)


def test_with_a_manifest_names_and_profile_are_its_own(directory):
    """What training wrote is what drift is measured against."""
    artifacts = load(directory.write())
    assert Profile.from_rows(directory.rows, directory.names) == artifacts.profile
    assert ("setosa", "versicolor", "virginica") == artifacts.classes
    assert () == artifacts.warnings


def test_a_model_of_another_width_than_the_baseline_is_refused(directory):
    """Nothing could be compared."""
    directory.rows = directory.rows[:, :3]
    with pytest.raises(BaselineInvalidError, match="the model wants 4 features, but the baseline has 3"):
        load(directory.write(manifest=False))


def test_a_model_that_cannot_predict_arrays_is_refused_before_it_is_ready(directory):
    """A model that would answer every request with an error is not served."""
    directory.model = LogisticRegression()  # never fitted
    with pytest.raises(ArtifactError, match="the model does not predict on the baseline's own rows") as caught:
        load(directory.write(manifest=False))
    assert "ModelUnloadable" == caught.value.reason


def test_other_library_versions_are_a_warning_while_the_model_works(directory):
    """Golden predictions decide; the difference is only worth a line."""
    settings = directory.write()
    directory.write_manifest(libraries={"scikit-learn": "0.1.2", "no-such-library": "1"})
    (warning,) = load(settings).warnings
    assert warning.startswith(
        "LibraryVersionMismatch: the model was saved with no-such-library 1 (here missing), scikit-learn 0.1.2 (here "
    )


def test_sklearn_own_version_warning_is_passed_on(directory):
    """A pickle knows the version that wrote it, manifest or not."""
    settings = directory.write(manifest=False)
    version = sklearn.__version__.encode()
    content = pickle.dumps(directory.model)
    assert version in content
    (directory.path / "model.pkl").write_bytes(content.replace(version, b"0" * len(version)))
    assert any(
        text.startswith("LibraryVersionMismatch: InconsistentVersionWarning") for text in load(settings).warnings
    )


def _npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not a .npy file"),
        (b"1,2,3\n", "is not a .npy file"),
        (_npy(np.ones((3, 4)))[:-8], "is not a .npy file"),
        (_npy(np.array([{"a": 1}], dtype=object)), "is not a .npy file"),
        (_npy(np.ones(4)), "must be one two-dimensional array"),
        (_npy(np.array([["a", "b"]])), "must be one two-dimensional array"),
        (_npy(np.array([[1.0, np.nan], [1, 2]])), "not finite"),
        (_npy(np.array([[True, False]])), "must be one two-dimensional array"),
    ],
)
def test_a_baseline_is_a_table_of_finite_numbers(content, sentence):
    """Nothing else is loaded, and pickled objects never are."""
    with pytest.raises(BaselineInvalidError, match=sentence):
        read_baseline(content)


def test_a_baseline_of_one_row_has_no_spread(directory):
    """Without a manifest the profile comes from the baseline, which must be able to give one."""
    directory.rows = directory.rows[:1]
    with pytest.raises(BaselineInvalidError, match="rows ≥ 2"):
        load(directory.write(manifest=False))


def test_health_describes_the_model(serving, directory):
    """Digest, features, classes and task are what a client needs to know."""

    async def scenario():
        async with serving(directory.write()) as pod:
            return (await pod.client.get("/health")).json()

    model = {
        "digest": "sha256:" + directory.digest(directory.write().model_path.name),
        "features": directory.names,
        "classes": ["setosa", "versicolor", "virginica"],
        "task": "classification",
    }
    assert {"status": "ok", "model": model} == asyncio.run(scenario())
