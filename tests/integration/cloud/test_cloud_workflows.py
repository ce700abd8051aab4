"""The workflows, as actionlint reads them, and what it does not look at: pins, rights, secrets, confirmations."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from aiops_localcluster import binaries
from aiops_localcluster.progress import Lines

ROOT = Path(__file__).resolve().parents[3]
WORKFLOWS = {path.stem: path for path in (ROOT / ".github/workflows").glob("*.yml")}
AWS = {"train-model": "training", "destroy": "infrastructure", "reset": "infrastructure"}
PINNED = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def read(name):
    """A workflow; YAML 1.1 takes the key `on` for true."""
    workflow = yaml.safe_load(WORKFLOWS[name].read_text())
    return {("on" if key is True else key): value for key, value in workflow.items()}


def confirmation(name):
    """The script that looks at what was typed."""
    return read(name)["jobs"]["confirm"]["steps"][0]["run"]


def test_actionlint_has_nothing_to_say():
    """Syntax, expressions, contexts, types of inputs and permissions of every workflow."""
    actionlint = binaries.ensure_one("actionlint", Lines())
    done = subprocess.run(
        [actionlint, "-shellcheck=", "-pyflakes=", *WORKFLOWS.values()], capture_output=True, text=True, check=False
    )
    assert (0, "") == (done.returncode, done.stdout + done.stderr)


def test_the_workflows_and_their_names():
    """`gh workflow run "Train Model"` finds one of this name."""
    expected = {
        "ci": "CI",
        "destroy": "Destroy",
        "release": "Release",
        "reset": "Reset",
        "train-model": "Train Model",
    }
    assert expected == {name: read(name)["name"] for name in WORKFLOWS}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_are_pinned_by_commit(name):
    """With the version beside it, for the person who reads and the tool that updates."""
    uses = [line.strip().removeprefix("- ") for line in WORKFLOWS[name].read_text().splitlines() if "uses:" in line]
    assert [] == [line for line in uses if not PINNED.fullmatch(line)]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_rights_bounds_and_concurrency(name):
    """No right to write but what a job says; each job ends in time; no two runs in each other's way."""
    workflow = read(name)
    assert "write" not in str(workflow["permissions"])
    assert "group" in workflow["concurrency"]
    assert [] == [job for job, body in workflow["jobs"].items() if "timeout-minutes" not in body]


def test_train_model_waits_for_what_the_receiver_sends():
    """The type of event that aiops_training's receiver dispatches unless it is told another."""
    told = subprocess.run(
        [sys.executable, "-m", "aiops_training", "receive", "--help"], capture_output=True, text=True, check=True
    ).stdout
    (kind,) = read("train-model")["on"]["repository_dispatch"]["types"]
    assert f"(default: {kind})" in " ".join(told.split())


def test_one_version_of_uv():
    """Train Model installs the uv that everybody has."""
    (version,) = re.findall(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [version] == re.findall(r"uv==(\S+)", WORKFLOWS["train-model"].read_text())


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_long_lived_key(name):
    """Nothing is taken from the repository's secrets, and no key of AWS is named."""
    text = WORKFLOWS[name].read_text()
    assert [] == [word for word in ("secrets.", "AWS_ACCESS_KEY_ID", "aws-access-key-id") if word in text]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_expression_in_a_script(name):
    """What somebody types reaches a shell as a variable, never as a part of the script."""
    scripts = [step.get("run", "") for job in read(name)["jobs"].values() for step in job["steps"]]
    assert [] == [script for script in scripts if "${{" in script]


@pytest.mark.parametrize(("name", "environment"), AWS.items())
def test_aws_is_reached_by_oidc_from_a_protected_environment(name, environment):
    """The job that takes a role has id-token and its environment, which the role's trust names."""
    jobs = [
        job
        for job in read(name)["jobs"].values()
        if any("configure-aws-credentials" in step.get("uses", "") for step in job["steps"])
    ]
    assert [(environment, {"contents": "read", "id-token": "write"})] == [
        (job["environment"], job["permissions"]) for job in jobs
    ]
    trusts = "".join(path.read_text() for path in (ROOT / "terraform").rglob("github.tf"))
    assert f"repo:${{var.repository}}:environment:{environment}" in trusts


@pytest.mark.parametrize("name", ["destroy", "reset"])
def test_changes_need_a_typed_word_first(name):
    """The job that changes things needs the one that looks at the word, and only one of both workflows runs at a time."""
    workflow = read(name)
    assert "confirm" == workflow["jobs"][name]["needs"]
    assert {"required": True, "type": "string"}.items() <= workflow["on"]["workflow_dispatch"]["inputs"][
        "confirm"
    ].items()
    assert ("infrastructure", False) == (
        workflow["concurrency"]["group"],
        workflow["concurrency"]["cancel-in-progress"],
    )


@pytest.mark.parametrize("name", ["destroy", "reset"])
@pytest.mark.parametrize(
    ("typed", "code"), [("{name}", 0), ("", 1), ("yes", 1), ("{name} ", 1), ("x = x -o {name}", 1)]
)
def test_the_confirmation_runs(name, typed, code):
    """Only the word itself goes on."""
    done = subprocess.run(
        ["bash", "-e", "-c", confirmation(name)],
        env={**os.environ, "TYPED": typed.format(name=name)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert code == done.returncode
    assert (f"confirm has to be the word {name}" in done.stdout) == bool(code)
