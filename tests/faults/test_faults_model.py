import os
import shutil
import signal

import numpy as np
import pytest
from serverprocess import eventually, stop

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.5, 3.0, 5.5, 1.8]]


@pytest.fixture
def models(artifacts, tmp_path):
    """Artifacts of the test's own."""
    return shutil.copytree(artifacts, tmp_path / "models")


def model_file(models):
    """The one that training wrote, in whichever format."""
    (found,) = models.glob("model.*")
    return found


def reason(pod):
    """What /health says where there is no model."""
    answer = pod.get("/health")
    return answer and answer.json().get("reason")


def test_a_model_file_that_changes_under_a_server_changes_nothing(start, models):
    """Written over, cut, replaced and deleted: the bytes that were verified are served, under their digest."""
    pod = start(models)
    digest = pod.get("/health").json()["model"]["digest"]
    model = model_file(models)

    def overwrite():
        model.write_bytes(b"\x80\x04N.")

    def cut():
        os.truncate(model, 10)

    def replace():
        (models / "new").write_bytes(b"another model")
        (models / "new").rename(model)

    for change in (overwrite, cut, replace, model.unlink):
        change()
        assert [0, 2] == pod.predict(ROWS)["predictions"]
        health = pod.get("/health")
        assert (200, digest) == (health.status_code, health.json()["model"]["digest"])
        assert digest == pod.drift()["model"]


def test_a_model_file_that_changes_while_it_is_read_is_not_served(run, models):
    """The bytes that were read are not those of the manifest: DigestMismatch, and ready when the right ones are there."""
    model = model_file(models)
    right = model.read_bytes()
    model.unlink()
    os.mkfifo(model)  # a reader of it waits for us
    pod = run(models, EXPECTATIONS_PATH="/nowhere")
    eventually(lambda: reason(pod) == "Loading", "it is reading")
    assert 503 == pod.client.post("/predict", json={"inputs": ROWS}).status_code
    model.write_bytes(right[: len(right) // 2])
    eventually(lambda: reason(pod) == "DigestMismatch", "a typed reason")
    model.write_bytes(right)  # it looks again by itself
    pod.ready()
    assert [0, 2] == pod.predict(ROWS)["predictions"]


def test_sigterm_while_the_model_is_read_ends_it(run, models):
    """Though the volume that it is on never answers."""
    model = model_file(models)
    model.unlink()
    os.mkfifo(model)
    pod = run(models, EXPECTATIONS_PATH="/nowhere")
    eventually(lambda: reason(pod) == "Loading", "it is reading")
    pod.process.terminate()
    assert 0 == pod.process.wait(timeout=15)
    assert 'INFO {"event": "stopped"}' == pod.lines()[-1]


def test_a_validating_process_that_stands_still_delays_nobody(run, artifacts):
    """Rows that it does not take are dropped and counted, the verdict is late; when it goes on there is one again."""
    pod = run(LOG_PREDICTIONS="0")
    pod.ready()
    rows = np.load(artifacts / "baseline.npy")
    pod.predict(rows)
    eventually(lambda: pod.drift()["expectations"]["state"] == "passed", "a first verdict")
    (child,) = pod.children()
    stop(child)
    batches = pod.drift()["expectations"]["batches"]
    for _ in range(30):
        pod.predict(rows)
    assert pod.metric("expectations_dropped_rows_total") > 0
    assert (200, "passed") == (pod.get("/health").status_code, pod.drift()["expectations"]["state"])
    os.kill(child, signal.SIGCONT)
    eventually(lambda: pod.drift()["expectations"]["batches"] > batches, "a verdict")
