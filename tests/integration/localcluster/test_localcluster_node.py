import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import until

from aiops_localcluster import LocalCluster, local, open_cluster, processes
from aiops_localcluster.config import PAUSE_IMAGE
from aiops_localcluster.progress import silent

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "still", "labels": {"app": "still"}},
    "spec": {
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "still",
                "image": PAUSE_IMAGE,
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "image", "mountPath": "/image", "readOnly": True}],
            }
        ],
        "volumes": [{"name": "image", "image": {"reference": PAUSE_IMAGE, "pullPolicy": "IfNotPresent"}}],
    },
}


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """Name a cluster of this test's own, and remove it afterwards."""
    named = open_cluster("local", f"test-{os.getpid()}", silent)
    assert isinstance(named, LocalCluster)
    yield named
    named.down()


def _kubectl(cluster: LocalCluster, *arguments: str, stdin: str | None = None) -> str:
    command = [str(cluster.tool("kubectl")), f"--kubeconfig={cluster.kubeconfig}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, input=stdin, timeout=120).stdout


def _left(cluster: LocalCluster) -> dict[str, object]:
    health = local.health(cluster.instance)
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if cluster.instance.name in line]
    routes = subprocess.run(["ip", "route"], check=True, capture_output=True, text=True).stdout
    return {
        "processes": health.processes,
        "things": health.leavings,
        "mounts": mounts,
        "routes": [line for line in routes.splitlines() if cluster.instance.interface in line],
    }


NOTHING = {"processes": (), "things": (), "mounts": [], "routes": []}


def test_a_restricted_pod_runs_and_nothing_is_left(cluster: LocalCluster) -> None:
    """A pod with an image volume is Ready, the API server is reached by its Service's address, and all of it goes."""
    cluster.up()
    _kubectl(cluster, "label", "namespace", "default", "pod-security.kubernetes.io/enforce=restricted")
    _kubectl(cluster, "apply", "--filename=-", stdin=json.dumps(POD))
    _kubectl(cluster, "wait", "--for=condition=Ready", "pod/still", "--timeout=60s")
    service = json.loads(_kubectl(cluster, "get", "service", "kubernetes", "--output=json"))
    connection = http.client.HTTPConnection(service["spec"]["clusterIP"], 443, timeout=10)
    connection.request("GET", "/")
    answer = connection.getresponse().status  # plain HTTP to a TLS port: the API server's own 400
    connection.close()
    cluster.up()  # finds it running
    pods = json.loads(_kubectl(cluster, "get", "pods", "--output=json"))["items"]
    cluster.down()

    assert (answer, [pod["metadata"]["name"] for pod in pods]) == (http.client.BAD_REQUEST, ["still"])
    assert _left(cluster) == NOTHING


def test_a_start_that_was_killed_is_cleaned_by_the_next(cluster: LocalCluster) -> None:
    """SIGKILL half-way leaves daemons; the next start removes them and works."""
    command = [sys.executable, "-m", "aiops_localcluster", "up", f"--instance={cluster.instance.name}"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as starting:
        half = until(lambda: len(processes.find(cluster.instance.state)) > 3, seconds=120)
        starting.send_signal(signal.SIGKILL)
    left = local.health(cluster.instance)
    cluster.up()
    works = cluster.is_running()
    cluster.down()

    assert (half, left.is_good, works) == (True, False, True)
    assert _left(cluster) == NOTHING
