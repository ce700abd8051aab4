"""The pipeline in one go, with a real registry, a real git server and a real inference server."""

import hashlib
import subprocess

import numpy as np
import pandas as pd
import pytest

from aiops_training import artifacts, registry, serviceyaml
from aiops_training.__main__ import REFUSED, main
from aiops_training.datasets import load_bundled

MANIFEST = """\
apiVersion: aiops-quality.io/v1alpha1
kind: InferenceService
metadata:
  name: iris
spec:
  model:
    artifacts:
      image:
        reference: {reference}
    sha256: {sha256}
"""


def table(path, factor=1.0, labels=lambda target: target):
    """Iris as a CSV file, with the petal length in another unit by a factor."""
    iris = load_bundled("iris")
    frame = pd.DataFrame(iris.rows, columns=list(iris.features))
    frame["petal length (cm)"] *= factor
    frame["species"] = labels(iris.target)
    frame.to_csv(path, index=False)
    return path


def digest(files):
    """Of the model's file."""
    return hashlib.sha256(files["model.skops"]).hexdigest()


@pytest.fixture
def shop(repository, open_registry, iris):
    """A service in git whose model is in the registry."""
    reference = registry.push(iris, f"{open_registry}/models/iris")
    repository.commit("iris.yaml", MANIFEST.format(reference=reference, sha256=digest(iris)))
    return repository


def retrain(shop, open_registry, output, *more):
    """Run the command; its exit code."""
    where = ["--git", shop.url, "--file", "iris.yaml", "--push", f"{open_registry}/models/iris"]
    return main(["retrain", *where, "--output", str(output), *map(str, more)])


def test_a_model_that_is_better_is_promoted(shop, open_registry, iris, tmp_path, capsys):
    """On rows in another unit the new model is right and the old one is not: git gets the new one, with the reason."""
    csv = table(tmp_path / "iris.csv", factor=10)

    code = retrain(shop, open_registry, tmp_path / "new", "--csv", csv, "--target", "species")

    said = capsys.readouterr().out
    new = artifacts.read(tmp_path / "new")
    declared = serviceyaml.declared(shop.pulled("iris.yaml"))
    assert (0, digest(new)) == (code, declared.sha256), said
    assert new == registry.pull(declared.reference)
    assert f"iris: model {digest(new)[:7]} for {digest(iris)[:7]}" == shop.log("%s")
    for line in ("accuracy on 38 held-out rows", "the new model is better (p = ", f"model.skops: sha256:{digest(new)}"):
        assert line in shop.log()


def test_again_there_is_nothing_to_change(shop, open_registry, tmp_path, capsys):
    """Two runs on the same data make the same model: a Job that is tried again is done at once."""
    data = ("--csv", table(tmp_path / "iris.csv", factor=10), "--target", "species")
    retrain(shop, open_registry, tmp_path / "new", *data)
    first = shop.log("%H")

    code = retrain(shop, open_registry, tmp_path / "new", *data)

    assert (0, first) == (code, shop.log("%H"))
    assert "unchanged: this model is in service already; nothing to change" in capsys.readouterr().out


def test_a_model_that_is_worse_is_not_promoted(shop, open_registry, tmp_path, capsys):
    """The service had learnt rows in another unit; iris itself makes it worse there: exit code 3, the reason, no commit."""
    good = ("--csv", table(tmp_path / "good.csv", factor=10), "--target", "species")
    retrain(shop, open_registry, tmp_path / "new", *good)
    main(["train", "--output", str(tmp_path / "iris")])
    before, reference = shop.log("%H"), serviceyaml.declared(shop.pulled("iris.yaml")).reference
    capsys.readouterr()

    code = main(["evaluate", str(tmp_path / "iris"), "--in-service", reference, *map(str, good)])

    assert (REFUSED, before) == (code, shop.log("%H"))
    assert "the new model is worse (p = 0.0001): refused (better)" in capsys.readouterr().out


def test_labels_of_noise_are_not_promoted(shop, open_registry, tmp_path, capsys):
    """What has learnt nothing does not take the place of what knows more than half: exit code 3 and no commit."""
    noise = np.random.default_rng(3)
    csv = table(
        tmp_path / "iris.csv",
        labels=lambda target: np.where(noise.random(150) < 0.6, noise.permutation(target), target),
    )
    before = shop.log("%H")

    code = retrain(shop, open_registry, tmp_path / "new", "--csv", csv, "--target", "species")

    said = capsys.readouterr().out
    assert (REFUSED, before) == (code, shop.log("%H")), said
    assert "refused: the new model is neither better nor worse beyond noise" in said


def test_noise_does_not_promote(shop, open_registry, tmp_path, capsys):
    """The same data again: the new model has learnt from fewer rows and is neither better nor worse."""
    code = retrain(shop, open_registry, tmp_path / "new", "--dataset", "iris")

    said = capsys.readouterr().out
    assert REFUSED == code
    assert "neither better nor worse beyond noise" in said
    assert "38 of the 38 held-out rows are among those that the model in service was trained on" in said


def test_not_worse_is_enough_where_that_is_asked_for(shop, open_registry, tmp_path):
    """For models that are renewed by the calendar."""
    assert 0 == retrain(shop, open_registry, tmp_path / "new", "--dataset", "iris", "--accept", "not-worse")
    assert digest(artifacts.read(tmp_path / "new")) == serviceyaml.declared(shop.pulled("iris.yaml")).sha256


def test_an_image_that_is_not_what_git_says_is_not_compared_with(shop, open_registry, tmp_path, capsys):
    """Whoever exchanged it is not taken for the model in service."""
    reference = serviceyaml.declared(shop.pulled("iris.yaml")).reference
    shop.commit("iris.yaml", MANIFEST.format(reference=reference, sha256="0" * 64))

    assert 1 == retrain(shop, open_registry, tmp_path / "new", "--dataset", "iris")
    assert "is not the one that git says" in capsys.readouterr().err


@pytest.fixture
def keys(tmp_path):
    """A key pair that openssl made."""
    private, public = tmp_path / "signing.pem", tmp_path / "signing.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    return private, public


def test_what_is_signed_is_verified_before_it_is_compared_with(shop, open_registry, keys, tmp_path, capsys):
    """The first model is not signed, and refused; the one that is promoted with a signature is taken."""
    private, public = keys
    data = ("--csv", table(tmp_path / "iris.csv", factor=10), "--target", "species")
    assert 1 == retrain(shop, open_registry, tmp_path / "new", *data, "--verify-key", public)
    assert "not signed" in capsys.readouterr().err

    assert 0 == retrain(shop, open_registry, tmp_path / "new", *data, "--sign-key", private)
    assert 0 == retrain(shop, open_registry, tmp_path / "new", *data, "--sign-key", private, "--verify-key", public)
    assert 0 == main(["verify", str(tmp_path / "new"), "--key", str(public)])


def test_openssl_verifies_what_is_signed(keys, tmp_path):
    """Whoever has the public key needs nothing of ours."""
    private, public = keys
    main(["train", "--output", str(tmp_path / "iris")])
    main(["sign", str(tmp_path / "iris"), "--sign-key", str(private)])

    signature = tmp_path / "raw"
    subprocess.run(
        ["openssl", "base64", "-d", "-in", tmp_path / "iris" / "manifest.json.sig", "-out", signature], check=True
    )
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in"]
    done = subprocess.run([*command, tmp_path / "iris" / "manifest.json", "-sigfile", signature], check=False)
    assert 0 == done.returncode


def test_a_running_service_is_asked(run, tmp_path, capsys):
    """By its URL, over /predict: it serves the very model."""
    main(["train", "--output", str(tmp_path / "iris")])
    pod = run(tmp_path / "iris")
    pod.ready()

    code = main(["evaluate", str(tmp_path / "iris"), "--in-service", str(pod.client.base_url)])

    said = capsys.readouterr().out
    assert REFUSED == code
    assert "accuracy on 150 held-out rows: new 0.9733, in service 0.9733" in said
    assert 150 == pod.drift()["rows"]


def test_a_service_of_other_features_cannot_be_compared(run, tmp_path, capsys):
    """It says which."""
    main(["train", "--output", str(tmp_path / "wine"), "--dataset", "wine"])
    main(["train", "--output", str(tmp_path / "iris")])
    pod = run(tmp_path / "wine")
    pod.ready()

    assert 1 == main(["evaluate", str(tmp_path / "iris"), "--in-service", str(pod.client.base_url)])
    assert "the model in service takes the features alcohol" in capsys.readouterr().err


def test_retraining_needs_no_registry(repository, tmp_path):
    """The artifacts go into a ConfigMap beside the service."""
    manifest = MANIFEST.format(reference="x", sha256="0" * 64).replace(
        "image:\n        reference: x", "configMap:\n        name: iris"
    )
    repository.commit("iris.yaml", manifest)
    where = ["--git", repository.url, "--file", "iris.yaml", "--output", str(tmp_path / "new")]

    assert 1 == main(["retrain", *where]), "there is no ConfigMap to compare with"
    assert 0 == main(["retrain", *where, "--in-service", "none"])
    assert 0 == main(["retrain", *where])

    declared = serviceyaml.declared(repository.pulled("iris.yaml"))
    assert digest(artifacts.read(tmp_path / "new")) == declared.sha256
