import asyncio
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aiops_drift import Expectations, Profile, Report
from aiops_inference.monitor import Monitor, judge, thresholds
from aiops_inference.settings import RuntimeSettings

BASELINE = np.array([[0.0, 10.0, 5.0], [2.0, 30.0, 5.0]])  # means 1, 20, 5; deviations 1, 10, 0
PROFILE = Profile.from_rows(BASELINE, ["a", "b", "constant"])


@pytest.mark.parametrize(
    ("rows", "score", "drifted"),
    [
        ([[1, 20, 5]], 0, False),
        ([[6, 20, 5]], 5, False),
        ([[6.5, 20, 5]], 5.5, True),
        ([[1, -40, 5]], 6, True),
        ([[11, 20, 5], [-9, 20, 5]], 0, False),
        ([[1, 20, 99]], 0, False),
    ],
)
def test_the_rule_is_on_the_mean_of_the_request(rows, score, drifted):
    """Strictly above the threshold, over the features, by the mean of the rows; a constant feature has no deviation."""
    judgement = judge(PROFILE, thresholds(PROFILE, RuntimeSettings()), np.array(rows, dtype=float), [len(rows)])[0]
    assert (score, drifted) == (judgement.score, judgement.drifted)


@given(
    hnp.arrays(
        np.float64, st.tuples(st.integers(1, 40), st.just(3)), elements=st.floats(allow_nan=False, allow_infinity=False)
    )
)
def test_any_accepted_rows_have_a_finite_score(rows):
    """However absurd the values, the answer is JSON."""
    judgement = judge(PROFILE, thresholds(PROFILE, RuntimeSettings()), rows, [len(rows)])[0]
    assert 0 <= judgement.score <= 1e6
    shown = Monitor(PROFILE, "sha256:m", RuntimeSettings()).explain(rows, judgement)
    assert all(math.isfinite(entry["value"]) for entry in shown)


def test_each_feature_has_its_own_threshold():
    """The worst feature is the one furthest beyond its own, not the one with the largest score."""
    monitor = Monitor(PROFILE, "sha256:m", RuntimeSettings(z_score=8, features={"b": 2}))
    judgement = monitor.observe(np.array([[6.0, 50.0, 5.0]]), 0.0)
    assert (5.0, True) == (judgement.score, judgement.drifted)
    assert ("b", 3.0, 2.0) == monitor.worst(judgement)


def test_unknown_features_are_told_and_known_ones_apply():
    """A misspelt name must not go unnoticed."""
    monitor = Monitor(PROFILE, "sha256:m", RuntimeSettings())
    assert ("x", "y") == monitor.apply(RuntimeSettings(features={"y": 1, "a": 1, "x": 1}))
    assert monitor.observe(np.array([[3.0, 20.0, 5.0]]), 0.0).drifted


def test_an_explanation_has_every_feature_and_what_it_was_compared_with():
    """In the order of the columns, with the mean of the request's rows."""
    monitor = Monitor(PROFILE, "sha256:m", RuntimeSettings(features={"b": 2}))
    rows = np.array([[1.0, 40.0, 5.0], [2.0, 60.0, 7.0]])
    assert [
        {
            "feature": "a",
            "z": 0.5,
            "value": 1.5,
            "baseline_mean": 1.0,
            "baseline_std": 1.0,
            "threshold": 5.0,
            "drifted": False,
        },
        {
            "feature": "b",
            "z": 3.0,
            "value": 50.0,
            "baseline_mean": 20.0,
            "baseline_std": 10.0,
            "threshold": 2.0,
            "drifted": True,
        },
        {
            "feature": "constant",
            "z": 0.0,
            "value": 6.0,
            "baseline_mean": 5.0,
            "baseline_std": 0.0,
            "threshold": 5.0,
            "drifted": False,
        },
    ] == monitor.explain(rows, monitor.observe(rows, 0.0))


def test_every_accepted_row_is_counted_once():
    """Rows of all requests fill the blocks, and `after` leaves out those that were read."""
    monitor = Monitor(PROFILE, "sha256:m", RuntimeSettings())
    for _ in range(5):
        monitor.observe(np.ones((7, 3)), 12.5)
    report = monitor.report(Expectations("pending"), 13.5, after=0)
    assert (35, 32, [1]) == (report.rows, report.counts.n, [block.number for block in report.blocks])
    assert ("sha256:m", PROFILE.digest, "pending") == (report.model, report.profile, report.expectations.state)
    assert (13.5, 12.5) == (report.now, report.blocks[0].closed)


def test_the_report_reads_back_as_the_operator_reads_it(serving, directory):
    """What GET /drift sends is what aiops_drift understands."""

    async def scenario():
        async with serving(directory.write()) as pod:
            for start in range(0, 150, 10):
                await pod.predict({"inputs": directory.rows[start : start + 10].tolist()})
            whole = (await pod.client.get("/drift")).json()
            rest = (await pod.client.get("/drift", params={"after": 7})).json()
            return Report.from_dict(whole), Report.from_dict(rest)

    began = time.time()
    whole, rest = asyncio.run(scenario())
    assert began <= whole.blocks[-1].closed <= whole.now <= rest.now <= time.time()
    assert (150, 144, 9) == (whole.rows, whole.counts.n, len(whole.blocks))
    assert whole.blocks[8:] == rest.blocks
    assert tuple(directory.names) == whole.baseline.names
    assert "sha256:" + directory.digest("model.pkl") == whole.model
    assert Expectations(message="there is no expectations.json") == whole.expectations
    assert all(abs(total) < 20 for total in whole.counts.z)
