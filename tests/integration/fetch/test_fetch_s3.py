"""Artifacts from an S3 endpoint."""

import hashlib
import socket
import subprocess
from pathlib import Path

import httpx
import pytest
from environments import environment
from obstore.store import S3Store
from waiting import until

BUCKET = "models"
KEYS = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "not-for-logs", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    """A server with one bucket, which nobody may read without signing."""
    program = environment(Path(__file__).parents[2] / "s3" / "requirements.txt", "an S3 endpoint") / "moto_server"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    log = tmp_path_factory.mktemp("s3") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([program, "-H", "127.0.0.1", "-p", str(port)], stdout=output, stderr=output)
    try:
        until(lambda: answers(url), explain=log.read_text)
        httpx.put(f"{url}/{BUCKET}", trust_env=False).raise_for_status()
        yield url
    finally:
        process.terminate()
        process.wait()


def answers(url):
    """Whether the server listens."""
    try:
        return httpx.get(url, trust_env=False)
    except httpx.TransportError:
        return None


@pytest.fixture
def stored(endpoint, files):
    """The artifacts' directory in the bucket."""
    config = {name.lower().removeprefix("aws_"): value for name, value in KEYS.items()}
    store = S3Store(BUCKET, prefix="iris/v3", endpoint=endpoint, client_options={"allow_http": True}, **config)
    for name, content in files.items():
        store.put(name, content)
    return f"s3://{BUCKET}/iris/v3"


@pytest.fixture
def fetch(endpoint, stored, fetching):
    """Starts a process that fetches from there."""

    def start(**changed):
        # There is no cloud here that could be asked for credentials.
        given = {
            "ARTIFACTS_URI": stored,
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_METADATA_ENDPOINT": "http://127.0.0.1:1",
            **KEYS,
        }
        return fetching(**given | changed)

    return start


def test_artifacts_are_fetched_with_the_keys_of_the_environment(fetch, files, fetching):
    """All of them, and the model as its digest says; the key is not repeated."""
    digest = hashlib.sha256(files["model.skops"]).hexdigest()
    run = fetch(MODEL_SHA256=f"sha256:{digest}")

    assert (0, None, "") == run.end()
    assert files == {path.name: path.read_bytes() for path in fetching.folder.iterdir() if path.is_file()}
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in run.log.read_text()


@pytest.mark.parametrize(
    ("changed", "reason", "sentence"),
    [
        ({"MODEL_SHA256": "0" * 64}, "DigestMismatch", "model.skops has the digest sha256:"),
        ({"ARTIFACTS_URI": f"s3://{BUCKET}/iris/v4"}, "ArtifactNotFound", f"s3://{BUCKET}/iris/v4 holds no model.pkl"),
        ({"ARTIFACTS_URI": "s3://nobody/iris"}, "ArtifactNotFound", "s3://nobody/iris holds no model.pkl"),
        ({"AWS_SKIP_SIGNATURE": "true"}, "ArtifactAccessDenied", "may not be read; look at the Secret of"),
        (
            {"AWS_SKIP_SIGNATURE": "perhaps"},
            "ArtifactAccessDenied",
            "cannot be opened: Generic Config error: failed to",
        ),
        ({"MAX_MODEL_BYTES": "1000000"}, "ArtifactTooLarge", "more than MAX_MODEL_BYTES, 1000000"),
        ({"AWS_ALLOW_HTTP": ""}, "ArtifactUnreachable", "model.pkl cannot be reached"),
    ],
)
def test_what_is_wrong_has_its_reason(fetch, fetching, changed, reason, sentence):
    """And nothing is put in place."""
    status, said, message = fetch(**changed).end()

    assert (1, reason) == (status, said)
    assert sentence in message
    assert not [path for path in fetching.folder.iterdir() if path.is_file()]


def test_who_has_no_keys_is_told_their_names(fetching, stored):
    """Where no cloud gives any either."""
    run = fetching(ARTIFACTS_URI=stored, AWS_METADATA_ENDPOINT="http://127.0.0.1:1")
    status, reason, message = run.end(90)

    assert (1, "ArtifactUnreachable") == (status, reason)
    assert "no credentials are given: name a Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in message
