import asyncio
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from aiops_inference.errors import InputsRefusedError, OverloadedError, PredictionFailedError
from aiops_inference.predictor import MAX_BATCH_ROWS, Asked, Batcher, Predictor, listed

X, Y = load_iris(return_X_y=True)


class Counting(Predictor):
    """A predictor that remembers how many rows each call had."""

    def __init__(self, model):
        super().__init__(model)
        self.calls = []

    def answer(self, rows):
        """Predict, and remember."""
        self.calls.append(len(rows))
        return super().answer(rows)


class Odd:
    """Answers with what it was told, whatever it is asked."""

    def __init__(self, answer):
        self.answer = answer

    def predict(self, _):
        """Predict nothing of the rows."""
        return self.answer


class Shifty:
    """Refuses a 13 and breaks on a 14, wherever they stand in a batch."""

    def predict(self, rows):
        """Predict the first column, or raise."""
        if (rows == 13).any():
            message = "unlucky"
            raise ValueError(message)
        if (rows == 14).any():
            message = "nearly"
            raise KeyError(message)
        return rows[:, 0]


def batcher(predictor, answers, most_rows=10**6):
    """A batcher that keeps what each request gets, by the identity of the request."""

    def settle(batch, _, answer):
        predictions = listed(answer)
        for asked in batch:
            answers[id(asked)], predictions = predictions[: len(asked.rows)], predictions[len(asked.rows) :]

    return Batcher(predictor, settle, lambda asked, error: answers.update({id(asked): error}), most_rows)


def together(predictor, *requests, left=()):
    """Ask for all of them in the same tick; those with the numbers in `left` are given up at once."""

    async def scenario():
        answers = {}
        asked = [Asked(rows, print) for rows in requests]
        queue = batcher(predictor, answers)
        for number, one in enumerate(asked):
            queue.submit(one)
            one.left = number in left
        async with asyncio.timeout(20):
            while len(answers) + len(left) < len(requests):  # noqa: ASYNC110 - each turn is a tick, which is what is waited for
                await asyncio.sleep(0)
        return [answers.get(id(one)) for one in asked]

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (LogisticRegression(max_iter=1000).fit(X, Y), int),
        (RandomForestClassifier(5, random_state=0).fit(X, load_iris().target_names[Y]), str),
        (LinearRegression().fit(X, Y), float),
        (LinearRegression().fit(X, np.stack([Y, Y + 1], axis=1)), list),
    ],
)
def test_a_batch_predicts_what_each_request_would_alone(model, kind):
    """Whatever the outputs are, every request gets its own rows' predictions, in order."""
    predictor = Counting(model)
    requests = [X[start : start + size] for start, size in ((0, 1), (60, 3), (149, 1), (20, 40))]
    answers = together(predictor, *requests)
    assert [45] == predictor.calls
    for rows, answer in zip(requests, answers, strict=True):
        wanted = model.predict(rows).tolist()
        # Sums of products may differ in the last bit with the number of rows.
        assert wanted == answer if kind in {int, str} else np.allclose(wanted, answer, rtol=1e-12)
        assert {kind} == set(map(type, answer))


def test_one_bad_request_does_not_fail_the_others_in_its_batch():
    """Where a batch raises, each request is asked for alone."""
    refused, good, broken = together(
        Predictor(Shifty()), np.full((1, 2), 13.0), np.full((2, 2), 5.0), np.full((1, 2), 14.0)
    )
    assert "the model refuses these inputs: ValueError: unlucky" == str(refused)
    assert isinstance(refused, InputsRefusedError)
    assert [5.0, 5.0] == good
    assert isinstance(broken, PredictionFailedError)


def test_a_batch_has_a_bounded_size():
    """The first of many large requests does not wait for all of them."""
    predictor = Counting(Shifty())
    size = MAX_BATCH_ROWS // 2
    answers = together(predictor, *[np.full((size, 2), float(i)) for i in range(5)])
    assert [2 * size, 2 * size, size] == predictor.calls
    assert [0.0, 1.0, 2.0, 3.0, 4.0] == [answer[0] for answer in answers]


def test_a_request_that_was_given_up_is_left_out():
    """A cancelled client neither breaks nor delays the others."""
    predictor = Counting(Shifty())

    assert [None, [2.0]] == together(predictor, np.ones((1, 2)), np.full((1, 2), 2.0), left={0})
    assert [1] == predictor.calls


def test_a_full_queue_turns_requests_away():
    """What waits is bounded: the answer to the one too many is at once, and those before it get theirs."""

    async def scenario():
        answers = {}
        queue = batcher(Predictor(Shifty()), answers, most_rows=3)
        asked = [Asked(np.full((2, 2), float(i)), print) for i in range(3)]
        queue.submit(asked[0])
        queue.submit(asked[1])
        with pytest.raises(OverloadedError, match="4 rows wait to be predicted already; try again"):
            queue.submit(asked[2])
        await asyncio.sleep(0)
        queue.submit(asked[2])
        await asyncio.sleep(0)
        return [answers[id(one)] for one in asked]

    assert [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]] == asyncio.run(scenario())


@pytest.mark.parametrize("answer", [7, [1.0, 2.0], []])
def test_a_model_that_does_not_answer_row_by_row_has_failed(answer):
    """Its answers could not be told apart."""
    with pytest.raises(PredictionFailedError, match="the model answered with the shape"):
        Predictor(Odd(answer)).predict(np.ones((3, 2)))


TABLE = pd.DataFrame(X, columns=list("abcd"))
PAIRS = np.stack([Y, Y > 0], axis=1).astype(int)
NAMED = {
    "a linear model": LogisticRegression(max_iter=1000).fit(TABLE, Y),
    "a forest": RandomForestClassifier(3, random_state=0).fit(TABLE, Y),
    "a pipeline": make_pipeline(StandardScaler(), LogisticRegression()).fit(TABLE, Y),
    "a pipeline of tables": make_pipeline(StandardScaler(), KNeighborsClassifier())
    .set_output(transform="pandas")
    .fit(TABLE, Y),
    "columns by name": make_pipeline(
        make_column_transformer((StandardScaler(), ["d", "a"]), ("passthrough", ["b"])), LogisticRegression()
    ).fit(TABLE, Y),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_model_that_knows_names_answers_rows_without_a_warning(name):
    """The same as for a table, at every call; where it looks columns up by their names it gets tables."""
    model = NAMED[name]
    predictor = Predictor(model)
    said = predictor.settle(X[:2])
    predictor.hasten(X)
    with warnings.catch_warnings(record=True) as caught:  # by the filters that are there now
        answers = [(predictor.predict(rows), predictor.probabilities(rows)) for rows in (X, X[:1], X[:1])]
    assert [] == caught
    for rows, (predictions, probabilities) in zip((TABLE, TABLE[:1], TABLE[:1]), answers, strict=True):
        assert model.predict(rows).tolist() == predictions
        np.testing.assert_allclose(model.predict_proba(rows), probabilities, rtol=1e-12)
    assert tuple("abcd") == predictor.names
    assert ("the model looks its columns up by name" in said) is (name == "columns by name")


def test_truth_values_are_labels():
    """They stay what they are in JSON."""
    predictor = Predictor(LogisticRegression(max_iter=1000).fit(X, Y == 0))

    assert [True, False] == predictor.predict(X[[0, 149]])
    assert ((False, True), ("False", "True")) == (predictor.labels, predictor.classes)


def test_a_pipeline_is_what_its_last_step_is():
    """Classes, names and probabilities are the classifier's; a regressor has none."""
    classifier, regressor = (
        Predictor(make_pipeline(StandardScaler(), last).fit(X, Y))
        for last in (LogisticRegression(), LinearRegression())
    )

    assert ("classification", (0, 1, 2), True, 4) == (
        classifier.task,
        classifier.labels,
        classifier.has_probabilities,
        classifier.width,
    )
    assert ("regression", None, False, 4) == (
        regressor.task,
        regressor.labels,
        regressor.has_probabilities,
        regressor.width,
    )


@pytest.mark.parametrize(
    "model",
    [
        MultiOutputClassifier(LogisticRegression(max_iter=1000)).fit(X, PAIRS),
        DecisionTreeClassifier(random_state=0).fit(X, PAIRS),
        DummyClassifier(strategy="prior").fit(X, PAIRS),
    ],
    ids=["multi-output", "tree", "dummy"],
)
def test_several_targets_have_probabilities_each(model):
    """A row has a list for each target, with a number for each of that one's classes."""
    predictor = Predictor(model)
    rows = X[::50]
    wanted = model.predict_proba(rows)

    assert model.predict(rows).tolist() == predictor.predict(rows)
    assert [[one.tolist(), other.tolist()] for one, other in zip(*wanted, strict=True)] == predictor.probabilities(rows)
    assert (((0, 1, 2), (0, 1)), (("0", "1", "2"), ("0", "1")), None) == (
        predictor.targets,
        predictor.classes,
        predictor.labels,
    )


@pytest.mark.parametrize(
    "answer",
    [
        pd.Series([1, 0, 2]),
        pd.Series([1, 0, 2], dtype="Int64"),
        pd.Series([1, 0, 2], dtype=object),
        np.array([np.int64(1), np.int64(0), np.int64(2)], dtype=object),
        (1, 0, 2),
    ],
)
def test_answers_of_other_forms_are_plain_values(answer):
    """Whatever a model's library likes to answer with."""
    (got,) = {tuple(map(type, Predictor(Odd(answer)).predict(np.ones((3, 2)))))}

    assert [1, 0, 2] == Predictor(Odd(answer)).predict(np.ones((3, 2)))
    assert (int, int, int) == got


@pytest.mark.parametrize("answer", [pd.DataFrame({"a": [1, 0], "b": [0, 1]}), sparse.csr_matrix(np.eye(2, dtype=int))])
def test_tables_and_sparse_answers_are_lists(answer):
    """One a row."""
    assert [[1, 0], [0, 1]] == Predictor(Odd(answer)).predict(np.ones((2, 2)))


def test_names_of_classes_are_taken_where_there_is_one_for_each():
    """Else nobody could tell whose they are."""
    predictor = Predictor(LogisticRegression(max_iter=1000).fit(X, Y))
    predictor.call(("a", "b"))
    assert ("0", "1", "2") == predictor.classes
    predictor.call(("a", "b", "c"))
    assert ("a", "b", "c") == predictor.classes


def test_a_model_without_probabilities_says_so():
    """It is the client's fault to ask."""
    with pytest.raises(InputsRefusedError, match="the model has no probabilities; ask for its predictions alone"):
        Predictor(LinearRegression().fit(X, Y)).probabilities(X)
