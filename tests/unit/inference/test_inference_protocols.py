"""V1 and V2, the Open Inference Protocol: the same model, counts, limits and errors behind other documents."""

import asyncio
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeClassifier

from aiops_drift import Profile
from aiops_inference import forms, tensors
from aiops_inference.errors import InvalidInputsError, RequestError
from aiops_inference.monitor import Monitor
from aiops_inference.settings import RuntimeSettings

ROW = [5.1, 3.5, 1.4, 0.2]
MONITOR = Monitor(
    Profile.from_rows(np.random.default_rng(0).normal(size=(20, 4)), list("abcd")), "sha256:m", RuntimeSettings()
)
BINARY = {"name": "inputs", "shape": [2, 4], "datatype": "FP64"}
TENSOR = {"name": "inputs", "shape": [2, 4], "datatype": "FP64", "data": [*ROW, 6.7, 3.0, 5.2, 2.3]}


def asked(serving, directory, *requests, **settings):
    """Status and document of each (method, path, body)."""

    async def scenario():
        async with serving(directory.write(), service_name="iris", **settings) as pod:
            answers = [
                await pod.client.request(method, path, content=body if isinstance(body, bytes) else json.dumps(body))
                for method, path, body in requests
            ]
            metrics = (await pod.client.get("/metrics")).text
            return [(answer.status_code, answer.json()) for answer in answers], metrics, pod.lines()

    return asyncio.run(scenario())


def infer(serving, directory, body, path="/v2/models/iris/infer", **settings):
    """Status and document of one inference."""
    return asked(serving, directory, ("POST", path, body), **settings)[0][0]


def test_v1_predicts_instances(serving, directory):
    """Predictions alone, as TensorFlow Serving answers; counted and logged as any other."""
    body = {"instances": [ROW, [6.7, 3.0, 5.2, 2.3]]}
    answers, metrics, lines = asked(serving, directory, ("POST", "/v1/models/iris:predict", body))

    assert [(200, {"predictions": [0, 2]})] == answers
    assert "inference_rows_total 2.0" in metrics
    assert 1 == sum('"event": "prediction"' in line for line in lines)


def test_v1_tells_of_its_model(serving, directory):
    """Its name, and whether it is ready."""
    answers, _, _ = asked(
        serving, directory, ("GET", "/v1/models", b""), ("GET", "/v1/models/iris", b""), ("GET", "/v1/models/x", b"")
    )

    assert (200, {"models": ["iris"]}) == answers[0]
    assert (200, {"name": "iris", "ready": True}) == answers[1]
    assert (404, "UnknownModel") == (answers[2][0], answers[2][1]["reason"])


def test_v2_predicts_a_tensor(serving, directory):
    """With the id that was sent, the model's version, and a tensor."""
    status, document = infer(serving, directory, {"id": "42", "inputs": [TENSOR]})

    assert (200, "iris", directory.digest("model.pkl")[:7], "42") == (
        status,
        document["model_name"],
        document["model_version"],
        document["id"],
    )
    assert [{"name": "predict", "shape": [2], "datatype": "INT64", "data": [0, 2]}] == document["outputs"]


def test_v2_gives_probabilities_where_they_are_asked_for(serving, directory):
    """In the order in which they were asked for; each row adds up to 1."""
    body = {"inputs": [TENSOR], "outputs": [{"name": "predict_proba"}, {"name": "predict"}]}
    _, document = infer(serving, directory, body)
    probabilities, labels = document["outputs"]

    assert ("predict_proba", [2, 3], "FP64") == (
        probabilities["name"],
        probabilities["shape"],
        probabilities["datatype"],
    )
    assert [1, 1] == pytest.approx(np.reshape(probabilities["data"], (2, 3)).sum(axis=1).tolist())
    assert [0, 2] == labels["data"] == np.reshape(probabilities["data"], (2, 3)).argmax(axis=1).tolist()


def test_v2_takes_a_tensor_for_each_feature(serving, directory):
    """By name, in any order, as columns or as rows of one."""
    tensors = [
        {
            "name": name,
            "shape": [2, 1] if i % 2 else [2],
            "datatype": "FP32",
            "data": [TENSOR["data"][i], TENSOR["data"][i + 4]],
        }
        for i, name in enumerate(directory.names)
    ]
    _, document = infer(serving, directory, {"inputs": tensors[::-1]})

    assert [0, 2] == document["outputs"][0]["data"]


def test_v2_names_labels_that_are_texts(serving, directory, iris):
    """As BYTES, which is what the protocol calls text."""
    _, data = iris
    directory.model = clone(directory.model).fit(data.data, data.target_names[data.target])
    _, document = infer(serving, directory, {"inputs": [TENSOR]})

    assert ("BYTES", ["setosa", "virginica"]) == (document["outputs"][0]["datatype"], document["outputs"][0]["data"])


def test_v2_of_a_regression_of_two_targets(serving, directory, iris):
    """The shape has both axes; there are no probabilities, and asking for them is refused."""
    _, data = iris
    directory.model = LinearRegression().fit(data.data, np.stack([data.target, -data.target], axis=1))
    directory.task = "regression"
    answers, _, _ = asked(
        serving,
        directory,
        ("POST", "/v2/models/iris/infer", {"inputs": [TENSOR]}),
        ("POST", "/v2/models/iris/infer", {"inputs": [TENSOR], "outputs": [{"name": "predict_proba"}]}),
    )

    assert ([2, 2], "FP64") == (answers[0][1]["outputs"][0]["shape"], answers[0][1]["outputs"][0]["datatype"])
    assert (422, "InputsRefused") == (answers[1][0], answers[1][1]["reason"])


def test_v2_tells_of_its_server_and_model(serving, directory):
    """Liveness, readiness and metadata, with and without a version."""
    version = "versions/" + (directory.write() and directory.digest("model.pkl")[:7])
    paths = ["/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/iris", f"/v2/models/iris/{version}"]
    paths += ["/v2/models/iris/ready", f"/v2/models/iris/{version}/ready", "/v2/models/iris/versions/1", "/v2/models/x"]
    answers, _, _ = asked(serving, directory, *(("GET", path, b"") for path in paths))

    assert [200] * 7 + [404] * 2 == [status for status, _ in answers]
    assert ["name", "version", "extensions"] == list(answers[0][1])
    assert ({"live": True}, {"ready": True}) == (answers[1][1], answers[2][1])
    assert answers[3] == answers[4]
    assert [{"name": "inputs", "datatype": "FP64", "shape": [-1, 4]}] == answers[3][1]["inputs"]
    assert ["predict", "predict_proba"] == [output["name"] for output in answers[3][1]["outputs"]]


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"{", 400, "the body is not JSON"),
        (b"[]", 400, "the body is a list; it must be an object"),
        ({}, 400, "inputs is not a list of at least one tensor"),
        ({"inputs": [7]}, 400, "inputs[0] is not a tensor with name, shape, datatype and data"),
        ({"inputs": [{**TENSOR, "shape": [8]}]}, 400, "inputs must be one tensor of the shape [rows, 4], or one"),
        ({"inputs": [{**TENSOR, "shape": [2, 0]}]}, 400, "inputs[0].shape must be [rows, features] or [rows]"),
        ({"inputs": [{**TENSOR, "shape": [True, 4]}]}, 400, "inputs[0].shape must be [rows, features] or [rows]"),
        ({"inputs": [{**TENSOR, "shape": [3, 4]}]}, 400, "inputs[0].data has 8 values; the shape [3, 4] takes 12"),
        ({"inputs": [{**TENSOR, "datatype": "BYTES"}]}, 400, "inputs[0].datatype must be one of BOOL, INT8"),
        ({"inputs": [{**TENSOR, "datatype": []}]}, 400, "inputs[0].datatype must be one of BOOL, INT8"),
        ({"inputs": [{**TENSOR, "datatype": "INT32"}]}, 400, "inputs[0].data[0] is not INT32"),
        ({"inputs": [{**TENSOR, "data": [*ROW, None, 1, 1, 1]}]}, 400, "inputs[0].data[4] is not FP64"),
        ({"inputs": [{**TENSOR, "data": 7}]}, 400, "inputs[0].data is not a list of values"),
        ({"inputs": [{**TENSOR, "data": [ROW, 7]}]}, 400, "inputs[0].data mixes values and lists"),
        (
            {"inputs": [{**TENSOR, "datatype": "INT8", "data": [200] * 8}]},
            400,
            "inputs[0].data[0] is not a finite number",
        ),
        (
            {"inputs": [{**TENSOR, "datatype": "FP16", "data": [1e5] * 8}]},
            400,
            "inputs[0].data[0] is not a finite number",
        ),
        ({"inputs": [{**TENSOR, "parameters": 7}]}, 400, "inputs[0]: parameters is not an object"),
        ({"inputs": [{**TENSOR, "parameters": None}]}, 400, "inputs[0]: parameters is not an object"),
        (
            {"inputs": [{**TENSOR, "parameters": {"binary_data_size": 64}}]},
            400,
            "inputs[0] has both data and parameters",
        ),
        (
            {"inputs": [{**BINARY, "parameters": {"binary_data_size": 64}}]},
            400,
            "inputs[0] has 64 bytes behind the JSON, but 0 are left",
        ),
        (
            {"inputs": [{**BINARY, "parameters": {"binary_data_size": 32}}]},
            400,
            "inputs[0].parameters.binary_data_size must be 64: 8 values of FP64",
        ),
        ({"inputs": [TENSOR], "id": None}, 400, "id is not a string"),
        ({"inputs": [TENSOR], "outputs": None}, 400, "outputs is not a list"),
        ({"inputs": [TENSOR], "parameters": {"binary_data_output": 1}}, 400, "the body: parameters.binary_data_output"),
        ({"inputs": [TENSOR], "id": 7}, 400, "id is not a string"),
        ({"inputs": [TENSOR], "outputs": 7}, 400, "outputs is not a list"),
        (
            {"inputs": [TENSOR], "outputs": [{"name": "x"}]},
            400,
            "outputs[0] must have the name predict or predict_proba",
        ),
        (
            {"inputs": [TENSOR], "outputs": [{"name": []}]},
            400,
            "outputs[0] must have the name predict or predict_proba",
        ),
        (
            {"inputs": [TENSOR], "outputs": [{"name": "predict", "parameters": {"binary_data": "yes"}}]},
            400,
            "outputs[0]: parameters.binary_data is not true or false",
        ),
        ({"inputs": [{**TENSOR, "shape": [9999, 4]}]}, 413, "inputs[0] has 9999 rows; one request may have 100"),
    ],
)
def test_v2_refuses_with_the_place_of_the_fault(serving, directory, body, status, sentence):
    """One sentence under `error`, as the protocol asks for."""
    found, document = infer(serving, directory, body, max_rows=100)

    assert (status, True) == (found, document["error"].startswith(sentence))


def test_another_model_is_not_served(serving, directory):
    """Neither by V1 nor by V2, nor another version of this one."""
    paths = ["/v1/models/x:predict", "/v2/models/x/infer", "/v2/models/iris/versions/1/infer"]
    answers, metrics, _ = asked(serving, directory, *(("POST", path, {"inputs": [TENSOR]}) for path in paths))

    assert [(404, "UnknownModel")] * 3 == [(status, document["reason"]) for status, document in answers]
    assert 'inference_requests_total{code="404"} 3.0' in metrics


@given(
    st.integers(1, 5).flatmap(
        lambda n: st.lists(st.floats(-1e300, 1e300), min_size=4 * n, max_size=4 * n).map(lambda data: (n, data))
    ),
    st.booleans(),
)
def test_tensors_are_rows(tensor, nested):
    """Flat or nested, to the last bit."""
    n, data = tensor
    rows = np.reshape(data, (n, 4))
    body = {"inputs": [{"name": "x", "shape": [n, 4], "datatype": "FP64", "data": rows.tolist() if nested else data}]}
    read, _ = forms.v2("m", "1")(json.dumps(body).encode(), MONITOR, 10)

    assert rows.tolist() == read.tolist()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "shape", "datatype", "data", "parameters", "inputs", "outputs"]), inner
        )
    ),
    max_leaves=20,
)


@given(
    st.fixed_dictionaries(
        {"inputs": JSON | st.lists(st.fixed_dictionaries(dict.fromkeys(TENSOR, JSON)), max_size=3)},
        optional={"outputs": JSON, "id": JSON, "parameters": JSON},
    )
)
def test_whatever_is_sent_is_read_or_refused(document):
    """No other error than a refusal comes out."""
    for form in (forms.v1, forms.plain, forms.v2("m", "1")):
        try:
            rows, _ = form(json.dumps(document).encode(errors="replace"), MONITOR, 100)
        except RequestError:
            continue
        assert rows.shape[1] == 4


def test_a_refusal_of_v2_is_an_error_of_the_tree():
    """InvalidInputs, whatever the place."""
    with pytest.raises(InvalidInputsError):
        forms.v2("m", "1")(b'{"inputs": []}', MONITOR, 10)


def packed(values, datatype, **parameters):
    """A body with the values as bytes behind the JSON, and the size of the JSON."""
    content = np.asarray(values, tensors.DTYPES[datatype]).tobytes()
    tensor = {**BINARY, "shape": list(np.shape(values)), "datatype": datatype}
    tensor["parameters"] = {"binary_data_size": len(content)}
    head = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    return head + content, str(len(head)).encode()


@given(st.sampled_from(sorted(tensors.DTYPES)), st.integers(1, 5), st.data())
def test_bytes_are_the_numbers_that_they_were(datatype, n, data):
    """Of each datatype, to the last bit; one byte less or more is refused."""
    dtype = tensors.DTYPES[datatype]
    limits = (0, 1) if datatype == "BOOL" else (-100, 100) if dtype.kind != "u" else (0, 200)
    elements = st.floats(-6e4, 6e4, width=16) if dtype.kind == "f" else st.integers(*limits)
    values = np.array(data.draw(st.lists(elements, min_size=4 * n, max_size=4 * n))).reshape(n, 4)
    body, size = packed(values, datatype)

    assert values.tolist() == forms.v2("m", "1", size)(body, MONITOR, 10)[0].tolist()
    for broken in (body[:-1], body + b"x"):
        with pytest.raises(InvalidInputsError):
            forms.v2("m", "1", size)(broken, MONITOR, 10)


@given(st.binary(max_size=80), st.binary(max_size=4) | st.integers(-5, 200).map(lambda n: str(n).encode()))
def test_whatever_bytes_are_sent_are_read_or_refused(content, size):
    """Behind a JSON that is right, with a header that need not be."""
    body, right = packed(np.ones((2, 4)), "FP32")
    for form in (forms.v2("m", "1", right), forms.v2("m", "1", size)):
        for sent in (content, body[: int(right)] + content):
            try:
                rows, _ = form(sent, MONITOR, 100)
            except RequestError:
                continue
            assert np.isfinite(rows).all()


def test_texts_are_answered_as_bytes(serving, directory, iris):
    """A length in four bytes before each; the header says where the JSON ends."""
    _, data = iris
    directory.model = clone(directory.model).fit(data.data, data.target_names[data.target])
    body, size = packed(np.reshape(TENSOR["data"], (2, 4)), "FP64", binary_data_output=True)

    async def scenario():
        async with serving(directory.write(), service_name="iris") as pod:
            headers = {"inference-header-content-length": size.decode()}
            return await pod.client.post("/v2/models/iris/infer", content=body, headers=headers)

    answer = asyncio.run(scenario())
    end = int(answer.headers["inference-header-content-length"])
    document = json.loads(answer.content[:end])
    assert (200, "application/octet-stream") == (answer.status_code, answer.headers["content-type"])
    assert [{"name": "predict", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": 23}}] == document[
        "outputs"
    ]
    assert b"\x06\0\0\0setosa\x09\0\0\0virginica" == answer.content[end:]


def several_targets(directory):
    """A classifier of two targets, of three and of two classes."""
    kind = np.repeat([0, 1, 2], 50)
    directory.model = DecisionTreeClassifier(random_state=0).fit(directory.rows, np.stack([kind, kind > 0], axis=1))
    directory.classes = None
    return directory


def test_v2_probabilities_of_several_targets_are_one_after_another(serving, directory):
    """They may have different numbers of classes; the metadata says how many there are in all."""
    body = {"inputs": [TENSOR], "outputs": [{"name": "predict"}, {"name": "predict_proba"}]}
    requests = (("POST", "/v2/models/iris/infer", body), ("GET", "/v2/models/iris", b""))
    (inference, metadata), _, _ = asked(serving, several_targets(directory), *requests)

    assert [
        {"name": "predict", "shape": [2, 2], "datatype": "INT64", "data": [0, 0, 2, 1]},
        {"name": "predict_proba", "shape": [2, 5], "datatype": "FP64", "data": [1, 0, 0, 1, 0, 0, 0, 1, 0, 1]},
    ] == inference[1]["outputs"]
    assert [[-1, 2], [-1, 5]] == [output["shape"] for output in metadata[1]["outputs"]]


ROWS = {"inputs": [ROW, [6.7, 3.0, 5.2, 2.3]]}


def test_predict_gives_probabilities_where_asked(serving, directory, iris):
    """With the names of the classes in their order; alone, and with an explanation."""
    paths = [
        f"/predict?{query}" for query in ("probabilities=true", "explain=true&probabilities=1", "probabilities=no")
    ]
    answers, _, _ = asked(serving, directory, *(("POST", path, ROWS) for path in paths))
    (alone, both, neither) = [document for _, document in answers]

    np.testing.assert_allclose(iris[0].predict_proba(ROWS["inputs"]), alone["probabilities"], rtol=1e-12)
    assert (["setosa", "versicolor", "virginica"], [0, 2]) == (alone["classes"], alone["predictions"])
    assert {"explanation"} == both.keys() - alone.keys()
    assert {"probabilities", "classes"} == alone.keys() - neither.keys()


def test_predict_gives_probabilities_of_each_target(serving, directory):
    """A list for each, of the classes too."""
    ((status, document),), _, _ = asked(
        serving, several_targets(directory), ("POST", "/predict?probabilities=true", {"inputs": [ROW]})
    )
    assert (200, [[[1, 0, 0], [1, 0]]], [["0", "1", "2"], ["0", "1"]]) == (
        status,
        document["probabilities"],
        document["classes"],
    )


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("/predict?probabilities=true", ROWS, "?probabilities"),
        ("/predict?explain=true&probabilities=true", ROWS, "?probabilities"),
        (
            "/v2/models/iris/infer",
            {"inputs": [TENSOR], "outputs": [{"name": "predict"}, {"name": "predict_proba"}]},
            "outputs[1]",
        ),
    ],
)
def test_probabilities_of_a_regression_are_refused_before_anything_is_counted(serving, directory, path, body, place):
    """422, with a sentence and the place."""
    directory.task, directory.classes = "regression", None
    directory.model = LinearRegression().fit(directory.rows, directory.rows[:, 0])
    ((status, document),), metrics, _ = asked(serving, directory, ("POST", path, body))

    assert (422, "InputsRefused", place) == (status, document["reason"], document["place"])
    assert "the model has no probabilities; ask for its predictions alone" == document["error"]
    assert "inference_rows_total 0.0" in metrics
