"""Merging what pods say: exact for any split over pods and polls; and asking them, over real HTTP."""

import asyncio
import contextlib
import datetime as dt
import json
import random
from dataclasses import replace

import numpy as np
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops_drift import Agreement, Counts, Expectations, Profile, Recorder, Shadowed, State, Thresholds
from aiops_operator import drift, status
from aiops_operator.api import Webhook
from aiops_operator.conditions import Condition, Problem
from aiops_operator.desired import announcements
from aiops_operator.drift import Memory, Pod, Second
from aiops_operator.errors import PodError
from aiops_operator.metrics import Metrics
from aiops_operator.podclient import LARGE, MAX_REPORT, PodClient
from aiops_operator.podsview import Mounted
from aiops_operator.poller import Poller, Timing

BASELINE = np.random.default_rng(1).normal([5.0, 1.0], [1.0, 0.1], size=(200, 2))
PROFILE = Profile.from_rows(BASELINE, ["length", "width"])
OTHER_PROFILE = Profile.from_rows(BASELINE + 100, ["length", "width"])
MODEL, OTHER_MODEL = "sha256:" + "a" * 64, "sha256:" + "b" * 64
SETTINGS = drift.Drift()


def rows(n, shift=0.0, seed=2):
    """Rows as in training, the first feature shifted by so many sigma."""
    return np.random.default_rng(seed).normal([5.0 + shift, 1.0], [1.0, 0.1], size=(n, 2))


class FakePod:
    """A pod's counts, without the pod."""

    def __init__(self, name="p0", *, profile=PROFILE, model=MODEL, newest=True, incarnation=None):
        self.pod = Pod(name, "10.0.0.1", newest)
        self.model, self.expectations = model, None
        self.recorder = Recorder(profile, incarnation or f"incarnation of {name}")

    def receive(self, given_rows, at=1.0):
        """Record rows."""
        self.recorder.record(np.asarray(given_rows), at)
        return self

    def report(self, after=-1):
        """What `GET /drift` says."""
        return self.recorder.report(self.model, self.expectations or Expectations(), after, 1000.0)


def answers_of(*pods):
    """One round of answers."""
    return {pod.pod: (pod.report(),) for pod in pods}


def merged(*pods, memory=None):
    """One round of answers, merged."""
    return drift.merge(memory or Memory(), answers_of(*pods), SETTINGS)


def score(memory):
    """Score, samples and verdict."""
    found = memory.finding.verdict
    return found.score, found.samples, found.drifting


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=24), st.floats(-8, 8))
def test_any_split_over_pods_and_polls_gives_the_verdict_of_one_pod(split, shift):
    """Blocks go to any of four pods, polls come at any time, and some see nothing new."""
    blocks = [(rows(16, shift, seed=number), float(number)) for number in range(len(split))]
    alone = FakePod()
    pods = [FakePod(f"p{number}") for number in range(4)]
    together = Memory()
    for (block, at), (pod, polled) in zip(blocks, split, strict=True):
        alone.receive(block, at)
        pods[pod].receive(block, at)
        if polled:
            together = merged(*pods, memory=together)
            together = merged(*pods, memory=together)  # a repeated poll adds nothing
    assert score(merged(*pods, memory=together))[:2] == score(merged(alone))[:2]


def test_drift_sets_in_and_clears():
    """Over both pods, with the feature it comes from."""
    pods = [FakePod("p0"), FakePod("p1")]
    memory, verdicts = Memory(), []
    for number, shift in enumerate([0, 9, 0, 0]):
        for index, pod in enumerate(pods):
            pod.receive(rows(160, shift, seed=10 * number + index), float(number))
        memory = merged(*pods, memory=memory)
        verdicts.append((memory.finding.verdict.drifting, memory.finding.verdict.feature if shift else ""))
    assert verdicts == [(False, ""), (True, "length"), (False, ""), (False, "")]


def test_changed_thresholds_act_on_the_rows_already_seen():
    """Both ways, without a poll."""
    lax = drift.Drift(false_alarm_interval=0)
    memory = drift.merge(Memory(), answers_of(FakePod().receive(rows(256, 3.0))), lax)
    strict = replace(lax, thresholds=Thresholds(z_score=2.0))
    lowered = drift.judged(memory, strict)
    assert (memory.finding.verdict.drifting, lowered.finding.verdict.drifting) == (False, True)
    assert lowered.finding.verdict.threshold == 2.0


@pytest.mark.parametrize(
    ("rate", "settings", "run_length"),
    [
        (None, drift.Drift(), 2.0**20),
        (1.0, drift.Drift(), 2.0**21),
        (0.0, drift.Drift(), 2.0**13),
        (1e9, drift.Drift(), 2.0**30),
        (1.0, drift.Drift(average_run_length=5000), 5000.0),
        (1.0, drift.Drift(false_alarm_interval=0), None),
    ],
)
def test_the_interval_between_false_alarms_is_counted_in_rows(rate, settings, run_length):
    """Thirty days at the rate that was seen, within what can be kept; rows where the resource says rows."""
    assert run_length == drift.thresholds(Memory(row_rate=rate), settings).run_length


def test_the_rate_is_that_since_the_first_answer():
    """Rows from before the first answer are not counted, and half a minute says nothing."""
    pod = FakePod().receive(rows(160, 0.0))
    memory = merged(pod)
    for seconds in (30.0, 90.0):
        pod.receive(rows(160, 0.0))
        report = replace(pod.report(), now=1000.0 + seconds)
        memory = drift.merge(memory, {pod.pod: (report,)}, SETTINGS)

    assert ((1000.0, 160), 320 / 90) == (memory.counting_from, memory.row_rate)


def test_only_what_the_verdict_compares_with_judges_anew():
    """An acknowledgement half-way through the recovery, or a cooldown, leaves the episode on; a threshold does not."""
    pod = FakePod().receive(rows(256, 9.0))
    memory = merged(pod)
    memory = merged(pod.receive(rows(96)), memory=memory)
    changes = [
        replace(SETTINGS, acknowledged_episode="e"),
        replace(SETTINGS, webhook=Webhook(cooldown=1)),
        replace(SETTINGS, thresholds=Thresholds(z_score=15.0), false_alarm_interval=0),
    ]
    after = [drift.adjusted(memory, SETTINGS, change).state.drifting for change in changes]
    assert (True, [True, True, False]) == (memory.state.drifting, after)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(["poll", "twice", "miss"]), min_size=1, max_size=30))
def test_missed_and_repeated_rounds_change_nothing(rounds):
    """Two pods, drift on and off: whatever rounds fail or come twice, the state after the next is the same."""
    steady, shaken = [FakePod("p0"), FakePod("p1")], [FakePod("p0"), FakePod("p1")]
    expected, found = Memory(), Memory()
    for number, kind in enumerate((*rounds, "poll")):
        for index in range(2):
            given_rows = rows(16, 9.0 if 4 <= number < 12 else 0.0, seed=2 * number + index)
            steady[index].receive(given_rows, number + index / 2)
            shaken[index].receive(given_rows, number + index / 2)
        expected = merged(*steady, memory=expected)
        if kind == "miss":
            found = drift.merge(found, {pod.pod: PodError("no answer") for pod in shaken}, SETTINGS)
        else:
            found = merged(*shaken, memory=found)
        if kind == "twice":
            found = merged(*shaken, memory=found)
    assert (expected.state, expected.rows, expected.cursors) == (found.state, found.rows, found.cursors)


def test_a_pod_that_dies_loses_what_came_after_the_last_poll():
    """96 rows polled, 64 lost with the pod, 48 of the one in its place; the other pod's rows are all there."""
    dying, other = FakePod("p0", incarnation="first"), FakePod("p1")
    memory = merged(dying.receive(rows(96)), other.receive(rows(32, seed=3)))
    dying.receive(rows(64, seed=4))
    successor = FakePod("p0", incarnation="second").receive(rows(48, seed=5))
    memory = merged(successor, other.receive(rows(32, seed=6)), memory=memory)
    seen_rows = [rows(96), rows(32, seed=3), rows(48, seed=5), rows(32, seed=6)]
    total = Counts.zero(2)
    for block in memory.state.blocks:
        total += block.counts
    assert Counts.of(PROFILE, np.vstack(seen_rows)) == total


WATCHED_ROWS = np.random.default_rng(4).normal(size=(1000, 2))
WATCHED = Profile.from_rows(WATCHED_ROWS).calibrated(WATCHED_ROWS)
ASKED = drift.Drift(average_run_length=2000)


def onset(pods, every, shift, rng):
    """Rows from the change, after 2048 of them, until the poll at which drift is on; rows go to the pods in turn."""
    fakes = [FakePod(f"p{number}", profile=WATCHED) for number in range(pods)]
    memory, change = Memory(), 2048
    stream = rng.normal(size=(change + 5000, 2))
    stream[change:, 0] += shift
    for start in range(0, len(stream), every):
        for number, row in enumerate(stream[start : start + every], start):
            fakes[number % pods].receive(row[None], float(number))
        memory = drift.merge(memory, answers_of(*fakes), ASKED)
        if memory.state.drifting:
            return min(start + every, len(stream)) - change
    return None


@pytest.mark.parametrize("shift", [1.0, 5.0])
@pytest.mark.parametrize("pods", [1, 2, 8])
def test_pods_and_polls_delay_the_onset_by_their_open_blocks_and_one_interval(pods, shift):
    """With rows in turn, a row waits for 15 others of its pod and for a poll: nothing else is different."""
    found = {every: onset(pods, every, shift, np.random.default_rng(9)) for every in (50, 5000)}
    if pods < 8 or shift > 1:  # a thousand polls of one row, each over all pods
        found[1] = onset(pods, 1, shift, np.random.default_rng(9))
    alone = onset(1, 16, shift, np.random.default_rng(9))
    for every, rows_seen in found.items():
        assert 0 < rows_seen <= alone + 16 * pods + every


def test_judging_before_any_answer_says_nothing():
    """There are no rows to judge."""
    assert drift.judged(Memory(), SETTINGS) == Memory()


def test_a_new_model_begins_anew():
    """The rows that the one before saw say nothing of it; a drift that was on is not carried over."""
    before = merged(FakePod("p0").receive(rows(256, 9.0)))
    after = merged(FakePod("p1", model=OTHER_MODEL).receive(rows(64)), memory=before)
    assert [score(memory)[1:] for memory in (before, after)] == [(256, True), (64, False)]


def test_only_the_newest_templates_profile_counts():
    """In a rollout the old pods are heard for their model alone, until the new ones are there."""
    old = [FakePod("p0", newest=False), FakePod("p1", newest=False)]
    for pod in old:
        pod.receive(rows(64))
    before = merged(*old)
    new = FakePod("p2", profile=OTHER_PROFILE, model=OTHER_MODEL).receive(rows(32) + 100)
    after = merged(*old, new, memory=before)
    assert (before.finding.verdict.samples, after.finding.verdict.samples) == (128, 32)
    assert dict(after.finding.models) == {"p0": MODEL, "p1": MODEL, "p2": OTHER_MODEL}


def test_another_image_with_the_same_model_goes_on():
    """What rolled is not what the rows are compared with."""
    before = merged(FakePod("p0", newest=False).receive(rows(64)))
    after = merged(FakePod("p1").receive(rows(64, seed=3)), memory=before)
    assert after.finding.verdict.samples == 128


def test_rounds_without_an_answer_keep_the_verdict_until_they_are_many():
    """A glitch is no news; silence for six polls is, with the reason."""
    memory = merged(FakePod().receive(rows(256, 9.0)))
    silent = {FakePod().pod: PodError("refused")}
    seen = []
    for _ in range(6):
        memory = drift.merge(memory, silent, SETTINGS)
        seen.append((memory.finding.silent, memory.finding.verdict.drifting))
    back = merged(FakePod().receive(rows(256, 9.0)), memory=memory)
    assert seen == [("", True)] * 5 + [("No pod answers: refused", True)]
    assert (back.finding.silent, back.silent_rounds) == ("", 0)


def test_a_pod_that_contradicts_its_profile_is_not_merged():
    """A tenant's image may say anything; the others go on."""
    liar = FakePod("p1", profile=Profile.from_rows(BASELINE[:, :1], ["length"]))
    good = FakePod("p0").receive(rows(64))
    lie = liar.report()
    lie = lie.__class__(**{**lie.__dict__, "profile": PROFILE.digest})
    memory = drift.merge(
        Memory(), {good.pod: (good.report(),), Pod("q", "", newest=True): (good.report(),), liar.pod: (lie,)}, SETTINGS
    )
    assert memory.finding.verdict.samples == 64


def test_incarnations_that_are_gone_do_not_pile_up():
    """The cursors of the latest are kept."""
    memory = Memory()
    for number in range(drift.MAX_CURSORS + 10):
        memory = merged(FakePod(incarnation=f"i{number}").receive(rows(16)), memory=memory)
    assert len(memory.cursors) == drift.MAX_CURSORS
    assert f"i{drift.MAX_CURSORS + 9}" in memory.cursors


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["passed", "failed", "error"], Expectations("failed", 10, failed=("x",))),
        (["passed", "error"], Expectations("error", 10, failed=("x",))),
        (["pending", "passed"], Expectations("passed", 10, failed=("x",))),
        (["disabled", "pending"], Expectations("pending", 10, failed=("x",))),
        (["disabled"], Expectations()),
        ([], Expectations()),
    ],
)
def test_expectations_merge_to_the_worst(states, expected):
    """One answer for all pods."""
    assert expected == drift.merged_expectations([Expectations(state, 10, failed=("x",)) for state in states])


FAILED = Expectations("failed", 50, 1, ("x",))


def test_a_pod_that_misses_a_poll_is_not_forgotten():
    """What it said last holds: neither its failure nor its model flickers."""
    pods = [FakePod("p0").receive(rows(64)), FakePod("p1").receive(rows(64, seed=3))]
    pods[0].expectations = FAILED
    both = merged(*pods)
    one = drift.merge(both, {pods[0].pod: PodError("no answer"), pods[1].pod: (pods[1].report(),)}, SETTINGS)
    gone = drift.merge(both, {pods[1].pod: (pods[1].report(),)}, SETTINGS)

    assert (both.finding.expectations, both.finding.models) == (one.finding.expectations, one.finding.models)
    assert ("disabled", {"p1": MODEL}) == (gone.finding.expectations.state, gone.finding.models)


def in_one_pod(*fakes):
    """One round of answers of a pod in which several processes count."""
    return {fakes[0].pod: tuple(fake.report() for fake in fakes)}


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=20), st.floats(-8, 8))
def test_several_processes_of_a_pod_count_as_pods_of_their_own(split, shift):
    """Blocks go to any of three processes, or of three pods, with polls at any time: the same rows, state and verdict."""
    fakes = [FakePod(f"p{number}") for number in range(3)]
    apart, together = Memory(), Memory()
    for number, (fake, polled) in enumerate((*split, (0, True))):
        fakes[fake].receive(rows(16, shift, seed=number), float(number))
        if polled:
            apart = merged(*fakes, memory=apart)
            together = drift.merge(together, in_one_pod(*fakes), SETTINGS)
    assert (apart.state, apart.rows, apart.cursors) == (together.state, together.rows, together.cursors)
    assert apart.finding.verdict == together.finding.verdict


def test_a_pod_s_expectations_are_those_of_the_process_that_validates():
    """The others have them disabled; where it misses a poll its failure does not flicker, and a new one is heard."""
    validating, other = FakePod("first").receive(rows(64)), FakePod("second").receive(rows(64, seed=3))
    validating.expectations = FAILED
    both = drift.merge(Memory(), in_one_pod(other, validating), SETTINGS)
    missed = drift.merge(both, {other.pod: (other.report(),)}, SETTINGS)
    validating.expectations = Expectations("passed", 50, 2)
    passed = drift.merge(missed, in_one_pod(other, validating), SETTINGS)

    assert ["failed", "failed", "passed"] == [one.finding.expectations.state for one in (both, missed, passed)]


def test_a_failure_is_left_behind_by_the_rows_of_the_service():
    """A pod that gets no more rows validates none; its failure does not hold for ever. A new one counts anew."""
    idle, busy = FakePod("p0").receive(rows(64)), FakePod("p1")
    idle.expectations = FAILED
    memory, states = merged(idle, busy), []
    for seed in range(3):
        busy.receive(rows(128, seed=seed))
        memory = merged(idle, busy, memory=memory)
        states.append(memory.finding.expectations.state)
    idle.expectations = Expectations("failed", 50, 2, ("x",))
    again = merged(idle, busy, memory=memory)

    assert ["failed", "failed", "pending"] == states
    assert "failed" == again.finding.expectations.state


def test_clocks_of_pods_may_disagree():
    """A broken sensor before one pod is seen whichever pod's clock is ahead."""
    verdicts = []
    for skew in (-3600.0, 0.0, 3600.0):
        broken, healthy_pod = FakePod("p0"), FakePod("p1")
        for number in range(20):
            broken.receive(rows(16, 20.0, seed=number), float(number))
            healthy_pod.receive(rows(16, seed=100 + number), number + 0.5 + skew)
        skewed = healthy_pod.report()
        reports = {
            broken.pod: (broken.report(),),
            healthy_pod.pod: (skewed.__class__(**{**skewed.__dict__, "now": 1000 + skew}),),
        }
        verdicts.append(drift.merge(Memory(), reports, SETTINGS).finding.verdict)

    assert [True] * 3 == [found.drifting for found in verdicts]
    assert 1 == len({found.score for found in verdicts})


EPISODE = {"episode": "e", "since": "2030-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("reason", "block", "drifting"),
    [
        ("ScoreAboveThreshold", EPISODE, True),
        ("NoReadyPods", EPISODE | {"score": "7.0", "threshold": "5"}, True),
        ("NoReadyPods", EPISODE | {"score": "0.1", "threshold": "5"}, False),
        ("PodsUnreachable", EPISODE | {"score": "much", "threshold": "5"}, False),
        ("ExpectationsFailed", EPISODE, False),
        ("WithinThresholds", {}, False),
    ],
)
def test_a_takeover_goes_on_with_the_episode_of_the_status(make, reason, block, drifting):
    """Unless it was Great Expectations' alone, by the reason or by the score: the pods will say that again."""
    condition = {"type": "DriftDetected", "status": "True", "reason": reason, "message": ""}
    service = make(status={"conditions": [condition], "drift": block, "model": {"digest": MODEL}})
    memory = drift.taken_over(service)
    assert memory.state == State(drifting=drifting)
    same = merged(FakePod().receive(rows(16)), memory=memory)
    other = merged(FakePod(model=OTHER_MODEL).receive(rows(16)), memory=memory)
    assert (same.state.drifting, other.state.drifting) == (drifting, False)


def test_a_takeover_does_not_judge_settled_rows_again(make):
    """The rows of an episode that is over, in the one pod that is left, do not begin it anew."""
    stamp = "2030-01-01T00:00:00Z"
    condition = {"type": "DriftDetected", "status": "False", "reason": "WithinThresholds", "lastTransitionTime": stamp}
    memory = drift.taken_over(make(status={"conditions": [condition], "drift": {}, "model": {"digest": MODEL}}))
    pod = FakePod().receive(rows(256, 9.0), at=900.0).receive(rows(64), at=990.0)  # the report is of 1000
    seen = drift.merge(memory, answers_of(pod), SETTINGS, oldest=50.0)
    pod.receive(rows(256, 9.0), at=999.0)
    later = drift.merge(seen, answers_of(pod), SETTINGS, oldest=50.0)

    assert dt.datetime(2030, 1, 1, tzinfo=dt.UTC) == memory.settled_at
    assert (64, False) == (seen.finding.verdict.samples, seen.finding.verdict.drifting)
    assert True is later.finding.verdict.drifting


def test_a_takeover_during_drift_neither_forgets_nor_fires_twice(make):
    """Operators come and go in drift and in recovery: one episode, announced once and cleared once."""
    pods, told, document = [FakePod("p0"), FakePod("p1")], [], {}
    memory, when = drift.taken_over(make()), dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    episodes = set()
    for number in range(40):
        for index, pod in enumerate(pods):
            pod.receive(rows(16, 9.0 if 10 <= number < 20 else 0.0, seed=2 * number + index), 900.0 + number)
        if number % 3 == 0:  # another operator, which knows the status alone
            memory = drift.taken_over(make(status=document))
        # All reports are of 1000; the status counts its seconds as the pods do theirs from 900.
        oldest = 100.0 - (memory.settled_at - when).total_seconds() if memory.settled_at else np.inf
        memory = drift.merge(memory, answers_of(*pods), SETTINGS, oldest=oldest)
        observed = status.Observation(
            None,
            ["p0", "p1"],
            Mounted(),
            None,
            None,
            memory.finding,
            Condition("MonitoringReady", "True", "A", ""),
        )
        after = status.build(make(status=document), observed, when + dt.timedelta(seconds=number))
        told += [reason for _, reason, _ in announcements(document, after)]
        episodes |= {after["drift"].get("episode")} - {None}
        document = after
    assert (["DriftDetected", "DriftCleared"], 1) == ([reason for reason in told if "Drift" in reason], len(episodes))


# --- over HTTP ---------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def served(handler, path="/drift"):
    """A real HTTP server on a free port of loopback; its port."""
    app = web.Application()
    app.router.add_get(path, handler)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def until(condition):
    """Wait for what a server's task brings about."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  the server under test sets no event
            await asyncio.sleep(0.005)


def asked(handler, path="/drift", question=lambda client: client.report("127.0.0.1")):
    """What a client makes of a server's answer."""

    async def scenario():
        async with served(handler, path) as port:
            client = PodClient(port=port)
            try:
                return await question(client)
            finally:
                await client.close()

    return asyncio.run(scenario())


def test_a_report_is_read():
    """As the pod wrote it, with the number after which blocks are asked for."""
    pod, queries = FakePod().receive(rows(64)), []

    async def answer(request):
        queries.append(request.query_string)
        return web.json_response(pod.report().to_dict())

    async def both(client):
        return [await client.report("127.0.0.1"), await client.report("127.0.0.1", 2)]

    assert asked(answer, question=both) == [(pod.report(),), (pod.report(),)]
    assert queries == ["", "after=2"]


@pytest.mark.parametrize(
    ("response", "message"),
    [
        ({"status": 503, "text": "{}"}, "/drift answered 503"),
        ({"text": "no json"}, "/drift is not understood"),
        ({"text": "[" * 100_000}, "/drift is not understood"),
        ({"text": '{"version": 2}'}, "/drift is not understood: document.features"),
        ({"body": b"x" * (MAX_REPORT + 1)}, "/drift is larger than"),
        ({"status": 302, "headers": {"Location": "http://127.0.0.1:1/"}}, "/drift answered 302"),
    ],
)
def test_what_is_no_report_is_an_error_of_the_pod(response, message):
    """Nothing that a pod says ends the poller."""

    async def answer(_):
        return web.Response(**response)

    with pytest.raises(PodError, match=message):
        asked(answer)


def test_a_pod_of_two_processes_is_read_whole_and_without_a_number(make):
    """Both reports count, each block once, and nobody is asked for what comes after another's number."""
    fakes, queries = [FakePod("first").receive(rows(64, 9.0)), FakePod("second").receive(rows(64, 9.0, seed=3))], []

    async def answer(request):
        queries.append(request.query_string)
        documents = [fake.report().to_dict() for fake in fakes]
        return web.json_response({"version": documents[0]["version"], "reports": documents})

    async def scenario():
        async with served(answer) as port:
            client, metrics = PodClient(port=port), Metrics()
            timing = Timing(0.01, lambda: dt.datetime(2030, 1, 1, tzinfo=dt.UTC), random.SystemRandom())
            poller = Poller(client, lambda _: None, metrics, timing)
            poller.track(make(), [Pod("p0", "127.0.0.1", newest=True)], Mounted())
            await until(lambda: len(queries) >= 5)
            samples = metrics.registry.get_sample_value("inferenceservice_drift_samples", LABELS)
            monitored = [metrics.registry.get_sample_value("inferenceservice_monitored_pods", LABELS)]
            poller.track(make({"monitoring": {"mode": "none"}}), [Pod("p0", "127.0.0.1", newest=True)], Mounted())
            monitored.append(metrics.registry.get_sample_value("inferenceservice_monitored_pods", LABELS))
            await poller.close()
            await client.close()
            return samples, monitored

    assert (128.0, [1.0, 0.0]) == asyncio.run(scenario())
    assert {""} == set(queries)


def test_a_pod_that_does_not_listen_is_an_error_of_the_pod():
    """Refused at once."""

    async def scenario():
        client = PodClient(port=1)
        try:
            await client.report("127.0.0.1")
        finally:
            await client.close()

    with pytest.raises(PodError, match=r"no answer from http://127\.0\.0\.1:1/drift"):
        asyncio.run(scenario())


@pytest.mark.parametrize(
    ("code", "document", "expected"),
    [
        (
            503,
            {"status": "unavailable", "reason": "ModelUnloadable", "message": "bad pickle"},
            ("ModelUnloadable", True),
        ),
        *(
            (503, {"status": "unavailable", "reason": reason, "message": "…"}, (reason, True))
            for reason in ("ModelUntrusted", "OnnxRuntimeMissing", "FeatureNamesDiffer", "LibraryVersionMismatch")
        ),
        (503, {"status": "unavailable", "reason": "Loading", "message": "…"}, ("Loading", False)),
        (503, {"status": "unavailable", "reason": "no reason at all!"}, ("PodNotReady", False)),
        (503, {"status": "unavailable"}, None),
        (503, [], None),
        (200, {"status": "ok", "reason": "ModelUnloadable"}, None),
    ],
)
def test_what_a_pod_says_against_itself_is_carried(code, document, expected):
    """Its reason and message; those that no waiting mends stall the service."""

    async def answer(_):
        return web.json_response(document, status=code)

    problem = asked(answer, "/health", lambda client: client.problem("127.0.0.1"))
    assert (problem and (problem.reason, problem.stalled)) == expected
    assert problem is None or isinstance(problem, Problem)


def test_the_poller_asks_for_what_is_new_and_tells_of_what_is_shown(make):
    """It enqueues the key when the status would change, asks from its cursor on, and notices another process."""
    pods, queries, causes = [FakePod(incarnation="one").receive(rows(64, 9.0))], [], []

    async def answer(request):
        queries.append(request.query_string)
        after = int(request.query.get("after", -1))
        return web.json_response(pods[-1].report(after).to_dict())

    async def scenario():
        async with served(answer) as port:
            told = asyncio.Event()

            def enqueue(key):
                causes.append(str(key))
                told.set()

            client, metrics = PodClient(port=port), Metrics()
            timing = Timing(0.01, lambda: dt.datetime(2030, 1, 1, tzinfo=dt.UTC), random.SystemRandom())
            poller = Poller(client, enqueue, metrics, timing)
            service = make()
            poller.track(service, [Pod("p0", "127.0.0.1", newest=True)], Mounted())
            await asyncio.wait_for(told.wait(), 10)
            finding = poller.track(service, [Pod("p0", "127.0.0.1", newest=True)], Mounted())
            pods.append(FakePod(incarnation="two").receive(rows(16, 9.0)))
            await until(lambda: metrics.registry.get_sample_value("inferenceservice_drift_samples", LABELS) == 80.0)
            detected = metrics.registry.get_sample_value("inferenceservice_drift_detected", LABELS)
            poller.forget(service.key)
            gone = metrics.registry.get_sample_value("inferenceservice_drift_detected", LABELS)
            await poller.close()
            await client.close()
            return finding, detected, gone

    finding, detected, gone = asyncio.run(scenario())
    assert (finding.verdict.drifting, finding.verdict.samples, dict(finding.models)) == (True, 64, {"p0": MODEL})
    assert (detected, gone, set(causes)) == (1.0, None, {"models/iris"})
    changed = queries.index("after=3")  # the cursor stood at block 3, and the next process has fewer
    assert queries[0] == ""
    assert "" in queries[changed:]


LABELS = {"namespace": "models", "name": "iris"}


def test_a_status_that_already_says_so_is_no_cause(make):
    """Traffic at rest enqueues nothing."""
    pod, polls, causes = FakePod().receive(rows(256)), [], []
    ready = [Pod("p0", "127.0.0.1", newest=True)]
    when = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)

    async def answer(_):
        polls.append(1)
        return web.json_response(pod.report().to_dict())

    async def scenario():
        async with served(answer) as port:
            client = PodClient(port=port)
            poller = Poller(client, causes.append, Metrics(), Timing(0.005, lambda: when, random.SystemRandom()))
            service = make()
            poller.track(service, ready, Mounted())
            await until(lambda: causes)
            finding = poller.track(service, ready, Mounted())
            observed = status.Observation(
                None, ["p0"], Mounted(), None, None, finding, Condition("MonitoringReady", "True", "A", "")
            )
            poller.written(service.key, status.build(service, observed, when))
            told, polled = len(causes), len(polls)
            await until(lambda: len(polls) >= polled + 20)
            await poller.close()
            await client.close()
            return told

    told = asyncio.run(scenario())
    assert len(causes) == told


def test_reports_survive_json():
    """The document that these tests serve is the one on the wire."""
    report = FakePod().receive(rows(64)).report()
    assert report.from_dict(json.loads(json.dumps(report.to_dict()))) == report


def shadowing(name, rows, differing=0, *, revision="b", incarnation=None):
    """A serving pod's answer that tells of a second model."""
    pod = FakePod(name)
    shadowed = Shadowed(incarnation or f"of {name}", revision, Agreement(rows, differing))
    return {pod.pod: (replace(pod.report(), shadowed=shadowed),)}


def test_comparisons_of_all_pods_add_up():
    """Each process counts by itself; what it says again replaces what it said, and what is gone stays counted."""
    rounds = [
        shadowing("p0", 10, 1) | shadowing("p1", 20, 2),
        shadowing("p0", 15, 1) | shadowing("p1", 20, 2),
        shadowing("p0", 5, 5, incarnation="started again"),
    ]
    second, found = Second("b", ()), []
    for answers in rounds:
        second = drift.merge_second(second, answers, {}, SETTINGS)
        found.append(second.compared.agreement)

    assert [Agreement(30, 3), Agreement(35, 3), Agreement(40, 8)] == found


def test_one_of_several_causes_is_shown():
    """Always the same, whichever pod was heard last."""
    answers = {}
    for name, problem in (("p0", ""), ("p1", "HTTP 500"), ("p2", "HTTP 400")):
        (report,) = shadowing(name, 1)[Pod(name, "10.0.0.1", newest=True)]
        answers[Pod(name, "10.0.0.1", newest=True)] = (
            replace(report, shadowed=replace(report.shadowed, problem=problem)),
        )
    second = drift.merge_second(Second("b", ()), answers, {}, SETTINGS)

    assert ["HTTP 400", "HTTP 400"] == [
        drift.merge_second(second, {pod: answers[pod]}, {}, SETTINGS).compared.problem for pod in list(answers)[1:]
    ]


def test_comparisons_with_another_revision_do_not_count():
    """A pod that has not read its settings yet speaks of the one before; one that is silent says nothing."""
    answers = shadowing("p0", 10, revision="a") | {Pod("p1", "10.0.0.2", newest=True): PodError("no answer")}
    answers |= {FakePod("p2").pod: (FakePod("p2").report(),)}

    assert Agreement() == drift.merge_second(Second("b", ()), answers, {}, SETTINGS).compared.agreement


def test_comparisons_of_processes_that_are_gone_do_not_pile_up():
    """A pod may call itself something else at each poll."""
    second = Second("b", ())
    for number in range(600):
        second = drift.merge_second(second, shadowing("p0", 1, incarnation=str(number)), {}, SETTINGS)

    assert len(second.heard) == drift.MAX_COUNTS + 1


def test_comparisons_of_many_outputs_are_remembered_by_their_numbers():
    """Of processes that are gone the newest, as many as there is room for; of those that live all."""
    second, outputs = Second("b", ()), 2048
    wide = Agreement(1, outputs=np.zeros((outputs, 3)))
    for number in range(0, 300, 10):
        names = [str(number + i) for i in range(10)]
        reports = [replace(FakePod().report(), shadowed=Shadowed(name, "b", wide)) for name in names]
        second = drift.merge_second(second, {FakePod().pod: tuple(reports)}, {}, SETTINGS)

    kept = drift.MAX_OUTPUTS // outputs
    assert [str(number) for number in range(300 - 10 - kept, 300)] == list(second.heard)
    assert Agreement(kept + 10, outputs=np.zeros((outputs, 3))) == second.compared.agreement


def test_comparisons_of_all_processes_that_live_count():
    """However many a pod has; and those that miss a poll are remembered beside them."""
    pods = [Pod(f"p{i}", "10.0.0.1", newest=True) for i in range(8)]
    report = FakePod().report()
    answers = {
        pod: tuple(replace(report, shadowed=Shadowed(f"{pod.name} {i}", "b", Agreement(1))) for i in range(60))
        for pod in pods
    }
    second = drift.merge_second(Second("b", ()), answers, {}, SETTINGS)
    fewer = drift.merge_second(second, answers | {pods[0]: PodError("no answer")}, {}, SETTINGS)

    assert [Agreement(480), Agreement(480)] == [second.compared.agreement, fewer.compared.agreement]


def test_a_large_answer_is_read_beside_other_work():
    """As any other: what it is made of is not looked at while everything else waits."""
    pod = FakePod().receive(rows(64 * 512))
    assert len(json.dumps(pod.report().to_dict())) > LARGE

    async def answer(_):
        return web.json_response(pod.report().to_dict())

    assert (pod.report(),) == asked(answer)


def test_a_shadows_own_rows_are_judged_by_its_own_baseline():
    """The service's verdict is not touched by them, nor its by the service's."""
    own = FakePod(profile=OTHER_PROFILE, model=OTHER_MODEL).receive(rows(256) + 100)
    second = drift.merge_second(Second("b", (own.pod,)), {}, answers_of(own), SETTINGS)
    drifted = drift.merge_second(second, {}, answers_of(own.receive(rows(256))), SETTINGS)

    assert {"p0": OTHER_MODEL} == second.compared.finding.models
    assert (False, True) == (second.compared.finding.verdict.drifting, drifted.compared.finding.verdict.drifting)


def test_the_poller_asks_a_shadow_and_tells_when_it_shows(make):
    """Its own pods, and what the serving pods say of it; what is known of it is kept until another revision comes."""
    serving, own = FakePod("p0").receive(rows(256)), FakePod("s0", model=OTHER_MODEL).receive(rows(256))
    compared, causes, when = [5], [], dt.datetime(2030, 1, 1, tzinfo=dt.UTC)

    async def answer(request):
        if request.host.startswith("localhost"):
            return web.json_response(own.report().to_dict())
        shadowed = Shadowed("of p0", "b", Agreement(compared[-1]))
        return web.json_response(replace(serving.report(), shadowed=shadowed).to_dict())

    async def scenario():
        async with served(answer) as port:
            client = PodClient(port=port)
            poller = Poller(client, causes.append, Metrics(), Timing(0.005, lambda: when, random.SystemRandom()))
            service = make({"rollout": {"strategy": "Shadow", "shadow": {"minRows": 100}}})
            ready = [Pod("p0", "127.0.0.1", newest=True)]

            def look(revision="b"):
                second = Second(revision, (Pod("s0", "localhost", newest=True),))
                return poller.track(service, ready, Mounted(), second), poller.compared(service.key)

            look()
            await until(lambda: look()[1].finding.models and look()[1].agreement.rows)
            observed = status.Observation(
                None, ["p0"], Mounted(), None, None, look()[0], Condition("MonitoringReady", "True", "A", "")
            )
            poller.written(service.key, status.build(service, observed, when))
            compared.append(60)
            causes.clear()
            await until(lambda: causes)
            kept, other = look()[1], look("c")[1]
            await poller.close()
            await client.close()
            return kept, other

    kept, other = asyncio.run(scenario())
    assert (60, {"s0": OTHER_MODEL}, False) == (kept.agreement.rows, kept.finding.models, kept.finding.verdict.drifting)
    assert (0, {}) == (other.agreement.rows, other.finding.models)
