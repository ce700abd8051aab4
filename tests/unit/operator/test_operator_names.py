"""Names of children."""

import re

from hypothesis import given
from hypothesis import strategies as st

from aiops_operator import names
from aiops_operator.names import Key

NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,48}[a-z0-9])?", fullmatch=True)
DIGESTS = st.from_regex(r"(sha256:)?[0-9a-f]{64}", fullmatch=True)
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@given(NAMES, DIGESTS)
def test_every_child_of_the_longest_name_is_a_dns_label(name, digest):
    """Kubernetes takes the name of every child of every name that the CRD takes."""
    children = [names.runtime_config_map(name), names.model_config_map(name, digest)]
    assert [child for child in children if not LABEL.fullmatch(child)] == []


@given(NAMES, NAMES, DIGESTS)
def test_a_copy_is_recognized_by_its_own_service_alone(name, other, digest):
    """A service never takes another's copy for its own, not even if one name begins with the other."""
    copy = names.model_config_map(name, digest)
    assert (names.is_model_config_map(name, copy), names.is_model_config_map(other, copy)) == (True, other == name)


def test_the_runtime_config_map_is_no_copy():
    """The two ConfigMaps of a service are told apart."""
    assert not names.is_model_config_map("iris", names.runtime_config_map("iris"))


def test_paths_are_those_of_the_api_server():
    """Core and grouped kinds, with and without namespace, name and subresource."""
    expected = [
        "/api/v1/pods",
        "/api/v1/namespaces/models/configmaps/iris-runtime",
        "/apis/apps/v1/namespaces/models/deployments",
        "/apis/aiops-quality.io/v1alpha1/namespaces/models/inferenceservices/iris/status",
    ]
    assert expected == [
        names.POD.path(),
        names.CONFIG_MAP.path("models", "iris-runtime"),
        names.DEPLOYMENT.path("models"),
        names.INFERENCE_SERVICE.path("models", "iris", "status"),
    ]


def test_what_people_see_is_short():
    """The URL, the MODEL column and the selector."""
    key = Key("models", "iris")
    expected = (
        "http://iris.models.svc:80",
        "3f9a1c2",
        "app=iris,aiops-quality.io/inferenceservice=iris",
        "models/iris",
    )
    assert expected == (names.url(key), names.short_digest("sha256:3f9a1c2bb0"), names.pod_selector("iris"), str(key))
