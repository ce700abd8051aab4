"""A Step Functions that runs its state machines, and a Batch beside it: moto's server, as a process on a port of its own."""

import os
import sys

os.environ["MOTO_PORT"] = sys.argv[1]  # where the interpreter looks for the services that the states call

import boto3
from moto.core.config import default_user_config
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_batch import (
    StateTaskServiceBatch,
)
from werkzeug.serving import run_simple


def operation(task, action):
    """What botocore knows of the operation of Batch that a task calls."""
    client = boto3.client("batch", region_name="us-east-1")
    name = client.meta.method_to_api_mapping[action or task._get_boto_service_action()]  # noqa: SLF001 - as below
    return client.meta.service_model.operation_model(name)


# Step Functions writes JobName where Batch's API has jobName. The interpreter can translate, but moto has left the calls
# of it out; they are put back here.
def request(task, parameters, _service=None, service_action_name=None):
    """From Step Functions' case to that of the API."""
    task._to_boto_request(parameters, operation(task, service_action_name).input_shape)  # noqa: SLF001


def answer(task, response, _service=None, service_action_name=None):
    """From the API's case to that of Step Functions."""
    task._from_boto_response(response, operation(task, service_action_name).output_shape)  # noqa: SLF001


StateTaskServiceBatch._normalise_parameters = request  # noqa: SLF001
StateTaskServiceBatch._normalise_response = answer  # noqa: SLF001
default_user_config["stepfunctions"]["execute_state_machine"] = True
default_user_config["batch"]["use_docker"] = False  # jobs end at once, or as MOTO_SIMPLE_BATCH_FAIL_AFTER says
run_simple("127.0.0.1", int(sys.argv[1]), DomainDispatcherApplication(create_backend_app), threaded=True)
