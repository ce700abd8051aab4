import subprocess
import sys

import pytest

from aiops_inference import libraries


def test_scikit_learn_comes_without_pandas():
    """Nothing of it is imported along, and a model that needs it still gets it."""
    script = (
        "import sys; from aiops_inference import libraries; libraries.prepare(b'c sklearn.svm');"
        "print('sklearn.utils.fixes' in sys.modules, 'pandas' in sys.modules); import pandas; print(pandas.__name__)"
    )
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert ["True", "False", "pandas"] == said.stdout.split()


def test_scikit_learn_comes_without_scipy_stats():
    """It comes with its first use, by whichever way: a function, a distribution, a module in it."""
    uses = (
        ("import sklearn.metrics", "False"),
        ("import sklearn.linear_model; from sklearn._loss.link import gmean; assert gmean([1, 4]) == 2", "True"),
        ("from scipy.stats import norm; assert norm.cdf(0) == 0.5", "True"),
        ("import scipy.stats.mstats as mstats; assert mstats.gmean([1, 4]) == 2", "True"),
        ("import scipy; assert scipy.stats.rankdata([3, 1]).tolist() == [2, 1]", "True"),
    )
    for use, there in uses:
        script = (
            "import sys; from aiops_inference import libraries; libraries.prepare(b'c sklearn.svm');"
            f"assert 'scipy.stats._stats_py' not in sys.modules; {use}; print('scipy.stats._stats_py' in sys.modules)"
        )
        said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
        assert [there] == said.stdout.split(), use


def test_nothing_is_imported_for_bytes_that_do_not_name_it():
    """A model of another library does not pay."""
    script = "import sys; from aiops_inference import libraries; libraries.prepare(b'xgboost'); print('sklearn' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert ["False"] == said.stdout.split()


def test_a_module_is_missing_in_the_block_alone():
    """What was imported before stays, and what was hidden can be imported afterwards."""
    sys.modules.pop("colorsys", None)
    with libraries.without("colorsys"), pytest.raises(ImportError):
        import colorsys  # noqa: PLC0415 - that is the test
    with libraries.without("json"):
        import json  # noqa: PLC0415 - as above
    import colorsys  # noqa: PLC0415 - as above

    assert ("colorsys", "json") == (colorsys.__name__, json.__name__)
