"""A model into git: a real repository behind `git daemon`."""

import hashlib
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from aiops_training import configmap, git, promotion
from aiops_training.errors import PromotionError

ROOT = Path(__file__).resolve().parents[3]
SERVICE = """\
# Iris for the shop. Do not rename.
apiVersion: aiops-quality.io/v1alpha1
kind: InferenceService
metadata:
  name: iris
spec:
  model:
    artifacts:
      image:
        reference: registry.example.com/models/iris:1   # by the pipeline
  replicas:   2
"""
IMAGE = f"registry.example.com/models/iris@sha256:{'0' * 64}"


def promoted(repository, files, image=IMAGE, service=None, file="services/iris.yaml", before=lambda: None):
    """Promote, after something has happened between the clone and the push."""
    with git.cloned(repository.url, "main") as checkout:
        place = promotion.Place(checkout, file, service)
        expected = place.declared()
        before()
        return promotion.promote(place, files, image, "because it is better", expected)


def digest(files):
    """Of the model's file."""
    return hashlib.sha256(files["model.skops"]).hexdigest()


def test_the_reference_and_the_digest_change_and_nothing_else(repository, iris):
    """Comments and odd spaces stay; the commit says why."""
    repository.commit("services/iris.yaml", SERVICE)

    commit = promoted(repository, iris)

    expected = SERVICE.replace("registry.example.com/models/iris:1", IMAGE).replace(
        "    artifacts:", f'    sha256: "{digest(iris)}"\n    artifacts:'
    )
    assert expected == repository.pulled("services/iris.yaml")
    assert (commit, f"iris: model {digest(iris)[:7]}\n\nbecause it is better") == (
        repository.log("%H"),
        repository.log(),
    )


def test_a_second_time_there_is_nothing_to_change(repository, iris):
    """No commit, and no error."""
    repository.commit("services/iris.yaml", SERVICE)
    first = promoted(repository, iris)

    assert ("", first) == (promoted(repository, iris), repository.log("%H"))


def test_a_race_with_another_change_is_won_on_top_of_it(repository, iris):
    """Somebody else's commit stays, and ours comes after it."""
    repository.commit("services/iris.yaml", SERVICE)

    promoted(repository, iris, before=lambda: repository.commit("README.md", "of others"))

    assert ("of others", True) == (
        repository.pulled("README.md"),
        digest(iris) in repository.pulled("services/iris.yaml"),
    )


def test_a_race_in_the_same_file_keeps_both_changes(repository, iris):
    """The edit is made anew on the newest text."""
    repository.commit("services/iris.yaml", SERVICE)
    scaled = SERVICE.replace("replicas:   2", "replicas:   5")

    promoted(repository, iris, before=lambda: repository.commit("services/iris.yaml", scaled))

    text = repository.pulled("services/iris.yaml")
    assert (True, True) == ("replicas:   5" in text, IMAGE in text)


def test_a_model_that_came_into_service_meanwhile_is_not_replaced(repository, iris):
    """The new model was not compared with that one."""
    repository.commit("services/iris.yaml", SERVICE)
    other = SERVICE.replace("models/iris:1", "models/iris:2")

    with pytest.raises(PromotionError, match=r"another model has come into service meanwhile.*iris:2"):
        promoted(repository, iris, before=lambda: repository.commit("services/iris.yaml", other))
    assert other == repository.pulled("services/iris.yaml")


def test_a_repository_that_refuses_is_a_clear_error(repository, iris):
    """With the words of its hook, and without trying five times."""
    repository.commit("services/iris.yaml", SERVICE)
    hook = repository.bare / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho main is protected >&2\nexit 1\n")
    hook.chmod(hook.stat().st_mode | stat.S_IXUSR)

    with pytest.raises(PromotionError, match="main is protected"):
        promoted(repository, iris)


@pytest.mark.parametrize(
    ("url", "branch", "why"),
    [
        ("git://127.0.0.1:1/nowhere.git", "main", "git clone failed"),
        ("https://user:s3cret@127.0.0.1:1/nowhere.git", "main", "git clone failed"),
        ("--upload-pack=touch x", "main", "git clone failed"),
        ("git://127.0.0.1:1/nowhere.git", "--force", "no name of a branch"),
    ],
)
def test_a_repository_that_cannot_be_cloned_is_a_clear_error(url, branch, why):
    """Without the password that its URL has."""
    with pytest.raises(PromotionError, match=why) as raised, git.cloned(url, branch):
        pass
    assert "s3cret" not in str(raised.value)


def test_a_branch_that_is_not_there_is_a_clear_error(repository):
    """With git's words."""
    repository.commit("services/iris.yaml", SERVICE)
    with pytest.raises(PromotionError, match="Remote branch release not found"), git.cloned(repository.url, "release"):
        pass


def test_a_file_outside_of_the_repository_is_refused(repository, iris, tmp_path):
    """Neither by its path nor by a link."""
    repository.commit("services/iris.yaml", SERVICE)
    (tmp_path / "outside.yaml").write_text(SERVICE)
    (repository.clone / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    repository.commit("more.txt", "")

    for name in ("../../etc/hosts", "link.yaml", ".git/config"):
        with pytest.raises(PromotionError, match="is not in the repository"):
            promoted(repository, iris, file=name)


def config_map_service(name):
    """A service with its model from a ConfigMap, and with the digest in place."""
    artifacts = f"configMap:\n        name: {name}"
    text = SERVICE.replace(
        "image:\n        reference: registry.example.com/models/iris:1   # by the pipeline", artifacts
    )
    return text.replace("    artifacts:", f"    sha256: {'a' * 64}\n    artifacts:")


def test_a_config_map_gets_the_new_files_and_a_name_by_its_content(repository, iris):
    """So that the service and its artifacts change in one step; what else the manifest says stays."""
    repository.commit("services/iris.yaml", config_map_service("iris-artifacts"))
    before = configmap.manifest(
        "iris-artifacts", {"model.skops": b"old"}, {"namespace": "shop", "labels": {"team": "a"}}
    )
    repository.commit("services/model.yaml", before)

    promoted(repository, iris, image=None)

    name = f"iris-artifacts-{hashlib.sha256(iris['manifest.json']).hexdigest()[:12]}"
    service = yaml.safe_load(repository.pulled("services/iris.yaml"))["spec"]["model"]
    document = yaml.safe_load(repository.pulled("services/model.yaml"))
    assert (name, digest(iris)) == (service["artifacts"]["configMap"]["name"], service["sha256"])
    assert {"name": name, "namespace": "shop", "labels": {"team": "a"}} == document["metadata"]
    assert iris == configmap.files(document)
    assert f"iris: model {digest(iris)[:7]} for aaaaaaa" == repository.log("%s")


def test_the_next_config_map_takes_the_place_of_the_last(repository, iris):
    """Its name's digest is exchanged, not added to."""
    repository.commit("services/iris.yaml", config_map_service("iris-artifacts"))
    promoted(repository, iris, image=None)
    manifest = json.dumps(json.loads(iris["manifest.json"]) | {"generator": "another"}).encode()

    promoted(repository, iris | {"manifest.json": manifest}, image=None)

    name = f"iris-artifacts-{hashlib.sha256(manifest).hexdigest()[:12]}"
    assert (
        name
        == yaml.safe_load(repository.pulled("services/iris.yaml"))["spec"]["model"]["artifacts"]["configMap"]["name"]
    )
    assert ["iris-artifacts.configmap.yaml", "iris.yaml"] == sorted(
        path.name for path in (repository.clone / "services").iterdir()
    )


def test_a_config_map_among_other_objects_is_not_overwritten(repository, iris):
    """It is refused, with what to do."""
    repository.commit("services/iris.yaml", config_map_service("iris-artifacts"))
    both = configmap.manifest("iris-artifacts", {"model.skops": b"old"}) + "---\napiVersion: v1\nkind: Secret\n"
    repository.commit("services/model.yaml", both)

    with pytest.raises(PromotionError, match=r"model\.yaml holds more than the ConfigMap"):
        promoted(repository, iris, image=None)


def test_an_image_does_not_go_where_a_config_map_is(repository, iris):
    """Nor the other way."""
    repository.commit("services/iris.yaml", SERVICE)

    with pytest.raises(PromotionError, match="push to a registry"):
        promoted(repository, iris, image=None)


def test_the_examples_token_reaches_git():
    """The Job in the example has it from a Secret; git asks for it as it asks any helper."""
    cron_job = next(yaml.safe_load_all((ROOT / "examples" / "retraining.yaml").read_text()))
    (container,) = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    given = {entry["name"]: entry["value"] for entry in container["env"] if entry["name"].startswith("GIT_CONFIG")}

    done = subprocess.run(
        ["git", "credential", "fill"],
        input="protocol=https\nhost=git.example.com\n\n",
        env={**os.environ, **given, "GIT_TOKEN": "t0k3n", "GIT_TERMINAL_PROMPT": "0"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert {"username=git", "password=t0k3n"} <= set(done.stdout.split())
