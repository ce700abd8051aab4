import json
import os
from pathlib import Path

CONFORMANCE = Path(__file__).parents[2] / "conformance"
EXAMPLES = 25  # of each operation in the fuzzing phase, beside those that cover each keyword of its schemas


def checked(tools, pod, document, paths):
    """Let schemathesis ask all that a document speaks of; fail with what it says."""
    version = pod.client.get("/v2/models/iris").json()["versions"][0]
    # Where it decides on a change it asks the same questions each time.
    chance = "--generation-deterministic" if os.environ.get("CI") else "--generation-database=none"
    ended = tools.run(
        "schemathesis",
        f"--config-file={CONFORMANCE / 'schemathesis.toml'}",
        "run",
        document,
        f"--url={pod.client.base_url}",
        f"--max-examples={EXAMPLES}",
        "--phases=examples,coverage,fuzzing",  # no operation leads to another
        chance,
        "--no-color",
        "--warnings=off",  # that most tensors which chance makes are refused is as it should be
        SERVICE="iris",
        VERSION=version,
    )
    assert 0 == ended.returncode, ended.stdout + ended.stderr
    assert " passed" in ended.stdout
    operations = sum(method in item for item in paths.values() for method in ("get", "post"))
    assert f"{operations} selected / {operations} total" in ended.stdout, ended.stdout
    assert not [line for line in pod.lines() if line.startswith("ERROR") or "raceback" in line]
    assert 200 == pod.get("/health").status_code


def test_the_server_is_as_its_own_document_says(tools, iris):
    """All checks: no 5xx, declared statuses, media types and schemas, other methods refused, bad data refused, good taken."""
    paths = iris.get("/openapi.json").json()["paths"]
    assert {"/predict", "/health", "/v2/models/{name}/infer", "/v1/models/{name}:predict"} < set(paths)
    checked(tools, iris, f"{iris.client.base_url}/openapi.json", paths)


def test_the_server_is_as_the_published_document_of_v2_says(tools, iris, tmp_path):
    """Health, readiness, metadata and inference, with and without a version."""
    document = tools.run("python", CONFORMANCE / "published.py")
    assert 0 == document.returncode, document.stderr
    (tmp_path / "published.json").write_text(document.stdout)
    paths = json.loads(document.stdout)["paths"]
    assert 9 == len(paths)
    checked(tools, iris, tmp_path / "published.json", paths)


def test_triton_s_client_is_served(tools, iris):
    """What its users type, with JSON and with the bytes that it sends by default."""
    asked = tools.run("python", CONFORMANCE / "triton.py", iris.client.base_url.netloc.decode(), "iris")
    assert 0 == asked.returncode, asked.stderr
    found = json.loads(asked.stdout)
    version = found["metadata"]["versions"][0]

    assert [True, True, True, False] == [found[key] for key in ("live", "ready", "model ready", "other model ready")]
    assert ["binary_tensor_data"] == found["extensions"]
    assert ("iris", [-1, 4]) == (found["metadata"]["name"], found["metadata"]["inputs"][0]["shape"])
    labels, probabilities = found["JSON"]["outputs"]
    assert ("iris", version, "42") == tuple(found["JSON"][key] for key in ("model_name", "model_version", "id"))
    assert ([0, 2], [2, 3]) == (labels["data"], probabilities["shape"])
    assert {datatype: [0, 2] for datatype in ("FP16", "FP32", "FP64")} == found["by default"]
    assert {"bytes": {"binary_data_size": 48}, "rows": [1, 1], "labels": [0, 2]} == found["bytes"]
    assert 10 == iris.drift()["rows"]

    refused = {what: (status, sentence[:40]) for what, (status, sentence) in found["refused"].items()}
    assert {
        "text": ("400", "inputs[0].datatype must be one of BOOL, "),
        "other output": ("400", "outputs[0] must have the name predict or"),
        "other model": ("404", "there is no model of this name; the one "),
        "other version": ("404", "there is no such version; the one that i"),
    } == refused
