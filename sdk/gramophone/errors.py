"""What can go wrong, as exceptions that carry what the service said about it."""

from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

# The metadata key under which every gRPC library sends and looks for a google.rpc.Status.
_STATUS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True)
class FieldViolation:
    """One field of a request that the service refused.

    Attributes:
        field: path of the field in the request message, such as "options.size" or "styles[1].image".
        description: what is wrong with it, a phrase that follows the field's name.
    """

    field: str
    description: str

    def __str__(self) -> str:
        return f"{self.field}: {self.description}"


class GramophoneError(Exception):
    """Base of everything this package raises about the service.

    Attributes:
        code: the gRPC status the call ended with; None if there was no call.
        violations: the fields that were refused; empty for errors that are not about fields.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode | None = None,
        violations: tuple[FieldViolation, ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.violations = violations


class InvalidRequestError(GramophoneError):
    """The service refused the request; `violations` says which fields and why."""


class NotFoundError(GramophoneError):
    """There is no such job or model; `violations` names the field that asked for it."""


class OverloadedError(GramophoneError):
    """The service has too much to do.

    Attributes:
        retry_after: seconds after which it may take the request; None if it did not say.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, code: grpc.StatusCode | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class UnavailableError(GramophoneError):
    """Nothing answers at the address, or the connection broke and could not be had again."""


class FailedPreconditionError(GramophoneError):
    """The request is right, but this server cannot do it as it stands, for instance because it does not fit memory."""


class UnauthenticatedError(GramophoneError):
    """The service does not know or does not let in the caller."""


class DeadlineError(GramophoneError, TimeoutError):
    """The time allowed passed first. A job that was waited for goes on."""


class JobFailedError(GramophoneError):
    """The job ended by an error; `code` says of which kind."""


class JobCancelledError(GramophoneError):
    """The job was cancelled."""


class ServerStartError(GramophoneError):
    """An embedded server did not start."""


_BY_CODE: dict[grpc.StatusCode, type[GramophoneError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: UnauthenticatedError,
}


def from_rpc_error(error: grpc.RpcError, target: str) -> GramophoneError:
    """The exception for a failed call to the server at `target`; of the blocking and the asyncio API alike."""
    call: Any = error
    code: grpc.StatusCode = call.code()
    message: str = call.details() or code.name
    violations, retry_after = _details(call.trailing_metadata())
    if code is grpc.StatusCode.UNAVAILABLE:
        advice = "check the address and that the server runs; `gramophone serve` starts one"
        return UnavailableError(f"no Gramophone server answers at {target}: {advice} ({message})", code=code)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineError(f"the server at {target} did not answer in the time allowed", code=code)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return GramophoneError(f"what answers at {target} does not know this call ({message})", code=code)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # gRPC itself answers so when a message is over the limit, which no retry will change.
        if "larger than max" in message:
            return InvalidRequestError(f"the pictures are too big for one request: {message}", code=code)
        return OverloadedError(message, retry_after=retry_after, code=code)
    return _BY_CODE.get(code, GramophoneError)(message, code=code, violations=violations)


def _details(metadata: Any) -> tuple[tuple[FieldViolation, ...], float | None]:
    """Field violations and the advised delay in seconds, out of a call's trailing metadata."""
    violations: list[FieldViolation] = []
    retry_after: float | None = None
    for key, value in metadata or ():
        if key != _STATUS_KEY:
            continue
        status = status_pb2.Status()
        bad, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        try:
            status.ParseFromString(value)
            for detail in status.details:
                if detail.Unpack(bad):
                    violations += [FieldViolation(v.field, v.description) for v in bad.field_violations]
                elif detail.Unpack(retry):
                    retry_after = retry.retry_delay.ToTimedelta().total_seconds()
        except DecodeError:
            continue  # Details are an extra; without them the status still says what happened.
    return tuple(violations), retry_after
