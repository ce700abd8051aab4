"""The operator before its last change gives way to the one of now, and no pod restarts."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from waiting import until

ROOT = Path(__file__).resolve().parents[3]
SERVICES = 50


def git(*arguments):
    """What git prints."""
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, f"the history is needed (git fetch --unshallow): {done.stderr.decode()}"
    return done.stdout


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """The PYTHONPATH of the operator as it was before the last commit that changed it."""
    commit = git("log", "-1", "--format=%H", "--", "operator", "drift").decode().strip()
    place = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(git("archive", f"{commit}~1", "operator", "drift"))) as archive:
        archive.extractall(place, filter="data")
    return f"{place / 'operator'}:{place / 'drift'}"


def templates(api):
    """The pod template of each Deployment, and how often its spec was changed."""
    found = {
        deployment["metadata"]["name"]: (deployment["metadata"]["generation"], deployment["spec"]["template"])
        for deployment in api.all("Deployment")
    }
    return found if len(found) == SERVICES else {}


def test_no_pod_restarts(api, start, before):
    """Templates, pods and what else there was are left alone, and an edit by hand is healed as before."""
    kinds = ("Service", "ConfigMap", "Pod")
    for number in range(SERVICES):
        api.serve({"replicas": 1 + number % 2}, name=f"s{number}")
    with start(api.namespace, PYTHONPATH=before):
        past = until(lambda: templates(api), seconds=120)
        pods = SERVICES + SERVICES // 2
        until(lambda: len(api.all("Pod")), lambda seen: seen == pods, seconds=120)
        until(lambda: all(api.status(name).get("observedGeneration") for name in past), seconds=60)
    versions = {kind: api.versions(kind) for kind in kinds}
    with start(api.namespace, RESYNC_INTERVAL="1") as operator:
        until(operator.reconciles, lambda seen: seen >= 3 * SERVICES, seconds=120)
        assert past == templates(api)
        assert versions == {kind: api.versions(kind) for kind in kinds}
        api.delete("Service", "s0")
        until(lambda: api.get("Service", "s0"))
