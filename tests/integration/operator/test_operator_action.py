"""What drift leads to, on a real API server; the Jobs run nowhere, and a test says how they end."""

import signal

import pytest
from waiting import until

from aiops_operator import retraining
from aiops_operator.api import InferenceService

TEMPLATE = {"spec": {"restartPolicy": "Never", "containers": [{"name": "train", "image": "localhost/train:1"}]}}
RETRAIN = {"spec": {"schedule": "0 0 1 1 *", "suspend": True, "jobTemplate": {"spec": {"template": TEMPLATE}}}}
SPEC = {"replicas": 2, "drift": {"onDrift": {"cronJobRef": {"name": "retrain"}}}}


def drifting(api, pods, spec=SPEC, *, paused=False):
    """A service in the middle of an episode."""
    api.serve(spec)
    api.run_pods(list(pods))
    if paused:
        api.change({"paused": True})
        api.settled()
    for pod in pods.values():
        pod.receive(160, 9.0)
    api.wait("DriftDetected", "True", "ScoreAboveThreshold")


def state(api, wanted):
    """Wait for a state of the retraining."""
    return until(lambda: api.status().get("retraining") or {}, lambda seen: seen.get("state") == wanted, 30)


def finish(api, job, code=0):
    """Say of a Job's pod what a kubelet would; the Job's controller does the rest."""
    (pod,) = until(lambda: api.all("Pod", f"batch.kubernetes.io/job-name={job}"))
    ended = {"name": "train", "image": "", "imageID": "", "ready": False, "restartCount": 0}
    state = {"terminated": {"exitCode": code}}
    phase = "Failed" if code else "Succeeded"
    api.pod_status(pod["metadata"]["name"], {"phase": phase, "containerStatuses": [ended | {"state": state}]})


def test_one_job_an_episode_whatever_happens_to_the_operator(api, start, pods):
    """The next operator makes no other, sees it end, and tells so once."""
    api.create("CronJob", {"metadata": {"name": "retrain"}} | RETRAIN)
    with start(api.namespace) as first:
        drifting(api, pods)
        job = state(api, "Running")["job"]
        until(api.reasons, lambda seen: "RetrainingStarted" in seen)  # after the status, which is what counts
        first.stop(signal.SIGKILL)
    with start(api.namespace) as second:
        until(lambda: second.metric("aiops_operator_drift_poll_seconds_count"), lambda seen: seen >= 3)
        assert [job] == [entry["metadata"]["name"] for entry in api.all("Job")]
        assert (
            TEMPLATE["spec"]["containers"][0]["image"]
            == (api.get("Job", job)["spec"]["template"]["spec"]["containers"][0]["image"])
        )
        finish(api, job)
        state(api, "Succeeded")
        until(api.reasons, lambda seen: {"RetrainingStarted", "RetrainingSucceeded"} <= set(seen))
    assert [1] == [event["count"] for event in api.all("Event") if event["reason"] == "RetrainingStarted"]


def test_an_episode_that_cannot_be_written_at_first_leads_to_one_job(api, start, proxy, pods):
    """Nothing is made for what the status does not say: by the next second the same drift would be another episode."""
    api.create("CronJob", {"metadata": {"name": "retrain"}} | RETRAIN)
    lost = 0

    def rule(method, path, _watch):
        nonlocal lost
        refused = method == "PATCH" and path.endswith("/status") and lost < 3
        lost += refused
        return 500 if refused else None

    with start(api.namespace, through=proxy):
        api.serve(SPEC)
        api.run_pods(list(pods))
        api.wait("DriftDetected", "Unknown", "InsufficientSamples")
        proxy.rule = rule
        for pod in pods.values():
            pod.receive(160, 9.0)
        job = state(api, "Running")["job"]
        until(api.reasons, lambda seen: "RetrainingStarted" in seen)
    assert (3, [job]) == (lost, [entry["metadata"]["name"] for entry in api.all("Job")])
    assert "RetrainingRefused" not in api.reasons()


def test_a_job_that_was_deleted_has_failed(api, start, pods):
    """It says so, and the next attempt comes after a pause."""
    api.create("CronJob", {"metadata": {"name": "retrain"}} | RETRAIN)
    with start(api.namespace):
        drifting(api, pods)
        api.delete("Job", state(api, "Running")["job"])
        assert 1 == state(api, "Failed")["attempt"]


def test_a_job_that_is_deleted_as_soon_as_it_has_ended_has_its_outcome(api, start, pods):
    """Its template says so: ttlSecondsAfterFinished is 0."""
    short_lived = {"spec": {"ttlSecondsAfterFinished": 0, "template": TEMPLATE}}
    api.create("CronJob", {"metadata": {"name": "retrain"}, "spec": RETRAIN["spec"] | {"jobTemplate": short_lived}})
    with start(api.namespace) as operator:
        drifting(api, pods)
        job = state(api, "Running")["job"]
        operator.process.send_signal(signal.SIGSTOP)  # it is told of both at once
        try:
            finish(api, job)
            until(lambda: api.all("Job"), lambda seen: seen == [])
        finally:
            operator.process.send_signal(signal.SIGCONT)
        assert 1 == state(api, "Succeeded")["attempt"]


def test_the_last_attempt_that_fails_is_told_once(api, start, pods):
    """And is not the last any more when more are allowed."""
    once = {"spec": {"backoffLimit": 0, "template": TEMPLATE}}
    api.create("CronJob", {"metadata": {"name": "retrain"}, "spec": RETRAIN["spec"] | {"jobTemplate": once}})
    on_drift = SPEC["drift"]["onDrift"]
    with start(api.namespace):
        drifting(api, pods, SPEC | {"drift": {"onDrift": on_drift | {"maxAttempts": 1}}})
        finish(api, state(api, "Running")["job"], code=3)
        assert state(api, "Exhausted")["message"].startswith(
            "Attempt 1 of 1 has failed, and no other follows: Job iris-"
        )
        until(api.reasons, lambda seen: "RetrainingExhausted" in seen)
        api.change({"drift": {"onDrift": {"maxAttempts": 2}}})
        assert 2 == state(api, "Running")["attempt"]
    assert [1] == [event["count"] for event in api.all("Event") if event["reason"] == "RetrainingExhausted"]


def test_a_cron_job_that_is_not_there_is_said(api, admin, start, pods):
    """One of another namespace is none; Ready and DriftDetected stay as they are."""
    other = f"{api.namespace}-other"
    admin.post("/api/v1/namespaces", json={"metadata": {"name": other}}).raise_for_status()
    body = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "retrain"}} | RETRAIN
    admin.post(f"/apis/batch/v1/namespaces/{other}/cronjobs", json=body).raise_for_status()
    with start(api.namespace):
        drifting(api, pods)
        assert f"CronJob {api.namespace}/retrain is not there" in state(api, "Refused")["message"]
        api.wait("Ready", "True", "RolledOut")
        assert "True" == api.condition("DriftDetected")["status"]
    assert [] == api.all("Job")
    admin.delete(f"/api/v1/namespaces/{other}").raise_for_status()


def test_a_cron_job_that_runs_by_its_schedule_too_is_refused(api, start, pods):
    """Drift alone is to start it."""
    scheduled = RETRAIN["spec"] | {"suspend": False}
    api.create("CronJob", {"metadata": {"name": "retrain"}, "spec": scheduled})
    with start(api.namespace):
        drifting(api, pods)
        assert "is not suspended: set spec.suspend to true" in state(api, "Refused")["message"]
    assert [] == api.all("Job")


@pytest.mark.parametrize(("episode", "wanted"), [("", "Running"), ("of another", "Refused")])
def test_a_job_that_is_there_already_is_taken_for_what_it_is(api, start, pods, episode, wanted):
    """The operator's own, of which it could not write, is followed; one of somebody else's is in the way."""
    cron_job = api.create("CronJob", {"metadata": {"name": "retrain"}} | RETRAIN)
    with start(api.namespace):
        drifting(api, pods, paused=True)
        body = api.get("InferenceService", "iris")
        job = retraining.job(InferenceService.from_dict(body), cron_job, body["status"]["drift"], 1)
        name, annotations = job["metadata"]["name"], job["metadata"]["annotations"]
        annotations["aiops-quality.io/episode"] += episode
        api.create("Job", job)
        api.change({"paused": False})
        assert name in state(api, wanted)["message"]
        api.wait("Ready", "True", "RolledOut")
    assert [name] == [entry["metadata"]["name"] for entry in api.all("Job")]


def test_a_webhook_that_is_down_keeps_no_verdict_from_the_status(api, admin, start, pods):
    """An admission webhook of somebody's fails each Job: that is said, and the drift too."""
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    hook = {
        "name": "jobs.example.com",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "timeoutSeconds": 1,
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": api.namespace}},
        "rules": [{"apiGroups": ["batch"], "apiVersions": ["v1"], "resources": ["jobs"], "operations": ["CREATE"]}],
    }
    body = {"kind": "ValidatingWebhookConfiguration", "metadata": {"name": api.namespace}, "webhooks": [hook]}
    admin.post(path, json={"apiVersion": "admissionregistration.k8s.io/v1"} | body).raise_for_status()
    api.create("CronJob", {"metadata": {"name": "retrain"}} | RETRAIN)
    try:
        with start(api.namespace):
            drifting(api, pods)
            assert "cannot be made now" in state(api, "Refused")["message"]
            api.wait("Ready", "True", "RolledOut")
    finally:
        admin.delete(f"{path}/{api.namespace}").raise_for_status()
    assert [] == api.all("Job")


@pytest.mark.parametrize("name", ["../retrain", "Retrain", "a b", "", "retrain/../../secrets"])
def test_a_name_that_is_none_is_refused(api, name):
    """By the API server, before the operator sees it."""
    with pytest.raises(AssertionError, match=r"spec\.drift\.onDrift\.cronJobRef\.name"):
        api.serve({"drift": {"onDrift": {"cronJobRef": {"name": name}}}})
