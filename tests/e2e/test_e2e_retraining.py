"""The circle on real pods: drift, a Job of the training image, a commit, a rollout, and no drift any more."""

import copy
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pipelineservers
import pytest
import yaml
from waiting import until

from aiops_localcluster import images, local, network
from aiops_training import registry, serviceyaml
from aiops_training.datasets import load_bundled

ROOT = Path(__file__).resolve().parents[2]
IRIS = load_bundled("iris")
MILLIMETERS = IRIS.rows * [1, 1, 10, 1]


@pytest.fixture
def host(world):
    """The address of this machine that pods and the node reach."""
    reserved = network.reserved(world.cluster.instance)
    assert reserved, "the node's link to this machine is that of the local cluster"
    return reserved.host


@pytest.fixture
def repository(tmp_path, host):
    """A git repository that pods reach."""
    with pipelineservers.repository(tmp_path, host) as made:
        yield made


@pytest.fixture
def models(tmp_path, host, world):
    """A registry that pods and the node reach, and a repository in it."""
    with pipelineservers.registry(tmp_path, host) as where:
        local.allow_plain_http(world.cluster.instance, where)
        yield f"{where}/models/iris"


@pytest.fixture
def example(world, repository, models):
    """The example's CronJob and InferenceService, with addresses of the test."""
    cron_job, service = yaml.safe_load_all((ROOT / "examples" / "retraining.yaml").read_text())
    pod = cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    image = images.build(ROOT / "Dockerfile.training", "localhost/aiops-quality-training", ROOT)
    container["image"] = world.cluster.load(image)
    given = {"--csv": "/data/rows.csv", "--git": repository.url, "--file": "iris.yaml", "--push": models}
    container["args"] = [
        f"{name}={given.get(name, value)}" if value else name
        for name, _, value in (argument.partition("=") for argument in container["args"])
    ] + ["--plain-http"]
    container["volumeMounts"].append({"name": "data", "mountPath": "/data"})
    pod["volumes"].append({"name": "data", "configMap": {"name": "rows"}})
    return cron_job, service


def rows_of(frame_rows):
    """A ConfigMap with rows and what they are, as CSV."""
    frame = pd.DataFrame(frame_rows, columns=list(IRIS.features)).assign(species=IRIS.target)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "rows"},
        "data": {"rows.csv": frame.to_csv(index=False)},
    }


def some(rows, count=300):
    """Rows of these, by chance."""
    return rows[np.random.default_rng(5).integers(0, len(rows), count)].round(3).tolist()


def declare(service, files, models, repository):
    """Push artifacts, and commit a service that refers to them, as the first deployment does."""
    document = copy.deepcopy(service)
    reference = registry.push(files, models, plain_http=True)
    text = serviceyaml.edited(
        yaml.safe_dump(document), reference, json.loads(files["manifest.json"])["files"]["model.skops"]["sha256"]
    )
    repository.commit("iris.yaml", text)


def test_drift_leads_to_a_model_that_does_not_drift(namespace, iris_files, example, models, repository, measured):
    """A sensor that sends millimeters now: the Job learns them, is better, and what it commits is rolled out from the registry."""
    cron_job, service = example
    declare(service, iris_files, models, repository)
    namespace.apply(rows_of(MILLIMETERS))
    namespace.apply(cron_job)
    namespace.apply(repository.pulled("iris.yaml"))
    namespace.wait("iris", "Ready", "True")
    before = namespace.get("inferenceservice", "iris")["status"]["model"]["digest"]
    namespace.send("iris", some(MILLIMETERS))
    namespace.wait("iris", "DriftDetected", "True")
    started = time.monotonic()

    def retraining():
        return namespace.get("inferenceservice", "iris")["status"].get("retraining", {})

    def explain():
        return namespace.kubectl(
            "logs", "--selector=batch.kubernetes.io/job-name", "--tail=-1", check=False
        ) + namespace.kubectl("describe", "jobs,pods")

    done = until(
        retraining, lambda seen: seen.get("state") in {"Succeeded", "Failed", "Exhausted"}, 400, explain, every=0.3
    )
    assert "Succeeded" == done["state"], explain()
    measured["seconds from drift to the commit"] = round(time.monotonic() - started, 1)
    assert "the new model is better (p = 0.0001)" in repository.log()

    namespace.apply(repository.pulled("iris.yaml"))  # what Argo CD does
    until(
        lambda: namespace.get("inferenceservice", "iris")["status"],
        lambda seen: seen["model"]["digest"] != before and seen.get("observedGeneration") == 2,
        120,
        every=0.3,
    )
    namespace.wait("iris", "Ready", "True")
    namespace.send("iris", some(MILLIMETERS))
    namespace.wait("iris", "DriftDetected", "False")
    measured["seconds from drift to no drift, on the same rows"] = round(time.monotonic() - started, 1)


def test_a_job_whose_model_is_no_better_says_so(namespace, iris_files, example, models, repository):
    """Exit code 3: the Job fails with it in the status, and git stays as it is."""
    cron_job, service = example
    service["spec"]["drift"]["onDrift"]["maxAttempts"] = 1
    declare(service, iris_files, models, repository)
    before = repository.log("%H")
    namespace.apply(rows_of(IRIS.rows))
    namespace.apply(cron_job)
    namespace.apply(repository.pulled("iris.yaml"))
    namespace.wait("iris", "Ready", "True")
    namespace.send("iris", some(MILLIMETERS))
    namespace.wait("iris", "DriftDetected", "True")

    failed = until(
        lambda: namespace.get("inferenceservice", "iris")["status"].get("retraining", {}),
        lambda seen: seen.get("state") in {"Succeeded", "Exhausted"},
        400,
        every=0.3,
    )

    assert ("Exhausted", before) == (failed["state"], repository.log("%H"))
    assert "exit code 3" in failed["message"]
    logs = namespace.kubectl("logs", f"job/{failed['job']}")
    assert "refused: the new model is neither better nor worse beyond noise" in logs
