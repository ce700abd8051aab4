"""Artifacts from a web server that does what servers do."""

import hashlib
import os
import signal
import subprocess
import threading

import pytest
from artifactserver import AUTHORIZATION
from waiting import until

MODEL = "model.skops"


@pytest.fixture
def big(artifact_server):
    """A model of 4 MiB, and its digest."""
    artifact_server.files[MODEL] = os.urandom(4 << 20)
    return hashlib.sha256(artifact_server.files[MODEL]).hexdigest()


def placed(folder):
    """The files that are in place, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_all_artifacts_are_put_in_place(artifact_server, fetch_from):
    """What the server looks for, and nothing else; no credential is repeated anywhere."""
    run = fetch_from()

    assert (0, None, "") == run.end()
    assert artifact_server.files == placed(fetch_from.folder)
    assert not list((fetch_from.folder / ".fetch").iterdir())
    events = [(event["event"], event.get("file")) for event in run.events()]
    names = ["baseline.npy", "expectations.json", "manifest.json", MODEL]
    assert [(event, name) for name in names for event in ("fetching", "fetched")] == events
    assert AUTHORIZATION not in run.log.read_text()


def test_what_was_fetched_is_served(fetch_from, run):
    """A server process loads it."""
    assert (0, None, "") == fetch_from().end()
    run(fetch_from.folder).ready()


def test_what_need_not_be_there_may_be_missing(artifact_server, fetch_from):
    """Expectations and manifest; or forbidden, as S3 says it to those who may not list."""
    del artifact_server.files["expectations.json"], artifact_server.files["manifest.json"]
    artifact_server.statuses["manifest.json"] = 403

    run = fetch_from()

    assert (0, None, "") == run.end()
    assert {MODEL, "baseline.npy"} == set(placed(fetch_from.folder))
    assert ["not there", "taken for not there"] == [event["event"] for event in run.events()[:2]]


@pytest.mark.parametrize("told", ["tag", "date", ""])
def test_a_body_that_is_cut_off_is_taken_up_where_it_ended(artifact_server, fetch_from, big, told):
    """Several times; from its beginning where nothing tells one version of the file from another."""
    artifact_server.told = told
    small = len(artifact_server.files) - 1
    artifact_server.cuts = [1 << 20] * small + [1 << 20, 700_000, 900_000]

    assert (0, None, "") == fetch_from(MODEL_SHA256=big).end()
    assert artifact_server.files == placed(fetch_from.folder)
    first, *later = artifact_server.gets(MODEL)
    assert (0, 3) == (first, len(later))
    assert sorted(later) == later
    assert bool(told) == (min(later) > 0)


def test_an_empty_file_is_a_file(artifact_server, fetch_from):
    """Whatever a server makes of it."""
    artifact_server.files[MODEL] = b""

    assert (0, None, "") == fetch_from().end()
    assert artifact_server.files == placed(fetch_from.folder)


def test_a_signature_is_not_repeated(fetching):
    """Of a store that cannot be reached, whose requests are signed in their address."""
    run = fetching(
        ARTIFACTS_URI="az://models/iris",
        AZURE_STORAGE_ACCOUNT_NAME="account",
        AZURE_STORAGE_SAS_KEY="sv=2030&sig=not-for-logs",
        AZURE_STORAGE_ENDPOINT="http://127.0.0.1:1",
        AZURE_ALLOW_HTTP="true",
    )
    status, reason, message = run.end()

    assert (1, "ArtifactUnreachable") == (status, reason)
    assert "az://models/iris/model.pkl cannot be reached" in message
    assert "not-for-logs" not in message + run.log.read_text()


@pytest.mark.parametrize("ranges", [True, False])
def test_what_a_container_before_has_fetched_is_not_fetched_again(artifact_server, fetch_from, big, ranges):
    """SIGTERM in the middle ends it at once; the next one goes on there, unless the server knows no ranges."""
    artifact_server.ranges = ranges
    waits = threading.Event()
    artifact_server.between = lambda: waits.wait(60) if artifact_server.gets(MODEL) else None
    run = fetch_from(MODEL_SHA256=big)
    until(lambda: any((fetch_from.folder / ".fetch").glob(f"{MODEL}-*")) and half_is_there(fetch_from.folder))
    run.process.send_signal(signal.SIGTERM)

    assert (143, None, "") == run.end(seconds=5)
    assert "stopped" == run.events()[-1]["event"]
    assert {} == placed(fetch_from.folder)
    waits.set()
    assert (0, None, "") == fetch_from(MODEL_SHA256=big).end()
    assert artifact_server.files == placed(fetch_from.folder)
    assert (0 < artifact_server.gets(MODEL)[1]) is True
    assert ([] if ranges else [0]) == artifact_server.gets(MODEL)[2:]


def half_is_there(folder):
    """Whether half of the 4 MiB, but for what is held in memory, has been written."""
    return sum(path.stat().st_size for path in (folder / ".fetch").glob(f"{MODEL}-*")) > (1 << 20)


def test_another_version_is_not_put_together_with_the_one_before(artifact_server, fetch_from, big):
    """What was fetched of it is forgotten."""
    waits = threading.Event()
    artifact_server.between = lambda: waits.wait(60) if artifact_server.gets(MODEL) else None
    run = fetch_from(MODEL_SHA256=big)
    until(lambda: (fetch_from.folder / ".fetch").exists() and half_is_there(fetch_from.folder))
    run.process.kill()
    run.process.wait()
    waits.set()
    artifact_server.files[MODEL] = os.urandom(4 << 20)

    assert (0, None, "") == fetch_from().end()
    assert [0, 0] == artifact_server.gets(MODEL)
    assert artifact_server.files == placed(fetch_from.folder)


def test_a_pinned_model_that_is_there_needs_no_server(artifact_server, fetch_from):
    """As when a node has restarted."""
    digest = hashlib.sha256(artifact_server.files[MODEL]).hexdigest()
    assert 0 == fetch_from(MODEL_SHA256=digest).end()[0]
    asked = len(artifact_server.asked)

    assert 0 == fetch_from(MODEL_SHA256=digest).end()[0]
    assert asked == len(artifact_server.asked)


def test_other_bytes_are_not_put_in_place(fetch_from):
    """The reason is left for the operator."""
    status, reason, message = fetch_from(MODEL_SHA256="0" * 64).end()

    assert (1, "DigestMismatch") == (status, reason)
    assert f"spec.model.sha256) allows sha256:{'0' * 64}" in message
    assert {} == placed(fetch_from.folder)


@pytest.mark.parametrize(
    ("statuses", "reason", "sentence"),
    [
        (dict.fromkeys([MODEL, "model.pkl"], 403), "ArtifactAccessDenied", "may not be read; look at the Secret of"),
        (dict.fromkeys([MODEL, "model.pkl"], 404), "ArtifactNotFound", "holds no model.pkl and no model.skops"),
        ({"baseline.npy": 404}, "ArtifactNotFound", "baseline.npy is not there: put it beside the model"),
        ({"model.pkl": 501}, "ArtifactUnreachable", "501 Not Implemented"),
    ],
)
def test_a_refusal_has_its_reason(artifact_server, fetch_from, statuses, reason, sentence):
    """In one sentence, which is in the log too."""
    artifact_server.statuses = statuses
    run = fetch_from()
    status, said, message = run.end()

    assert (1, reason) == (status, said)
    assert sentence in message
    assert {"event": "not fetched", "reason": reason, "message": message} == run.events()[-1]
    assert {} == placed(fetch_from.folder)


def test_credentials_that_are_not_given_are_named(fetch_from):
    """What to write, and where."""
    status, reason, message = fetch_from(ARTIFACTS_AUTHORIZATION="").end()

    assert (1, "ArtifactAccessDenied") == (status, reason)
    assert "no credentials are given: name a Secret with ARTIFACTS_AUTHORIZATION in spec.model" in message


def test_too_much_is_not_begun(artifact_server, fetch_from):
    """MAX_MODEL_BYTES bounds all files together."""
    status, reason, message = fetch_from(MAX_MODEL_BYTES="10000").end()

    assert (1, "ArtifactTooLarge") == (status, reason)
    assert "more than MAX_MODEL_BYTES, 10000: raise it in spec.podTemplate.env" in message
    assert {"HEAD"} == {method for method, _, _ in artifact_server.asked}


def test_a_server_that_is_not_trusted_is_not_asked(artifact_server, fetch_from):
    """Without its authority's certificate."""
    status, reason, _ = fetch_from(ARTIFACTS_CA_CERTIFICATE="").end()

    assert (1, "ArtifactUnreachable") == (status, reason)
    assert [] == artifact_server.asked


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MiB; mounting it takes root, as in a container of CI."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3M", "tmpfs", path], check=True, capture_output=True)
    yield path
    subprocess.run(["umount", "--lazy", path], check=True, capture_output=True)


def test_a_disk_that_is_too_small_is_said_to_be(artifact_server, fetch_from, big, small_disk):
    """Before anything is fetched."""
    status, reason, message = fetch_from(into=small_disk, MODEL_SHA256=big).end()

    assert (1, "ArtifactNotStored") == (status, reason)
    assert "bytes left, and" in message
    assert {"HEAD"} == {method for method, _, _ in artifact_server.asked}


def test_a_disk_that_others_fill_meanwhile_is_said_to_be_full(artifact_server, fetch_from, small_disk):
    """And when there is room again, the rest is fetched."""
    artifact_server.files[MODEL] = os.urandom(2 << 20)
    ballast = small_disk / "ballast"
    artifact_server.between = lambda: ballast.write_bytes(bytes(1 << 20)) if artifact_server.gets(MODEL) else None
    status, reason, message = fetch_from(into=small_disk).end()

    assert (1, "ArtifactNotStored") == (status, reason)
    assert f"{small_disk} does not take the files: No space left on device" == message
    artifact_server.between = lambda: None
    ballast.unlink()
    assert (0, None, "") == fetch_from(into=small_disk).end()
    assert artifact_server.files == placed(small_disk)


@pytest.mark.parametrize(
    "uri", ["", "ftp://host/iris", "https://u:secret@host/iris", "s3://bucket/iris?X-Amz-Signature=secret", "s3://"]
)
def test_a_uri_that_cannot_be_used_is_refused_and_not_repeated(fetching, uri):
    """Exit status 2, as of all settings."""
    run = fetching(ARTIFACTS_URI=uri)

    assert (2, "Settings") == run.end()[:2]
    assert "ARTIFACTS_URI must be a URI of s3, gs, az" in run.log.read_text()
    assert "secret" not in run.log.read_text()
