"""Reads the submission part of a request: owner, request_id and priority."""

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

# Requests of at least so many bytes are hashed on another thread.
_LARGE = 256 << 10
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


async def read_submission(request: PaintRequest, check: Checker) -> Submission:
    """Reads the submission of a request, and adds violations to `check`."""
    sent = request.submission
    request_id = sent.request_id or None
    if request_id is not None and not _REQUEST_ID.fullmatch(request_id):
        check.add("submission.request_id", "must be 1 to 128 printable ASCII characters without spaces, such as a UUID")
    return Submission(
        owner=current_caller().name,
        request_id=request_id,
        request_sha256=await _hash_of(request),
        priority=read_field(request.submission, "priority", check, prefix="submission."),
    )


async def _hash_of(request: PaintRequest) -> str:
    return _hash(request) if request.ByteSize() < _LARGE else await asyncio.to_thread(_hash, request)


def _hash(request: PaintRequest) -> str:
    """Returns a hash of a request. Inline and uploaded images hash alike: both count by their SHA-256."""
    return hashlib.sha256(_with_image_hashes(request).SerializeToString(deterministic=True)).hexdigest()


def _with_image_hashes(message: M) -> M:
    """Returns a copy of a message with each image replaced by its SHA-256, without copying image bytes."""
    copy = type(message)()
    if isinstance(message, options_pb2.InputImage) and isinstance(copy, options_pb2.InputImage):
        copy.sha256 = hashlib.sha256(message.data).hexdigest() if message.data else message.sha256
        return copy
    for field, value in message.ListFields():
        if field.message_type is None and field.is_repeated:
            getattr(copy, field.name).extend(value)
        elif field.message_type is None:
            setattr(copy, field.name, value)
        elif field.is_repeated:
            getattr(copy, field.name).extend([_with_image_hashes(item) for item in value])
        else:
            getattr(copy, field.name).CopyFrom(_with_image_hashes(value))
    return copy
