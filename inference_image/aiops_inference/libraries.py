"""Imports of a model's libraries, without what these bring along for nothing."""

import contextlib
import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

LIBRARY: Final = "sklearn"
# The module of scikit-learn that imports pandas where it is installed, and asks it for nothing but its version.
CURIOUS: Final = "sklearn.utils.fixes"
SKOPS: Final = "skops.io"
UNUSED: Final = "pandas"
STATS: Final = "scipy.stats"
FUNCTIONS: Final = frozenset({"gmean", "rankdata", "spearmanr"})  # of scipy.stats, that scikit-learn's imports name


def prepare(content: bytes) -> None:
    """Import scikit-learn, where a model file's bytes name it, without pandas and without scipy.stats.

    They are 50 MB, and half of the time it takes. A model that itself needs pandas gets it: it is only scikit-learn's own import
    that finds it missing. scipy.stats comes when something of it is used.
    """
    if LIBRARY.encode() in content and LIBRARY not in sys.modules:
        _import_alone(CURIOUS)


def prepare_skops() -> None:
    """Import skops, and all of scikit-learn with it, as `prepare` does."""
    if SKOPS not in sys.modules:
        _import_alone(SKOPS)


def _import_alone(module: str) -> None:
    with without(UNUSED), contextlib.suppress(ImportError):  # where it is not there, loading the model says so
        if STATS not in sys.modules and importlib.util.find_spec(STATS):
            sys.modules[STATS] = _Later()
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


class _Later(ModuleType):
    """scipy.stats until something of it is used.

    `importlib.util.LazyLoader` would load it when a function is imported from it, as scikit-learn does to have it at hand.
    """

    def __init__(self) -> None:
        super().__init__(STATS)
        self.__path__ = _Path()  # type: ignore[assignment]  # it is iterated over, and nothing else

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever it has
        return functools.partial(_called, name) if name in FUNCTIONS else getattr(_stats(), name)


class _Path:
    """Where the modules in scipy.stats are found, which is asked for one of them: then it must be there itself."""

    def __iter__(self) -> Iterator[str]:
        return iter(_stats().__path__)


def _called(name: str, *args: object, **kwargs: object) -> object:
    function: Callable[..., object] = getattr(_stats(), name)
    return function(*args, **kwargs)


def _stats() -> ModuleType:
    if isinstance(sys.modules.get(STATS), _Later):
        del sys.modules[STATS]
    return importlib.import_module(STATS)
