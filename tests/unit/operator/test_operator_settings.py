"""Settings from the environment."""

import base64
import re

import pytest

from aiops_operator.errors import SettingsError
from aiops_operator.settings import Settings


def test_an_empty_environment_gives_the_documented_defaults():
    """A variable that is empty counts as unset."""
    environ = dict.fromkeys(("INFERENCE_IMAGE", "WATCH_NAMESPACES", "OPERATOR_PORT", "POLL_INTERVAL", "LOG_FORMAT"), "")
    assert Settings.from_env(environ) == Settings("aiops-quality:latest", (), 8080, "", "", 5.0, 600.0, "json", "INFO")


def test_every_variable_is_read():
    """Names are trimmed and said once; choices are taken in any case."""
    environ = {
        "INFERENCE_IMAGE": "r/i:1",
        "WATCH_NAMESPACES": "a, b,,a",
        "OPERATOR_PORT": "0",
        "LEASE_NAME": "one-writes",
        "LEASE_NAMESPACE": "aiops",
        "POLL_INTERVAL": "0.5",
        "RESYNC_INTERVAL": "1",
        "LOG_FORMAT": "plain",
        "LOG_LEVEL": "debug",
    }
    assert Settings.from_env(environ) == Settings(
        "r/i:1", ("a", "b"), 0, "one-writes", "aiops", 0.5, 1.0, "plain", "DEBUG"
    )


def test_a_lease_needs_a_namespace():
    """The variable that is missing is named."""
    with pytest.raises(SettingsError, match=r"^LEASE_NAMESPACE must name the namespace"):
        Settings.from_env({"LEASE_NAME": "one-writes"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPERATOR_PORT", "65536"),
        ("OPERATOR_PORT", "-1"),
        ("OPERATOR_PORT", "http"),
        ("POLL_INTERVAL", "0"),
        ("POLL_INTERVAL", "nan"),
        ("POLL_INTERVAL", "inf"),
        ("RESYNC_INTERVAL", "-1"),
        ("RESYNC_INTERVAL", "1m"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "LOUD"),
        ("NETWORK_POLICY_PEERS", "{}"),
        ("NETWORK_POLICY_PEERS", "[1]"),
        ("NETWORK_POLICY_PEERS", "[{}]"),
        ("NETWORK_POLICY_PEERS", "monitoring"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(name, value):
    """The error names the variable and the value."""
    with pytest.raises(SettingsError, match=f"^{name} must be .*'{re.escape(value)}'"):
        Settings.from_env({name: value})


def test_peers_are_read():
    """As a NetworkPolicy writes them, without the empty parts that the API server does not keep."""
    peers = '[{"namespaceSelector": {"matchLabels": {}}}, {"ipBlock": {"cidr": "10.0.0.0/8"}}]'
    found = Settings.from_env({"NETWORK_POLICY_PEERS": peers}).network_policy_peers
    assert found == ({"namespaceSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8"}})


def test_a_sink_is_read():
    """Its URL as it is, its secret as the key; neither is shown."""
    secret = f"whsec_{base64.b64encode(b'k' * 24).decode()}"
    found = Settings.from_env({"DRIFT_SINK_URL": "https://e.example:8443/t0k3n", "DRIFT_SINK_SECRET": secret})
    assert ("https://e.example:8443/t0k3n", b"k" * 24) == (found.drift_sink_url, found.drift_sink_secret)
    assert "t0k3n" not in repr(found)
    assert "kkk" not in repr(found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DRIFT_SINK_URL", "t0k3n"),
        ("DRIFT_SINK_URL", "file:///etc/t0k3n"),
        ("DRIFT_SINK_URL", "https:///t0k3n"),
        ("DRIFT_SINK_URL", "https://[t0k3n"),
        ("DRIFT_SINK_URL", "https://e.example:t0k3n/"),
        ("DRIFT_SINK_URL", "https://e.example/\r\nHost: t0k3n"),
        ("DRIFT_SINK_SECRET", "t0k3n"),
        ("DRIFT_SINK_SECRET", "whsec_t0k3n"),
        ("DRIFT_SINK_SECRET", "whsec_dDBrM24="),
    ],
)
def test_a_sink_that_cannot_be_used_is_named_and_not_repeated(name, value):
    """What was given may be a password."""
    with pytest.raises(SettingsError, match=f"^{name} ") as raised:
        Settings.from_env({name: value})
    assert "t0k3n" not in str(raised.value)
