"""The operator as a process of its own, with the chart's rights, on a real API server.

There is no node: pods are made and stay Pending. Where a test needs pods that run, it says so through the API server
(`Api.run_pods`), with addresses of loopback on which it serves what a pod would.
"""

import base64
import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from apiproxy import ApiProxy
from waiting import until

from aiops_drift import Expectations, Profile, Recorder, Shadowed
from aiops_localcluster import ControlPlane, ensure
from aiops_localcluster.daemon import free_ports

ROOT = Path(__file__).resolve().parents[1]
CRD = ROOT / "crds" / "inferenceservice.yaml"
CORE, APPS, POLICY = "/api/v1", "/apis/apps/v1", "/apis/policy/v1"
OURS, MONITORING = "/apis/aiops-quality.io/v1alpha1", "/apis/monitoring.coreos.com/v1"
KINDS = {
    "ConfigMap": (CORE, "configmaps"),
    "Service": (CORE, "services"),
    "Pod": (CORE, "pods"),
    "Event": (CORE, "events"),
    "PersistentVolumeClaim": (CORE, "persistentvolumeclaims"),
    "Deployment": (APPS, "deployments"),
    "ReplicaSet": (APPS, "replicasets"),
    "PodDisruptionBudget": (POLICY, "poddisruptionbudgets"),
    "InferenceService": (OURS, "inferenceservices"),
    "ServiceMonitor": (MONITORING, "servicemonitors"),
    "PrometheusRule": (MONITORING, "prometheusrules"),
    "HorizontalPodAutoscaler": ("/apis/autoscaling/v2", "horizontalpodautoscalers"),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies"),
    "Job": ("/apis/batch/v1", "jobs"),
    "CronJob": ("/apis/batch/v1", "cronjobs"),
}
FILES = {"model.pkl": b"a model", "baseline.npy": b"\x93NUMPY rows", "manifest.json": b"{}"}
MODEL = "sha256:" + "3f9a1c2" + "0" * 57
BASELINE = np.random.default_rng(1).normal([5.0, 1.0], [1.0, 0.1], size=(200, 2))
PROFILE = Profile.from_rows(BASELINE, ["length", "width"])
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True)
class Api:
    """Requests of a user to the API server, in one namespace."""

    client: httpx.Client
    namespace: str

    def path(self, kind: str, name: str = "", subresource: str = "") -> str:
        """Path of an object or of all of a kind."""
        root, plural = KINDS[kind]
        return "/".join(part for part in (f"{root}/namespaces/{self.namespace}/{plural}", name, subresource) if part)

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """An object, or None."""
        answer = self.client.get(self.path(kind, name))
        return None if answer.status_code == 404 else checked(answer)

    def all(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """All objects of a kind."""
        return checked(self.client.get(self.path(kind), params={"labelSelector": selector}))["items"]

    def create(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create an object."""
        root = KINDS[kind][0].removeprefix("/apis/").removeprefix("/api/")
        return checked(self.client.post(self.path(kind), json={"apiVersion": root, "kind": kind, **body}))

    def patch(self, kind: str, name: str, body: object, subresource: str = "") -> dict[str, Any]:
        """Merge a patch into an object."""
        path = self.path(kind, name, subresource)
        return checked(self.client.patch(path, content=json.dumps(body), headers={"Content-Type": MERGE}))

    def delete(self, kind: str, name: str) -> None:
        """Delete an object."""
        checked(self.client.delete(self.path(kind, name), params={"propagationPolicy": "Background"}))

    def artifacts(self, name: str = "iris-artifacts", files: dict[str, bytes] = FILES) -> None:
        """Make or replace a ConfigMap with artifacts."""
        encoded = {key: base64.b64encode(content).decode() for key, content in files.items()}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "binaryData": encoded}
        parameters = {"fieldManager": "test", "force": "true"}
        answer = self.client.patch(
            self.path("ConfigMap", name), content=json.dumps(body), params=parameters, headers={"Content-Type": APPLY}
        )
        checked(answer)

    def serve(self, spec: dict[str, Any] | None = None, name: str = "iris") -> dict[str, Any]:
        """Declare an InferenceService of the artifacts' ConfigMap."""
        model = {"artifacts": {"configMap": {"name": "iris-artifacts"}}}
        return self.create("InferenceService", {"metadata": {"name": name}, "spec": {"model": model} | (spec or {})})

    def change(self, spec: dict[str, Any], name: str = "iris") -> dict[str, Any]:
        """Merge a change into an InferenceService's spec."""
        return self.patch("InferenceService", name, {"spec": spec})

    def status(self, name: str = "iris") -> dict[str, Any]:
        """Status of an InferenceService."""
        return (self.get("InferenceService", name) or {}).get("status") or {}

    def condition(self, type_: str, name: str = "iris") -> dict[str, Any]:
        """A condition; empty where there is none."""
        return next((entry for entry in self.status(name).get("conditions", ()) if entry["type"] == type_), {})

    def wait(self, type_: str, status: str, reason: str, name: str = "iris", seconds: float = 30) -> dict[str, Any]:
        """Wait until a condition has a status and a reason."""
        return until(
            lambda: self.condition(type_, name),
            lambda seen: (seen.get("status"), seen.get("reason")) == (status, reason),
            seconds,
        )

    def settled(self, name: str = "iris") -> dict[str, Any]:
        """The Deployment, once the status speaks of the generation of now."""
        until(
            lambda: self.get("InferenceService", name),
            lambda seen: seen["status"].get("observedGeneration") == seen["metadata"]["generation"],
            30,
        )
        return until(lambda: self.get("Deployment", name), seconds=30)

    def versions(self, *kinds: str) -> dict[str, str]:
        """What is written when: resourceVersion of all objects of some kinds."""
        return {
            f"{kind}/{entry['metadata']['name']}": entry["metadata"]["resourceVersion"]
            for kind in kinds
            for entry in self.all(kind)
        }

    def reasons(self) -> list[str]:
        """Reasons of the operator's Events, each once."""
        events = self.all("Event")
        return sorted({e["reason"] for e in events if e["source"].get("component") == "aiops-operator"})

    def run_pods(self, addresses: list[str], name: str = "iris") -> None:
        """Say of the newest pods of a service that they run and are ready at these addresses."""
        digest = template(self.settled(name))["metadata"]["annotations"]["aiops-quality.io/template-hash"]

        def newest() -> list[dict[str, Any]]:
            pods = self.all("Pod", f"app={name}")
            return [pod for pod in pods if pod["metadata"]["annotations"]["aiops-quality.io/template-hash"] == digest]

        pods = until(newest, lambda seen: len(seen) == len(addresses))
        for pod, address in zip(sorted(pods, key=lambda pod: pod["metadata"]["name"]), addresses, strict=True):
            self.pod_status(pod["metadata"]["name"], running(address))

    def pod_status(self, pod: str, status: dict[str, Any]) -> None:
        """Say what a kubelet would of a pod."""
        self.patch("Pod", pod, {"status": status}, "status")


def running(address: str, *, ready: bool = True) -> dict[str, Any]:
    """What a kubelet says of a running pod."""
    conditions = [
        {"type": type_, "status": "True" if ready or type_ == "PodScheduled" else "False"}
        for type_ in ("Ready", "ContainersReady", "PodScheduled", "Initialized")
    ]
    return {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions}


def template(deployment: dict[str, Any]) -> dict[str, Any]:
    """The pod template of a Deployment."""
    return deployment["spec"]["template"]


def checked(answer: httpx.Response) -> dict[str, Any]:
    """The document of an answer that must be a success."""
    assert answer.is_success, answer.text
    return answer.json()


@dataclass
class Operator:
    """A running operator process."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path
    release: str
    client: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False))

    def metric(self, name: str) -> float:
        """Sum of a metric's series; `name` may go on with labels."""
        lines = self.client.get(f"http://127.0.0.1:{self.port}/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def reconciles(self) -> float:
        """How many reconciles have ended."""
        return self.metric("aiops_operator_reconcile_total")

    def ready(self) -> bool:
        """Whether /readyz says so."""
        try:
            return self.client.get(f"http://127.0.0.1:{self.port}/readyz").is_success
        except httpx.TransportError:
            assert self.process.poll() is None, self.log.read_text()
            return False

    def health(self) -> tuple[int, str]:
        """What /healthz answers, and why."""
        answer = self.client.get(f"http://127.0.0.1:{self.port}/healthz")
        return answer.status_code, answer.json()["status"]

    def lives(self) -> bool:
        """Whether /healthz says so."""
        return self.health() == (200, "ok")

    def rules(self, admin: httpx.Client) -> list[dict[str, Any]]:
        """The rules of all roles that the chart gave it."""
        select = {"labelSelector": f"app.kubernetes.io/instance={self.release}"}
        kinds = ("roles", "clusterroles")
        found = [checked(admin.get(f"/apis/rbac.authorization.k8s.io/v1/{kind}", params=select)) for kind in kinds]
        return [rule for each in found for role in each["items"] for rule in role["rules"]]

    def log_line(self, text: str) -> str:
        """The message of the first log line that has this in it, once there is one."""
        return self.logged(text)["message"]

    def logged(self, text: str) -> dict[str, Any]:
        """The whole of that line."""
        found: dict[str, Any] = until(lambda: next((line for line in self.lines() if text in line["message"]), None))
        return found

    def lines(self) -> list[dict[str, Any]]:
        """The log so far, without a last line that is half there."""
        written, _, _ = self.log.read_text().rpartition("\n")
        return [json.loads(line) for line in written.splitlines()]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(number)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            self.client.close()


Start = Callable[..., "contextlib.AbstractContextManager[Operator]"]


@pytest.fixture(scope="session")
def admin(cluster: ControlPlane) -> Iterator[httpx.Client]:
    """An administrator's connection, with the CRD in place."""
    config = yaml.safe_load(Path(cluster.kubeconfig).read_text())
    user, context = config["users"][0]["user"], trusting(cluster)
    with tempfile.NamedTemporaryFile() as pair:
        pair.write(
            base64.b64decode(user["client-certificate-data"]) + b"\n" + base64.b64decode(user["client-key-data"])
        )
        pair.flush()
        context.load_cert_chain(pair.name)
    with httpx.Client(base_url=cluster.url, verify=context, trust_env=False, timeout=30) as client:
        apply_file(client, yaml.safe_load(CRD.read_text()))
        until(lambda: client.get(f"{OURS}/inferenceservices").is_success)
        yield client


def trusting(cluster: ControlPlane) -> ssl.SSLContext:
    """What tells the API server from others."""
    server = yaml.safe_load(Path(cluster.kubeconfig).read_text())["clusters"][0]["cluster"]
    return ssl.create_default_context(cadata=base64.b64decode(server["certificate-authority-data"]).decode())


@pytest.fixture
def proxy(cluster: ControlPlane) -> Iterator[ApiProxy]:
    """A proxy that stands between an operator and the API server, if the operator is started `through` it."""
    with ApiProxy(cluster.url, trusting(cluster)).running() as running_proxy:
        yield running_proxy


@pytest.fixture
def monitors(admin: httpx.Client) -> Iterator[None]:
    """The kinds of the Prometheus Operator, with schemas that take anything."""
    crds = [monitoring_crd("ServiceMonitor"), monitoring_crd("PrometheusRule")]
    for crd in crds:
        apply_file(admin, crd)
        path = f"{MONITORING}/{crd['spec']['names']['plural']}"
        until(lambda path=path: admin.get(path).is_success)
    yield
    for crd in crds:
        checked(admin.delete(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"))
        path = f"{MONITORING}/{crd['spec']['names']['plural']}"
        until(lambda path=path: not admin.get(path).is_success)


def monitoring_crd(kind: str) -> dict[str, Any]:
    """A kind of the Prometheus Operator."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    plural, group = f"{kind.lower()}s", "monitoring.coreos.com"
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


@pytest.fixture
def apply_crd(admin: httpx.Client) -> Callable[[dict[str, Any]], None]:
    """Apply a CRD, server-side."""
    return lambda crd: apply_file(admin, crd)


def apply_file(client: httpx.Client, crd: dict[str, Any]) -> None:
    """Apply a CRD, server-side."""
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
    parameters = {"fieldManager": "kubectl", "force": "true"}
    headers = {"Content-Type": APPLY}
    checked(client.patch(path, content=json.dumps(crd), params=parameters, headers=headers))


def allowed(cluster: ControlPlane, client: httpx.Client, place: Path, namespaces: list[str]) -> Path:
    """Install the rights that the chart gives the operator; a kubeconfig that has them and no others."""
    home = f"operator-{uuid.uuid4().hex[:8]}"
    checked(client.post(f"{CORE}/namespaces", json={"metadata": {"name": home}}))
    programs = ensure("helm", "kubectl")
    shown = [f"--show-only=templates/{name}.yaml" for name in ("rbac", "serviceaccount")]
    values = ["--set-json=inferenceServices=[]", f"--set-json=watchNamespaces={json.dumps(namespaces)}"]
    rendered = subprocess.run(
        [programs["helm"], "template", home, ROOT / "helm", f"--namespace={home}", *shown, *values],
        capture_output=True,
        check=True,
        timeout=60,
        env=os.environ | {"HOME": str(place)},
    ).stdout
    kubectl = [programs["kubectl"], f"--kubeconfig={cluster.kubeconfig}"]
    subprocess.run([*kubectl, "apply", "--filename=-"], input=rendered, capture_output=True, check=True, timeout=60)
    account = f"{CORE}/namespaces/{home}/serviceaccounts"
    name = next(
        entry["metadata"]["name"]
        for entry in checked(client.get(account))["items"]
        if entry["metadata"]["name"] != "default"
    )
    token = checked(client.post(f"{account}/{name}/token", json={"spec": {}}))["status"]["token"]
    config = yaml.safe_load(Path(cluster.kubeconfig).read_text())
    config["users"][0]["user"] = {"token": token}
    path = place / f"{home}.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def command(constants: Mapping[str, float]) -> list[str]:
    """What starts an operator, some constants of whose modules are others."""
    if not constants:
        return [sys.executable, "-m", "aiops_operator"]
    modules = sorted({name.partition(".")[0] for name in constants})
    lines = [f"from aiops_operator import __main__, {', '.join(modules)}"]
    lines += [f"{name} = {value}" for name, value in constants.items()]
    return [sys.executable, "-c", "\n".join([*lines, "raise SystemExit(__main__.main([]))"])]


@pytest.fixture(scope="session")
def start(cluster: ControlPlane, admin: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Run an operator for the length of a with block: in these namespaces, or in all.

    `elected`: by the chart's Lease. `through`: a proxy in place of the API server. `constants`: of the package's modules
    (`health.DEAD_AFTER`), which would make the test last for minutes.
    """
    place = tmp_path_factory.mktemp("operator")
    rights: dict[tuple[str, ...], Path] = {}

    @contextlib.contextmanager
    def run(
        *namespaces: str,
        elected: bool = False,
        through: ApiProxy | None = None,
        constants: Mapping[str, float] = MappingProxyType({}),
        **environment: str,
    ) -> Iterator[Operator]:
        if namespaces not in rights:
            rights[namespaces] = allowed(cluster, admin, place, list(namespaces))
        (port,), log = free_ports(1), place / f"{uuid.uuid4().hex}.log"
        kubeconfig, release = rights[namespaces], rights[namespaces].stem
        if through is not None:
            config = yaml.safe_load(kubeconfig.read_text())
            config["clusters"][0]["cluster"] = {"server": through.url}
            kubeconfig = place / f"{uuid.uuid4().hex}.kubeconfig"
            kubeconfig.write_text(yaml.safe_dump(config))
        settings = {
            "KUBECONFIG": str(kubeconfig),
            "WATCH_NAMESPACES": ",".join(namespaces),
            "OPERATOR_PORT": str(port),
            "POLL_INTERVAL": "0.2",
            "INFERENCE_IMAGE": "localhost/aiops-quality:test",
        }
        if elected:
            settings |= {"LEASE_NAME": f"{release}-operator", "LEASE_NAMESPACE": release}
        clean = {name: value for name, value in os.environ.items() if name != "KUBERNETES_SERVICE_HOST"}
        with log.open("wb") as stderr:
            process = subprocess.Popen(command(constants), env=clean | settings | environment, stderr=stderr)
        operator = Operator(process, port, log, release)
        try:
            until(operator.ready, seconds=60)
            yield operator
        finally:
            if process.poll() is None:
                operator.stop()

    return run


@pytest.fixture
def api(admin: httpx.Client) -> Iterator[Api]:
    """A namespace of the test's own, with artifacts in it."""
    namespace = f"op-{uuid.uuid4().hex[:8]}"
    checked(admin.post(f"{CORE}/namespaces", json={"metadata": {"name": namespace}}))
    user = Api(admin, namespace)
    user.artifacts()
    yield user
    checked(admin.delete(f"{CORE}/namespaces/{namespace}"))


@pytest.fixture(scope="module")
def operator(start: Start) -> Iterator[Operator]:
    """An operator of all namespaces for the tests of one module."""
    with start() as running_operator:
        yield running_operator


class Served:
    """What a pod serves on port 8000 of an address of loopback."""

    def __init__(self):
        self.recorder = Recorder(PROFILE, f"{np.random.default_rng().integers(2**63):016x}")
        self.expectations = Expectations("passed", 50)
        self.shadowed: Shadowed | None = None
        self.health = {"status": "ok"}
        self.lock = threading.Lock()
        self.closed = 0.0

    def receive(self, n, shift=0.0):
        """Rows come in, the first feature shifted by so many sigma."""
        rows = np.random.default_rng(7).normal([5.0 + shift, 1.0], [1.0, 0.1], size=(n, 2))
        with self.lock:
            self.closed += 1
            self.recorder.record(rows, self.closed)

    def answer(self, path):
        """Status and document of a GET."""
        if path.startswith("/health"):
            return (200 if self.health["status"] == "ok" else 503), self.health
        after = int(path.partition("after=")[2] or -1)
        with self.lock:
            report = self.recorder.report(MODEL, self.expectations, after, self.closed)
            return 200, replace(report, shadowed=self.shadowed).to_dict()


class Server(ThreadingHTTPServer):
    """Closes without waiting for connections that are kept alive."""

    daemon_threads = True
    block_on_close = False


def server(pod: Served, address: str) -> Server:
    """Serve a pod on an address, or raise OSError where it is taken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            """Answer."""
            code, document = pod.answer(self.path)
            body = json.dumps(document).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Say nothing."""

    return Server((address, 8000), Handler)


@pytest.fixture
def pods() -> Iterator[dict[str, Served]]:
    """Two pods that serve, by address."""
    rng, served = np.random.default_rng(), {}
    with contextlib.ExitStack() as stack:
        while len(served) < 2:
            address = "127." + ".".join(str(number) for number in rng.integers(1, 250, size=3))
            pod = Served()
            with contextlib.suppress(OSError):
                made = server(pod, address)
                served[address] = pod
                stack.callback(made.server_close)
                stack.callback(made.shutdown)
                threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield served
