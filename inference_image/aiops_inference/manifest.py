"""`manifest.json` as typed values: what training promised about the files beside it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aiops_drift import PROFILE_VERSION, Profile, ProfileError
from aiops_inference.errors import DigestMismatchError, ManifestInvalidError

SCHEMA_VERSION: Final = 1
TASKS: Final = ("classification", "regression")
_HEX: Final = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Manifest:
    """What training wrote about its artifacts.

    Attributes:
        task: `classification` or `regression`.
        digests: sha256 in hex, by file name.
        libraries: versions the model was saved with, by distribution name.
        classes: names of the classes, where there are any.
        golden_inputs: rows whose predictions are known, shape (n, F).
        golden_predictions: what the model predicted for them in training.
        golden_probabilities: what its probabilities were for them; None where nothing is said of that.
        features: names of the columns.
        profile: the baseline in numbers; None where another version of training wrote it, to be made anew from the rows.
    """

    task: str
    digests: Mapping[str, str]
    libraries: Mapping[str, str]
    classes: tuple[str, ...] | None
    golden_inputs: npt.NDArray[np.float64]
    golden_predictions: list[Any]
    golden_probabilities: list[Any] | None
    features: tuple[str, ...]
    profile: Profile | None

    @classmethod
    def parse(cls, content: bytes) -> "Manifest":
        """Read the file's bytes.

        Raises:
            ManifestInvalidError: not JSON, another schema version, or a field that is missing or of another form.
        """
        try:
            document = json.loads(content)
            if document["schemaVersion"] != SCHEMA_VERSION:
                message = (
                    f"manifest.json has schemaVersion {document['schemaVersion']!r}; this image reads {SCHEMA_VERSION}"
                )
                raise ManifestInvalidError(message)
            described = document["profile"]
            profile = Profile.from_dict(described) if described["version"] == PROFILE_VERSION else None
            manifest = cls(
                task=str(document["task"]),
                digests={str(name): str(entry["sha256"]) for name, entry in document["files"].items()},
                libraries={str(name): str(version) for name, version in document.get("libraries", {}).items()},
                classes=None if document.get("classes") is None else tuple(map(str, document["classes"])),
                golden_inputs=np.array(document["golden"]["inputs"], dtype=np.float64),
                golden_predictions=list(document["golden"]["predictions"]),
                golden_probabilities=_optional_list(document["golden"].get("probabilities")),
                features=tuple(map(str, document["features"])),
                profile=profile,
            )
        except ProfileError as error:
            message = f"manifest.json: {error}"
            raise ManifestInvalidError(message) from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
            message = f"manifest.json is malformed: {type(error).__name__}: {error}"
            raise ManifestInvalidError(message) from error
        if problem := manifest._problem():
            message = f"manifest.json: {problem}"
            raise ManifestInvalidError(message)
        return manifest

    def _problem(self) -> str:
        golden = self.golden_inputs
        if self.task not in TASKS:
            return f"task is {self.task!r}; it must be one of {', '.join(TASKS)}"
        if self.profile is not None and self.features != self.profile.names:
            return "features are not those of the profile"
        if golden.ndim != 2 or golden.shape[1] != len(self.features) or not np.isfinite(golden).all():  # noqa: PLR2004 - a table has two axes
            return f"golden.inputs must be rows of {len(self.features)} finite numbers"
        answers = [said for said in (self.golden_predictions, self.golden_probabilities) if said is not None]
        if len(golden) == 0 or {len(golden)} != set(map(len, answers)):
            return "golden.predictions must hold one prediction for each of at least one golden input; so must probabilities"
        if bad := [name for name, digest in self.digests.items() if not _HEX.fullmatch(digest)]:
            return f"files.{bad[0]}.sha256 is not 64 hexadecimal digits"
        return ""

    def check(self, name: str, digest: str, *, must_be_listed: bool = True) -> None:
        """Compare a file's digest, in hex, with the promised one.

        Raises:
            DigestMismatchError: they differ.
            ManifestInvalidError: the file is not in the manifest and must be.
        """
        promised = self.digests.get(name)
        if promised is None:
            if must_be_listed:
                message = f"manifest.json does not list {name}; it was not written for these files"
                raise ManifestInvalidError(message)
            return
        if promised != digest:
            message = f"{name} has the digest sha256:{digest}, but manifest.json names sha256:{promised}"
            raise DigestMismatchError(message)

    def version_differences(self) -> list[str]:
        """How the libraries here differ from those that saved the model, one phrase each.

        Python itself is left out: pickles of arrays and numbers do not depend on its version.
        """
        differences = []
        for name, saved in sorted(self.libraries.items()):
            if name == "python":
                continue
            try:
                here = metadata.version(name)
            except metadata.PackageNotFoundError:
                here = "missing"
            if here != saved:
                differences.append(f"{name} {saved} (here {here})")
        return differences


def _optional_list(value: object) -> list[Any] | None:
    return None if value is None else list(value)  # type: ignore[call-overload]  # what is no list raises
