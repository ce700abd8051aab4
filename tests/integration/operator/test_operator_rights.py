"""The rights that the chart gives the operator are those that it uses, no more and no less."""

import base64
import re

import pytest
from waiting import until

PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/[^/]+(?:/namespaces/[^/]+)?/(?P<resource>[a-z]+)(?:/(?P<name>[^/]+)(?:/(?P<sub>[a-z]+))?)?$"
)
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def used(passed):
    """The rights that a request needed: group, resource and verb of each."""
    found = PATH.match(passed.path)
    if found is None:
        return set()  # discovery, which everybody may read
    resource = f"{found['resource']}/{found['sub']}" if found["sub"] else found["resource"]
    verb = VERBS.get(passed.method) or ("get" if found["name"] else "watch" if passed.is_watch else "list")
    verbs = {verb, "create"} if verb == "patch" and passed.status == 201 else {verb}
    return {(found["group"] or "", resource, one) for one in verbs}


def granted(rules):
    """The rights that rules give."""
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


TEMPLATE = {"spec": {"restartPolicy": "Never", "containers": [{"name": "train", "image": "localhost/train:1"}]}}
RETRAIN = {"spec": {"schedule": "0 0 1 1 *", "suspend": True, "jobTemplate": {"spec": {"template": TEMPLATE}}}}
FULL = {
    "replicas": 2,
    "autoscaling": {"minReplicas": 2, "maxReplicas": 3},
    "monitoring": {"alerts": True},
    "networkPolicy": {},
    "rollout": {"strategy": "Shadow"},
    "drift": {"onDrift": {"cronJobRef": {"name": "retrain"}}},
}


@pytest.mark.usefixtures("monitors")
@pytest.mark.parametrize("namespaced", [True, False])
def test_what_is_granted_is_what_is_used(api, admin, start, proxy, pods, namespaced):
    """One service lives through all that can happen to it, and nothing is forbidden."""
    api.create("CronJob", {"metadata": {"name": "retrain"}} | RETRAIN)
    with start(*([api.namespace] if namespaced else []), elected=True, through=proxy) as operator:
        api.serve(FULL)
        until(lambda: api.all("ServiceMonitor") and api.all("PrometheusRule") and api.all("HorizontalPodAutoscaler"))
        api.run_pods(list(pods))
        api.wait("Ready", "True", "RolledOut")  # a revision is compared only with one that has served
        for pod in pods.values():
            pod.receive(160, 9.0)
        until(lambda: api.all("Job"), seconds=30)
        for content in (b"2", b"3", b"4"):
            api.artifacts(files={"model.pkl": content, "baseline.npy": b"rows"})
            until(lambda content=content: digested(api, content))
        until(lambda: api.get("Deployment", "iris-shadow") and api.get("Service", "iris-shadow"))
        api.change(
            {
                "replicas": 1,
                "autoscaling": None,
                "networkPolicy": None,
                "monitoring": {"mode": "none", "alerts": False},
                "rollout": None,
            }
        )
        until(lambda: api.get("Deployment", "iris-shadow") is None and api.get("Service", "iris-shadow") is None)
        kinds = ("PodDisruptionBudget", "ServiceMonitor", "PrometheusRule", "HorizontalPodAutoscaler", "NetworkPolicy")
        until(lambda: not any(map(api.all, kinds)), seconds=30)
        for pod in api.all("Pod"):  # some may be gone by themselves
            admin.delete(api.path("Pod", pod["metadata"]["name"]))
        until(
            lambda: any(right[1:] == ("configmaps", "delete") for entry in proxy.passed for right in used(entry)),
            seconds=30,
        )
        rules = operator.rules(admin)
    # In a namespace of a test before this one, which is being deleted, nobody may make anything.
    ours = [entry for entry in proxy.passed if "/namespaces/" not in entry.path or api.namespace in entry.path]
    assert [] == [entry for entry in ours if entry.status == 403]
    assert granted(rules) == {right for entry in proxy.passed for right in used(entry)}


def digested(api, content):
    """Whether the pods are to mount a copy of these artifacts."""
    found = api.all("ConfigMap", "aiops-quality.io/inferenceservice=iris")
    return any(base64.b64decode(entry.get("binaryData", {}).get("model.pkl", "")) == content for entry in found)
