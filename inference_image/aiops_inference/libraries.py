"""Imports of a model's libraries, without what these bring along for nothing."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Final

LIBRARY: Final = "sklearn"
# The module of scikit-learn that imports pandas where it is installed, and asks it for nothing but its version.
CURIOUS: Final = "sklearn.utils.fixes"
SKOPS: Final = "skops.io"
UNUSED: Final = "pandas"


def prepare(content: bytes) -> None:
    """Import scikit-learn, where a model file's bytes name it, without pandas: 30 MB, and a third of the time it takes.

    A model that itself needs pandas gets it: it is only scikit-learn's own import that finds it missing.
    """
    if LIBRARY.encode() in content and LIBRARY not in sys.modules:
        _import_alone(CURIOUS)


def prepare_skops() -> None:
    """Import skops, and all of scikit-learn with it, without pandas."""
    if SKOPS not in sys.modules:
        _import_alone(SKOPS)


def _import_alone(module: str) -> None:
    with without(UNUSED), contextlib.suppress(ImportError):  # where it is not there, loading the model says so
        importlib.import_module(module)


@contextlib.contextmanager
def without(name: str) -> Iterator[None]:
    """Let imports of a module fail in this block, where it has not been imported already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # what the import system takes for "not there"
    try:
        yield
    finally:
        del sys.modules[name]
