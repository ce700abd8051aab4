"""What each daemon is told: pure functions from addresses and paths to command lines and configuration files."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiops_localcluster.certificates import Pair

Json = dict[str, Any]
PAUSE_IMAGE = "localhost/aiops-quality-pause:1"
PRIVATE_CNI_STATE = "/var/lib/cni"
CNI_PLUGINS = "/usr/lib/cni"
PROXY_HEALTH_PORT = 10256


@dataclass(frozen=True)
class Daemon:
    """One daemon for the supervisor.

    Attributes:
        name: Also the name of its log, `<name>.log`.
        argv: Command line; the program by its absolute path.
        needs: Paths that must exist and host:port addresses that must accept before it is started.
    """

    name: str
    argv: tuple[str, ...]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Identity:
    """The files that the control plane proves itself with.

    Attributes:
        authority: PEM file of the authority's certificate.
        server: The API server's certificate for those who call it.
        kubelet_client: The API server's certificate when it calls kubelet.
        service_accounts: Public and private key of service account tokens.
    """

    authority: Path
    server: Pair
    kubelet_client: Pair
    service_accounts: Pair


@dataclass(frozen=True)
class Endpoint:
    """Where the API server listens, and the range of its Services.

    Attributes:
        address: IP address.
        port: TCP port.
        services: CIDR of Services.
        is_published: Whether pods may reach it through the Service `kubernetes`; an address of loopback cannot be.
    """

    address: str
    port: int
    services: str
    is_published: bool

    @property
    def authority(self) -> str:
        """Address and port, as in a URL."""
        return f"{self.address}:{self.port}"

    @property
    def url(self) -> str:
        """URL of the API server."""
        return f"https://{self.authority}"

    @property
    def readiness(self) -> str:
        """URL that answers once the built-in roles are there: who starts earlier is refused and waits for long."""
        return f"{self.url}/readyz"


def etcd(program: Path, state: Path) -> Daemon:
    """Describe etcd: it listens on a socket file alone, so that no port is taken and no other user can reach it."""
    socket, peers = f"unix://{state}/etcd.sock", f"unix://{state}/etcd-peer.sock"
    return Daemon(
        "etcd",
        (
            str(program),
            "--name=local",
            f"--data-dir={state}/etcd",
            "--unsafe-no-fsync",  # the data does not outlive the cluster
            f"--listen-client-urls={socket}",
            f"--advertise-client-urls={socket}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=local={peers}",
            "--auto-compaction-retention=5m",
            "--quota-backend-bytes=4294967296",
            "--log-level=warn",
        ),
    )


def kube_apiserver(program: Path, state: Path, endpoint: Endpoint, identity: Identity) -> Daemon:
    """Describe kube-apiserver."""
    return Daemon(
        "kube-apiserver",
        (
            str(program),
            f"--etcd-servers=unix://{state}/etcd.sock",
            f"--bind-address={endpoint.address}",
            f"--advertise-address={endpoint.address}",
            f"--secure-port={endpoint.port}",
            "--permit-port-sharing=true",  # a free port is kept for it until it listens
            f"--endpoint-reconciler-type={'lease' if endpoint.is_published else 'none'}",
            f"--service-cluster-ip-range={endpoint.services}",
            f"--client-ca-file={identity.authority}",
            f"--tls-cert-file={identity.server.certificate}",
            f"--tls-private-key-file={identity.server.key}",
            f"--kubelet-certificate-authority={identity.authority}",
            f"--kubelet-client-certificate={identity.kubelet_client.certificate}",
            f"--kubelet-client-key={identity.kubelet_client.key}",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={identity.service_accounts.certificate}",
            f"--service-account-signing-key-file={identity.service_accounts.key}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--profiling=false",
        ),
        needs=(f"{state}/etcd.sock",),
    )


def kube_controller_manager(program: Path, state: Path, endpoint: Endpoint, identity: Identity) -> Daemon:
    """Describe kube-controller-manager; the garbage collector and the controllers of workloads live in it."""
    return Daemon(
        "kube-controller-manager",
        (
            str(program),
            f"--kubeconfig={state}/controller-manager.kubeconfig",
            f"--service-account-private-key-file={identity.service_accounts.key}",
            f"--root-ca-file={identity.authority}",
            "--use-service-account-credentials=false",
            "--leader-elect=false",
            "--secure-port=0",
            "--allocate-node-cidrs=false",
            "--concurrent-gc-syncs=20",
            "--profiling=false",
        ),
        needs=(endpoint.authority,),
    )


def kube_scheduler(program: Path, state: Path, endpoint: Endpoint) -> Daemon:
    """Describe kube-scheduler."""
    return Daemon(
        "kube-scheduler",
        (
            str(program),
            f"--kubeconfig={state}/scheduler.kubeconfig",
            "--leader-elect=false",
            "--secure-port=0",
            "--profiling=false",
        ),
        needs=(endpoint.readiness,),
    )


def containerd(program: Path, state: Path) -> Daemon:
    """Describe containerd."""
    return Daemon("containerd", (str(program), f"--config={state}/containerd.toml"))


def kubelet(program: Path, state: Path, node: str, address: str, endpoint: Endpoint) -> Daemon:
    """Describe kubelet."""
    return Daemon(
        "kubelet",
        (
            str(program),
            f"--config={state}/kubelet.yaml",
            f"--kubeconfig={state}/kubelet.kubeconfig",
            f"--root-dir={state}/kubelet",
            f"--cert-dir={state}/pki",
            f"--hostname-override={node}",
            f"--node-ip={address}",
        ),
        needs=(f"{state}/containerd.sock", endpoint.authority),
    )


def kube_proxy(program: Path, state: Path, endpoint: Endpoint) -> Daemon:
    """Describe kube-proxy."""
    return Daemon("kube-proxy", (str(program), f"--config={state}/kube-proxy.yaml"), needs=(endpoint.readiness,))


def kubeconfig(url: str, authority: bytes, certificate: bytes, key: bytes) -> Json:
    """Return a kubeconfig that needs no other file.

    Args:
        url: URL of the API server.
        authority: Certificate of the authority, PEM.
        certificate: Client certificate, PEM.
        key: Its key, PEM.
    """
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "local", "cluster": {"server": url, "certificate-authority-data": _base64(authority)}},
        ],
        "users": [
            {
                "name": "local",
                "user": {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)},
            },
        ],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "local"}}],
        "current-context": "local",
    }


def kubelet_configuration(state: Path, authority: Path, serving: Pair, cgroup: str, nameserver: str) -> Json:
    """Return kubelet's configuration.

    Args:
        state: The cluster's folder.
        authority: Certificate of the authority.
        serving: Certificate under which the API server calls kubelet.
        cgroup: Control group that holds the pods.
        nameserver: Address that is written into pods' resolv.conf; nobody answers there, and says so at once.
    """
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"x509": {"clientCAFile": str(authority)}, "anonymous": {"enabled": False}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(serving.certificate),
        "tlsPrivateKeyFile": str(serving.key),
        "containerRuntimeEndpoint": f"unix://{state}/containerd.sock",
        "resolvConf": f"{state}/resolv.conf",
        "clusterDNS": [nameserver],
        "clusterDomain": "cluster.local",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "featureGates": {"KubeletInUserNamespace": True},  # machines whose root may not raise limits
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "serializeImagePulls": False,
        "maxPods": 200,
        "registryPullQPS": 50,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        "syncFrequency": "2s",  # how soon a changed ConfigMap reaches its pods
        "nodeStatusUpdateFrequency": "5s",
        "configMapAndSecretChangeDetectionStrategy": "Watch",
        "makeIPTablesUtilChains": False,
        "healthzPort": 0,
        "readOnlyPort": 0,
        "staticPodPath": "",
        "volumePluginDir": f"{state}/volume-plugins",
        "podLogsDir": f"{state}/pod-logs",
        "shutdownGracePeriod": "0s",
    }


def kube_proxy_configuration(state: Path, node: str, pods: str) -> Json:
    """Return kube-proxy's configuration."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": f"{state}/proxy.kubeconfig"},
        "hostnameOverride": node,
        "healthzBindAddress": f"0.0.0.0:{PROXY_HEALTH_PORT}",
        "clusterCIDR": pods,
        "conntrack": {"maxPerCore": 0, "min": 0},
        "oomScoreAdj": 0,
        "nftables": {"minSyncPeriod": "0.1s"},
        "nodePortAddresses": ["primary"],
    }


def containerd_configuration(state: Path, runc: str) -> Json:
    """Return containerd's configuration; everything it writes stays in the cluster's folder."""
    return {
        "version": 3,
        "root": f"{state}/containerd",
        "state": f"{state}/containerd-run",
        "grpc": {"address": f"{state}/containerd.sock"},
        "ttrpc": {"address": f"{state}/containerd.sock.ttrpc"},
        "debug": {"address": "", "level": "warn"},
        "disabled_plugins": ["io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp"],
        "plugins": {
            "io.containerd.internal.v1.opt": {"path": f"{state}/opt"},
            "io.containerd.cri.v1.images": {
                "snapshotter": "overlayfs",
                "pinned_images": {"sandbox": PAUSE_IMAGE},
                "registry": {"config_path": f"{state}/registries"},
            },
            "io.containerd.cri.v1.runtime": {
                "restrict_oom_score_adj": True,
                "disable_apparmor": True,
                "tolerate_missing_hugetlb_controller": True,
                "enable_cdi": False,
                "cni": {
                    "bin_dirs": [CNI_PLUGINS],
                    "conf_dir": f"{state}/cni",
                    "use_internal_loopback": True,
                },
                "containerd": {
                    "default_runtime_name": "runc",
                    "runtimes": {
                        "runc": {
                            "runtime_type": "io.containerd.runc.v2",
                            "options": {"BinaryName": runc, "SystemdCgroup": False, "Root": f"{state}/runc"},
                        },
                    },
                },
            },
        },
    }


def pod_network(state: Path, pods: str) -> Json:
    """Return the CNI network: a routed link a pod, with no bridge, so that replies always pass the node's rules."""
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": pods}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": f"{state}/addresses",
                },
            },
        ],
    }


def toml(value: Mapping[str, Any]) -> str:
    """Render nested mappings of strings, numbers, booleans and lists of strings as TOML.

    Args:
        value: The document.
    """
    return "\n".join(_table(value, ())).lstrip("\n") + "\n"


def _table(value: Mapping[str, Any], path: Sequence[str]) -> list[str]:
    lines = [f"{_string(key)} = {_scalar(item)}" for key, item in value.items() if not isinstance(item, Mapping)]
    if path and lines:
        lines = ["", f"[{'.'.join(map(_string, path))}]", *lines]
    for key, item in value.items():
        if isinstance(item, Mapping):
            lines += _table(item, (*path, key))
    return lines


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_scalar, value))}]"
    return str(value)


def _string(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
