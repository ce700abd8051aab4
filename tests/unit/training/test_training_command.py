"""The command line."""

import subprocess
import sys

import pytest

from aiops_training import options
from aiops_training.__main__ import main

# What the inference image has not, in whose build the model that it serves by itself is trained.
HEAVY = ("cryptography", "httpx", "oras", "requests", "standardwebhooks")


def test_training_alone_imports_nothing_of_the_other_commands():
    """In another process, because this one has it all."""
    program = f"import sys, aiops_training.__main__; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert "[]" == done.stdout.strip()


@pytest.mark.parametrize("command", sorted(options.COMMANDS))
def test_each_command_explains_itself(command, capsys):
    """And the help without a command names it."""
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert f"python -m aiops_training {command}" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert f"{command}: " in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["retrain", "--git", "x", "--file", "y", "--holdout", "1"], "'1' is no share"),
        (["retrain", "--git", "x", "--file", "y", "--alpha", "none"], "'none' is no share"),
        (["retrain", "--git", "x"], "required: --file"),
        (["train", "--csv", "x"], "--csv and --target go together"),
        (["train", "--csv-sha256", "0" * 64], "--csv-sha256 goes with --csv"),
        (["train", "--csv", "x", "--target", "y", "--csv-sha256", "abc"], "'abc' is no SHA-256"),
        (["receive", "--repository", "models"], "'models' is no repository: owner/name"),
        (["package", "x", "--configmap", "A b"], "not a name for a ConfigMap"),
        (["evaluate", "x"], "required: --in-service"),
    ],
)
def test_a_command_line_that_cannot_be_is_refused(arguments, why, capsys):
    """With exit code 2, and what is wrong."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert why in capsys.readouterr().err


@pytest.mark.parametrize("command", ["verify", "push", "sign"])
def test_a_directory_without_artifacts_is_a_clear_error(command, tmp_path, capsys):
    """It names what is not there."""
    more = ["registry.example.com/models/iris"] if command == "push" else []
    key = ["--sign-key", __file__] if command == "sign" else []

    assert 1 == main([command, str(tmp_path / "nothing"), *more, *key])
    assert "manifest.json cannot be read: No such file or directory; is" in capsys.readouterr().err


def test_artifacts_become_a_config_map_later(tmp_path, capsys):
    """The same manifest that train writes in one step."""
    main(["train", "--output", str(tmp_path), "--configmap", "iris-artifacts"])
    first = (tmp_path / "configmap.yaml").read_text()

    assert 0 == main(
        ["package", str(tmp_path), "--configmap", "iris-artifacts", "--output", str(tmp_path / "again.yaml")]
    )
    assert first == (tmp_path / "again.yaml").read_text()
    assert "next: kubectl apply --server-side" in capsys.readouterr().out
