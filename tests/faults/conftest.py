"""Server processes without expectations to validate: they start faster, and most faults are others."""

import pytest
from serverprocess import WHOLE, Pod, connection


@pytest.fixture
def start(run):
    """Starts pods and waits until they are ready."""

    def ready(*args, **environment):
        pod = run(*args, **{"EXPECTATIONS_PATH": "/nowhere", **environment})
        pod.ready()
        return pod

    return ready


@pytest.fixture(scope="module")
def shared(artifacts, tmp_path_factory):
    """A pod that all tests of a file do their worst to."""
    log = tmp_path_factory.mktemp("shared") / "log"
    pod = Pod(artifacts, log, {"EXPECTATIONS_PATH": "/nowhere", "SERVICE_NAME": "iris", "MAX_WAITING_ROWS": "4"})
    pod.ready()
    yield pod
    pod.process.kill()
    pod.process.wait()
    pod.client.close()


@pytest.fixture(scope="module")
def narrow(artifacts, tmp_path_factory):
    """A pod that may have 110 files open, and so 10 connections."""
    log = tmp_path_factory.mktemp("narrow") / "log"
    pod = Pod(artifacts, log, {"EXPECTATIONS_PATH": "/nowhere"}, prefix=("prlimit", "--nofile=110:110", "--"))
    pod.ready()
    yield pod
    pod.process.kill()
    pod.process.wait()
    pod.client.close()


@pytest.fixture
def healthy():
    """Asserts that a pod predicts, on a connection of its own, and has had no internal error."""

    def check(pod):
        with connection(pod, WHOLE) as made:
            assert b'"predictions":[0,2]' in made.recv(65536)
        assert not [line for line in pod.lines() if "internal error" in line or "raceback" in line]

    return check
