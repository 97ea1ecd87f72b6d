"""What a request says of the submission itself: whose, under which name, how urgent."""

import asyncio
import hashlib
import re
from typing import TypeVar

from google.protobuf.message import Message

from gramophone.v1 import options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb

from ..rpc.violations import Checker
from ..scheduling.admission import Submission
from ..security.caller import current_caller
from .rules import read_field

M = TypeVar("M", bound=Message)
PaintRequest = TypeVar(
    "PaintRequest", pb.ReconstructStyleRequest, pb.ReconstructContentRequest, pb.TransferStyleRequest
)

# Bytes from which on a request is hashed on a thread.
_LARGE = 256 << 10
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


async def read_submission(request: PaintRequest, check: Checker) -> Submission:
    """The submission of a request, noting what is wrong with it."""
    sent = request.submission
    request_id = sent.request_id or None
    if request_id is not None and not _REQUEST_ID.fullmatch(request_id):
        check.add("submission.request_id", "must be 1 to 128 printable ASCII characters without spaces, such as a UUID")
    return Submission(
        owner=current_caller().name,
        request_id=request_id,
        request_sha256=await _hash_of(request),
        priority=read_field(request.submission, "priority", check, at="submission."),
    )


async def _hash_of(request: PaintRequest) -> str:
    return _hash(request) if request.ByteSize() < _LARGE else await asyncio.to_thread(_hash, request)


def _hash(request: PaintRequest) -> str:
    """A hash of what is asked for, the same whether a picture stands in it or is referred to."""
    return hashlib.sha256(_referring(request).SerializeToString(deterministic=True)).hexdigest()


def _referring(message: M) -> M:
    """A copy of a message in which pictures are referred to; their bytes are not copied."""
    made = type(message)()
    if isinstance(message, options_pb2.InputImage) and isinstance(made, options_pb2.InputImage):
        made.sha256 = hashlib.sha256(message.data).hexdigest() if message.data else message.sha256
        return made
    for field, value in message.ListFields():
        if field.message_type is None and field.is_repeated:
            getattr(made, field.name).extend(value)
        elif field.message_type is None:
            setattr(made, field.name, value)
        elif field.is_repeated:
            getattr(made, field.name).extend([_referring(item) for item in value])
        else:
            getattr(made, field.name).CopyFrom(_referring(value))
    return made
