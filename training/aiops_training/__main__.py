"""The command line: `python -m aiops_training`."""

import argparse
import contextlib
import hashlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiops_drift import DriftError
from aiops_training import artifacts, configmap, formats, options
from aiops_training.datasets import Dataset, load_bundled, load_csv
from aiops_training.errors import TrainingError
from aiops_training.model import fit

if TYPE_CHECKING:
    from aiops_training import retraining

# Each command imports what it needs: the build of the inference image trains with the server's libraries alone.
REFUSED: Final = 3  # the exit code of a model that is not good enough


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; without one, `train`.

    Returns:
        0 when it is done, 1 with a sentence on stderr when it failed, 3 when the new model is not good enough to be promoted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = given.pop(0) if given and given[0] in options.PARSERS else ""
    parser = options.PARSERS[command]() if command else options.train()
    chosen = parser.parse_args(given)
    if hasattr(chosen, "csv"):
        _check_data(parser, chosen)
    try:
        return _RUN[command or "train"](chosen)
    except (TrainingError, DriftError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def run(chosen: argparse.Namespace) -> int:
    """Load, train, write, and say what was written.

    Raises:
        TrainingError: data that cannot be trained on, artifacts that do not fit in a ConfigMap.
        DriftError: rows that a profile cannot describe.
        OSError: a directory that cannot be written.
    """
    dataset = _loaded(chosen)
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
    return 0


def _evaluate(chosen: argparse.Namespace) -> int:
    from aiops_training import retraining, served  # noqa: PLC0415 - as said above

    judging = _judging(chosen)
    new = served.from_files(artifacts.read(chosen.artifacts), trust_pickle=chosen.trust_pickle)
    other = retraining.in_service(judging, None, None, plain_http=chosen.plain_http)
    if other is None:
        print("nothing to compare with")
        return 0
    judged = retraining.judge(_loaded(chosen), new, other, judging, print)
    accepted = judged.accepted(judging.accept, judging.alpha)
    print(judged)
    print(
        f"the new model is {judged.verdict(judging.alpha)}: {'accepted' if accepted else 'refused'} ({judging.accept})"
    )
    return 0 if accepted else REFUSED


def _package(chosen: argparse.Namespace) -> int:
    from aiops_training import retraining  # noqa: PLC0415 - as said above

    output = chosen.output or chosen.artifacts / "configmap.yaml"
    path = retraining.packaged(artifacts.read(chosen.artifacts), chosen.configmap, output)
    print(f"next: kubectl apply --server-side -f {path}")
    return 0


def _sign(chosen: argparse.Namespace) -> int:
    from aiops_training import signing  # noqa: PLC0415 - as said above

    key = _signing_key(chosen.sign_key)
    if key is None:
        print(f"error: no key: --sign-key FILE, or the PEM in ${options.SIGNING_KEY}", file=sys.stderr)
        return 1
    artifacts.write(signing.signed(artifacts.read(chosen.artifacts), key), chosen.artifacts)
    print(chosen.artifacts / artifacts.SIGNATURE)
    return 0


def _verify(chosen: argparse.Namespace) -> int:
    from aiops_training import signing  # noqa: PLC0415 - as said above

    files = artifacts.read(chosen.artifacts)
    if chosen.key:
        signing.verify(files, chosen.key.read_bytes())
    print(
        f"{chosen.artifacts}: {len(files)} files, digests as in the manifest{', signature as of the key' if chosen.key else ''}"
    )
    return 0


def _push(chosen: argparse.Namespace) -> int:
    from aiops_training import registry  # noqa: PLC0415 - as said above

    print(registry.push(artifacts.read(chosen.artifacts), chosen.repository, plain_http=chosen.plain_http))
    return 0


def _promote(chosen: argparse.Namespace) -> int:
    from aiops_training import git, promotion  # noqa: PLC0415 - as said above

    files = artifacts.read(chosen.artifacts)
    with git.cloned(chosen.git, chosen.branch) as checkout:
        place = promotion.Place(checkout, chosen.file, chosen.service)
        commit = promotion.promote(place, files, chosen.image, chosen.message, place.declared())
    print(f"commit {commit}" if commit else "git has this model already; nothing to change")
    return 0


def _retrain(chosen: argparse.Namespace) -> int:
    from aiops_training import retraining  # noqa: PLC0415 - as said above

    target = retraining.Target(
        url=chosen.git,
        branch=chosen.branch,
        file=chosen.file,
        service=chosen.service,
        repository=chosen.push,
        plain_http=chosen.plain_http,
        sign_key=_signing_key(chosen.sign_key),
    )
    outcome = retraining.retrain(
        _loaded(chosen),
        target,
        judging=_judging(chosen),
        held=chosen.holdout,
        form=chosen.format,
        output=chosen.output,
        tell=lambda line: print(line, flush=True),
    )
    print(f"{outcome.result}: {outcome.reason}")
    return REFUSED if outcome.result == "refused" else 0


def _receive(chosen: argparse.Namespace) -> int:
    from aiops_training import receiver  # noqa: PLC0415 - as said above

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    secret, token = _held(chosen.secret_file, "DRIFT_SINK_SECRET"), _held(chosen.token_file, "GITHUB_TOKEN")
    github = receiver.GitHub(chosen.api, chosen.repository, chosen.event_type, token)
    with receiver.server((chosen.host, chosen.port), receiver.webhook(secret), github.dispatch) as server:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        print(f"listening at {chosen.host}:{server.server_address[1]}", flush=True)
        server.serve_forever()
    return 0


_RUN: Final = {
    "train": run,
    "evaluate": _evaluate,
    "package": _package,
    "sign": _sign,
    "verify": _verify,
    "push": _push,
    "promote": _promote,
    "retrain": _retrain,
    "receive": _receive,
}


def _check_data(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> None:
    if (chosen.csv is None) != (chosen.target is None):
        parser.error("--csv and --target go together")
    if chosen.task and chosen.csv is None:
        parser.error("--task goes with --csv; a bundled data set knows its own")
    if chosen.csv_sha256 and chosen.csv is None:
        parser.error("--csv-sha256 goes with --csv")


def _loaded(chosen: argparse.Namespace) -> Dataset:
    if not chosen.csv:
        return load_bundled(chosen.dataset)
    with _fetched(chosen.csv, chosen.csv_sha256) as path:
        return load_csv(path, chosen.target, chosen.task)


@contextlib.contextmanager
def _fetched(where: str, sha256: str | None) -> Iterator[Path]:
    from aiops_training import source  # noqa: PLC0415 - as said above

    with source.fetched(where, sha256) as path:
        yield path


def _held(path: Path | None, variable: str) -> str:
    """A secret from a file or the environment, never from the command line, which everybody can read."""
    held = path.read_text(encoding="utf-8").strip() if path else os.environ.get(variable, "")
    if not held:
        message = f"there is nothing in {path or '$' + variable}"
        raise TrainingError(message)
    return held


def _signing_key(path: Path | None) -> bytes | None:
    if path:
        return path.read_bytes()
    held = os.environ.get(options.SIGNING_KEY, "")
    return held.encode() if held else None


def _judging(chosen: argparse.Namespace) -> "retraining.Judging":
    from aiops_training import retraining  # noqa: PLC0415 - as said above

    return retraining.Judging(
        in_service=chosen.in_service,
        metric=chosen.metric,
        accept=chosen.accept,
        alpha=chosen.alpha,
        trust_pickle=chosen.trust_pickle,
        verify_key=chosen.verify_key.read_bytes() if chosen.verify_key else None,
    )


if __name__ == "__main__":
    sys.exit(main())
