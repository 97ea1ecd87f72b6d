"""Pictures that travel once: what the synchronous and the asynchronous client share.

A large picture of a request is sent ahead with UploadImage, and the request has its hash: so it stays small, and
sending it again, or another with the same picture, is cheap. So are the largest of many pictures that are too much
together.
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
"""Bytes from which on a picture is sent ahead, and which the pictures in one request have together at most.

A server takes requests of 4 MiB, but proxies may take less: nginx 1 MiB, if nobody told it otherwise.
"""
_CHUNK = 1 << 20

_Request = TypeVar("_Request", bound=Message)


@dataclass(frozen=True, repr=False)
class Uploaded(Value):
    """A picture that the server has already: pass it wherever a picture goes.

    Attributes:
        sha256: what `Client.upload` returned.
    """

    sha256: str


class Library:
    """The pictures that a server is known to have."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.there_is_one = True


class UploadingRequest(Generic[_Request]):
    """A request and its large pictures, which are taken out of it.

    Args:
        request: it is changed.
        library: what need not be sent; it learns what is.
    """

    def __init__(self, request: _Request, library: Library) -> None:
        self.request = request
        self._library = library
        self._large: list[tuple[options_pb2.InputImage, str, bytes]] = []
        if library.there_is_one:
            images = [image for image in _images(request) if image.data]
            most = _largest_inline([len(image.data) for image in images])
            for image in images:
                if len(image.data) > most:
                    self._take_out(image)

    def missing(self) -> list[tuple[str, bytes]]:
        """The pictures to upload, each once: their hashes and their bytes."""
        return list({sha256: data for _, sha256, data in self._large if sha256 not in self._library.known}.items())

    def refused(self, error: ServerError) -> None:
        """An upload failed: if it was of a server that does not know uploads, the pictures go back into the request."""
        if error.code != "UNIMPLEMENTED":
            raise error
        self._library.there_is_one = False
        for image, _, data in self._large:
            image.ClearField("sha256")
            image.data = data
        self._large = []

    def forgotten(self, error: InvalidRequestError) -> bool:
        """Whether the server refused the request because it no longer has a picture: then there are `missing` ones."""
        if not self._large or not any(violation.field.endswith(".sha256") for violation in error.violations):
            return False
        self._library.known.difference_update(sha256 for _, sha256, _ in self._large)
        return True

    def _take_out(self, image: options_pb2.InputImage) -> None:
        data = image.data
        digest = sha256_of(data)
        self._large.append((image, digest, data))
        image.ClearField("data")
        image.sha256 = digest


def _largest_inline(sizes: list[int]) -> int:
    """Bytes of the largest picture that stays in a request, so that all that stay are not too much together."""
    together = 0
    for size in sorted(sizes):
        together += size
        if together > LARGE:
            return size - 1
    return LARGE


def sha256_of(data: bytes) -> str:
    """The hash by which the server knows a file."""
    return hashlib.sha256(data).hexdigest()


def pieces(sha256: str, data: bytes) -> Iterator[job_service_pb2.UploadImageRequest]:
    """The messages of an upload. Whoever sends them stops when the server has answered, which may be early."""
    # The hash goes ahead of the bytes: of a picture that the server has, hardly any are sent.
    yield job_service_pb2.UploadImageRequest(sha256=sha256)
    for start in range(0, len(data), _CHUNK):
        yield job_service_pb2.UploadImageRequest(data=data[start : start + _CHUNK])


def _images(message: Message) -> Iterator[options_pb2.InputImage]:
    """All pictures of a request, wherever in it they are."""
    if isinstance(message, options_pb2.InputImage):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                yield from _images(part)
