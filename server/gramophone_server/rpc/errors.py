"""From what can go wrong to google.rpc rich errors (https://google.aip.dev/193)."""

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
from .violations import InvalidRequestError, MalformedRequestError, NotFoundError, TooMuchError

Context = grpc.aio.ServicerContext[Any, Any]

# The metadata key in which gRPC libraries of all languages look for a google.rpc.Status.
_STATUS_KEY = "grpc-status-details-bin"
# An error travels in HTTP/2 headers, of which peers take 8 KiB, and nginx 4 KiB (grpc_buffer_size): the message in two
# encodings, up to 3 and 4/3 bytes for one, and the details. A longer one would reach the client as another error,
# RESOURCE_EXHAUSTED or an HTTP 502.
_MOST_OF_MESSAGE = 600
_MOST_OF_VIOLATION = 500
_MOST_OF_VIOLATIONS = 1200


@asynccontextmanager
async def rich_errors(context: Context) -> AsyncIterator[None]:
    """Ends the call with the right status and details if the body raises one of the errors a client can cause."""
    try:
        yield
    except NotFoundError as error:
        resource = details.ResourceInfo(resource_type=error.kind, resource_name=shortened(error.name, 100))
        await abort(context, grpc.StatusCode.NOT_FOUND, str(error), resource, bad_request(*error.violations))
    except InvalidRequestError as error:
        await abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(error), bad_request(*error.violations))
    except MalformedRequestError as error:
        await abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
    except RequestIdReusedError as error:
        field = ("submission.request_id", str(error))
        await abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"submission.request_id: {error}", bad_request(field))
    except (QueueFullError, TooMuchError, QuotaExceededError) as error:
        retry = details.RetryInfo(retry_delay=Duration(seconds=max(1, round(error.retry_after))))
        await abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), retry)
    except DoesNotFitError as error:
        violation = details.PreconditionFailure.Violation(type="MEMORY", subject=error.device, description=str(error))
        failure = details.PreconditionFailure(violations=[violation])
        await abort(context, grpc.StatusCode.FAILED_PRECONDITION, str(error), failure)
    except StorageAwayError as error:
        # Soon it is there again, or somebody has to see to it.
        retry = details.RetryInfo(retry_delay=Duration(seconds=2))
        await abort(context, grpc.StatusCode.UNAVAILABLE, str(error), retry)
    except StorageError as error:
        # Most likely its disk is full, and somebody will see to that.
        retry = details.RetryInfo(retry_delay=Duration(seconds=30))
        await abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), retry)
    except DecodersError as error:
        retry = details.RetryInfo(retry_delay=Duration(seconds=5))
        await abort(context, grpc.StatusCode.UNAVAILABLE, str(error), retry)
    except StoppingError as error:
        await abort(context, grpc.StatusCode.UNAVAILABLE, str(error))


def bad_request(*violations: tuple[str, str]) -> details.BadRequest:
    """A BadRequest of pairs of field path and reason; of very many the first."""
    fields = []
    left = _MOST_OF_VIOLATIONS
    for field, reason in violations:
        violation = details.BadRequest.FieldViolation(field=field, description=shortened(reason, _MOST_OF_VIOLATION))
        left -= violation.ByteSize()
        if left < 0:
            break
        fields.append(violation)
    return details.BadRequest(field_violations=fields)


def shortened(text: str, most: int) -> str:
    """The text, without its middle if it has more bytes than `most`: it may quote a name of any length."""
    data = text.encode()
    if len(data) <= most:
        return text
    half = most // 2
    return f"{data[:half].decode(errors='ignore')} … {data[-half:].decode(errors='ignore')}"


async def abort(context: Context, code: grpc.StatusCode, message: str, *extra: Message) -> NoReturn:
    """Ends the call with a status and its details."""
    message = shortened(message, _MOST_OF_MESSAGE)
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in extra:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    try:
        await context.abort(code, message, ((_STATUS_KEY, status.SerializeToString()),))
    except grpc.aio.InternalError as error:
        # The call has ended already: its client left, or gRPC refused a message that is too long.
        raise asyncio.CancelledError from error
    raise AssertionError("abort raises")
