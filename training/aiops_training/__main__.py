"""The command line: `python -m aiops_training`."""

import argparse
import hashlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from aiops_drift import DriftError
from aiops_training import artifacts, configmap, formats
from aiops_training.datasets import BUNDLED, load_bundled, load_csv
from aiops_training.errors import TrainingError
from aiops_training.model import fit

NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


def parser() -> argparse.ArgumentParser:
    """The options and their help."""
    options = argparse.ArgumentParser(
        prog="python -m aiops_training",
        description="Train a model and write what the inference image serves: model.skops (or model.pkl), "
        "baseline.npy, expectations.json and manifest.json. Two runs on the same data give the same bytes.",
        epilog="example: python training/train.py --csv rows.csv --target price --configmap prices-artifacts",
    )
    source = options.add_mutually_exclusive_group()
    source.add_argument(
        "--dataset", default="iris", help=f"a bundled data set: {', '.join(sorted(BUNDLED))} (default: iris)"
    )
    source.add_argument("--csv", type=Path, metavar="FILE", help="a CSV file with a header line; needs --target")
    options.add_argument("--target", metavar="COLUMN", help="the target's column in the CSV file")
    options.add_argument(
        "--task",
        choices=("classification", "regression"),
        help="what the CSV file's target is (default: by its values)",
    )
    options.add_argument(
        "--output", type=Path, default=Path("model_artifacts"), metavar="DIR", help="default: model_artifacts"
    )
    options.add_argument(
        "--format",
        choices=formats.CHOICES,
        default="auto",
        help="of the model's file: skops (model.skops), pickle (model.pkl) or onnx (model.onnx, needs aiops-training[onnx]); "
        "auto, the default, is skops where it trusts all of the model, and pickle elsewhere",
    )
    options.add_argument(
        "--configmap",
        metavar="NAME",
        type=_configmap_name,
        help="write DIR/configmap.yaml too, a ConfigMap of this name for spec.model.artifacts.configMap",
    )
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 when the artifacts were written, 1 with a sentence on stderr when not."""
    options = parser()
    chosen = options.parse_args(arguments)
    if (chosen.csv is None) != (chosen.target is None):
        options.error("--csv and --target go together")
    if chosen.task and chosen.csv is None:
        options.error("--task goes with --csv; a bundled data set knows its own")
    try:
        run(chosen)
    except (TrainingError, DriftError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run(chosen: argparse.Namespace) -> None:
    """Load, train, write, and say what was written.

    Raises:
        TrainingError: data that cannot be trained on, artifacts that do not fit in a ConfigMap.
        DriftError: rows that a profile cannot describe.
        OSError: a directory that cannot be written.
    """
    dataset = load_csv(chosen.csv, chosen.target, chosen.task) if chosen.csv else load_bundled(chosen.dataset)
    print(f"{dataset.name}: {len(dataset.rows)} rows, {len(dataset.features)} features, {dataset.task}")
    model, evaluation = fit(dataset)
    print(f"{evaluation.metric} {evaluation.score} (mean of five folds)")
    form, why = formats.choose(model, chosen.format)
    if why:
        print(why)
    files = artifacts.build(dataset, model, evaluation, form)
    manifest = configmap.manifest(chosen.configmap, files) if chosen.configmap else None
    artifacts.write(files, chosen.output)
    for name, data in files.items():
        print(f"{chosen.output / name}  {len(data):,} bytes  sha256:{hashlib.sha256(data).hexdigest()}")
    if manifest:
        path = chosen.output / "configmap.yaml"
        path.write_text(manifest, encoding="utf-8")
        # Server-side: a client-side apply would copy the bytes into an annotation, which holds 256 KiB.
        print(f"next: kubectl apply --server-side -f {path}")


def _configmap_name(text: str) -> str:
    if not NAME.fullmatch(text):
        message = f"{text!r} is not a name for a ConfigMap: lower-case letters, digits, - and . (as iris-artifacts)"
        raise argparse.ArgumentTypeError(message)
    return text


if __name__ == "__main__":
    sys.exit(main())
