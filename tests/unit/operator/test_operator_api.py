"""The typed view of the resource."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_drift import Thresholds
from aiops_operator import api
from aiops_operator.errors import SpecError
from aiops_operator.names import Key


def test_the_least_spec_gets_the_defaults_of_the_crd(make):
    """What is left out reads as the CRD's defaults."""
    service = make()
    expected = (
        Key("models", "iris"),
        api.Model(api.ConfigMapSource("iris-artifacts")),
        1,
        api.Drift(Thresholds(5.0, {}, 50), "auto", None),
        api.Monitoring("auto", "15s", {}),
        False,
        None,
    )
    assert expected == (
        service.key,
        service.model,
        service.replicas,
        service.drift,
        service.monitoring,
        service.paused,
        service.resources,
    )


def test_every_drift_field_is_read(make):
    """Thresholds, expectations and webhook come through, the cooldown in seconds."""
    spec = {
        "zScoreThreshold": 4,
        "minSamples": 80,
        "features": [{"name": "petal length (cm)", "zScoreThreshold": 3.5}],
        "expectations": {"mode": "disabled"},
        "webhook": {
            "urlSecretRef": {"name": "hook", "key": "url"},
            "signingSecretRef": {"name": "hook", "key": "signing"},
            "required": True,
            "cooldown": "1h1m1s",
        },
        "averageRunLength": 5000,
        "falseAlarmInterval": "0s",
    }
    expected = api.Drift(
        Thresholds(4.0, {"petal length (cm)": 3.5}, 80),
        "disabled",
        api.Webhook(None, api.SecretKey("hook", "url"), api.SecretKey("hook", "signing"), required=True, cooldown=3661),
        5000,
        0,
    )
    assert expected == make({"drift": spec}).drift


def test_a_strategy_is_read(make):
    """Without one nothing is compared; what a shadow must show has the CRD's defaults."""
    given = {"minRows": 10, "maxDistance": 0, "percent": 5}

    assert make({"rollout": {"progressDeadlineSeconds": 60, "strategy": "RollingUpdate"}}).shadow is None
    assert api.Shadow(500, 0.1, 100) == make({"rollout": {"strategy": "Shadow"}}).shadow
    assert api.Shadow(10, 0.0, 5) == make({"rollout": {"strategy": "Shadow", "shadow": given}}).shadow


@pytest.mark.parametrize(
    ("artifacts", "source"),
    [
        ({"configMap": {"name": "a"}}, api.ConfigMapSource("a")),
        ({"persistentVolumeClaim": {"claimName": "c"}}, api.ClaimSource("c", "")),
        ({"persistentVolumeClaim": {"claimName": "c", "path": "iris/v3/"}}, api.ClaimSource("c", "iris/v3")),
        ({"image": {"reference": "r/i:1"}}, api.ImageSource("r/i:1", None)),
        ({"image": {"reference": "r/i:1", "pullPolicy": "Never"}}, api.ImageSource("r/i:1", "Never")),
        ({"uri": "s3://models/iris/v3/"}, api.UriSource("s3://models/iris/v3", None)),
        ({"uri": "s3://models", "secretRef": {"name": "reader"}}, api.UriSource("s3://models", "reader")),
    ],
)
def test_each_source_of_artifacts_is_read(make, artifacts, source):
    """The four sources become four types."""
    assert make({"model": {"artifacts": artifacts}}).model.source == source


def test_a_spec_without_a_source_is_refused(make):
    """An older CRD may have let it through; then the reason is said."""
    with pytest.raises(SpecError, match="names none of configMap, persistentVolumeClaim, image and uri"):
        make({"model": {"artifacts": {"git": "git://host/models"}}})


@pytest.mark.parametrize("text", ["", "5", "m5", "1.5h", "-3s", "5m3h"])
def test_what_is_no_duration_is_refused(text):
    """Only hours, minutes and seconds, in this order."""
    with pytest.raises(SpecError, match="is not a duration"):
        api.seconds(text)


@given(st.integers(0, 9999), st.integers(0, 999999), st.integers(0, 99999999))
def test_durations_add_up(hours, minutes, rest):
    """Every duration that the CRD takes reads as its seconds."""
    assert api.seconds(f"{hours}h{minutes}m{rest}s") == hours * 3600 + minutes * 60 + rest
