"""What every answer has to be, whatever was asked; and that a server is none the worse."""

import re
from collections.abc import Collection
from typing import TypeVar, cast

import grpc
import psutil
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gramophone.v1 import job_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from tests.harness import ServerProcess, run, style_request

M = TypeVar("M", bound=Message)
Code = grpc.StatusCode
# What the contract says a call may end with while its server is up.
DOCUMENTED = {Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.RESOURCE_EXHAUSTED, Code.FAILED_PRECONDITION}
# And a job: OUT_OF_RANGE is a loss that is no number.
OF_A_JOB = {code_pb2.OUT_OF_RANGE, code_pb2.RESOURCE_EXHAUSTED, code_pb2.FAILED_PRECONDITION}


def check_error(error: grpc.RpcError, request: Message, expected: Collection[Code] = DOCUMENTED) -> Code:
    """Checks that an error is one of those expected, with its details; returns its code."""
    call = cast(grpc.Call, error)
    assert call.code() in expected, error
    if call.code() == Code.INVALID_ARGUMENT:
        found = detail_of(error, error_details_pb2.BadRequest())
        assert found.field_violations, error
        for violation in found.field_violations:
            assert exists(violation.field, asked_of(request)), f"{violation.field} of {request.DESCRIPTOR.name}"
            assert violation.description
    if call.code() == Code.RESOURCE_EXHAUSTED:
        assert detail_of(error, error_details_pb2.RetryInfo()).retry_delay.seconds >= 1
    return call.code()


def detail_of(error: grpc.RpcError, kind: M) -> M:
    """The detail of that kind, which the error has."""
    metadata = dict(cast(grpc.Call, error).trailing_metadata() or ())
    status = status_pb2.Status.FromString(cast(bytes, metadata["grpc-status-details-bin"]))
    assert any(detail.Unpack(kind) for detail in status.details), error
    return kind


def asked_of(request: Message) -> Descriptor:
    """Whose fields an error names: an estimate's are those of the job it is of."""
    if isinstance(request, pb.EstimateJobRequest) and (job := request.WhichOneof("job")):
        return cast(Descriptor, getattr(request, job).DESCRIPTOR)
    return cast(Descriptor, request.DESCRIPTOR)


def exists(path: str, descriptor: Descriptor) -> bool:
    """Whether a message has a field of that path, such as styles[0].image.data; a oneof counts."""
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
    """Checks that a job ended well, or with a reason that a client can do something about."""
    if event.state == job_pb2.JOB_STATE_FAILED:
        assert event.error.code in OF_A_JOB, event
        assert event.error.message
    else:
        assert event.state in (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_CANCELLED), event


def check_unharmed(server: ServerProcess, workers: list[psutil.Process]) -> None:
    """Checks that the server serves and paints, with the same workers, and has nothing unforeseen in its log."""
    health = health_pb2_grpc.HealthStub(server.channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert run(server, style_request()).iterations == 4
    assert [worker.pid for worker in server.workers()] == [worker.pid for worker in workers]
    log = server.read_log()
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:4000]


def resident(server: ServerProcess) -> int:
    """Bytes of memory that the front process holds."""
    return psutil.Process(server.process.pid).memory_info().rss
