"""Resources that nobody would write: each is refused by the API server, or the operator has an answer to it."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from waiting import until

CRD = Path(__file__).resolve().parents[3] / "crds" / "inferenceservice.yaml"
RESOURCES = 500
MODEL = {"artifacts": {"configMap": {"name": "iris-artifacts"}}}
SOURCES = (
    {"persistentVolumeClaim": {"claimName": "none"}},
    {"image": {"reference": "i"}},
    {"uri": "s3://models/iris"},
)
MODELS = st.sampled_from([MODEL, *({"artifacts": source} for source in SOURCES)])
PODS = st.integers(0, 3)


def values(schema):
    """What fits a schema of the CRD, often at its bounds, and some of what its rules refuse."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return st.one_of(st.integers(-1, 2**40), st.sampled_from(["1", "250m", "1Gi", "-1", "1e3", "x"]))
    return KINDS_OF_VALUES[schema["type"]](schema)


def objects(schema):
    """Objects with the fields that must be there and some of the others."""
    if "additionalProperties" in schema:
        keys = st.one_of(st.sampled_from(["team", "example.com/a"]), st.text(max_size=70))
        return st.dictionaries(keys, values(schema["additionalProperties"]), max_size=3)
    fields = {name: st.deferred(lambda part=part: values(part)) for name, part in schema.get("properties", {}).items()}
    must = set(schema.get("required", ()))
    return st.fixed_dictionaries(
        {name: found for name, found in fields.items() if name in must},
        optional={name: found for name, found in fields.items() if name not in must},
    )


def strings(schema):
    """Texts, by the pattern where there is one."""
    least, most = schema.get("minLength", 0), schema.get("maxLength", 60)
    free = st.text(min_size=least, max_size=min(most, 60))
    return st.one_of(free, st.from_regex(schema["pattern"])) if "pattern" in schema else free


KINDS_OF_VALUES = {
    "object": objects,
    "string": strings,
    "array": lambda schema: st.lists(values(schema["items"]), min_size=schema.get("minItems", 0), max_size=3),
    "boolean": lambda _: st.booleans(),
    "integer": lambda schema: st.integers(schema.get("minimum", 0), schema.get("maximum", 2**31 - 1)),
    "number": lambda schema: st.floats(schema.get("minimum", 0), schema.get("maximum", 1e6), allow_nan=False),
}


def specs():
    """Whole specs, and parts of them beside a model that is right, so that more than the refusals are tried."""
    crd = yaml.safe_load(CRD.read_text(encoding="utf-8"))
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    parts = {name: values(part) for name, part in schema["properties"].items() if name not in {"model", "replicas"}}
    # A few fields at a time: with all at once nearly every resource breaks some rule.
    few = st.lists(st.sampled_from(sorted(parts)), max_size=2, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: parts[name] for name in names})
    )
    right = st.builds(lambda part, model, replicas: {"model": model, "replicas": replicas} | part, few, MODELS, PODS)
    return st.one_of(right, right, values(schema))


@pytest.fixture
def quiet(start, api):
    """An operator of the namespace."""
    with start(api.namespace) as operator:
        yield operator


def test_each_is_refused_or_converges(api, quiet):
    """And the operator neither ends nor says of any that it failed by itself."""
    accepted, refused = [], []

    @settings(
        max_examples=RESOURCES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(spec=specs())
    def declare(spec):
        name = f"h{len(accepted) + len(refused)}"
        body = {"apiVersion": "aiops-quality.io/v1alpha1", "kind": "InferenceService", "metadata": {"name": name}}
        answer = api.client.post(api.path("InferenceService"), json=body | {"spec": spec})
        assert answer.status_code in {201, 400, 422}, answer.text
        (accepted if answer.status_code == 201 else refused).append(name)

    declare()
    assert len(accepted) > RESOURCES // 10, (len(accepted), len(refused))
    until(lambda: unanswered(api), lambda seen: not seen, seconds=120)
    assert [] == crashes(quiet)
    assert quiet.lives()


def unanswered(api):
    """Names of the services whose status does not speak of their generation."""
    return [
        found["metadata"]["name"]
        for found in api.all("InferenceService")
        if found["status"].get("observedGeneration") != found["metadata"]["generation"]
    ]


def crashes(operator):
    """What the log has of errors that no code foresaw."""
    return [line for line in operator.lines() if "Traceback" in json.dumps(line)]


@pytest.mark.parametrize(
    "text",
    [
        'a\nINFO {"event": "prediction"}',
        'x"} or vector(1) or absent({a="b',
        "{{ $externalLabels }}",
        "\u202e\u0000\U0001f4a9" * 20,
        "x" * 1_100_000,
        "- a: &b [*b]",
    ],
    ids=["log line", "PromQL", "template", "unicode", "long", "YAML"],
)
@pytest.mark.parametrize(
    "place",
    [
        lambda text: {"drift": {"features": [{"name": text, "zScoreThreshold": 4}]}},
        lambda text: {"podTemplate": {"annotations": {"example.com/a": text}}},
        lambda text: {"podTemplate": {"labels": {"team": text}}},
        lambda text: {"podTemplate": {"env": [{"name": "A", "value": text}]}},
        lambda text: {
            "podTemplate": {
                "topologySpreadConstraints": [
                    {"maxSkew": 1, "topologyKey": text, "whenUnsatisfiable": "ScheduleAnyway"}
                ]
            }
        },
        lambda text: {"monitoring": {"labels": {"release": text}, "alerts": True}},
        lambda text: {"networkPolicy": {"from": [{"podSelector": {"matchLabels": {"app": text}}}]}},
        lambda text: {"drift": {"acknowledgedEpisode": text}},
        lambda text: {"resources": {"requests": {"cpu": text}}},
    ],
    ids=["feature", "annotation", "label", "env", "topologyKey", "ServiceMonitor label", "peer", "episode", "quantity"],
)
def test_what_is_smuggled_in_stays_text(api, quiet_of_all, place, text):
    """Refused with a sentence, or told in the status; the log has one JSON document a line."""
    body = {"apiVersion": "aiops-quality.io/v1alpha1", "kind": "InferenceService", "metadata": {"name": "iris"}}
    answer = api.client.post(api.path("InferenceService"), json=body | {"spec": {"model": MODEL} | place(text)})
    assert answer.status_code in {201, 400, 422}, answer.text
    until(lambda: unanswered(api), lambda seen: not seen, seconds=30)
    assert [] == crashes(quiet_of_all)


@pytest.fixture(scope="module")
def quiet_of_all(start):
    """As `quiet`, of all namespaces."""
    with start() as operator:
        yield operator
