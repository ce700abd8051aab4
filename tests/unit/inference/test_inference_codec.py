import json
import math

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aiops_inference.codec import MAX_SECOND_LOOK, decode, encode, encode_error
from aiops_inference.errors import InvalidInputsError, InvalidJsonError, RequestError, TooLargeError

NAMES = ["a", "b", "c"]
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 20), st.just(3)), elements=FINITE))
def test_rows_survive_the_way_to_bytes_and_back(rows):
    """What a client encodes is what the model gets, bit for bit."""
    body = orjson.dumps({"inputs": rows.tolist()})
    assert rows.tolist() == decode(body, NAMES, 20).tolist()


@given(st.lists(st.lists(st.integers(-(2**70), 2**70), min_size=3, max_size=3), min_size=1))
def test_whole_numbers_of_any_size_become_floats(rows):
    """JSON does not know integers, so a client may leave out the decimal point."""
    decoded = decode(json.dumps({"inputs": rows}).encode(), NAMES, 100)
    assert [[float(value) for value in row] for row in rows] == decoded.tolist()


@given(
    st.binary()
    | JSON.map(lambda value: json.dumps({"inputs": value}).encode())
    | JSON.map(lambda v: json.dumps(v).encode())
)
def test_no_body_raises_anything_but_a_request_error(body):
    """Whatever bytes come, they are rows or a 4xx that can be encoded."""
    try:
        rows = decode(body, NAMES, 5)
    except RequestError as error:
        refusal = error
    else:
        assert (3, True) == (rows.shape[1], bool(np.isfinite(rows).all()))
        return
    assert 400 <= refusal.status < 500
    assert str(refusal) == json.loads(encode_error(refusal))["error"]


@pytest.mark.parametrize(
    ("body", "sentence", "place"),
    [
        (b"", "the body is empty", ""),
        (b" \n", "the body is empty", ""),
        (b"inputs=1", "the body is not JSON: unexpected character", ""),
        (b'{"inputs": [[1,2,3]]', "the body is not JSON: unexpected end of data", ""),
        (b'\xff\xfe{"inputs"', "the body is not JSON: str is not valid UTF-8", ""),
        (b"[" * 100_000, "the body is not JSON: depth limit exceeded", ""),
        (b"[[1,2,3]]", 'the body is a list; it must be an object such as {"inputs"', ""),
        (b"null", "the body is null", ""),
        (b"{}", 'the body has no "inputs"', "inputs"),
        (b'{"inputs": "x"}', 'inputs is the string "x"; it must be a list of rows', "inputs"),
        (b'{"inputs": {"a": 1}}', "inputs is an object", "inputs"),
        (b'{"inputs": []}', "inputs is empty", "inputs"),
        (b'{"inputs": [1, 2, 3]}', "inputs[0] is a number; it must be a row, a list of 3 numbers", "inputs[0]"),
        (b'{"inputs": [[1,2,3], []]}', "inputs[1] has 0 values; the model wants 3: a, b, c", "inputs[1]"),
        (b'{"inputs": [[1,2,3], [1]]}', "inputs[1] has 1 value; the model wants 3: a, b, c", "inputs[1]"),
        (b'{"inputs": [[1,2,3,4]]}', "inputs[0] has 4 values; the model wants 3: a, b, c", "inputs[0]"),
        (b'{"inputs": [[1,2,3],[1,2,NaN]]}', "inputs[1][2] (c) is not a finite number", "inputs[1][2]"),
        (b'{"inputs": [[1,-Infinity,3]]}', "inputs[0][1] (b) is not a finite number", "inputs[0][1]"),
        (b'{"inputs": [[1,2,1e400]]}', "inputs[0][2] (c) is not a finite number", "inputs[0][2]"),
        (b'{"inputs": [[1,2,' + b"9" * 400 + b"]]}", "inputs[0][2] (c) is not a finite number", "inputs[0][2]"),
        (b'{"inputs": [[1,"2",3]]}', 'inputs[0][1] (b) is the string "2"; it must be a number', "inputs[0][1]"),
        (b'{"inputs": [[1,null,3]]}', "inputs[0][1] (b) is null; it must be a number", "inputs[0][1]"),
        (b'{"inputs": [[true,2,3]]}', "inputs[0][0] (a) is true; it must be a number", "inputs[0][0]"),
        (b'{"inputs": [[[1],2,3]]}', "inputs[0][0] (a) is a list; it must be a number", "inputs[0][0]"),
        (b'{"inputs": [[1,2,{}]]}', "inputs[0][2] (c) is an object; it must be a number", "inputs[0][2]"),
    ],
)
def test_the_error_names_the_place(body, sentence, place):
    """One sentence says what is wrong, where, and what would be right."""
    with pytest.raises(RequestError) as caught:
        decode(body, NAMES, 5)
    assert str(caught.value).startswith(sentence)
    assert place == caught.value.place


def test_too_many_rows_are_refused_with_the_limit():
    """The limit is in the sentence, so that a client can split its request."""
    with pytest.raises(TooLargeError, match=r"inputs has 6 rows; one request may have 5"):
        decode(b'{"inputs": [[1],[1],[1],[1],[1],[1]]}', ["a"], 5)


def test_the_last_of_two_equal_keys_counts():
    """Duplicate keys are legal JSON."""
    assert [[2.0]] == decode(b'{"inputs": [[1]], "inputs": [[2]]}', ["a"], 5).tolist()


def test_a_large_broken_body_is_not_read_a_second_time():
    """Looking for the place costs time, and is only worth it where a person may have typed the body."""
    body = b'{"inputs": [[NaN]], "x": "' + b"x" * MAX_SECOND_LOOK + b'"}'
    with pytest.raises(InvalidJsonError, match="the body is not JSON"):
        decode(body, ["a"], 5)


def test_many_features_are_not_all_listed():
    """An error stays readable where the model has a thousand features."""
    with pytest.raises(InvalidInputsError) as caught:
        decode(b'{"inputs": [[1]]}', [f"f{i}" for i in range(1000)], 5)
    assert str(caught.value).endswith("f19, …")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, 2.5, "a", None, True], b'[1,2.5,"a",null,true]'),
        (np.int64(3), b"3"),
        ([math.nan], b"[null]"),
        ([3 + 4j], b'["(3+4j)"]'),
    ],
)
def test_anything_that_a_model_answers_has_a_json_form(value, text):
    """Numpy scalars are numbers; what JSON has no form for is its text."""
    assert text == encode(value)
