"""Artifacts from Google Cloud Storage and from Azure Blob Storage, as their emulators speak for them."""

import hashlib
import json

import pytest

from aiops_localcluster.binaries import ensure_one
from aiops_localcluster.certificates import Authority
from aiops_localcluster.daemon import daemon, free_ports, listens


@pytest.fixture(scope="module")
def gs(files, tmp_path_factory):
    """What a process is given that fetches from a Google Cloud Storage, which asks nobody who they are."""
    folder = tmp_path_factory.mktemp("gs")
    directory = folder / "data" / "models" / "iris" / "v3"
    directory.mkdir(parents=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    authority, (port,) = Authority(folder / "tls"), free_ports(1)
    pair = authority.server("server", "storage", ("127.0.0.1",))
    host = f"127.0.0.1:{port}"
    command = [
        str(ensure_one("fake-gcs-server", print)),
        *("-host", "127.0.0.1", "-port", str(port), "-public-host", host),
        *("-cert-location", str(pair.certificate), "-private-key-location", str(pair.key)),
        *("-backend", "memory", "-data", str(folder / "data")),
    ]
    key = {"gcs_base_url": f"https://{host}", "disable_oauth": True}
    unused = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    with daemon(command, lambda: listens(port), folder / "log"):
        yield {
            "ARTIFACTS_URI": "gs://models/iris/v3",
            "ARTIFACTS_CA_CERTIFICATE": authority.certificate.read_text(),
            "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(key | unused),
        }


@pytest.fixture(params=["gs"])
def fetch(request, fetching):
    """Starts a process that fetches from one of the clouds."""
    environment = request.getfixturevalue(request.param)

    def start(**changed):
        return fetching(**environment | changed)

    start.scheme = request.param
    return start


@pytest.fixture
def digest(files):
    """The digest of the model that may be put in place."""
    return hashlib.sha256(files["model.skops"]).hexdigest()


def in_place(fetching):
    """What has been fetched, by name."""
    return {path.name: path.read_bytes() for path in fetching.folder.iterdir() if path.is_file()}


def test_artifacts_are_fetched(fetch, files, fetching, digest):
    """All of them, and the model as its digest says."""
    assert (0, None, "") == fetch(MODEL_SHA256=f"sha256:{digest}").end()
    assert files == in_place(fetching)


def test_what_is_there_of_a_file_is_not_fetched_again(fetch, files, fetching, digest):
    """The rest is, if the file is still the same."""
    assert "DigestMismatch" == fetch(MODEL_SHA256="0" * 64).end()[1]
    (part,) = (fetching.folder / ".fetch").glob("expectations.json-*")
    half = len(files["expectations.json"]) // 2
    part.write_bytes(files["expectations.json"][:half])

    run = fetch(MODEL_SHA256=digest)

    assert (0, None, "") == run.end()
    begun = {event["file"]: event.get("from") for event in run.events() if event["event"] == "fetching"}
    assert half == begun["expectations.json"]
    assert files == in_place(fetching)


@pytest.mark.parametrize("missing", ["models/iris/v4", "nobody/iris/v3"])
def test_what_is_not_there_is_said(fetch, fetching, missing):
    """A directory, or all that holds it; nothing is put in place."""
    uri = f"{fetch.scheme}://{missing}"
    status, reason, message = fetch(ARTIFACTS_URI=uri).end()

    assert (1, "ArtifactNotFound") == (status, reason)
    assert f"{uri} holds no model.pkl" in message
    assert {} == in_place(fetching)
