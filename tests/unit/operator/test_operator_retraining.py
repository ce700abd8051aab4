"""What an episode of drift leads to."""

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from aiops_operator import names, retraining
from aiops_operator.api import InferenceService

SPEC = {"drift": {"onDrift": {"cronJobRef": {"name": "retrain"}, "cooldown": "1h", "maxAttempts": 3}}}
DRIFT = {"episode": "e-1", "score": "7.4", "threshold": "5", "worstFeature": "length"}
OTHER = {"episode": "e-2"}
CRON_JOB = {
    "metadata": {"name": "retrain", "uid": "cron-uid"},
    "spec": {"jobTemplate": {"metadata": {"labels": {"team": "fraud"}}, "spec": {"template": {"spec": {"x": 1}}}}},
}


def ended(name, type_, when):
    """A Job as the Job controller leaves it."""
    condition = {"type": type_, "status": "True", "lastTransitionTime": f"{when:%Y-%m-%dT%H:%M:%SZ}", "message": "why"}
    return {"metadata": {"name": name}, "status": {"conditions": [condition]}}


def running(name):
    """A Job that has not ended."""
    return {"metadata": {"name": name}, "status": {}}


def asking(shown=None, episode="e-1", name="iris", **spec):
    """A service that asks for Jobs, with what was written of the last one and of an episode."""
    model = {"artifacts": {"configMap": {"name": "files"}}}
    metadata = {"namespace": "models", "name": name, "uid": "uid-1"}
    status = {"retraining": shown or {}, "drift": {"episode": episode} if episode else {}}
    return InferenceService.from_dict({"metadata": metadata, "spec": SPEC | {"model": model} | spec, "status": status})


def test_nothing_is_asked_for(make, now):
    """No status, no Job; nor without an episode, nor in one that is acknowledged."""
    assert retraining.Step() == retraining.step(make(), DRIFT, [], now)
    assert retraining.Step() == retraining.step(asking(), {}, [], now)
    assert retraining.Step() == retraining.step(asking(), DRIFT | {"acknowledged": True}, [], now)


def test_an_episode_is_written_before_anything_is_made_for_it(now):
    """Else one that could not be written would have another name at the next look, and another Job."""
    assert retraining.Step({}, again_after=0.0) == retraining.step(asking(episode=None), DRIFT, [], now)
    assert retraining.Step({}, again_after=0.0) == retraining.step(asking(episode="e-0"), DRIFT, [], now)


def test_one_job_an_episode(now):
    """It is made, runs, and ends; the episode that goes on leads to no other."""
    service = asking()
    assert 1 == retraining.step(service, DRIFT, [], now).attempt
    shown = retraining.made(service, "e-1", 1, now)
    service = asking(shown)
    assert retraining.Step(shown) == retraining.step(service, DRIFT, [running(shown["job"])], now)
    found = retraining.step(service, DRIFT, [ended(shown["job"], "Complete", now)], now)
    assert ("Succeeded", None, None) == (found.status["state"], found.attempt, found.again_after)
    assert found == retraining.step(asking(found.status), DRIFT, [], now + dt.timedelta(days=9))


def test_a_job_that_fails_is_made_again_after_a_pause(now):
    """As often as is asked for; one that was deleted has failed."""
    shown = retraining.made(asking(), "e-1", 1, now)
    service = asking(shown)
    found = retraining.step(service, DRIFT, [ended(shown["job"], "Failed", now)], now)
    assert ("Failed", None, 60) == (found.status["state"], found.attempt, found.again_after)
    service = asking(found.status)
    later = now + dt.timedelta(seconds=61)
    assert 2 == retraining.step(service, DRIFT, [], later).attempt
    second = retraining.made(service, "e-1", 2, later)
    found = retraining.step(asking(second), DRIFT, [], later)
    assert ("Failed", None, 120) == (found.status["state"], found.attempt, found.again_after)


def test_the_last_attempts_failure_is_said_and_told_once(now):
    """It is the end of the episode's attempts, until more are allowed; the next episode begins anew."""
    shown = retraining.made(asking(), "e-1", 3, now)
    found = retraining.step(asking(shown), DRIFT, [ended(shown["job"], "Failed", now)], now)
    assert ("Exhausted", None, None) == (found.status["state"], found.attempt, found.again_after)
    said = f"Attempt 3 of 3 has failed, and no other follows: Job {shown['job']} has failed: why"
    assert (("Warning", "RetrainingExhausted", said),) == retraining.events(shown, found.status)
    later = now + dt.timedelta(days=1)
    again = retraining.step(asking(found.status), DRIFT, [], later)
    assert (found, ()) == (again, retraining.events(found.status, again.status))
    assert 1 == retraining.step(asking(found.status, "e-2"), OTHER, [], later).attempt
    more = {"drift": {"onDrift": SPEC["drift"]["onDrift"] | {"maxAttempts": 4}}}
    assert 4 == retraining.step(asking(found.status, **more), DRIFT, [], now).attempt


def test_a_job_that_is_deleted_as_soon_as_it_has_ended_has_its_outcome(now):
    """What was told of it last counts; where it had not ended by then, nobody knows."""
    shown = retraining.made(asking(), "e-1", 1, now)
    service = asking(shown)
    for type_, state in (("Complete", "Succeeded"), ("Failed", "Failed")):
        last = ended(shown["job"], type_, now)
        assert state == retraining.step(service, DRIFT, [], now, deleted=last).status["state"]
    for last in (running(shown["job"]), None):
        found = retraining.step(service, DRIFT, [], now, deleted=last).status
        assert "Failed" == found["state"]
        assert found["message"].endswith("was deleted before it was seen to end: how it ended is not known.")
    # One of the same name that is there counts more.
    there = [running(shown["job"])]
    assert shown == retraining.step(service, DRIFT, there, now, deleted=ended(shown["job"], "Failed", now)).status


def test_the_next_episode_waits_for_the_cooldown(now):
    """And says until when, the same at every look."""
    done = retraining.made(asking(), "e-1", 1, now) | {"state": "Succeeded"}
    found = retraining.step(asking(done, "e-2"), OTHER, [], now + dt.timedelta(minutes=20))
    assert ("CoolingDown", None, 2400) == (found.status["state"], found.attempt, found.again_after)
    service = asking(found.status, "e-2")
    again = retraining.step(service, OTHER, [], now + dt.timedelta(minutes=30))
    assert (found.status, None) == (again.status, again.attempt)
    assert 1 == retraining.step(service, OTHER, [], now + dt.timedelta(minutes=61)).attempt


def test_what_is_refused_is_tried_again(now):
    """Each minute, with one status as long as the reason is the same."""
    shown = retraining.refused({}, "e-1", 1, "no CronJob", now)
    later = now + dt.timedelta(seconds=61)
    assert 1 == retraining.step(asking(shown), DRIFT, [], later).attempt
    assert shown == retraining.refused(shown, "e-1", 1, "no CronJob", later)
    assert "a quota" == retraining.refused(shown, "e-1", 1, "a quota", later)["message"]


def test_a_job_of_the_service_that_has_not_ended_is_named(now):
    """Whoever made it: one at a time. It is looked at again without a write, and followed by an attempt when it has ended."""
    found = retraining.step(asking(), DRIFT, [running("by-hand")], now)
    assert ("Refused", 1, None) == (found.status["state"], found.status["attempt"], found.attempt)
    assert (
        found.status["message"] == "Job models/by-hand is of this service and has not ended: wait for it, or delete it."
    )
    service, later = asking(found.status), now + dt.timedelta(seconds=61)
    assert found.status == retraining.step(service, DRIFT, [running("by-hand")], later).status
    assert 1 == retraining.step(service, DRIFT, [ended("by-hand", "Complete", now)], later).attempt


def test_a_job_is_what_the_cron_job_says():
    """With labels and annotations that tie it to the service, and the CronJob as its owner."""
    found = retraining.job(asking(), CRON_JOB, DRIFT, 1)
    assert CRON_JOB["spec"]["jobTemplate"]["spec"] == found["spec"]
    assert ("iris", "fraud") == (found["metadata"]["labels"][names.LABEL_SERVICE], found["metadata"]["labels"]["team"])
    assert [("CronJob", "retrain", "cron-uid", True)] == [
        (owner["kind"], owner["name"], owner["uid"], owner["controller"])
        for owner in found["metadata"]["ownerReferences"]
    ]
    annotations = found["metadata"]["annotations"]
    assert ("manual", "e-1") == (
        annotations["cronjob.kubernetes.io/instantiate"],
        annotations[f"{names.GROUP}/episode"],
    )


def test_a_job_of_the_same_name_may_be_another():
    """It is of this episode and of this CronJob, or somebody else has made it."""
    wanted = retraining.job(asking(), CRON_JOB, DRIFT, 1)
    replaced = CRON_JOB | {"metadata": {"name": "retrain", "uid": "another"}}
    others = [
        retraining.job(asking(), CRON_JOB, OTHER, 1),
        retraining.job(asking(), replaced, DRIFT, 1),
        {"metadata": {"name": wanted["metadata"]["name"]}},
    ]
    assert [True, False, False, False] == [retraining.same_job(job, wanted) for job in (wanted, *others)]


@given(
    name=st.from_regex(r"[a-z]([-a-z0-9]{0,48}[a-z0-9])?", fullmatch=True),
    episode=st.text(max_size=40),
    attempt=st.integers(1, 10),
)
def test_a_jobs_name_is_one(name, episode, attempt):
    """A label of at most 63 characters, whatever the service is called."""
    service = asking(name=name)
    found = retraining.job_name(service, episode, attempt)
    assert len(found) <= 63
    assert found != retraining.job_name(service, episode, attempt + 1)


@given(data=st.data())
def test_never_two_at_once_and_never_more_than_asked_for(data):
    """Whatever becomes of the Jobs, whenever the operator is started anew before it has written what it made."""
    shown, written, jobs, now = {}, None, {}, dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    begun = set()
    for _ in range(data.draw(st.integers(1, 25))):
        now += dt.timedelta(seconds=data.draw(st.integers(1, 5000)))
        for name in list(jobs):
            if jobs[name] is None and data.draw(st.booleans()):
                jobs[name] = ended(name, data.draw(st.sampled_from(["Complete", "Failed"])), now)
        # What nobody has written begins anew for whoever sees it.
        episode = data.draw(st.sampled_from([written or f"e-{now}", None]))
        service = asking(shown, written)
        found = retraining.step(
            service,
            {"episode": episode} if episode else {},
            [job or running(name) for name, job in jobs.items()],
            now,
        )
        outcome = dict(found.status)
        if found.attempt is not None:
            outcome = retraining.made(service, episode, found.attempt, now)
            jobs.setdefault(outcome["job"], None)  # 409 where it is there: then it is the same one
        if data.draw(st.integers(0, 3)):  # else the operator was killed before it could write the status
            shown, written = outcome, episode
            begun |= {episode} - {None}
        assert sum(job is None for job in jobs.values()) <= 1
    assert len(jobs) <= 3 * len(begun)
