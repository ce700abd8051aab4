"""An AWS on this machine's loopback that runs state machines, with terraform's definition in it."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from waiting import until

ROOT = Path(__file__).resolve().parents[3]
SERVER = Path(__file__).with_name("stepfunctions_server.py")
REGION = "eu-central-1"
DEFINITION = ROOT / "terraform/retraining.asl.json"
DATA = "s3://rows/iris.csv"


def definition(**values):
    """The state machine's definition with its template's variables filled in, as tofu's templatefile does."""
    return re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], DEFINITION.read_text())


class Aws:
    """A server process, and the environment in which commands reach it."""

    def __init__(self, log, job_fails_after=None):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        ending = {} if job_fails_after is None else {"MOTO_SIMPLE_BATCH_FAIL_AFTER": str(job_fails_after)}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(SERVER), str(port)],
                stdout=output,
                stderr=output,
                env={**self.environment, **ending},
            )
        try:
            until(self._answers, seconds=60, explain=log.read_text)
            self.machine = self._machine()
        except BaseException:
            self.stop()
            raise
        self.environment["STATE_MACHINE_ARN"] = self.machine
        self.environment["TRAINING_DATA"] = DATA

    def client(self, service):
        """Boto3's client of one service of this server."""
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - the server takes any
        )

    def command(self, *arguments, **environment):
        """Run `python -m aiops_cloud` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "aiops_cloud", *arguments],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def start(self, *arguments):
        """Start `python -m aiops_cloud`, with stderr as a pipe."""
        return subprocess.Popen(
            [sys.executable, "-m", "aiops_cloud", *arguments], env=self.environment, stderr=subprocess.PIPE, text=True
        )

    def execution(self, name):
        """What Step Functions says of an execution of our machine."""
        arn = f"{self.machine.replace(':stateMachine:', ':execution:')}:{name}"
        return self.client("stepfunctions").describe_execution(executionArn=arn)

    def _answers(self):
        with contextlib.suppress(BotoCoreError, ClientError):
            return self.client("stepfunctions").list_state_machines()
        return None

    def _machine(self):
        role = self.client("iam").create_role(RoleName="retraining", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        ec2, batch = self.client("ec2"), self.client("batch")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
        group = ec2.create_security_group(GroupName="training", Description="training", VpcId=vpc)["GroupId"]
        environment = batch.create_compute_environment(
            computeEnvironmentName="training",
            type="MANAGED",
            serviceRole=role,
            computeResources={"type": "FARGATE", "maxvCpus": 4, "subnets": [subnet], "securityGroupIds": [group]},
        )["computeEnvironmentArn"]
        queue = batch.create_job_queue(
            jobQueueName="training",
            state="ENABLED",
            priority=1,
            computeEnvironmentOrder=[{"order": 1, "computeEnvironment": environment}],
        )["jobQueueArn"]
        job = batch.register_job_definition(
            jobDefinitionName="training",
            type="container",
            platformCapabilities=["FARGATE"],
            containerProperties={
                "image": "training",
                "executionRoleArn": role,
                "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "2048"}],
            },
        )["jobDefinitionArn"]
        created = self.client("stepfunctions").create_state_machine(
            name="aiops-quality-retraining",
            definition=definition(partition="aws", job_queue=queue, job_definition=job),
            roleArn=role,
        )
        return created["stateMachineArn"]

    def write_log(self, lines):
        """Write the log of the one job that runs, as its container would."""
        batch, logs = self.client("batch"), self.client("logs")

        def running():
            states = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")
            pages = [batch.list_jobs(jobQueue="training", jobStatus=state)["jobSummaryList"] for state in states]
            return [job["jobId"] for page in pages for job in page]

        # Before the job is there, whose seconds are counted.
        logs.create_log_group(logGroupName="/aws/batch/job")
        (job,) = until(running, seconds=30)
        where = {"logGroupName": "/aws/batch/job", "logStreamName": f"training/default/{job}"}
        logs.create_log_stream(**where)
        now = int(time.time() * 1000)
        logs.put_log_events(**where, logEvents=[{"timestamp": now, "message": line} for line in lines])

    def jobs(self, execution):
        """What Batch was told to run in an execution: each job's environment."""
        events = self.client("stepfunctions").get_execution_history(
            executionArn=self.execution(execution)["executionArn"]
        )["events"]
        submitted = [
            json.loads(event["taskSubmittedEventDetails"]["output"])["JobId"]
            for event in events
            if event["type"] == "TaskSubmitted"
        ]
        found = self.client("batch").describe_jobs(jobs=submitted)["jobs"] if submitted else []
        return [{entry["name"]: entry["value"] for entry in job["container"]["environment"]} for job in found]

    def stop(self):
        """End the server at once: a job that never ends would hold it."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def render():
    """Fills in the variables of the state machine's definition."""
    return definition


@pytest.fixture(scope="session")
def aws(tmp_path_factory):
    """An AWS whose jobs succeed."""
    server = Aws(tmp_path_factory.mktemp("aws") / "log")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def failing_aws(tmp_path_factory):
    """An AWS whose jobs fail."""
    server = Aws(tmp_path_factory.mktemp("failing-aws") / "log", job_fails_after=0)
    yield server
    server.stop()


@pytest.fixture
def slowly_failing_aws(tmp_path):
    """An AWS whose jobs fail after some seconds."""
    server = Aws(tmp_path / "log", job_fails_after=8)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def endless_aws(tmp_path_factory):
    """An AWS whose jobs run on and on."""
    server = Aws(tmp_path_factory.mktemp("endless-aws") / "log", job_fails_after=3600)
    yield server
    server.stop()
