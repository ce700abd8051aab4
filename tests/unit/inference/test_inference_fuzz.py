"""Whatever comes in from outside is read, or refused by an error of its own kind that tells nothing of our insides."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_drift import Expectations, Profile, Report, WireError
from aiops_inference import codec
from aiops_inference.errors import (
    ArtifactError,
    InputsRefusedError,
    InvalidInputsError,
    ManifestInvalidError,
    NotReadyError,
    PredictionFailedError,
    RequestError,
    RuntimeConfigError,
    SettingsError,
)
from aiops_inference.manifest import Manifest
from aiops_inference.monitor import Monitor
from aiops_inference.settings import RuntimeSettings, Settings

ROWS = np.random.default_rng(0).normal(size=(300, 2))
MONITOR = Monitor(Profile.from_rows(ROWS, ["a", "b"]), f"sha256:{'0' * 64}", RuntimeSettings())
MONITOR.observe(ROWS, 0.0)
RIGHT = MONITOR.report(Expectations(), 1.0).to_dict()

KEYS = st.sampled_from(
    [
        "inputs",
        "instances",
        "name",
        "profile",
        "version",
        "files",
        "golden",
        "inputs",
        "predictions",
        "features",
        "drift",
        "webhook",
        "cooldown",
        "baseline",
        "counts",
        "blocks",
        "expectations",
        "n",
        "z",
        "bins",
        "state",
        "rows",
        "now",
        "task",
        "schemaVersion",
        "zScoreThreshold",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=6),
    max_leaves=25,
)
BODIES = st.binary(max_size=200) | JSON.map(lambda document: json.dumps(document).encode(errors="replace"))
# A stack, an address of an object, a class's repr, a file of ours.
INSIDES = re.compile(r"Traceback|0x[0-9a-f]{6,}|<class|site-packages|\.py\b|aiops_inference")


@pytest.mark.parametrize(
    ("read", "refused"),
    [
        (lambda body: codec.decode(body, ("a", "b"), 10), RequestError),
        (lambda body: codec.decode(body, ("a", "b"), 10, "instances"), RequestError),
        (codec.parse, RequestError),
        (Manifest.parse, ManifestInvalidError),
        (RuntimeSettings.parse, RuntimeConfigError),
    ],
)
@given(BODIES)
def test_bytes_are_read_or_refused(read, refused, body):
    """And what is said of them fits in some lines."""
    try:
        read(body)
    except refused as error:
        assert not INSIDES.search(str(error))
        assert len(str(error)) < 2000


@given(JSON)
def test_a_report_is_read_or_refused(document):
    """It may be anybody's."""
    with pytest.raises(WireError):
        Report.from_dict(document)


@given(st.data())
def test_a_report_with_one_thing_wrong_is_read_or_refused(data):
    """At any depth of one that is right."""
    document = json.loads(json.dumps(RIGHT))
    at = document
    while True:
        key = data.draw(st.sampled_from(sorted(at)) if isinstance(at, dict) else st.integers(0, len(at) - 1))
        if isinstance(at[key], dict | list) and at[key] and data.draw(st.booleans()):
            at = at[key]
            continue
        at[key] = data.draw(JSON)
        break
    try:
        Report.from_dict(document)
    except WireError as error:
        assert not INSIDES.search(str(error))


@given(
    st.dictionaries(
        st.sampled_from(["PORT", "MAX_ROWS", "DRIFT_WEBHOOK", "DRIFT_THRESHOLD", "MODEL_SHA256"]), st.text()
    )
)
def test_an_environment_is_read_or_refused(environment):
    """Before anything is started."""
    try:
        Settings.from_environment(environment)
    except SettingsError as error:
        assert not INSIDES.search(str(error))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            NotReadyError("/models/v1/model.pkl cannot be read: No such file", "ModelNotFound"),
            "model.pkl cannot be read: No such file",
        ),
        (
            NotReadyError(
                "cannot import name 'X' from 'a.b' (/usr/lib/python3/site-packages/a/b.py)", "ModelUnloadable"
            ),
            "cannot import name 'X' from 'a.b' (b.py)",
        ),
        (PredictionFailedError('the model failed: [Errno 2]: "/tmp/a b/c"'), 'the model failed: [Errno 2]: "a b/c"'),
        (InputsRefusedError("the model refuses 3 km/h and 1/2"), "the model refuses 3 km/h and 1/2"),
        (
            InvalidInputsError('inputs is the string "/etc/passwd"; it must be'),
            'inputs is the string "/etc/passwd"; it must be',
        ),
    ],
)
def test_clients_are_not_told_where_our_files_are(error, told):
    """The log is; what a client sent comes back as it was."""
    assert told == json.loads(codec.encode_error(error))["error"]


def test_all_errors_of_artifacts_are_told_without_directories():
    """Whichever it is."""
    for kind in ArtifactError.__subclasses__():
        error = NotReadyError(str(kind("/a/b/c is wrong")), kind.__name__)
        assert "c is wrong" == json.loads(codec.encode_error(error))["error"]
