"""Uploads of pictures: the part that the synchronous and the asynchronous client share.

The client uploads a large picture of a request with UploadImage before the request, and the request contains only its
hash. So the request stays small, and a retry, or another request with the same picture, is cheap. If a request has many
small pictures that are too large together, the client uploads the largest of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

from .brief import Value
from .errors import InvalidRequestError, ServerError
from .v1 import job_service_pb2, options_pb2

LARGE = 1_000_000
"""Maximum total size in bytes of the pictures in a request; larger pictures are uploaded before the request.

A server accepts requests of 4 MiB, but proxies may have lower limits: nginx has 1 MiB by default.
"""
_CHUNK = 1 << 20

_Request = TypeVar("_Request", bound=Message)


@dataclass(frozen=True, repr=False)
class Uploaded(Value):
    """A picture that the server already has; can be passed instead of a picture.

    Attributes:
        sha256: SHA-256 of its file, as `Client.upload` returns it.
    """

    sha256: str


class KnownUploads:
    """The pictures that a client knows to be on its server.

    Attributes:
        known: SHA-256 of each picture.
        supported: whether the server supports uploads, as far as the client knows.
    """

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.supported = True


class UploadingRequest(Generic[_Request]):
    """A request whose large pictures are replaced by their hashes.

    Args:
        request: the request; it is modified.
        uploads: pictures that the server already has.
    """

    def __init__(self, request: _Request, uploads: KnownUploads) -> None:
        self.request = request
        self._uploads = uploads
        self._large: list[tuple[options_pb2.InputImage, str, bytes]] = []
        if uploads.supported:
            images = [image for image in _images(request) if image.data]
            max_size = _max_inline_size([len(image.data) for image in images])
            for image in images:
                if len(image.data) > max_size:
                    self._replace_by_hash(image)

    def missing(self) -> list[tuple[str, bytes]]:
        """Returns the pictures to upload as (SHA-256, bytes), without duplicates."""
        return list({sha256: data for _, sha256, data in self._large if sha256 not in self._uploads.known}.items())

    def upload_failed(self, error: ServerError) -> None:
        """Puts the pictures back into the request if the server does not support uploads; raises any other error."""
        if error.code != "UNIMPLEMENTED":
            raise error
        self._uploads.supported = False
        for image, _, data in self._large:
            image.ClearField("sha256")
            image.data = data
        self._large = []

    def forget_deleted(self, error: InvalidRequestError) -> bool:
        """Whether the server rejected the request because it no longer has a picture; if so, `missing` has them all."""
        if not self._large or not any(violation.field.endswith(".sha256") for violation in error.violations):
            return False
        self._uploads.known.difference_update(sha256 for _, sha256, _ in self._large)
        return True

    def _replace_by_hash(self, image: options_pb2.InputImage) -> None:
        data = image.data
        digest = sha256_of(data)
        self._large.append((image, digest, data))
        image.ClearField("data")
        image.sha256 = digest


def _max_inline_size(sizes: list[int]) -> int:
    """Returns the maximum size in bytes of pictures that stay in a request, so that their sum is at most LARGE."""
    total = 0
    for size in sorted(sizes):
        total += size
        if total > LARGE:
            return size - 1
    return LARGE


def sha256_of(data: bytes) -> str:
    """Returns the SHA-256 of a file as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def upload_requests(sha256: str, data: bytes) -> Iterator[job_service_pb2.UploadImageRequest]:
    """Yields the messages of an upload. The sender stops when the server responds, possibly before the last message."""
    # Send the hash before the bytes: if the server already has the picture, it responds before most bytes are sent.
    yield job_service_pb2.UploadImageRequest(sha256=sha256)
    for start in range(0, len(data), _CHUNK):
        yield job_service_pb2.UploadImageRequest(data=data[start : start + _CHUNK])


def _images(message: Message) -> Iterator[options_pb2.InputImage]:
    """Yields all pictures in a request, at any depth."""
    if isinstance(message, options_pb2.InputImage):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                yield from _images(part)
