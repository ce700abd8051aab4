"""From data to a commit, in one go: train, compare with the model in service, package, sign, push, promote."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from aiops_training import artifacts, comparison, configmap, formats, git, holdout, promotion, registry, served, signing
from aiops_training.artifacts import MANIFEST
from aiops_training.comparison import Accept, Comparison, Metric
from aiops_training.datasets import Dataset
from aiops_training.errors import PackageError, ServedError
from aiops_training.model import fit
from aiops_training.served import Served
from aiops_training.serviceyaml import Declared

Tell = Callable[[str], None]

NONE: Final = "none"  # no model in service to compare with


@dataclass(frozen=True)
class Judging:
    """By what the new model is judged.

    Attributes:
        in_service: the model in service: a directory, a URL, an image's reference, or `none`; None for what git says.
        metric: None for accuracy, or rmse of a regression.
        accept: what it takes to be promoted.
        alpha: how probable noise may be that looks like it.
        trust_pickle: load a pickle of the model in service, too.
        verify_key: PEM of the key by which the artifacts of the model in service must be signed; None for any.
    """

    in_service: str | None = None
    metric: Metric | None = None
    accept: Accept = "better"
    alpha: float = comparison.ALPHA
    trust_pickle: bool = False
    verify_key: bytes | None = None


@dataclass(frozen=True)
class Target:
    """Where the new model goes.

    Attributes:
        url: of the git repository.
        branch: that is changed.
        file: the manifest's path in it.
        service: name of the InferenceService; None where the file has one only.
        repository: in a registry, for an image; None for a ConfigMap in the git repository.
        plain_http: as for `registry.push`.
        sign_key: PEM of the key that signs; None for no signature.
    """

    url: str
    branch: str
    file: str
    service: str | None = None
    repository: str | None = None
    plain_http: bool = False
    sign_key: bytes | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of it.

    Attributes:
        result: `promoted`; `unchanged`, because it is in service already; `refused`, because it is not good enough.
        reason: one sentence.
    """

    result: Literal["promoted", "unchanged", "refused"]
    reason: str


class Steps:
    """Progress lines with the seconds since the begin."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._start = tell, time.monotonic()

    def __call__(self, line: str) -> None:
        """Say one line."""
        self._tell(f"[{time.monotonic() - self._start:6.1f} s] {line}")


def retrain(  # noqa: PLR0913 - all of the pipeline's inputs, all but two by keyword
    dataset: Dataset, target: Target, *, judging: Judging, held: float, form: str, output: Path, tell: Tell
) -> Outcome:
    """Run all of it.

    Args:
        dataset: new data.
        target: where the model goes.
        judging: by what it is judged.
        held: share of the rows that are held out; what is promoted is the very model that was judged on them.
        form: of the model's file, one of `formats.CHOICES`.
        output: where the artifacts are written.
        tell: takes progress lines.

    Raises:
        TrainingError: with what to do.
        DriftError: rows that a profile cannot describe.
        OSError: a directory that cannot be written.
    """
    say = Steps(tell)
    learnt, heldout = holdout.split(dataset, held)
    say(f"data: {dataset.name}, {len(learnt.rows)} rows to train on, {len(heldout.rows)} held out")
    files = trained(learnt, form, target.sign_key, say)
    artifacts.write(files, output)
    digest = hashlib.sha256(files[artifacts.model_file(files)]).hexdigest()
    say(f"artifacts: {output}, model sha256:{digest}{', signed' if target.sign_key else ''}")
    with git.cloned(target.url, target.branch) as checkout:
        place = promotion.Place(checkout, target.file, target.service)
        declared = place.declared()
        say(f"git: {checkout.url}, branch {target.branch}: {declared.service} serves {declared.reference}")
        if declared.sha256 == digest:
            return Outcome("unchanged", "this model is in service already; nothing to change")
        found = in_service(judging, place, declared, plain_http=target.plain_http)
        if found is not None and found.digest == digest:
            return Outcome("unchanged", "this model is in service already; nothing to change")
        why = f"nothing to compare with; {learnt.name}, {len(learnt.rows)} rows"
        if found is not None:
            judged = judge(heldout, served.from_files(files, trust_pickle=True), found, judging, say)
            say(f"compared: {judged}")
            verdict = f"the new model is {judged.verdict(judging.alpha)}"
            if not judged.accepted(judging.accept, judging.alpha):
                return Outcome(
                    "refused", f"{verdict}; it takes {judging.accept}: {declared.reference} stays in service"
                )
            why = f"{judged}\n{verdict}"
        image = None
        if target.repository:
            image = registry.push(files, target.repository, plain_http=target.plain_http)
            say(f"pushed: {image}")
        commit = promotion.promote(place, files, image, _message(why, dataset, files, image), declared)
    if not commit:
        return Outcome("unchanged", "git has this model already; nothing to change")
    return Outcome("promoted", f"{declared.service} gets the model {digest[:7]} with commit {commit[:12]}")


def trained(dataset: Dataset, form: str, sign_key: bytes | None, say: Tell) -> dict[str, bytes]:
    """Artifacts of a model of all rows of a data set, signed where there is a key.

    Raises:
        TrainingError: data that cannot be trained on, a format that cannot hold the model, or a key that is none.
        DriftError: rows that a profile cannot describe.
    """
    model, evaluation = fit(dataset)
    say(f"trained: {evaluation.metric} {evaluation.score} (mean of five folds)")
    chosen, reason = formats.choose(model, form)
    if reason:
        say(reason)
    files = artifacts.build(dataset, model, evaluation, chosen)
    return signing.signed(files, sign_key) if sign_key else files


def in_service(
    judging: Judging, place: promotion.Place | None, declared: Declared | None, *, plain_http: bool = False
) -> Served | None:
    """The model to compare with; None where there is none on purpose.

    Args:
        judging: says where it is.
        place: of the service in git, where that has to say it.
        declared: what is said there.
        plain_http: as for `registry.pull`.

    Raises:
        TrainingError: it cannot be had, is not signed as it should be, or is not what git says.
    """
    where = judging.in_service
    if where == NONE:
        return None
    if where and where.startswith(("http://", "https://")):
        return served.from_service(where)
    if where and Path(where).is_dir():
        files = artifacts.read(Path(where))
    elif where:
        files = registry.pull(where, plain_http=plain_http)
    elif place is None or declared is None:
        message = "say what is in service: a directory, a URL or an image's reference"
        raise ServedError(message)
    elif declared.source == "image":
        files = registry.pull(declared.reference, plain_http=plain_http)
    else:
        files = promotion.config_map_files(place, declared.reference)
    if judging.verify_key:
        signing.verify(files, judging.verify_key)
    found = served.from_files(files, trust_pickle=judging.trust_pickle)
    if declared and declared.sha256 and found.digest != declared.sha256:
        message = (
            f"the model in {where or declared.reference} is not the one that git says: its digest is {found.digest}"
        )
        raise ServedError(message)
    return found


def judge(heldout: Dataset, new: Served, other: Served, judging: Judging, say: Tell) -> Comparison:
    """Compare two models on held-out rows.

    Raises:
        ServedError: one of them takes other features.
        DataError: too few rows, or a metric that does not fit.
    """
    for model, which in ((new, "new model"), (other, "model in service")):
        if model.features is not None and model.features != heldout.features:
            message = (
                f"the {which} takes the features {', '.join(model.features)}; the held-out rows have "
                f"{', '.join(heldout.features)}: they cannot be compared (--in-service none promotes without)"
            )
            raise ServedError(message)
        if known := model.knows(heldout.rows):
            say(f"{known} of the {len(heldout.rows)} held-out rows are among those that the {which} was trained on")
    metrics = comparison.METRICS[heldout.task]
    if judging.metric and judging.metric not in metrics:
        message = f"{judging.metric} does not judge a {heldout.task}; choose {' or '.join(metrics)}"
        raise ServedError(message)
    answers = new.answers(heldout.rows), other.answers(heldout.rows)
    return comparison.compare(heldout.target, *answers, judging.metric or metrics[0])


def packaged(files: Mapping[str, bytes], name: str, output: Path) -> Path:
    """Write the artifacts as a ConfigMap's manifest.

    Raises:
        PackageError: more than 1 MiB, or a file that cannot be written.
    """
    try:
        output.write_text(configmap.manifest(name, files), encoding="utf-8")
    except OSError as error:
        message = f"{output} cannot be written: {error.strerror}"
        raise PackageError(message) from error
    return output


def _message(why: str, dataset: Dataset, files: Mapping[str, bytes], image: str | None) -> str:
    """The commit's text: metrics and digests."""
    lines = [why, "", f"data: {dataset.name}, {len(dataset.rows)} rows"]
    lines += [
        f"{name}: sha256:{hashlib.sha256(files[name]).hexdigest()}" for name in (artifacts.model_file(files), MANIFEST)
    ]
    return "\n".join([*lines, *([f"image: {image}"] if image else [])])
