import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.datasets import load_iris
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Perceptron,
    Ridge,
    SGDClassifier,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

from aiops_inference.linear import fast_predict

X, Y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]

TAKEN = {
    "three classes": LogisticRegression(max_iter=1000).fit(X, Y),
    "two classes": LogisticRegression().fit(X[:100], Y[:100]),
    "text labels": LogisticRegression(max_iter=1000).fit(X, NAMES),
    "truth values": LogisticRegression().fit(X, Y == 0),
    "no intercept": LogisticRegression(fit_intercept=False, max_iter=1000).fit(X, Y),
    "perceptron": Perceptron().fit(X, Y),
    "stochastic gradient": SGDClassifier(random_state=0).fit(X, Y),
    "scaled": make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y),
    "centred": make_pipeline(StandardScaler(with_std=False), LogisticRegression(max_iter=1000)).fit(X, Y),
    "scaled twice": make_pipeline(StandardScaler(with_mean=False), StandardScaler(), Ridge()).fit(X, Y),
    "regression": LinearRegression().fit(X, Y),
    "several outputs": LinearRegression().fit(X, X[:, :2] * 3),
    "one output in a column": Ridge().fit(X, X[:, :1] * 3),
    "lasso": Lasso(alpha=0.01).fit(X, Y),
    "elastic net": ElasticNet(alpha=0.01).fit(X, Y),
}
ROWS = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 40), st.just(4)),
    elements=st.floats(-1e6, 1e6) | st.sampled_from([0.0, -0.0, 5.1, 1e-300, 1e300]),
)


class Derived(LogisticRegression):
    """May predict whatever it likes."""


LEFT = {
    "a descendant": Derived(max_iter=1000).fit(X, Y),
    "another model": SVC().fit(X, Y),
    "another step": make_pipeline(MinMaxScaler(), LogisticRegression()).fit(X, Y),
    "a step that is left out": make_pipeline("passthrough", LogisticRegression(max_iter=1000)).fit(X, Y),
    "not fitted": LogisticRegression(),
    "no model": object(),
}


@pytest.mark.parametrize("name", TAKEN)
@given(rows=ROWS)
def test_answers_are_those_of_scikit_learn(name, rows):
    """To the last bit, of the same type, for rows that were never compared."""
    model = TAKEN[name]
    predict = fast_predict(model, X)
    assert predict is not None
    wanted = model.predict(rows)
    assert (wanted.dtype, wanted.tolist()) == (predict(rows).dtype, predict(rows).tolist())


@pytest.mark.parametrize("name", LEFT)
def test_other_models_answer_themselves(name):
    """Nothing is guessed."""
    assert None is fast_predict(LEFT[name], X)


def test_a_model_that_answers_otherwise_is_left_alone():
    """Its `predict` was replaced, which its class does not show."""
    model = LogisticRegression(max_iter=1000).fit(X, Y)
    model.predict = lambda rows: np.zeros(len(rows), dtype=np.int64)
    assert None is fast_predict(model, X)


def test_rows_are_not_changed():
    """The scaler of scikit-learn works on a copy too."""
    rows = X.copy()
    fast_predict(TAKEN["scaled"], X)(rows)
    assert X.tolist() == rows.tolist()
