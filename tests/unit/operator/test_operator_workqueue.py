"""The queue's semantics, in virtual time: no test sleeps."""

import asyncio
import random

import pytest
from virtualtime import run

from aiops_operator.errors import UnavailableError
from aiops_operator.metrics import Metrics
from aiops_operator.workqueue import Done, WorkQueue


class Half(random.Random):
    """No jitter."""

    def uniform(self, a, b):
        """The middle."""
        return (a + b) / 2


def queue_of(work, metrics=None, **options):
    """A queue without jitter that resyncs every 60 s."""
    return WorkQueue(work, metrics or Metrics(), resync=60.0, rng=Half(), **options)


def test_causes_that_come_while_a_key_is_worked_on_lead_to_one_more_run():
    """However many come, and never two at once."""
    runs, active = [], []

    async def work(key):
        active.append(key)
        assert active.count(key) == 1
        runs.append(asyncio.get_running_loop().time())
        await asyncio.sleep(1)
        active.remove(key)
        return Done()

    async def scenario():
        queue = queue_of(work)
        queue.add("a")
        await asyncio.sleep(0.5)
        for _ in range(10):
            queue.add("a")
        await asyncio.sleep(5)
        await queue.close()

    run(scenario())
    assert runs == [0.0, 1.0]


def test_causes_that_come_before_a_run_begins_are_one():
    """A burst of events is one run."""
    runs = []

    async def work(key):
        runs.append(key)
        return Done()

    async def scenario():
        queue = queue_of(work)
        for _ in range(10):
            queue.add("a")
        await asyncio.sleep(5)
        await queue.close()

    run(scenario())
    assert runs == ["a"]


def test_errors_back_off_and_success_resets_the_backoff():
    """0.5, 1, 2, 4 s; after a success the next error waits 0.5 s again."""
    times, outcomes = [], iter([False, False, False, False, True, False, True])

    async def work(_):
        times.append(asyncio.get_running_loop().time())
        if not next(outcomes):
            raise UnavailableError(503, "try later")
        return Done()

    async def scenario():
        queue = queue_of(work)
        queue.add("a")
        await asyncio.sleep(8)
        queue.add("a")
        await asyncio.sleep(2)
        await queue.close()

    run(scenario())
    assert times == [0.0, 0.5, 1.5, 3.5, 7.5, 8.0, 8.5]


def test_the_backoff_has_an_end():
    """Something that fails for ever is tried once a minute."""
    times = []

    async def work(_):
        times.append(asyncio.get_running_loop().time())
        raise UnavailableError(503, "try later")

    async def scenario():
        queue = queue_of(work)
        queue.add("a")
        await asyncio.sleep(1000)
        await queue.close()

    run(scenario())
    assert times[-1] - times[-2] == 60.0


def test_patience_that_the_api_server_asks_for_is_had():
    """No run of the key is earlier, by backoff, by resync, or by a cause that came during the run or after; others go on."""
    times, outcomes = [], iter([UnavailableError(429, "wait", 30.0), UnavailableError(503, "wait", 70.0)])

    async def work(key):
        times.append((key, asyncio.get_running_loop().time()))
        if key == "a" and (error := next(outcomes, None)) is not None:
            queue.add("a")
            raise error
        return Done(again_after=None)

    async def scenario():
        nonlocal queue
        queue = queue_of(work)
        queue.add("a")
        await asyncio.sleep(10)
        queue.add("a")
        queue.add("b")
        await asyncio.sleep(90.5)
        await queue.close()

    queue = None
    run(scenario())
    assert [0.0, 30.0, 100.0] == [time for key, time in times if key == "a"]
    assert [10.0, 70.0] == [time for key, time in times if key == "b"]


def test_a_short_patience_does_not_shorten_the_backoff():
    """Retry-After is the least, and a cause still comes first where nothing was asked for."""
    times = []

    async def work(_):
        times.append(asyncio.get_running_loop().time())
        raise UnavailableError(429, "wait", 1.0)

    async def scenario():
        queue = queue_of(work)
        queue.add("a")
        await asyncio.sleep(7)
        await queue.close()

    run(scenario())
    assert [0.0, 1.0, 2.0, 4.0] == times


def test_an_error_of_ours_does_not_end_the_queue(caplog):
    """A bug in one key's run is logged with its trace, and others go on."""
    runs = []

    async def work(key):
        if key == "bad":
            raise ZeroDivisionError
        runs.append(key)
        return Done()

    async def scenario():
        queue = queue_of(work)
        queue.add("bad")
        queue.add("good")
        await asyncio.sleep(0.1)
        await queue.close()

    run(scenario())
    assert (runs, "ZeroDivisionError" in caplog.text) == (["good"], True)


@pytest.mark.parametrize(("done", "pause"), [(Done(), 60.0), (Done(again_after=5.0), 5.0)])
def test_a_key_comes_back_without_a_cause(done, pause):
    """By the resync interval, or sooner where the run said so."""
    times = []

    async def work(_):
        times.append(asyncio.get_running_loop().time())
        return done

    async def scenario():
        queue = queue_of(work)
        queue.add("a")
        await asyncio.sleep(pause * 2.5)
        await queue.close()

    run(scenario())
    assert times == [0.0, pause, 2 * pause]


def test_a_cause_takes_the_place_of_a_planned_run():
    """There is one timer a key."""
    times = []

    async def work(_):
        times.append(asyncio.get_running_loop().time())
        return Done(again_after=10.0)

    async def scenario():
        queue = queue_of(work)
        queue.add("a")
        await asyncio.sleep(4)
        queue.add("a")
        await asyncio.sleep(11)
        await queue.close()

    run(scenario())
    assert times == [0.0, 4.0, 14.0]


def test_a_key_that_is_gone_is_forgotten():
    """Nothing is planned for it, and it is not among the known keys."""

    async def work(_):
        return Done(forget=True)

    async def scenario():
        queue = queue_of(work)
        queue.add("a")
        await asyncio.sleep(1)
        known = queue.keys
        await queue.close()
        return known

    assert run(scenario()) == ()


def test_no_more_than_so_many_at_once_and_first_come_first_served():
    """The number of workers bounds what goes on in parallel."""
    active, most, order = 0, 0, []

    async def work(key):
        nonlocal active, most
        active += 1
        most = max(most, active)
        order.append(key)
        await asyncio.sleep(1)
        active -= 1
        return Done()

    async def scenario():
        queue = queue_of(work, workers=2)
        for key in range(6):
            queue.add(key)
        await asyncio.sleep(10)
        await queue.close()

    run(scenario())
    assert (most, order) == (2, [0, 1, 2, 3, 4, 5])


def test_closing_lets_running_work_finish_and_starts_nothing():
    """What runs gets its time; what was planned or comes later does not run."""
    finished = []

    async def work(key):
        await asyncio.sleep(2)
        finished.append(key)
        return Done()

    async def scenario():
        queue = queue_of(work)
        queue.add("a")
        await asyncio.sleep(1)
        await queue.close()
        queue.add("b")
        await asyncio.sleep(100)

    run(scenario())
    assert finished == ["a"]


def test_closing_does_not_wait_for_ever():
    """Work that hangs is cancelled after a few seconds."""

    async def work(_):
        await asyncio.sleep(10_000)
        return Done()

    async def scenario():
        queue = queue_of(work)
        queue.add("a")
        await asyncio.sleep(0)
        await queue.close()
        return asyncio.get_running_loop().time()

    assert run(scenario()) == 5.0


def test_what_it_does_is_measured():
    """Results, errors, depth and active workers."""
    metrics, outcomes = Metrics(), iter([Done(), Done(again_after=1.0), UnavailableError(503, "x"), Done(forget=True)])

    async def work(_):
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def scenario():
        queue = queue_of(work, metrics)
        queue.add("a")
        await asyncio.sleep(100)
        await queue.close()

    run(scenario())
    value = metrics.registry.get_sample_value
    results = {
        result: value("aiops_operator_reconcile_total", {"result": result})
        for result in ("success", "requeue", "error", "forgotten")
    }
    assert results == dict.fromkeys(results, 1.0)
    assert value("aiops_operator_reconcile_errors_total") == 1.0
    assert value("aiops_operator_reconcile_time_seconds_count") == 4.0
    assert (value("aiops_operator_queue_depth"), value("aiops_operator_active_workers")) == (0.0, 0.0)


def test_every_known_key_can_be_enqueued_at_once():
    """For what concerns all services, such as a kind that the cluster has begun to serve."""
    runs = []

    async def work(key):
        runs.append(key)
        return Done()

    async def scenario():
        queue = queue_of(work)
        queue.add("a")
        queue.add("b")
        await asyncio.sleep(1)
        queue.add_all()
        await asyncio.sleep(1)
        await queue.close()

    run(scenario())
    assert runs == ["a", "b", "a", "b"]
