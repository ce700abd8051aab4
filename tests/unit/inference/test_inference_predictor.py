import asyncio

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression

from aiops_inference.errors import InputsRefusedError, OverloadedError, PredictionFailedError
from aiops_inference.predictor import MAX_BATCH_ROWS, Asked, Batcher, Predictor

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


def batcher(predictor, answers, most_rows=10**6):
    """A batcher that keeps what each request gets, by the identity of the request."""

    def settle(batch, _, predictions):
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

    class Odd:
        def predict(self, _):
            """Answer with another number of predictions than rows."""
            return answer

    with pytest.raises(PredictionFailedError, match="the model answered with the shape"):
        Predictor(Odd()).predict(np.ones((3, 2)))
