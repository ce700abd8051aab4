import tomllib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from aiops_localcluster import config
from aiops_localcluster.certificates import Pair

STATE = Path("/var/lib/aiops-quality/x")
PKI = STATE / "pki"
ENDPOINT = config.Endpoint("10.89.3.2", 6443, "10.96.48.0/20", is_published=True)
IDENTITY = config.Identity(
    authority=PKI / "ca.crt",
    server=Pair(PKI / "apiserver.crt", PKI / "apiserver.key"),
    kubelet_client=Pair(PKI / "client.crt", PKI / "client.key"),
    service_accounts=Pair(PKI / "sa.pub", PKI / "sa.key"),
)
KEYS = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\x7f"), min_size=1, max_size=9)
SCALARS = st.booleans() | st.integers(-(2**53), 2**53) | KEYS | st.lists(KEYS, max_size=3)
DOCUMENTS = st.recursive(
    st.dictionaries(KEYS, SCALARS, max_size=3), lambda inner: st.dictionaries(KEYS, SCALARS | inner, max_size=3)
)


@given(DOCUMENTS)
def test_toml_says_what_it_was_given(document: dict[str, object]) -> None:
    """The standard library reads back what was written; empty tables, which mean nothing to containerd, may be lost."""
    assert tomllib.loads(config.toml(_without_empty(document))) == _without_empty(document)


def _without_empty(document: dict[str, object]) -> dict[str, object]:
    kept = {key: _without_empty(value) if isinstance(value, dict) else value for key, value in document.items()}
    return {key: value for key, value in kept.items() if value != {}}


def test_etcd_listens_on_no_port() -> None:
    """Every URL that it is given is one of a socket file."""
    daemon = config.etcd(Path("/bin/etcd"), STATE)
    urls = [argument.partition("=")[2] for argument in daemon.argv if "urls=" in argument]

    assert urls == [
        "unix:///var/lib/aiops-quality/x/etcd.sock",
        "unix:///var/lib/aiops-quality/x/etcd.sock",
        "unix:///var/lib/aiops-quality/x/etcd-peer.sock",
        "unix:///var/lib/aiops-quality/x/etcd-peer.sock",
    ]


def test_api_server_is_told_who_may_do_what() -> None:
    """The flags that the tests of roles and of tokens stand on."""
    argv = config.kube_apiserver(Path("/bin/kube-apiserver"), STATE, ENDPOINT, IDENTITY).argv

    assert {
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--client-ca-file=/var/lib/aiops-quality/x/pki/ca.crt",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-account-key-file=/var/lib/aiops-quality/x/pki/sa.pub",
        "--service-account-signing-key-file=/var/lib/aiops-quality/x/pki/sa.key",
        "--service-cluster-ip-range=10.96.48.0/20",
        "--endpoint-reconciler-type=lease",
    } - set(argv) == set()


def test_daemons_wait_for_what_they_need() -> None:
    """Those that are refused before the built-in roles are there wait for readiness, the others for the port."""
    program = Path("/bin/x")
    daemons = (
        config.etcd(program, STATE),
        config.kube_apiserver(program, STATE, ENDPOINT, IDENTITY),
        config.kube_controller_manager(program, STATE, ENDPOINT, IDENTITY),
        config.kube_scheduler(program, STATE, ENDPOINT),
        config.containerd(program, STATE),
        config.kubelet(program, STATE, "local", "10.89.3.2", ENDPOINT),
        config.kube_proxy(program, STATE, ENDPOINT),
    )

    assert {daemon.name: daemon.needs for daemon in daemons} == {
        "etcd": (),
        "kube-apiserver": ("/var/lib/aiops-quality/x/etcd.sock",),
        "kube-controller-manager": ("10.89.3.2:6443",),
        "kube-scheduler": ("https://10.89.3.2:6443/readyz",),
        "containerd": (),
        "kubelet": ("/var/lib/aiops-quality/x/containerd.sock", "10.89.3.2:6443"),
        "kube-proxy": ("https://10.89.3.2:6443/readyz",),
    }


def test_kubeconfig_needs_no_other_file() -> None:
    """Certificates are in it, so it can be copied."""
    assert config.kubeconfig("https://10.89.3.2:6443", b"CA", b"CERT", b"KEY") == {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "local", "cluster": {"server": "https://10.89.3.2:6443", "certificate-authority-data": "Q0E="}}
        ],
        "users": [
            {"name": "local", "user": {"client-certificate-data": "Q0VSVA==", "client-key-data": "S0VZ"}},
        ],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "local"}}],
        "current-context": "local",
    }


def test_kube_proxy_configuration() -> None:
    """Rules by nftables, no change to connection tracking of the machine."""
    assert config.kube_proxy_configuration(STATE, "local", "10.244.3.0/24") == {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": "/var/lib/aiops-quality/x/proxy.kubeconfig"},
        "hostnameOverride": "local",
        "healthzBindAddress": "0.0.0.0:10256",
        "clusterCIDR": "10.244.3.0/24",
        "conntrack": {"maxPerCore": 0, "min": 0},
        "oomScoreAdj": 0,
        "nftables": {"minSyncPeriod": "0.1s"},
        "nodePortAddresses": ["primary"],
    }


def test_pod_network_routes_without_translating_addresses() -> None:
    """What a server sees is the client pod's own address."""
    assert config.pod_network(STATE, "10.244.3.0/24") == {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": "10.244.3.0/24"}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": "/var/lib/aiops-quality/x/addresses",
                },
            }
        ],
    }


def test_kubelet_puts_pods_where_the_instance_says_and_never_deletes_images() -> None:
    """Images come from the machine itself and could not be pulled again."""
    found = config.kubelet_configuration(STATE, PKI / "ca.crt", IDENTITY.server, "/aiops-x", "10.89.3.1")
    expected = {
        "cgroupRoot": "/aiops-x",
        "imageGCHighThresholdPercent": 100,
        "configMapAndSecretChangeDetectionStrategy": "Watch",
        "syncFrequency": "2s",
        "serializeImagePulls": False,
        "failCgroupV1": False,
        "failSwapOn": False,
        "authentication": {
            "x509": {"clientCAFile": "/var/lib/aiops-quality/x/pki/ca.crt"},
            "anonymous": {"enabled": False},
        },
    }

    assert {key: found[key] for key in expected} == expected


def test_containerd_writes_nowhere_but_into_the_clusters_folder() -> None:
    """Every absolute path in its configuration is under it, those of programs apart."""
    rendered = tomllib.loads(config.toml(config.containerd_configuration(STATE, "/usr/sbin/runc")))

    assert [path for path in _strings(rendered) if path.startswith("/") and not path.startswith(f"{STATE}/")] == [
        "/usr/lib/cni",
        "/usr/sbin/runc",
    ]


def _strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []
