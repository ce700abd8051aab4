import asyncio
import contextlib
import io
import json
import os
import signal
import sys

import numpy as np
import pytest

from aiops_drift import Expectations
from aiops_inference import expectations
from aiops_inference.expectations import MAX_WAITING_ROWS, MIN_BATCH_ROWS, Validator
from aiops_inference.telemetry import Log, Metrics
from aiops_inference.validator import SuiteError, check_suite, label, serve, summarize

FEATURES = ("a", "b")
SUITE = {"name": "s", "expectations": [{"type": "expect_x", "kwargs": {}}]}

STATES = ("disabled", "pending", "passed", "failed", "error")

# Stands in for the validating process: the same wire, a rule of its own, and a way to die.
CHILD = """
import signal
import sys
import numpy as np
from aiops_inference.validator import serve

def make(suite, features):
    if suite["name"] == "dies":
        sys.exit(7)
    def validate(rows):
        if (rows == 666).any():
            sys.exit(9)
        if (rows == 777).any():
            signal.pause()
        ok = bool((rows < 10).all())
        return {"state": "passed" if ok else "failed", "evaluated_rows": len(rows),
                "failed": [] if ok else ["expect_small(a)"], "message": ""}
    return validate

serve(sys.stdin.buffer, sys.stdout.buffer, make)
"""


class Watch:
    """A validator of the stand-in process, and what it told."""

    def __init__(self):
        self.now = 0.0
        self.failures = []
        self.stream = io.BytesIO()
        self.metrics = Metrics()
        self.validator = Validator(
            FEATURES,
            self.metrics,
            Log(stream=self.stream),
            self.failures.append,
            interval=0,
            first_pause=0.01,
            command=(sys.executable, "-c", CHILD),
            clock=lambda: self.now,
        )

    def count(self, name, **labels):
        """A metric's value."""
        return self.metrics.registry.get_sample_value(name, labels)

    def shown(self):
        """The state, the lag and the waiting rows in the metrics."""
        states = [state for state in STATES if self.count("expectations_state", state=state)]
        return *states, self.count("expectations_lag_seconds"), self.count("expectations_waiting_rows")


@contextlib.asynccontextmanager
async def watching(suite=SUITE):
    """A running validator, ended with the block."""
    watch = Watch()
    watch.validator.start(json.dumps(suite).encode())
    try:
        yield watch
    finally:
        await watch.validator.stop()


def rows(value, count=MIN_BATCH_ROWS):
    """So many equal rows."""
    return np.full((count, 2), float(value))


def test_a_verdict_follows_the_rows(eventually):
    """Pending, passed, failed with its names and its event, and passed again."""

    async def scenario():
        async with watching() as watch:
            states = [(watch.validator.expectations.state, watch.validator.expectations.batches)]
            for value in (1, 99, 2):
                watch.validator.offer(rows(value))
                validated = watch.count("expectations_rows_total")
                await eventually(lambda validated=validated: watch.count("expectations_rows_total") > validated)
                states.append((watch.validator.expectations.state, watch.validator.expectations.batches))
            return states, watch

    states, watch = asyncio.run(scenario())
    assert [("pending", 0), ("passed", 1), ("failed", 2), ("passed", 3)] == states
    assert [Expectations("failed", MIN_BATCH_ROWS, 2, ("expect_small(a)",))] == watch.failures
    assert 3 * MIN_BATCH_ROWS == watch.count("expectations_rows_total")
    assert 1 == watch.count("expectations_process_starts_total")
    assert b'"state": "failed", "failed": ["expect_small(a)"]' in watch.stream.getvalue()


def test_few_rows_wait_for_more(eventually):
    """A batch has fifty rows at least, however they came."""

    async def scenario():
        async with watching() as watch:
            for _ in range(MIN_BATCH_ROWS - 1):
                watch.validator.offer(rows(1, 1))
            await eventually(lambda: watch.validator.pid)
            waiting = watch.validator.expectations.state
            watch.validator.offer(rows(1, 1))
            await eventually(lambda: watch.validator.expectations.state == "passed")
            return waiting, watch.validator.expectations.evaluated_rows

    assert ("pending", MIN_BATCH_ROWS) == asyncio.run(scenario())


def test_newer_rows_push_out_the_oldest(eventually):
    """The queue is bounded, and what is validated is the latest."""

    async def scenario():
        async with watching() as watch:
            watch.validator.offer(rows(99, MAX_WAITING_ROWS))  # before the process can have taken any
            for _ in range(10):
                watch.validator.offer(rows(1, MAX_WAITING_ROWS // 10))
            watch.validator.offer(rows(1, 3 * MAX_WAITING_ROWS))
            await eventually(lambda: watch.validator.expectations.state != "pending")
            return watch.validator.expectations, watch

    verdict, watch = asyncio.run(scenario())
    assert Expectations("passed", MAX_WAITING_ROWS, 1) == verdict
    assert 4 * MAX_WAITING_ROWS == watch.count("expectations_dropped_rows_total")


def test_a_process_that_dies_is_started_again(eventually):
    """The state says so until the next verdict."""

    async def scenario():
        async with watching() as watch:
            watch.validator.offer(rows(666))
            await eventually(lambda: watch.validator.expectations.state == "error")
            died = watch.validator.expectations
            watch.validator.offer(rows(1))
            await eventually(lambda: watch.validator.expectations.state == "passed")
            return died, watch

    died, watch = asyncio.run(scenario())
    assert Expectations("error", message="the validating process ended with exit code 9; it is started again") == died
    assert 2 == watch.count("expectations_process_starts_total")


def test_a_process_that_dies_idle_is_noticed_without_rows(eventually):
    """Killed by the kernel, for one: the next rows do not find a corpse."""

    async def scenario():
        async with watching() as watch:
            await eventually(lambda: watch.validator.pid)
            os.kill(watch.validator.pid, signal.SIGKILL)
            await eventually(lambda: watch.count("expectations_process_starts_total") == 2)
            watch.validator.offer(rows(1))
            await eventually(lambda: watch.validator.expectations.state == "passed")

    asyncio.run(scenario())


def test_restarts_are_spaced_out(eventually):
    """A process that cannot live does not eat the processor."""

    async def scenario():
        async with watching({**SUITE, "name": "dies"}) as watch:
            await eventually(lambda: watch.count("expectations_process_starts_total") >= 3)
            return watch.stream.getvalue().decode()

    log = asyncio.run(scenario())
    assert '"message": "ended with exit code 7", "restart_in_seconds": 0.01' in log
    assert '"message": "ended with exit code 7", "restart_in_seconds": 0.02' in log


def test_a_suite_that_cannot_be_applied_is_an_error_once(eventually):
    """No process is kept for it, and none is started again."""

    async def scenario():
        async with watching({"expectation_suite_name": "old", "expectations": []}) as watch:
            await eventually(lambda: watch.validator.expectations.state == "error" and watch.validator.pid is None)
            return watch

    watch = asyncio.run(scenario())
    assert 1 == watch.count("expectations_process_starts_total")
    assert b"0.18" in watch.stream.getvalue()
    assert [] == watch.failures


def test_a_stopped_validator_takes_nothing(eventually):
    """Switched off while it runs: the process is gone, offers cost nothing, and it can be switched on again."""

    async def scenario():
        async with watching() as watch:
            watch.validator.offer(rows(1))
            await eventually(lambda: watch.validator.expectations.state == "passed")
            await watch.validator.stop("switched off in the settings")
            watch.validator.offer(rows(1))
            stopped = (watch.validator.pid, watch.validator.expectations)
            watch.validator.start(json.dumps(SUITE).encode())
            again = watch.validator.expectations
            watch.validator.offer(rows(1))
            await eventually(lambda: watch.validator.expectations.state == "passed")
            return *stopped, again, watch.validator.expectations.batches

    disabled = Expectations("disabled", batches=1, message="switched off in the settings")
    assert (None, disabled, Expectations("pending", batches=1), 2) == asyncio.run(scenario())


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ([], "the suite is not a JSON object"),
        ({"expectation_suite_name": "x", "expectations": []}, "the form of Great Expectations 0.18"),
        ({"name": "x", "expectations": [{"expectation_type": "e"}]}, "1.x wants name and, in each expectation, type"),
        ({"name": "x"}, "the suite has no expectations"),
        ({"name": "x", "expectations": []}, "the suite has no expectations"),
    ],
)
def test_a_suite_of_another_form_is_named(document, sentence):
    """With what to do about it."""
    with pytest.raises(SuiteError, match=sentence):
        check_suite(document)


@pytest.mark.parametrize(
    ("results", "state", "failed", "message"),
    [
        ([("e(a)", True, "")], "passed", [], ""),
        ([("e(b)", False, ""), ("e(a)", False, "")], "failed", ["e(a)", "e(b)"], ""),
        (
            [("e(a)", True, ""), ("e(x)", False, "no such column")],
            "error",
            [],
            "1 of 2 expectations cannot be evaluated: e(x): no such column",
        ),
        (
            [("e(a)", False, ""), ("e(x)", False, "no such column")],
            "failed",
            ["e(a)"],
            "1 of 2 expectations cannot be evaluated: e(x): no such column",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_not_drift(results, state, failed, message):
    """A missing column is an error of the suite; a failed expectation is drift, whatever the others did."""
    assert {"state": state, "evaluated_rows": 7, "failed": failed, "message": message} == summarize(results, 7)


@pytest.mark.parametrize(
    ("kwargs", "wanted"),
    [
        ({"column": "petal length (cm)"}, "expect_x(petal length (cm))"),
        ({"column_A": "a", "column_B": "b"}, "expect_x(a, b)"),
        ({"column_list": ["a", "b"]}, "expect_x(a, b)"),
        ({"min_value": 1}, "expect_x()"),
    ],
)
def test_an_expectation_is_named_with_its_columns(kwargs, wanted):
    """As people would say it."""
    assert wanted == label("expect_x", kwargs)


def test_a_batch_that_breaks_is_answered_and_the_next_one_served():
    """Whatever Great Expectations raises."""

    def make(_suite, _features):
        def validate(batch):
            if batch[0, 0] == 1:
                message = "odd\nthings"
                raise KeyError(message)
            return {"state": "passed", "evaluated_rows": len(batch), "failed": [], "message": ""}

        return validate

    start = json.dumps({"suite": json.dumps(SUITE), "features": FEATURES}).encode() + b"\n"
    batches = [b'{"rows": 2}\n' + rows(value, 2).tobytes() for value in (1, 2)]
    answers = io.BytesIO()
    serve(io.BytesIO(start + b"".join(batches) + b'{"rows": 2}\ncut off'), answers, make)
    assert ["pending", "error", "passed"] == [json.loads(line)["state"] for line in answers.getvalue().splitlines()]


def test_a_suite_that_is_not_json_is_an_error():
    """The first answer says so, and there is no second one."""
    answers = io.BytesIO()
    serve(io.BytesIO(json.dumps({"suite": "{", "features": FEATURES}).encode() + b"\n"), answers)
    assert json.loads(answers.getvalue())["message"].startswith("the suite is not JSON")


def test_the_verdict_and_how_far_it_is_behind_are_in_the_metrics(eventually):
    """The age of the oldest row without a verdict, whether it waits for others or is being validated."""

    async def scenario():
        async with watching() as watch:
            seen = [watch.shown()]
            watch.validator.offer(rows(1, 10))
            watch.now = 4.0
            watch.validator.offer(rows(1, 10))
            watch.now = 5.0
            seen.append(watch.shown())
            watch.validator.offer(rows(99, 30))
            await eventually(lambda: watch.validator.expectations.state == "failed")
            seen.append(watch.shown())
            watch.validator.offer(rows(777))
            await eventually(lambda: watch.shown()[2] == 0)
            watch.now = 9.0
            watch.validator.offer(rows(1, 7))
            seen.append(watch.shown())
            await watch.validator.stop()
            return [*seen, watch.shown()], watch

    seen, watch = asyncio.run(scenario())
    assert [("pending", 0, 0), ("pending", 5, 20), ("failed", 0, 0), ("failed", 4, 7), ("disabled", 0, 0)] == seen
    assert MIN_BATCH_ROWS == watch.count("expectations_dropped_rows_total")


def test_the_metrics_are_right_when_the_process_dies(eventually):
    """The rows that it died of are counted as lost, and what waits goes on ageing."""

    async def scenario():
        async with watching() as watch:
            watch.validator.offer(rows(666))
            await eventually(lambda: watch.validator.expectations.state == "error")
            seen = [watch.shown()]
            watch.validator.offer(rows(1, 3))
            watch.now = 2.0
            return [*seen, watch.shown()], watch

    seen, watch = asyncio.run(scenario())
    assert [("error", 0, 0), ("error", 2, 3)] == seen
    assert MIN_BATCH_ROWS == watch.count("expectations_dropped_rows_total")


def test_rows_do_not_wait_for_a_suite_that_cannot_be_applied(eventually):
    """Nobody would ever take them."""

    async def scenario():
        async with watching({"expectation_suite_name": "old", "expectations": []}) as watch:
            watch.validator.offer(rows(1, 3))
            await eventually(lambda: watch.validator.expectations.state == "error" and watch.validator.pid is None)
            watch.validator.offer(rows(1))
            watch.now = 60.0
            return watch.shown()

    assert ("error", 0, 0) == asyncio.run(scenario())


def test_a_process_that_stands_still_is_started_again(eventually, monkeypatch):
    """When it has not answered for so long that it will not; the state says so, and rows go to the next one."""
    monkeypatch.setattr(expectations, "BATCH_TIMEOUT", 0.2)

    async def scenario():
        async with watching() as watch:
            first = await eventually(lambda: watch.validator.pid)
            watch.validator.offer(rows(1))
            await eventually(lambda: watch.validator.expectations.state == "passed")
            os.kill(first, signal.SIGSTOP)
            watch.validator.offer(rows(1))
            await eventually(lambda: watch.validator.pid not in {None, first})
            said = watch.validator.expectations.message
            monkeypatch.setattr(expectations, "BATCH_TIMEOUT", 20)
            watch.validator.offer(rows(1))
            await eventually(lambda: watch.validator.expectations.state == "passed")
            return said

    assert "the validating process did not answer within 0.2 s; it is started again" == asyncio.run(scenario())
