"""The process: what it says before it can do anything."""

import json
import logging
import os
import subprocess
import sys

import pytest

from aiops_operator.__main__ import JsonFormatter
from aiops_operator.names import Key


def run(*arguments, **environ):
    """Run `python -m aiops_operator`; its exit code and what it said."""
    command = [sys.executable, "-m", "aiops_operator", *arguments]
    clean = {name: value for name, value in os.environ.items() if name not in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST")}
    done = subprocess.run(command, env=clean | environ, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def test_help_names_every_setting():
    """And exits with 0."""
    code, out, _ = run("--help")
    names = ["INFERENCE_IMAGE", "WATCH_NAMESPACES", "OPERATOR_PORT", "POLL_INTERVAL", "RESYNC_INTERVAL", "LOG_FORMAT"]
    assert (code, [name for name in names if name not in out]) == (0, [])


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"POLL_INTERVAL": "often"}, "POLL_INTERVAL must be a number of seconds greater than 0, not 'often'"),
        ({"KUBECONFIG": "/does/not/exist"}, "no access to a cluster"),
    ],
)
def test_settings_that_cannot_be_used_end_it_with_one_line(environ, said):
    """Exit code 2, no trace."""
    code, _, err = run(**environ)
    assert (code, said in err.splitlines()[-1], "Traceback" in err) == (2, True, False)


def test_a_log_line_is_one_json_object():
    """Whatever the message holds."""
    record = logging.LogRecord("a", logging.INFO, "", 0, 'said "%s"\n', ("x",), None)
    line = JsonFormatter().format(record)
    assert ("\n" in line, json.loads(line)["message"], json.loads(line)["level"]) == (False, 'said "x"\n', "INFO")


def test_a_log_line_has_the_service_as_fields():
    """So that it can be asked for."""
    record = logging.LogRecord("n", logging.INFO, "", 0, "%s is %s", (Key("models", "iris"), "here"), None)
    line = json.loads(JsonFormatter().format(record))
    assert ("models", "iris", "models/iris is here") == (line["namespace"], line["name"], line["message"])
