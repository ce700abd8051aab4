"""N InferenceServices created as fast as the API server takes them: our operator beside KServe's controller.

Each on a fresh control plane of etcd, kube-apiserver and kube-controller-manager on this machine, in turn. There are no nodes: pods
are made and stay Pending, unless --polled says of each that it runs. The last line is one JSON object.
"""

import argparse
import base64
import contextlib
import ipaddress
import json
import os
import re
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import matplotlib as mpl
import matplotlib.pyplot as plt
import orjson
import yaml

from aiops_localcluster import ControlPlane, control_plane

ROOT: Final = Path(__file__).parents[1]
NAMESPACE: Final = "bench"
PODS: Final = f"/api/v1/namespaces/{NAMESPACE}/pods"
CREATORS: Final = 4  # clients that create at the same time
KSERVE_CRDS: Final = (
    "inferenceservices",
    "servingruntimes",
    "clusterservingruntimes",
    "inferencegraphs",
    "trainedmodels",
)
METADATA: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
ONE_METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
DISCOVERY: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
METRICS: Final = "http://127.0.0.1:18081/metrics"
FIRST_POD: Final = ipaddress.ip_address("127.16.0.1")
POLL: Final = 15  # seconds between looks at a pod
DEADLINE: Final = 600  # seconds of a rollout: no pod ever runs, and that is not to be a failure before KServe's is one
TIMEOUT: Final = 1200.0
SCALE: Final = (100, 300, 1000, 3000)
WRITES: Final = ("POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class Controller:
    """One of the two that are measured.

    Attributes:
        name: for people.
        path: of the InferenceServices, with {namespace}.
        body: of one, by its name.
        deployments: the name of a service's Deployment and Service.
    """

    name: str
    path: str
    body: Callable[[str], dict[str, Any]]
    deployments: Callable[[str], str]


def ours(name: str) -> dict[str, Any]:
    """One of ours, all from one ConfigMap of artifacts."""
    return {
        "apiVersion": "aiops-quality.io/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": name},
        "spec": {
            "model": {"artifacts": {"configMap": {"name": "artifacts"}}},
            "rollout": {"progressDeadlineSeconds": DEADLINE},
        },
    }


def kserve(name: str) -> dict[str, Any]:
    """One of KServe's, in Standard mode, with a container of its own: nothing to fetch and no runtime to choose."""
    container = {"name": "kserve-container", "image": "localhost/none:1", "ports": [{"containerPort": 8080}]}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "annotations": {"serving.kserve.io/deploymentMode": "Standard"}},
        "spec": {"predictor": {"minReplicas": 1, "containers": [container]}},
    }


CONTROLLERS: Final = {
    "ours": Controller(
        "ours",
        "/apis/aiops-quality.io/v1alpha1/namespaces/bench/inferenceservices",
        ours,
        lambda name: name,
    ),
    "kserve": Controller(
        "kserve",
        "/apis/serving.kserve.io/v1beta1/namespaces/bench/inferenceservices",
        kserve,
        lambda name: f"{name}-predictor",
    ),
}


@dataclass(frozen=True)
class Admin:
    """An administrator's access to a control plane."""

    url: str
    context: ssl.SSLContext
    kubeconfig: Path

    def client(self) -> httpx.Client:
        """A connection of one's own."""
        return httpx.Client(base_url=self.url, verify=self.context, trust_env=False, timeout=60)


def administrator(cluster: ControlPlane, place: Path) -> Admin:
    """From the control plane's kubeconfig."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    server, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cadata=base64.b64decode(server["certificate-authority-data"]).decode())
    pair = place / "pair.pem"
    parts = (base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key"))
    pair.write_bytes(b"\n".join(parts))
    context.load_cert_chain(pair)
    return Admin(server["server"], context, cluster.kubeconfig)


def apply(client: httpx.Client, path: str, body: dict[str, Any]) -> None:
    """Server-side apply, by the administrator."""
    parameters = {"fieldManager": "bench", "force": "true"}
    headers = {"Content-Type": "application/apply-patch+yaml"}
    client.patch(path, content=json.dumps(body), params=parameters, headers=headers).raise_for_status()


def kserve_documents(source: Path) -> list[dict[str, Any]]:
    """KServe's kinds and settings as its module has them, in Standard mode and without ingress, which nothing here serves."""
    crds = source / "config" / "crd" / "full"
    kinds = [yaml.safe_load((crds / f"serving.kserve.io_{kind}.yaml").read_text()) for kind in KSERVE_CRDS]
    settings = yaml.safe_load((source / "config" / "configmap" / "inferenceservice.yaml").read_text())
    settings["data"].pop("_example")
    settings["data"]["deploy"] = json.dumps({"defaultDeploymentMode": "Standard"})
    settings["data"]["ingress"] = json.dumps(json.loads(settings["data"]["ingress"]) | {"disableIngressCreation": True})
    return [*kinds, {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "kserve"}}, settings]


def install(controller: Controller, client: httpx.Client, source: str) -> None:
    """The kinds, the namespace, and what the services refer to."""
    documents = [yaml.safe_load((ROOT / "crds" / "inferenceservice.yaml").read_text())]
    if controller.name == "kserve":
        documents = kserve_documents(Path(source))
    for document in documents:
        apply(client, _path(document), document)
    client.post("/api/v1/namespaces", json={"metadata": {"name": NAMESPACE}}).raise_for_status()
    files = {"model.pkl": "bW9kZWw=", "baseline.npy": "cm93cw=="}
    body = {"metadata": {"name": "artifacts"}, "binaryData": files}
    client.post(f"/api/v1/namespaces/{NAMESPACE}/configmaps", json=body).raise_for_status()
    group = controller.path.split("/")[2]
    _until(lambda: client.get(controller.path).is_success and group in _discovered(client), "the kind is served")


def _discovered(client: httpx.Client) -> set[str]:
    """The groups that discovery tells of, as controllers ask for them."""
    items = client.get("/apis", headers={"Accept": DISCOVERY}).json()["items"]
    return {item["metadata"]["name"] for item in items}


def _path(document: dict[str, Any]) -> str:
    metadata, kind = document["metadata"], document["kind"]
    roots = {
        "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        "Namespace": "/api/v1/namespaces",
        "ConfigMap": f"/api/v1/namespaces/{metadata.get('namespace')}/configmaps",
    }
    return f"{roots[kind]}/{metadata['name']}"


@contextlib.contextmanager
def running(controller: Controller, admin: Admin, manager: str, place: Path) -> Iterator[int]:
    """The controller's process id, for the length of the block."""
    command = [sys.executable, "-m", "aiops_operator"]
    if controller.name == "kserve":
        _certificate(Path("/tmp/k8s-webhook-server/serving-certs"))  # noqa: S108 - where its webhooks look for one
        command = [manager, "--metrics-addr=127.0.0.1:18081", "--health-probe-addr=127.0.0.1:18082"]
    environment = {name: value for name, value in os.environ.items() if name != "KUBERNETES_SERVICE_HOST"} | {
        "KUBECONFIG": str(admin.kubeconfig),
        "OPERATOR_PORT": "18081",
        "POLL_INTERVAL": str(POLL),
        "INFERENCE_IMAGE": "localhost/none:1",
        "POD_NAMESPACE": "kserve",
        "POD_NAME": "bench",
    }
    log = place / f"{controller.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        _until(
            lambda: _answers(METRICS) or process.poll() is not None,
            f"{controller.name} serves",
        )
        if process.poll() is not None:
            message = f"{command} has ended:\n{log.read_text(errors='replace')[-3000:]}"
            raise RuntimeError(message)
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _certificate(place: Path) -> None:
    """Of webhooks that nobody calls, but without which the controller does not start."""
    place.mkdir(parents=True, exist_ok=True)
    files = ["-keyout", str(place / "tls.key"), "-out", str(place / "tls.crt")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=bench", *files]
    subprocess.run(command, check=True, capture_output=True)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=2).is_success
    except httpx.HTTPError:
        return False


def _until(check: Callable[[], bool], what: str, seconds: float = 60.0, pause: float = 0.1) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            message = f"{what}: not within {seconds:g} s"
            raise RuntimeError(message)
        time.sleep(pause)


class Arrivals:
    """When each object of a kind was first there, or as it is wanted, by a watch: asking again and again would be a load."""

    def __init__(self, admin: Admin, path: str, wanted: Callable[[dict[str, Any]], bool] | None = None) -> None:
        """Begin; without `wanted` only metadata are watched."""
        self.times: dict[str, float] = {}
        self._admin, self._path, self._wanted = admin, path, wanted
        self._ready = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()
        self._ready.wait(30)

    def _watch(self) -> None:
        """Again and again, while there is a control plane: it ends the watch of a reader that is too slow for it, as on busy cores."""
        with self._admin.client() as client, contextlib.suppress(httpx.ConnectError):
            while True:
                with contextlib.suppress(httpx.RemoteProtocolError, httpx.ReadError, httpx.HTTPStatusError):
                    self._follow(client)

    def _follow(self, client: httpx.Client) -> None:
        """One listing, and one watch from there on."""
        listing, watching = ({}, {}) if self._wanted else ({"Accept": METADATA}, {"Accept": ONE_METADATA})
        found = orjson.loads(client.get(self._path, headers=listing).raise_for_status().content)
        for body in found["items"] or ():
            self._seen(body)
        query = {"watch": "true", "resourceVersion": found["metadata"]["resourceVersion"], "timeoutSeconds": "3600"}
        with client.stream("GET", self._path, params=query, headers=watching, timeout=None) as answer:
            self._ready.set()
            rest = b""
            for chunk in answer.iter_raw():
                *lines, rest = (rest + chunk).split(b"\n")
                for event in map(orjson.loads, lines):
                    if event["type"] == "ERROR":
                        return
                    self._seen(event["object"])

    def _seen(self, body: dict[str, Any]) -> None:
        if self._wanted is None or self._wanted(body):
            self.times.setdefault(body["metadata"]["name"], time.monotonic())


def told(body: dict[str, Any]) -> bool:
    """Whether a controller has written a status: ours has one from the start, by its kind's defaults, that says so."""
    conditions = body.get("status", {}).get("conditions") or ()
    return any(condition.get("reason") != "WaitingForOperator" for condition in conditions)


def cpu(pid: int) -> float:
    """Seconds of processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """MiB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def metrics() -> list[str]:
    """What the controller that is measured says of itself, a line a series."""
    return httpx.get(METRICS, trust_env=False, timeout=10).text.splitlines()


def client_writes() -> float:
    """Requests that changed something, as the controller's own client has counted them."""
    total = 0.0
    for line in metrics():
        if line.startswith("aiops_operator_api_requests_total"):
            verb, result = re.search(r'verb="(\w+)"', line), re.search(r'result="(\d+)"', line)
            good = verb is not None and verb[1] in WRITES and result is not None and result[1].startswith("2")
            total += float(line.rsplit(" ", 1)[1]) if good else 0.0
        if line.startswith("rest_client_requests_total") and any(f'method="{verb}"' in line for verb in WRITES):
            total += float(line.rsplit(" ", 1)[1]) if 'code="2' in line else 0.0
    return total


def measure(controller: Controller, options: argparse.Namespace) -> dict[str, float]:
    """One controller on a control plane of its own."""
    with control_plane(progress=lambda _: None) as cluster, tempfile.TemporaryDirectory() as text:
        place = Path(text)
        admin = administrator(cluster, place)
        with admin.client() as client:
            install(controller, client, options.kserve)
            _foreign(admin, options.foreign)
            with running(controller, admin, options.manager, place) as pid:
                figures = _measured(controller, admin, pid, options)
            print(f"{controller.name}: {json.dumps(figures)}", flush=True)
            return figures


def floor(options: argparse.Namespace) -> dict[str, float]:
    """The same services on a control plane of their own, written by a client that watches nothing: what machine this is today."""
    with control_plane(progress=lambda _: None) as cluster, tempfile.TemporaryDirectory() as text:
        admin, controller = administrator(cluster, Path(text)), CONTROLLERS["ours"]
        with admin.client() as client:
            install(controller, client, "")
        body = controller.body("")
        body["metadata"]["namespace"] = NAMESPACE
        command = [sys.executable, str(ROOT / "bench" / "operator" / "floor.py"), str(options.n), json.dumps(body)]
        environment = os.environ | {"KUBECONFIG": str(admin.kubeconfig)}
        done = subprocess.run([*command, "artifacts"], env=environment, stdout=subprocess.PIPE, check=True)
        figures: dict[str, float] = json.loads(done.stdout)
        print(f"floor: {json.dumps(figures)}", flush=True)
        return figures


def _measured(controller: Controller, admin: Admin, pid: int, options: argparse.Namespace) -> dict[str, float]:
    deployments = Arrivals(admin, f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments")
    services = Arrivals(admin, f"/api/v1/namespaces/{NAMESPACE}/services")
    statuses = Arrivals(admin, controller.path, told)
    names = [f"s{i}" for i in range(options.n)]
    used, written, made = cpu(pid), client_writes(), {}
    clients = [admin.client() for _ in range(CREATORS)]

    def create(entry: tuple[int, str]) -> None:
        made[entry[1]] = time.monotonic()
        body = controller.body(entry[1])
        clients[entry[0] % CREATORS].post(controller.path, json=body).raise_for_status()

    with ThreadPoolExecutor(CREATORS) as pool:
        list(pool.map(create, enumerate(names)))
    wanted = [(arrivals, controller.deployments(name)) for arrivals in (deployments, services) for name in names]
    wanted += [(statuses, name) for name in names]
    shown = 0.0
    while missing := sum(name not in arrivals.times for arrivals, name in wanted):
        if time.monotonic() - shown > 5:  # noqa: PLR2004 - seconds between two lines
            shown = time.monotonic()
            print(f"{controller.name}: {len(deployments.times)} of {options.n} Deployments", flush=True)
        if time.monotonic() - min(made.values()) > TIMEOUT:
            message = f"{controller.name}: {missing} children and statuses are missing after {TIMEOUT:g} s"
            raise RuntimeError(message)
        time.sleep(0.1)
    first, took = min(made.values()), []
    for name in names:
        child = controller.deployments(name)
        took.append(max(deployments.times[child], services.times[child]) - made[name])
    spoke = [statuses.times[name] - made[name] for name in names]
    if not options.scale:
        _settled(admin, options.n)
    figures = {
        "deployments_all_s": max(deployments.times.values()) - first,
        "p50_s": statistics.median(took),
        "p99_s": statistics.quantiles(took, n=100)[98],
        "status_all_s": max(statuses.times.values()) - first,
        "status_p99_s": statistics.quantiles(spoke, n=100)[98],
        "rss_mib": resident(pid),
        "cpu_s": cpu(pid) - used,
        "api_writes": client_writes() - written,
    }
    if options.single:
        figures["single_p50_s"] = statistics.median(_single(controller, deployments, admin, i) for i in range(20))
    if options.rest:
        _overdue(admin)
        used, written = cpu(pid), client_writes()
        time.sleep(options.rest)
        figures["rest_cpu"] = (cpu(pid) - used) / options.rest
        figures["rest_writes"] = client_writes() - written
    if options.polled:
        figures |= _polled(admin, names, pid, options.polled)
    return {name: round(value, 3) for name, value in figures.items()}


def _settled(admin: Admin, n: int) -> None:
    """Wait for the pods, which Kubernetes' own controllers make at a rate of theirs, and for all that is said of them."""
    with admin.client() as client:
        _until(lambda: len(_pods(client)) == n, "each service has its pod", TIMEOUT, 2)
    _quiet(4)


def _overdue(admin: Admin) -> None:
    """Wait until each Deployment's deadline has passed, of which statuses tell, and all that is said of it: before, there is no rest."""
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"

    def exceeded(deployment: dict[str, Any]) -> bool:
        conditions = deployment["status"].get("conditions") or ()
        return any(condition["reason"] == "ProgressDeadlineExceeded" for condition in conditions)

    with admin.client() as client:
        _until(lambda: all(map(exceeded, client.get(path).json()["items"])), "each deadline has passed", TIMEOUT, 15)
    _quiet(10)


def _quiet(seconds: int) -> None:
    """Wait until nothing was written for so long."""
    before = -1.0
    while (now := client_writes()) != before:
        before = now
        time.sleep(seconds)


def _foreign(admin: Admin, count: int) -> None:
    """Pods and Deployments of somebody else, which no controller of ours has any business with."""
    labels = {"app": "foreign"}
    containers = [{"name": "main", "image": "localhost/none:1", "env": [{"name": "PADDING", "value": "x" * 2000}]}]
    pod = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    deployment = {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod}
    clients = [admin.client() for _ in range(CREATORS)]

    def create(i: int) -> None:
        client = clients[i % CREATORS]
        body = {"metadata": {"name": f"foreign-{i}", "labels": labels}}
        client.post("/api/v1/namespaces/default/pods", json=pod | body).raise_for_status()
        path = "/apis/apps/v1/namespaces/default/deployments"
        client.post(path, json=body | {"spec": deployment}).raise_for_status()

    with ThreadPoolExecutor(CREATORS) as pool:
        list(pool.map(create, range(count)))


def _polled(admin: Admin, names: list[str], pid: int, seconds: int) -> dict[str, float]:
    """Say of each pod that it runs and is ready, and see what asking all of them takes."""
    with subprocess.Popen([sys.executable, ROOT / "bench" / "operator" / "pods.py"]) as stub, admin.client() as client:
        try:
            _until(lambda: _answers("http://127.0.0.1:8000/health"), "the pods' stub serves")
            pods, begun = _pods(client), client_writes()
            for i, pod in enumerate(pods):
                body = {"status": _running(str(FIRST_POD + i))}
                headers = {"Content-Type": "application/merge-patch+json"}
                client.patch(f"{PODS}/{pod}/status", content=json.dumps(body), headers=headers).raise_for_status()
            _until(lambda: _judged() >= len(names), "each service has a verdict", 300, 1)
            ready = client_writes() - begun
            time.sleep(2 * POLL)  # Deployments and statuses settle
            used, polls, written = cpu(pid), _polls(), client_writes()
            time.sleep(seconds)
            return {
                "pods": len(pods),
                "ready_writes": ready,
                "polls_per_s": (_polls() - polls) / seconds,
                "polled_cpu": (cpu(pid) - used) / seconds,
                "polled_writes": client_writes() - written,
                "polled_rss_mib": resident(pid),
            }
        finally:
            stub.terminate()


def _pods(client: httpx.Client) -> list[str]:
    """The names of all pods."""
    items = client.get(PODS, headers={"Accept": METADATA}).json()["items"] or ()
    return [item["metadata"]["name"] for item in items]


def _running(address: str) -> dict[str, Any]:
    """What a kubelet says of a pod that is ready."""
    types = ("Ready", "ContainersReady", "PodScheduled", "Initialized")
    conditions = [{"type": type_, "status": "True"} for type_ in types]
    return {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions}


def _polls() -> float:
    """How often pods have been asked."""
    lines = (line for line in metrics() if line.startswith("aiops_operator_drift_polls_total"))
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def _judged() -> int:
    """How many services have a verdict."""
    return sum(line.startswith("inferenceservice_drift_samples{") for line in metrics())


def _single(controller: Controller, deployments: Arrivals, admin: Admin, i: int) -> float:
    """Seconds from one creation among all that are there to its Deployment."""
    time.sleep(1)
    with admin.client() as client:
        client.get("/version")
        began = time.monotonic()
        client.post(controller.path, json=controller.body(f"x{i}")).raise_for_status()
    child = controller.deployments(f"x{i}")
    _until(lambda: child in deployments.times, child, 60, 0.002)
    return deployments.times[child] - began


def scale(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Ours alone at growing N, until all children are there, on a plot under docs/."""
    found = {}
    for n in SCALE:
        options.n = n
        found[str(n)] = measure(CONTROLLERS["ours"], options)
    draw(found, ROOT / "docs" / "operator-scale.svg")
    return found


def draw(found: dict[str, dict[str, float]], target: Path) -> None:
    """How time, processor time, memory and writes grow with the number of services."""
    mpl.use("svg")
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "aiops", "font.size": 9}
    numbers = [int(n) for n in found]
    panels = {
        "all Deployments, seconds": [each["deployments_all_s"] for each in found.values()],
        "processor time a service, ms": [
            1000 * each["cpu_s"] / n for n, each in zip(numbers, found.values(), strict=True)
        ],
        "resident memory, MiB": [each["rss_mib"] for each in found.values()],
        "writes a service": [each["api_writes"] / n for n, each in zip(numbers, found.values(), strict=True)],
    }
    figure, axes = plt.subplots(1, len(panels), figsize=(11, 2.6), layout="constrained")
    for axis, (title, values) in zip(axes, panels.items(), strict=True):
        axis.plot(numbers, values, marker="o")
        axis.set(title=title, xlabel="services", xlim=(0, None), ylim=(0, 1.15 * max(values)))
    figure.savefig(target, metadata={"Date": None})


def main() -> int:
    """Run and print; 0."""
    options = argparse.ArgumentParser(prog="bench-operator", description=__doc__)
    options.add_argument("--n", type=int, default=500, help="InferenceServices (default: 500)")
    options.add_argument("--only", choices=list(CONTROLLERS), help="one of the two")
    options.add_argument("--manager", default=os.environ.get("KSERVE_MANAGER", ""), help="KServe's controller, built")
    options.add_argument("--kserve", default=os.environ.get("KSERVE_SOURCE", ""), help="the source of its module")
    options.add_argument("--single", action="store_true", help="then one among all of them, twenty times")
    options.add_argument(
        "--foreign", type=int, default=0, metavar="N", help="pods and Deployments of others that are there"
    )
    options.add_argument(
        "--polled", type=int, default=0, metavar="SECONDS", help="then CPU with each service's pod polled"
    )
    options.add_argument("--scale", action="store_true", help=f"ours alone with {SCALE} services, on a plot in docs/")
    options.add_argument("--rest", type=int, default=0, metavar="SECONDS", help="then writes and CPU at rest")
    chosen = options.parse_args()
    if chosen.scale:
        print(json.dumps({"scale": scale(chosen)}))
        return 0
    names = [chosen.only] if chosen.only else list(CONTROLLERS)
    found = {name: measure(CONTROLLERS[name], chosen) for name in names}
    ratio = {}
    if len(found) > 1:
        found["floor"] = floor(chosen)
        ratio = {
            name: round(value / found["kserve"][name], 3)
            for name, value in found["ours"].items()
            if found["kserve"].get(name)
        }
    print(json.dumps({**found, "ratio": ratio}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
