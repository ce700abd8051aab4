"""A real Prometheus Operator beside a cluster, and real Prometheuses in it."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from aiops_localcluster import images
from aiops_localcluster.binaries import module_folder, source_of, version_of

RELOADER = "prometheus-config-reloader"
KINDS = ("prometheuses", "servicemonitors", "podmonitors", "probes", "prometheusrules")  # without these it does nothing
RESTRICTED = {"runAsUser": 1000, "runAsGroup": 2000, "fsGroup": 2000, "runAsNonRoot": True}
POD_SECURITY = RESTRICTED | {"seccompProfile": {"type": "RuntimeDefault"}}
SECONDS = "2s"  # between two scrapes, and two evaluations of rules


@dataclass(frozen=True)
class Prometheus:
    """What a Prometheus in the cluster is asked, through the API server.

    Attributes:
        world: The cluster.
        path: Of its proxy to the Prometheus.
    """

    world: Any
    path: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query; none while nobody answers."""
        path = f"{self.path}/api/v1/query?{urlencode({'query': expression})}"
        answer = self.world.run("kubectl", "get", "--raw", path, check=False)
        found: list[dict[str, Any]] = json.loads(answer)["data"]["result"] if answer else []
        return found


def load_program(world: Any, program: str, folder: Path) -> str:
    """Make an image of one program alone, hand it to the cluster, and return its name."""
    context = folder / program
    context.mkdir()
    shutil.copy(world.cluster.tool(program), context / program)
    lines = ("FROM scratch", f"COPY {program} /bin/", "WORKDIR /prometheus", f'ENTRYPOINT ["/bin/{program}"]')
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
    loaded: str = world.cluster.load(images.build(context / "Dockerfile", f"localhost/{program}", context))
    return loaded


@contextlib.contextmanager
def prometheus_operator(world: Any, namespace: str, folder: Path) -> Iterator[None]:
    """Install its kinds and run it on one namespace, for the length of a with block."""
    crds = module_folder("operator") / "example" / "prometheus-operator-crd"
    files = [f"--filename={crds / f'monitoring.coreos.com_{kind}.yaml'}" for kind in KINDS]
    names = [f"crd/{kind}.monitoring.coreos.com" for kind in KINDS]
    world.run("kubectl", "apply", "--server-side", "--force-conflicts", *files)
    world.run("kubectl", "wait", "--for=condition=Established", "--timeout=60s", *names)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    arguments = (
        f"--web.listen-address=127.0.0.1:{port}",
        f"--prometheus-config-reloader={load_program(world, RELOADER, folder)}",
        "--config-reloader-cpu-request=0",
        "--config-reloader-cpu-limit=0",  # with its default of 10m a pod takes three times as long to be ready
        f"--namespaces={namespace}",
        "--log-level=warn",
    )
    environment = os.environ | {"KUBECONFIG": str(world.cluster.kubeconfig)}
    with (folder / "prometheus-operator.log").open("wb") as log:
        process = subprocess.Popen(
            [str(world.cluster.tool("operator")), *arguments], env=environment, stdout=log, stderr=log
        )
        try:
            yield
            # While it runs it clears up after what it made.
            world.run("kubectl", f"--namespace={namespace}", "delete", "prometheuses", "--all", "--timeout=60s")
        finally:
            process.terminate()
            process.wait(timeout=30)
            world.run("kubectl", "delete", "--wait=false", *names)


def permissions(namespace: str) -> list[dict[str, Any]]:
    """What a Prometheus in this namespace may read: pods, services and endpoints of all namespaces."""
    name = f"{namespace}-prometheus"
    rules = [
        {"apiGroups": [""], "resources": ["pods", "services"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["get", "list", "watch"]},
    ]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    subject = {"kind": "ServiceAccount", "name": "prometheus", "namespace": namespace}
    rbac = "rbac.authorization.k8s.io/v1"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "prometheus"}},
        {"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
        {
            "apiVersion": rbac,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": role,
            "subjects": [subject],
        },
    ]


def managed(image: str, scrape_configs: dict[str, str]) -> dict[str, Any]:
    """A Prometheus of the Prometheus Operator that selects every ServiceMonitor, PodMonitor and PrometheusRule.

    Args:
        image: Of Prometheus.
        scrape_configs: Name and key of the Secret with further scrape configurations.
    """
    version = version_of(source_of("prometheus"))  # v0.311.3 is the module's version of 3.11.3
    minor, patch = version.removeprefix("v0.").split(".")
    probes = {"startupProbe": {"periodSeconds": 1, "failureThreshold": 60}, "readinessProbe": {"periodSeconds": 1}}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "Prometheus",
        "metadata": {"name": "p"},
        "spec": {
            "image": image,
            "version": f"v{minor[0]}.{minor[1:]}.{patch}",
            "serviceAccountName": "prometheus",
            **{f"{kind}Selector": {} for kind in ("serviceMonitor", "podMonitor", "rule")},
            "serviceMonitorNamespaceSelector": {},
            "serviceDiscoveryRole": "EndpointSlice",
            "additionalScrapeConfigs": scrape_configs,
            "scrapeInterval": SECONDS,
            "evaluationInterval": SECONDS,
            "resources": {"requests": {"memory": "100Mi"}},
            "securityContext": POD_SECURITY,
            "containers": [{"name": "prometheus", **probes}],
        },
    }


def plain(image: str) -> dict[str, Any]:
    """A pod with a Prometheus that nobody manages; its configuration is the ConfigMap `plain`."""
    container = {
        "name": "prometheus",
        "image": image,
        "args": ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": 9090}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "configuration", "mountPath": "/etc/prometheus"},
            {"name": "data", "mountPath": "/prometheus"},
        ],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "plain"},
        "spec": {
            "serviceAccountName": "prometheus",
            "securityContext": POD_SECURITY,
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            "volumes": [
                {"name": "configuration", "configMap": {"name": "plain"}},
                {"name": "data", "emptyDir": {}},
            ],
        },
    }
