"""The commands that train-model.yml calls, against a Step Functions that runs terraform's definition."""

import json
import signal
import subprocess
from pathlib import Path

import pytest
import yaml
from waiting import until

ROOT = Path(__file__).resolve().parents[3]
DATA = "s3://rows/iris.csv"


def test_train_follows_a_retraining_to_its_end(aws):
    """The execution is started, told step by step, and its job is printed; exit code 0."""
    done = aws.command("train", "--name", "good", "--reason", "drift in petal length (cm)", "--every", "0.1")
    assert (0, "SUCCEEDED") == (done.returncode, json.loads(done.stdout)["status"]), done.stderr
    lines = [line.partition("] ")[2] or line for line in done.stderr.splitlines()]
    job = json.loads(done.stdout)["job"]
    assert [
        f"started {aws.execution('good')['executionArn']}",
        "CheckInput: entered",
        "Retrain: entered",
        f"Retrain: submitted, Batch job {job}",
        "Retrain: succeeded",
        "Retrained: entered",
    ] == lines


def test_the_job_is_told_what_to_train(aws):
    """The container's environment names service, data, reason and execution."""
    aws.command("train", "--name", "told", "--service", "iris", "--reason", "why", "--every", "0.1")
    expected = {"SERVICE": "iris", "DATA": DATA, "REASON": "why", "EXECUTION": "told"}
    assert [expected] == [{name: job[name] for name in expected} for job in aws.jobs("told")]


def test_the_step_of_the_workflow_runs(aws):
    """What `gh workflow run "Train Model"` comes down to: the step's own script, with the variables that it is given."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/train-model.yml").read_text())
    (step,) = [step for step in workflow["jobs"]["train"]["steps"] if step.get("name") == "Retrain"]
    given = {
        "STATE_MACHINE_ARN": aws.machine,
        "TRAINING_DATA": DATA,
        "SERVICE": "iris",
        "REASON": "drift; in $(petal length)",
        "NAME": "github-1-1",
    }
    assert set(given) == set(step["env"])
    done = subprocess.run(
        ["bash", "-e", "-c", step["run"]],
        cwd=ROOT,
        env={**aws.environment, **given},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    assert [("iris", "drift; in $(petal length)")] == [
        (job["SERVICE"], job["REASON"]) for job in aws.jobs("github-1-1")
    ]


def test_a_failed_job_is_the_cause(failing_aws):
    """Exit code 1, with the job's id and where its log is."""
    done = failing_aws.command("train", "--name", "bad", "--every", "0.1")
    assert (1, "") == (done.returncode, done.stdout)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: execution bad FAILED: States.TaskFailed: Batch job "), done.stderr
    assert "its log: aws logs tail /aws/batch/job --log-stream-names training/default/" in last


def test_the_end_of_a_failed_jobs_log_is_shown(slowly_failing_aws):
    """What the container said last stands before the cause."""
    process = slowly_failing_aws.start("train", "--name", "worse", "--every", "0.1")
    slowly_failing_aws.write_log(["evaluated: 0.91", "error: not promoted: 0.91 is worse than the 0.96 in service"])
    said = process.communicate(timeout=60)[1].splitlines()
    assert 1 == process.returncode
    assert ["  | evaluated: 0.91", "  | error: not promoted: 0.91 is worse than the 0.96 in service"] == [
        line.partition("] ")[2] for line in said[-3:-1]
    ]


def test_an_input_that_the_machine_refuses(aws):
    """The definition's own sentence arrives."""
    started = aws.client("stepfunctions").start_execution(
        stateMachineArn=aws.machine, name="refused", input=json.dumps({"service": "iris"})
    )
    done = aws.command("follow", started["executionArn"], "--every", "0.1")
    assert 1 == done.returncode
    expected = 'error: execution refused FAILED: InvalidInput: The input has to be {"service": NAME, "data": "s3://BUCKET/KEY", "reason": TEXT}.'
    assert expected == done.stderr.splitlines()[-1]


def test_a_job_that_takes_longer_than_one_waits(endless_aws):
    """Exit code 124, and the sentence says how to follow again."""
    done = endless_aws.command("train", "--name", "long", "--timeout", "0.5", "--every", "0.1")
    assert 124 == done.returncode, done.stderr
    arn = endless_aws.execution("long")["executionArn"]
    expected = f"error: execution long still runs after 0.5 s; follow it with python -m aiops_cloud follow {arn}"
    assert expected == done.stderr.splitlines()[-1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_following_and_not_the_execution(endless_aws, number, code):
    """It says how to follow again, and the execution still runs."""
    name = f"signalled-{number}"
    process = endless_aws.start("train", "--name", name, "--every", "0.1")
    until(process.stderr.readline, lambda line: "Retrain: entered" in line, seconds=30, every=0)
    process.send_signal(number)
    said = process.communicate(timeout=30)[1]
    found = endless_aws.execution(name)
    assert (code, "RUNNING") == (process.returncode, found["status"])
    assert f"Follow it again: python -m aiops_cloud follow {found['executionArn']}" in said


def test_a_second_train_of_one_name_follows_the_first(endless_aws):
    """A workflow that is run again follows what runs, and starts nothing."""
    for _ in range(2):
        done = endless_aws.command("train", "--name", "again", "--timeout", "0.5", "--every", "0.1")
        assert 124 == done.returncode, done.stderr
    names = [
        execution["name"]
        for execution in endless_aws.client("stepfunctions").list_executions(stateMachineArn=endless_aws.machine)[
            "executions"
        ]
    ]
    assert 1 == names.count("again")


def test_one_name_with_another_input_is_refused(endless_aws):
    """What runs under the name is not what was asked for."""
    endless_aws.command("train", "--name", "taken", "--timeout", "0.5", "--every", "0.1")
    done = endless_aws.command("train", "--name", "taken", "--data", "s3://other/rows.csv")
    assert (1, "error: cannot start taken: an execution of this name is there; give another --name") == (
        done.returncode,
        done.stderr.strip(),
    )


def test_an_unknown_state_machine(aws):
    """The sentence names it and asks whether it is applied."""
    unknown = aws.machine.replace("aiops-quality-retraining", "nowhere")
    done = aws.command("train", "--name", "x", "--state-machine", unknown)
    expected = f"error: cannot start x: AWS knows no {unknown}; is it applied, in this account and region?"
    assert (1, expected) == (done.returncode, done.stderr.strip())


def test_an_unknown_execution(aws):
    """The sentence names it."""
    unknown = f"{aws.machine.replace(':stateMachine:', ':execution:')}:nowhere"
    done = aws.command("follow", unknown)
    expected = f"error: cannot follow nowhere: AWS knows no {unknown}; is it applied, in this account and region?"
    assert (1, expected) == (done.returncode, done.stderr.strip())


def test_no_credentials(aws):
    """The sentence says where credentials come from."""
    done = aws.command("train", "--name", "x", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    expected = (
        "error: cannot start x: there are no AWS credentials; run it where a role is assumed "
        "(aws-actions/configure-aws-credentials with id-token: write), or after `aws login`"
    )
    assert (1, expected) == (done.returncode, done.stderr.strip())


def test_an_aws_that_does_not_answer(aws):
    """After bounded tries the sentence names the address."""
    done = aws.command("train", "--name", "x", AWS_ENDPOINT_URL="http://127.0.0.1:1", AWS_MAX_ATTEMPTS="2")
    expected = 'error: cannot start x: Could not connect to the endpoint URL: "http://127.0.0.1:1/"'
    assert (1, expected) == (done.returncode, done.stderr.strip())


@pytest.mark.parametrize(
    ("environment", "arguments", "sentence"),
    [
        ({"STATE_MACHINE_ARN": ""}, ["train"], "no state machine: give --state-machine ARN or set STATE_MACHINE_ARN"),
        ({}, ["train", "--state-machine", "retraining"], "'retraining' is not the ARN of a state machine"),
        ({"TRAINING_DATA": ""}, ["train"], "no data to train on: --data or TRAINING_DATA has to be s3://BUCKET/KEY"),
        ({}, ["train", "--name", "two words"], "'two words' is not a name for an execution"),
        ({}, ["follow", "retraining"], "'retraining' is not the ARN of an execution"),
        ({}, ["train", "--timeout", "soon"], "'soon' is not a number of seconds above 0"),
    ],
)
def test_a_missing_or_malformed_setting(aws, environment, arguments, sentence):
    """Exit code 2, with the setting's name."""
    done = aws.command(*arguments, **environment)
    assert 2 == done.returncode
    assert sentence in done.stderr
