"""Checks of every response, whatever the request was, and of a server after a test."""

import re
from collections.abc import Collection
from typing import TypeVar, cast

import grpc
import psutil
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gramophone.v1 import job_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from tests.harness import ServerProcess, rpc_status, run, style_request

M = TypeVar("M", bound=Message)
Code = grpc.StatusCode
# Status codes with which a call may end while its server runs, according to the contract.
DOCUMENTED = {Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.RESOURCE_EXHAUSTED, Code.FAILED_PRECONDITION}
# Status codes with which a job may fail: OUT_OF_RANGE means that its loss is not finite.
OF_A_JOB = {code_pb2.OUT_OF_RANGE, code_pb2.RESOURCE_EXHAUSTED, code_pb2.FAILED_PRECONDITION}


def check_error(error: grpc.RpcError, request: Message, expected: Collection[Code] = DOCUMENTED) -> Code:
    """Checks that an error has an expected code and the details of that code; returns the code."""
    call = cast(grpc.Call, error)
    assert call.code() in expected, error
    if call.code() == Code.INVALID_ARGUMENT:
        found = detail_of(error, error_details_pb2.BadRequest())
        assert found.field_violations, error
        for violation in found.field_violations:
            assert exists(violation.field, message_of_fields(request)), (
                f"{violation.field} of {request.DESCRIPTOR.name}"
            )
            assert violation.description
    if call.code() == Code.RESOURCE_EXHAUSTED:
        assert detail_of(error, error_details_pb2.RetryInfo()).retry_delay.seconds >= 1
    return call.code()


def detail_of(error: grpc.RpcError, kind: M) -> M:
    """Fills `kind` from the error's details, which must contain a message of that type, and returns it."""
    assert any(detail.Unpack(kind) for detail in rpc_status(error).details), error
    return kind


def message_of_fields(request: Message) -> Descriptor:
    """Returns the message whose fields an error names: for an estimate, the request of the job."""
    if isinstance(request, pb.EstimateJobRequest) and (job := request.WhichOneof("job")):
        return cast(Descriptor, getattr(request, job).DESCRIPTOR)
    return cast(Descriptor, request.DESCRIPTOR)


def exists(path: str, descriptor: Descriptor) -> bool:
    """Whether a message has a field (or a oneof) at a path such as styles[0].image.data."""
    here: Descriptor | None = descriptor
    for part in path.split("."):
        match = re.fullmatch(r"(\w+)(\[\d+\])?", part)
        if here is None or match is None:
            return False
        if part in here.oneofs_by_name:
            here = None
            continue
        field = here.fields_by_name.get(match[1])
        if field is None or (match[2] and not field.is_repeated):
            return False
        here = field.message_type
    return True


def check_end(event: job_pb2.JobEvent) -> None:
    """Checks that a job succeeded, was canceled, or failed with a code in OF_A_JOB and a message."""
    if event.state == job_pb2.JOB_STATE_FAILED:
        assert event.error.code in OF_A_JOB, event
        assert event.error.message
    else:
        assert event.state in (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_CANCELLED), event


def check_unharmed(server: ServerProcess, workers: list[psutil.Process]) -> None:
    """Checks that the server is healthy, paints with the same workers, and logged no traceback."""
    health = health_pb2_grpc.HealthStub(server.channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert run(server, style_request()).iterations == 4
    assert [worker.pid for worker in server.workers()] == [worker.pid for worker in workers]
    log = server.read_log()
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:4000]


def resident(server: ServerProcess) -> int:
    """Returns the resident memory of the front process in bytes."""
    return psutil.Process(server.process.pid).memory_info().rss
