"""The command line's options and their help."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aiops_training import formats
from aiops_training.datasets import BUNDLED

NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
PROGRAM: Final = "python -m aiops_training"
SIGNING_KEY: Final = "AIOPS_SIGNING_KEY"
COMMANDS: Final = {
    "train": "train a model and write its artifacts; also what is done without a command",
    "evaluate": "compare artifacts with the model in service on held-out rows; exit code 3 where they are not good enough",
    "package": "write artifacts as the manifest of a ConfigMap",
    "sign": "sign the manifest of artifacts",
    "verify": "hold artifacts against their manifest, and that against its signature",
    "push": "push artifacts to a registry as an image that Kubernetes mounts",
    "promote": "change the InferenceService in a git repository to artifacts that were packaged or pushed",
    "retrain": "all of it in one go; exit code 3 where the new model is not good enough",
    "receive": "take the operator's events of drift and start a GitHub workflow",
}
_TRAIN: Final = (
    "Train a model and write what the inference image serves: model.skops (or model.pkl), "
    "baseline.npy, expectations.json and manifest.json. Two runs on the same data give the same bytes."
)
_EXAMPLE: Final = "example: python training/train.py --csv rows.csv --target price --configmap prices-artifacts"


def train(prog: str = PROGRAM) -> argparse.ArgumentParser:
    """Options of `train`."""
    listed = "; ".join(f"{name}: {text}" for name, text in COMMANDS.items())
    epilog = _EXAMPLE if prog != PROGRAM else f"{_EXAMPLE} ... Commands, each with a --help of its own: {listed}"
    options = argparse.ArgumentParser(prog=prog, description=_TRAIN, epilog=epilog)
    _data(options)
    _output(options)
    _format(options)
    options.add_argument(
        "--configmap",
        metavar="NAME",
        type=_configmap_name,
        help="write DIR/configmap.yaml too, a ConfigMap of this name for spec.model.artifacts.configMap",
    )
    return options


def evaluate() -> argparse.ArgumentParser:
    """Options of `evaluate`."""
    options = _command("evaluate")
    options.add_argument("artifacts", type=Path, metavar="DIR", help="the new model's artifacts")
    _data(options)
    _judging(options, needed=True)
    _plain_http(options)
    return options


def package() -> argparse.ArgumentParser:
    """Options of `package`."""
    options = _command("package")
    options.add_argument("artifacts", type=Path, metavar="DIR")
    options.add_argument("--configmap", metavar="NAME", type=_configmap_name, required=True)
    options.add_argument("--output", type=Path, metavar="FILE", help="default: DIR/configmap.yaml")
    return options


def sign() -> argparse.ArgumentParser:
    """Options of `sign`."""
    options = _command("sign")
    options.add_argument("artifacts", type=Path, metavar="DIR")
    _sign_key(options)
    return options


def verify() -> argparse.ArgumentParser:
    """Options of `verify`."""
    options = _command("verify")
    options.add_argument("artifacts", type=Path, metavar="DIR")
    options.add_argument("--key", type=Path, metavar="FILE", help="PEM of the public key; left out: digests alone")
    return options


def push() -> argparse.ArgumentParser:
    """Options of `push`."""
    options = _command("push")
    options.add_argument("artifacts", type=Path, metavar="DIR")
    options.add_argument("repository", help="such as registry.example.com/models/iris, with a tag or without")
    _plain_http(options)
    return options


def promote() -> argparse.ArgumentParser:
    """Options of `promote`."""
    options = _command("promote")
    options.add_argument("artifacts", type=Path, metavar="DIR")
    _git(options)
    options.add_argument(
        "--image", metavar="REFERENCE", help="what push printed; left out: a ConfigMap in the repository"
    )
    options.add_argument("--message", default="", help="of the commit, below its first line")
    return options


def retrain() -> argparse.ArgumentParser:
    """Options of `retrain`."""
    options = _command("retrain")
    _data(options)
    options.add_argument(
        "--holdout",
        type=_share,
        default=0.25,
        metavar="SHARE",
        help="of the rows, on which the models are compared; the model that is promoted has not learnt from them (default: 0.25)",
    )
    _output(options)
    _format(options)
    _judging(options, needed=False)
    _git(options)
    options.add_argument(
        "--push", metavar="REPOSITORY", help="push an image there; left out: a ConfigMap in the git repository"
    )
    _plain_http(options)
    _sign_key(options)
    return options


def receive() -> argparse.ArgumentParser:
    """Options of `receive`."""
    options = _command("receive")
    options.add_argument("--repository", required=True, metavar="OWNER/REPO", type=_owner_and_name)
    options.add_argument("--event-type", default="drift", metavar="TYPE", help="of the dispatch (default: drift)")
    options.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1")
    options.add_argument("--port", type=int, default=8090, help="default: 8090")
    options.add_argument(
        "--api", default="https://api.github.com", metavar="URL", help="default: https://api.github.com"
    )
    options.add_argument(
        "--secret-file", type=Path, metavar="FILE", help="whsec_… of operator.driftSink (default: $DRIFT_SINK_SECRET)"
    )
    options.add_argument("--token-file", type=Path, metavar="FILE", help="GitHub token (default: $GITHUB_TOKEN)")
    return options


PARSERS: Final[dict[str, Callable[[], argparse.ArgumentParser]]] = {
    "train": lambda: train(f"{PROGRAM} train"),
    "evaluate": evaluate,
    "package": package,
    "sign": sign,
    "verify": verify,
    "push": push,
    "promote": promote,
    "retrain": retrain,
    "receive": receive,
}


def _command(name: str) -> argparse.ArgumentParser:
    text = COMMANDS[name]
    return argparse.ArgumentParser(prog=f"{PROGRAM} {name}", description=f"{text[0].upper()}{text[1:]}.")


def _data(options: argparse.ArgumentParser) -> None:
    source = options.add_mutually_exclusive_group()
    source.add_argument(
        "--dataset", default="iris", help=f"a bundled data set: {', '.join(sorted(BUNDLED))} (default: iris)"
    )
    source.add_argument("--csv", metavar="FILE", help="a CSV file with a header line, or its https URL; needs --target")
    options.add_argument("--csv-sha256", metavar="DIGEST", type=_digest, help="what the CSV file's bytes should have")
    options.add_argument("--target", metavar="COLUMN", help="the target's column in the CSV file")
    options.add_argument(
        "--task",
        choices=("classification", "regression"),
        help="what the CSV file's target is (default: by its values)",
    )


def _output(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "--output", type=Path, default=Path("model_artifacts"), metavar="DIR", help="default: model_artifacts"
    )


def _format(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "--format",
        choices=formats.CHOICES,
        default="auto",
        help="of the model's file: skops (model.skops), pickle (model.pkl) or onnx (model.onnx, needs aiops-training[onnx]); "
        "auto, the default, is skops where it trusts all of the model, and pickle elsewhere",
    )


def _judging(options: argparse.ArgumentParser, *, needed: bool) -> None:
    options.add_argument(
        "--in-service",
        required=needed,
        metavar="MODEL",
        help="what to compare with: an artifact directory, an image's reference, the URL of the running service (which counts "
        "the rows), or none" + ("" if needed else "; default: what the manifest in git refers to"),
    )
    options.add_argument("--metric", choices=("accuracy", "log_loss", "rmse"), help="default: accuracy, or rmse")
    options.add_argument(
        "--accept",
        choices=("better", "not-worse"),
        default="better",
        help="better (default): beyond noise; not-worse: unless it is worse beyond noise",
    )
    options.add_argument("--alpha", type=_share, default=0.05, help="how probable such noise may be (default: 0.05)")
    options.add_argument(
        "--trust-pickle", action="store_true", help="load a pickle of the model in service, which can run any code"
    )
    options.add_argument(
        "--verify-key", type=Path, metavar="FILE", help="PEM of the key that must have signed the model in service"
    )


def _git(options: argparse.ArgumentParser) -> None:
    options.add_argument("--git", required=True, metavar="URL", help="repository, as git clone takes it")
    options.add_argument("--branch", default="main", help="default: main")
    options.add_argument(
        "--file", required=True, metavar="PATH", help="the InferenceService's manifest in the repository"
    )
    options.add_argument("--service", metavar="NAME", help="which InferenceService, where the file holds several")


def _sign_key(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "--sign-key",
        type=Path,
        metavar="FILE",
        help=f"PEM of the Ed25519 key that signs (default: the PEM in ${SIGNING_KEY}, where there is one)",
    )


def _plain_http(options: argparse.ArgumentParser) -> None:
    options.add_argument("--plain-http", action="store_true", help="speak to the registry without TLS")


def _configmap_name(text: str) -> str:
    if not NAME.fullmatch(text):
        message = f"{text!r} is not a name for a ConfigMap: lower-case letters, digits, - and . (as iris-artifacts)"
        raise argparse.ArgumentTypeError(message)
    return text


def _digest(text: str) -> str:
    digest = text.lower().removeprefix("sha256:")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        message = f"{text!r} is no SHA-256: 64 hexadecimal digits, as sha256sum prints them"
        raise argparse.ArgumentTypeError(message)
    return digest


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        message = f"{text!r} is no share: a number between 0 and 1"
        raise argparse.ArgumentTypeError(message)
    return share


def _owner_and_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+", text):
        message = f"{text!r} is no repository: owner/name"
        raise argparse.ArgumentTypeError(message)
    return text
