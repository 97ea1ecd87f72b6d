"""Errors as JSON: the status of a gRPC call as the Connect protocol writes it (https://connectrpc.com/docs/protocol)."""

import base64
import contextlib
import json
from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import json_format, symbol_database
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2

from ..rpc.errors import bad_request

Code = grpc.StatusCode

_HTTP_STATUS = {
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ABORTED: 409,
    Code.ALREADY_EXISTS: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}


class CallError(Exception):
    """A call has failed.

    Attributes:
        code: its gRPC status.
        details: messages of google.rpc that say more, such as BadRequest.
        status: the HTTP status.
        headers: additional headers of the response.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        details: Sequence[AnyMessage] = (),
        *,
        status: int | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.details = tuple(details)
        self.status = status or _HTTP_STATUS.get(code, 500)
        self.headers = (*headers, *_headers(code, self.details))

    def json(self) -> bytes:
        """Returns the error as the JSON of the Connect protocol; `debug` of a detail is for people."""
        error: dict[str, Any] = {"code": code_name(self.code), "message": str(self)}
        if self.details:
            error["details"] = [_detail(detail) for detail in self.details]
        return json.dumps(error, ensure_ascii=False).encode()


def invalid(field: str, reason: str, *, code: grpc.StatusCode = Code.INVALID_ARGUMENT, **more: Any) -> CallError:
    """Returns the error of a wrong field, header or parameter; `more` as in CallError."""
    packed = AnyMessage()
    packed.Pack(bad_request((field, reason)))
    return CallError(code, f"{field}: {reason}", [packed], **more)


def error_of_status(code: grpc.StatusCode, message: str, serialized: bytes | None) -> CallError:
    """Returns the error of a gRPC status.

    Args:
        serialized: the google.rpc.Status with the details, if there is one.
    """
    status = status_pb2.Status() if serialized is None else status_pb2.Status.FromString(serialized)
    return CallError(code, message, status.details)


def code_name(code: grpc.StatusCode) -> str:
    """Returns the name of a status in the Connect protocol, such as "invalid_argument"."""
    return "canceled" if code is Code.CANCELLED else code.name.lower()


def readable(detail: AnyMessage) -> dict[str, Any] | None:
    """Returns a detail as a JSON object; None if its type is not known."""
    with contextlib.suppress(KeyError):
        message = symbol_database.Default().GetSymbol(type_name(detail))()
        if detail.Unpack(message):
            return json_format.MessageToDict(message)
    return None


def type_name(detail: AnyMessage) -> str:
    """Returns the full name of a detail's type, such as "google.rpc.BadRequest"."""
    return detail.type_url.rpartition("/")[2]


def _detail(detail: AnyMessage) -> dict[str, Any]:
    value = base64.b64encode(detail.value).decode().rstrip("=")
    return {"type": type_name(detail), "value": value, "debug": readable(detail)}


def _headers(code: grpc.StatusCode, found: Sequence[AnyMessage]) -> list[tuple[str, str]]:
    if code is Code.UNAUTHENTICATED:
        return [("www-authenticate", 'Bearer realm="gramophone"')]
    retry = details.RetryInfo()
    return [("retry-after", str(max(1, retry.retry_delay.seconds))) for one in found if one.Unpack(retry)]
