"""Maps exceptions to google.rpc rich errors (https://google.aip.dev/193)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2

from ..decoding.decoders import DecodersError
from ..scheduling.admission import QueueFullError, RequestIdReusedError, StoppingError
from ..scheduling.scheduler import DoesNotFitError
from ..storage.errors import StorageAwayError, StorageError
from ..storage.quotas import QuotaExceededError
from .violations import ConflictError, InvalidRequestError, LimitReachedError, MalformedRequestError, NotFoundError

Context = grpc.aio.ServicerContext[Any, Any]

STATUS_KEY = "grpc-status-details-bin"
"""The metadata key in which gRPC libraries of all languages expect a google.rpc.Status."""
# Limits in bytes. An error is sent in HTTP/2 headers. Clients accept 8 KiB of headers, nginx 4 KiB (grpc_buffer_size).
# The headers have the message twice, percent-encoded (up to 3 bytes per byte) and in base64 (4/3), and the details. A
# longer error would reach the client as RESOURCE_EXHAUSTED or HTTP 502.
_MAX_MESSAGE = 600
_MAX_VIOLATION = 500
_MAX_VIOLATIONS = 1200


@asynccontextmanager
async def rich_errors(context: Context) -> AsyncIterator[None]:
    """Aborts the call with the matching status and details if the block raises a known error."""
    try:
        yield
    except NotFoundError as error:
        resource = details.ResourceInfo(resource_type=error.kind, resource_name=shortened(error.name, 100))
        await abort(context, grpc.StatusCode.NOT_FOUND, str(error), resource, bad_request(*error.violations))
    except ConflictError as error:
        await abort(context, grpc.StatusCode.ABORTED, str(error), bad_request(*error.violations))
    except InvalidRequestError as error:
        await abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(error), bad_request(*error.violations))
    except MalformedRequestError as error:
        await abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
    except RequestIdReusedError as error:
        field = ("submission.request_id", str(error))
        await abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"submission.request_id: {error}", bad_request(field))
    except (QueueFullError, LimitReachedError, QuotaExceededError) as error:
        retry = details.RetryInfo(retry_delay=Duration(seconds=max(1, round(error.retry_after))))
        await abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), retry)
    except DoesNotFitError as error:
        violation = details.PreconditionFailure.Violation(type="MEMORY", subject=error.device, description=str(error))
        failure = details.PreconditionFailure(violations=[violation])
        await abort(context, grpc.StatusCode.FAILED_PRECONDITION, str(error), failure)
    except StorageAwayError as error:
        # The server checks the storage about once a second: a retry may soon succeed.
        retry = details.RetryInfo(retry_delay=Duration(seconds=2))
        await abort(context, grpc.StatusCode.UNAVAILABLE, str(error), retry)
    except StorageError as error:
        # Most likely the disk is full, which takes longer to fix.
        retry = details.RetryInfo(retry_delay=Duration(seconds=30))
        await abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), retry)
    except DecodersError as error:
        retry = details.RetryInfo(retry_delay=Duration(seconds=5))
        await abort(context, grpc.StatusCode.UNAVAILABLE, str(error), retry)
    except StoppingError as error:
        await abort(context, grpc.StatusCode.UNAVAILABLE, str(error))


def bad_request(*violations: tuple[str, str]) -> details.BadRequest:
    """Returns a BadRequest of (field path, reason); only the first ones if all together would be too long."""
    fields = []
    left = _MAX_VIOLATIONS
    for field, reason in violations:
        violation = details.BadRequest.FieldViolation(field=field, description=shortened(reason, _MAX_VIOLATION))
        left -= violation.ByteSize()
        if left < 0:
            break
        fields.append(violation)
    return details.BadRequest(field_violations=fields)


def shortened(text: str, max_bytes: int) -> str:
    """Returns the text; a text above `max_bytes` in UTF-8 has "…" in place of its middle."""
    data = text.encode()
    if len(data) <= max_bytes:
        return text
    half = max_bytes // 2
    return f"{data[:half].decode(errors='ignore')} … {data[-half:].decode(errors='ignore')}"


async def abort(context: Context, code: grpc.StatusCode, message: str, *extra: Message) -> NoReturn:
    """Aborts the call with a status, a message and detail messages."""
    message = shortened(message, _MAX_MESSAGE)
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in extra:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    try:
        await context.abort(code, message, ((STATUS_KEY, status.SerializeToString()),))
    except grpc.aio.InternalError as error:
        # The call has ended already: the client disconnected, or gRPC rejected a message that was too long.
        raise asyncio.CancelledError from error
    raise AssertionError("abort raises")
