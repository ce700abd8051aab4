import asyncio

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression

from aiops_inference.errors import InputsRefusedError, PredictionFailedError
from aiops_inference.predictor import MAX_BATCH_ROWS, Batcher, Predictor

X, Y = load_iris(return_X_y=True)


class Counting(Predictor):
    """A predictor that remembers how many rows each call had."""

    def __init__(self, model):
        super().__init__(model)
        self.calls = []

    def predict(self, rows):
        """Predict, and remember."""
        self.calls.append(len(rows))
        return super().predict(rows)


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


def together(predictor, *requests):
    """Ask for all of them in the same tick."""

    async def scenario():
        batcher = Batcher(predictor)
        return await asyncio.gather(*map(batcher.predict, requests), return_exceptions=True)

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

    async def scenario():
        batcher = Batcher(Predictor(Shifty()))
        gone = asyncio.create_task(batcher.predict(np.ones((1, 2))))
        kept = asyncio.create_task(batcher.predict(np.full((1, 2), 2.0)))
        await asyncio.sleep(0)
        gone.cancel()
        return await kept

    assert [2.0] == asyncio.run(scenario())


@pytest.mark.parametrize("answer", [7, [1.0, 2.0], []])
def test_a_model_that_does_not_answer_row_by_row_has_failed(answer):
    """Its answers could not be told apart."""

    class Odd:
        def predict(self, _):
            """Answer with another number of predictions than rows."""
            return answer

    with pytest.raises(PredictionFailedError, match="the model answered with the shape"):
        Predictor(Odd()).predict(np.ones((3, 2)))
