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
