"""What can go wrong, as exceptions that carry what the server said of it."""

import re
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from .brief import Value

_DETAILS = "grpc-status-details-bin"
# How gRPC libraries report a handler that failed, and messages that one side cannot read.
_BUGS = re.compile("Unexpected <class|Exception (calling|iterating|(de)?serializing)|[Ff]ailed to (de)?serialize")


class GramophoneError(Exception):
    """The base of all errors of this package that the service causes. They can be pickled and copied."""

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is otherwise made again from its message alone, which not all of them are made from.
        return _remade, (type(self), self.args), self.__dict__


def _remade(kind: type[GramophoneError], args: tuple[Any, ...]) -> GramophoneError:
    return kind.__new__(kind, *args)


@dataclass(frozen=True, repr=False)
class FieldViolation(Value):
    """A field of the request and what is wrong with it."""

    field: str
    description: str


class InvalidRequestError(GramophoneError):
    """The server refused the request; `violations` says which fields, and why."""

    def __init__(self, message: str, violations: tuple[FieldViolation, ...] = ()) -> None:
        super().__init__(message)
        self.violations = violations


class NotFoundError(InvalidRequestError):
    """The request names a job or a model that the server does not have."""


class OverloadedError(GramophoneError):
    """The server has no room for the request; `retry_after` says when it may have, in seconds, if it said so."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnauthenticatedError(GramophoneError):
    """The server asks who calls, and does not know the token or certificate of this client, or got none."""


class UnavailableError(GramophoneError):
    """The server cannot be reached, or is shutting down."""


class DeadlineError(GramophoneError):
    """The time given for a call or a wait is over."""


class ServerError(GramophoneError):
    """Anything else the server answered; `code` is the gRPC status code's name."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class JobFailedError(GramophoneError):
    """The job ended by an error; the message says which, `code` is a google.rpc.Code."""

    def __init__(self, job_id: str, message: str, code: int) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.code = code


class JobCancelledError(GramophoneError):
    """The job was cancelled."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} was cancelled")
        self.job_id = job_id


def from_rpc(error: grpc.RpcError, target: str) -> GramophoneError:
    """The exception for a failed call to the server at `target`."""
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
            # Named as clients have it, not as it travels.
            how = " (Client(token=...); on the command line --token or $GRAMOPHONE_TOKEN)" if "token" in message else ""
            return UnauthenticatedError(f"the server at {target} refuses this client: {message}{how}")
        case grpc.StatusCode.UNAVAILABLE if "handshake" in message.lower():
            return UnavailableError(
                f"no encrypted connection to {target} could be agreed on: {message}. Is TLS on at both ends, is the "
                "server's certificate valid, for this name and of a known authority, and is this client's?"
            )
        case grpc.StatusCode.UNAVAILABLE:
            # So ends plaintext to a server with TLS, and TLS without a certificate that the server accepts.
            hint = " Does it want TLS, or a certificate?" if "Socket closed" in message else ""
            return UnavailableError(f"the server at {target} cannot be reached: {message}. Is it running?{hint}")
        case grpc.StatusCode.CANCELLED if "Channel closed!" in message:
            return closed_meanwhile(target)
        case grpc.StatusCode.CANCELLED:
            return UnavailableError(f"the call to the server at {target} was cut off: {message}")
        case grpc.StatusCode.INTERNAL | grpc.StatusCode.UNKNOWN if is_of_transport(error):
            return UnavailableError(
                f"the connection to the server at {target} was broken off: {message}. A proxy before it may have "
                "refused the call: docs/proxies.md says what to set, such as nginx's client_max_body_size"
            )
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineError(f"the server at {target} did not answer in time")
        case _:
            return ServerError(message, code.name)


def is_of_transport(error: grpc.RpcError) -> bool:
    """Whether a call was ended on its way, by a proxy or gRPC itself; the service gives its reasons."""
    metadata: Any = error.trailing_metadata()
    if any(key == _DETAILS for key, _ in metadata or ()) or _BUGS.search(error.details() or ""):
        return False
    status = http_status(error)
    return status is None or status == 429 or status >= 500


def http_status(error: grpc.RpcError) -> int | None:
    """The status of an answer that was no gRPC, such as a proxy gives; None for other errors."""
    found = re.search(r"[Rr]eceived http2 header with status: (\d+)", error.details() or "")
    return int(found[1]) if found else None


def _from_http(status: int, code: grpc.StatusCode, target: str) -> GramophoneError:
    who = f"the proxy or web server at {target}"
    match status:
        case 413:
            return InvalidRequestError(
                f"{who} takes no call as large as this one (HTTP 413): let it take more, as nginx does with "
                "`client_max_body_size 128m;`"
            )
        case 401 | 403:
            return UnauthenticatedError(f"{who} refuses this client (HTTP {status})")
        case 404 | 405:
            return ServerError(f"{who} knows no such call (HTTP {status}): is this a Gramophone server's?", code.name)
        case 429:
            return OverloadedError(f"{who} takes no more calls for now (HTTP 429)")
        case _ if status >= 500:
            return UnavailableError(f"{who} does not reach the server (HTTP {status}). Is it running?")
    return ServerError(f"{who} answered with HTTP {status}, and no gRPC", code.name)


def closed_meanwhile(target: str) -> UnavailableError:
    """For a call that was under way when its client was closed."""
    return UnavailableError(f"the call to the server at {target} was cut off: this client was closed (Channel closed)")


def retry_delay(error: grpc.RpcError) -> float | None:
    """Seconds after which the server asks to be called again; None if it did not say."""
    return _seconds(_details(error)[1])


def _how_to_wait(retry: error_details_pb2.RetryInfo) -> str:
    if _seconds(retry) is None:
        return ""
    return " (Client(retry_overload=True) waits for room, and client.map has so many jobs at once as there is)"


def _seconds(retry: error_details_pb2.RetryInfo) -> float | None:
    return (retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9) or None


def _details(error: grpc.RpcError) -> tuple[error_details_pb2.BadRequest, error_details_pb2.RetryInfo]:
    bad_request, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    metadata: Any = error.trailing_metadata()
    for key, value in metadata or ():
        if key == _DETAILS:
            for detail in status_pb2.Status.FromString(value).details:
                # Each unpacks only what it is.
                detail.Unpack(bad_request)
                detail.Unpack(retry)
    return bad_request, retry
