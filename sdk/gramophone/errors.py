"""Exceptions of this package, with the details that the server sends."""

import re
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from .brief import Value

_DETAILS = "grpc-status-details-bin"
# Messages of gRPC libraries for handlers that failed and for messages that cannot be serialized or parsed.
_BUGS = re.compile("Unexpected <class|Exception (calling|iterating|(de)?serializing)|[Ff]ailed to (de)?serialize")


class GramophoneError(Exception):
    """The base of all errors that the service causes. They can be pickled and copied."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By default, Exception is unpickled with its message as the only argument; some subclasses take others.
        return _recreated, (type(self), self.args), self.__dict__


def _recreated(kind: type[GramophoneError], args: tuple[Any, ...]) -> GramophoneError:
    return kind.__new__(kind, *args)


@dataclass(frozen=True, repr=False)
class FieldViolation(Value):
    """An invalid field of a request: its path, and what is wrong with it."""

    field: str
    description: str


class InvalidRequestError(GramophoneError):
    """The server rejected the request; `violations` lists the invalid fields."""

    def __init__(self, message: str, violations: tuple[FieldViolation, ...] = ()) -> None:
        super().__init__(message)
        self.violations = violations


class NotFoundError(InvalidRequestError):
    """The request names a job or a model that the server does not have."""


class OverloadedError(GramophoneError):
    """The server has no room for the request now; `retry_after` is its suggested delay in seconds, or None."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnauthenticatedError(GramophoneError):
    """The server requires authentication, and the client's token or certificate is missing or not known."""


class UnavailableError(GramophoneError):
    """The server cannot be reached, or is shutting down."""


class DeadlineError(GramophoneError):
    """A call or a wait has exceeded its time limit."""


class ServerError(GramophoneError):
    """Any other error from the server; `code` is the name of the gRPC status code."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class JobFailedError(GramophoneError):
    """The job failed; the message says why, `code` is a google.rpc.Code."""

    def __init__(self, job_id: str, message: str, code: int) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.code = code


class JobCancelledError(GramophoneError):
    """The job was canceled."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} was canceled")
        self.job_id = job_id


def from_rpc(error: grpc.RpcError, target: str) -> GramophoneError:
    """Returns the exception for a failed call to the server at `target`."""
    code = error.code()
    message = error.details() or code.name
    if (status := http_status(error)) is not None:
        return _from_http(status, code, target)
    bad_request, retry = _details(error)
    violations = tuple(FieldViolation(v.field, v.description) for v in bad_request.field_violations)
    match code:
        case grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidRequestError(message, violations)
        case grpc.StatusCode.NOT_FOUND:
            return NotFoundError(message, violations)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return OverloadedError(f"{message}{_how_to_wait(retry)}", _seconds(retry))
        case grpc.StatusCode.UNAUTHENTICATED:
            # The server's message names the metadata; the user needs the name of the argument.
            how = " (Client(token=...); on the command line --token or $GRAMOPHONE_TOKEN)" if "token" in message else ""
            return UnauthenticatedError(f"the server at {target} rejects this client: {message}{how}")
        case grpc.StatusCode.UNAVAILABLE if "handshake" in message.lower():
            return UnavailableError(
                f"no encrypted connection to {target} could be established: {message}. Do both sides use TLS? Is the "
                "server's certificate valid, for this host name, and from a trusted authority? Is the client's?"
            )
        case grpc.StatusCode.UNAVAILABLE:
            # "Socket closed" is reported for plaintext to a server with TLS, and for a missing client certificate.
            hint = " Does it require TLS, or a client certificate?" if "Socket closed" in message else ""
            return UnavailableError(f"the server at {target} cannot be reached: {message}. Is it running?{hint}")
        case grpc.StatusCode.CANCELLED if "Channel closed!" in message:
            return closed_meanwhile(target)
        case grpc.StatusCode.CANCELLED:
            return UnavailableError(f"the call to the server at {target} was interrupted: {message}")
        case grpc.StatusCode.INTERNAL | grpc.StatusCode.UNKNOWN if is_of_transport(error):
            return UnavailableError(
                f"the connection to the server at {target} was interrupted: {message}. A proxy between may have "
                "rejected the call: docs/proxies.md lists the settings it needs, such as nginx's client_max_body_size"
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineError(f"the server at {target} did not respond in time")
        case _:
            return ServerError(message, code.name)


def is_of_transport(error: grpc.RpcError) -> bool:
    """Whether a proxy or gRPC itself ended the call: errors of the service have details."""
    metadata: Any = error.trailing_metadata()
    if any(key == _DETAILS for key, _ in metadata or ()) or _BUGS.search(error.details() or ""):
        return False
    status = http_status(error)
    return status is None or status == 429 or status >= 500


def http_status(error: grpc.RpcError) -> int | None:
    """Returns the HTTP status of a response that is not gRPC, for example from a proxy; None for other errors."""
    found = re.search(r"[Rr]eceived http2 header with status: (\d+)", error.details() or "")
    return int(found[1]) if found else None


def _from_http(status: int, code: grpc.StatusCode, target: str) -> GramophoneError:
    who = f"the proxy or web server at {target}"
    match status:
        case 413:
            return InvalidRequestError(
                f"{who} does not accept a request of this size (HTTP 413): raise its limit, in nginx with "
                "`client_max_body_size 128m;`"
            )
        case 401 | 403:
            return UnauthenticatedError(f"{who} rejects this client (HTTP {status})")
        case 404 | 405:
            return ServerError(
                f"{who} does not know this call (HTTP {status}): is this the address of a Gramophone server?", code.name
            )
        case 429:
            return OverloadedError(f"{who} accepts no more calls for now (HTTP 429)")
        case _ if status >= 500:
            return UnavailableError(f"{who} cannot reach the Gramophone server (HTTP {status}). Is it running?")
    return ServerError(f"{who} responded with HTTP {status}, not with gRPC", code.name)


def closed_meanwhile(target: str) -> UnavailableError:
    """Returns the exception for a call that was running when its client was closed."""
    return UnavailableError(
        f"the call to the server at {target} was interrupted: this client was closed (Channel closed)"
    )


def retry_delay(error: grpc.RpcError) -> float | None:
    """Returns the delay in seconds that the server suggests before a retry; None if it suggests none."""
    return _seconds(_details(error)[1])


def _how_to_wait(retry: error_details_pb2.RetryInfo) -> str:
    if _seconds(retry) is None:
        return ""
    return " (Client(retry_overload=True) retries until there is room, and so does client.map)"


def _seconds(retry: error_details_pb2.RetryInfo) -> float | None:
    return (retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9) or None


def _details(error: grpc.RpcError) -> tuple[error_details_pb2.BadRequest, error_details_pb2.RetryInfo]:
    bad_request, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    metadata: Any = error.trailing_metadata()
    for key, value in metadata or ():
        if key == _DETAILS:
            for detail in status_pb2.Status.FromString(value).details:
                # Unpack does nothing if the detail has another type.
                detail.Unpack(bad_request)
                detail.Unpack(retry)
    return bad_request, retry
