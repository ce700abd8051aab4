"""Artifacts that real pods fetch from a web server over TLS, with a key that a Secret holds."""

import json

from aiops_localcluster.certificates import Authority

AUTHORIZATION = "Bearer e2e-key"
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.5, 3.0, 5.5, 1.8]]
SERVER = f"""
import functools, http.server, ssl
class Handler(http.server.SimpleHTTPRequestHandler):
    def send_head(self):
        if self.path != "/" and self.headers["Authorization"] != {AUTHORIZATION!r}:
            return self.send_error(403)
        return super().send_head()
server = http.server.ThreadingHTTPServer(("", 8443), functools.partial(Handler, directory="/artifacts"))
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def store(namespace, folder):
    """A web server with the iris artifacts; its URI, and its authority's certificate."""
    labels = {"store": "artifacts"}
    service = {"selector": labels, "ports": [{"port": 8443}]}
    namespace.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "store"}, "spec": service})
    address = namespace.get("service", "store")["spec"]["clusterIP"]
    authority = Authority(folder)
    pair = authority.server("server", "store", (address,))
    namespace.kubectl("create", "secret", "tls", "store", f"--cert={pair.certificate}", f"--key={pair.key}")
    security = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "server",
        "image": namespace.world.inference_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", SERVER],
        "securityContext": security | {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "readinessProbe": {"httpGet": {"path": "/", "port": 8443, "scheme": "HTTPS"}, "periodSeconds": 1},
        "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in ("artifacts", "tls")],
    }
    volumes = [
        {"name": "artifacts", "configMap": {"name": "iris-artifacts"}},
        {"name": "tls", "secret": {"secretName": "store"}},
    ]
    spec = {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 0}
    metadata = {"name": "store", "labels": labels}
    namespace.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    namespace.kubectl("wait", "--for=condition=Ready", "pod/store", "--timeout=120s")
    return f"https://{address}:8443", authority.certificate.read_text()


def give_key(namespace, certificate, authorization):
    """Write the Secret that the service names."""
    data = {"ARTIFACTS_AUTHORIZATION": authorization, "ARTIFACTS_CA_CERTIFICATE": certificate}
    namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "reader"}, "stringData": data})


def test_a_model_from_a_uri(namespace, iris_configmap, iris_files, tmp_path):
    """A key that is refused is named in the resource; with the right one, the model is served; other bytes never are."""
    namespace.apply(iris_configmap)
    uri, certificate = store(namespace, tmp_path)
    give_key(namespace, certificate, "Bearer another")
    digest = json.loads(iris_files["manifest.json"])["files"]["model.skops"]["sha256"]
    model = {"artifacts": {"uri": uri, "secretRef": {"name": "reader"}}, "sha256": digest}
    namespace.apply(
        {
            "apiVersion": "aiops-quality.io/v1alpha1",
            "kind": "InferenceService",
            "metadata": {"name": "iris"},
            "spec": {"model": model},
        }
    )

    denied = namespace.wait("iris", "Ready", "False", "ArtifactAccessDenied")
    assert f"{uri}/model.pkl may not be read; look at the Secret of spec.model.artifacts.secretRef" == denied["message"]
    namespace.wait("iris", "Stalled", "True", "ArtifactAccessDenied")
    give_key(namespace, certificate, AUTHORIZATION)
    namespace.wait("iris", "Ready", "True")
    status = namespace.get("inferenceservice", "iris")["status"]
    assert (f"sha256:{digest}", uri) == (status["model"]["digest"], status["model"]["artifacts"])
    assert [0, 2] == namespace.predict("iris", ROWS)["predictions"]
    (pod,) = namespace.pods("iris")
    log = namespace.kubectl("logs", pod["metadata"]["name"], "--container=fetch")
    assert '"event":"fetched","file":"model.skops"' in log.replace(" ", "")
    assert AUTHORIZATION not in log

    namespace.kubectl(
        "patch", "infs", "iris", "--type=merge", "-p", json.dumps({"spec": {"model": {"sha256": "0" * 64}}})
    )
    namespace.wait("iris", "Ready", "False", "DigestMismatch")
    assert [0, 2] == namespace.predict("iris", ROWS)["predictions"]
