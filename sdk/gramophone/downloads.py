"""Results that come in pieces: what the synchronous and the asynchronous job share."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from .errors import ServerError
from .files import atomic_file
from .v1 import job_service_pb2


class Download:
    """A file as it comes, over as many streams as it takes.

    Args:
        offset: where in the file to begin, in bytes.
    """

    def __init__(self, job_id: str, offset: int) -> None:
        if offset < 0:
            raise ValueError(f"offset must be at least 0, not {offset}")
        self._job_id = job_id
        self._begin = self._offset = offset
        self._size: int | None = None
        self._sha256 = ""
        self._hash = hashlib.sha256()

    @property
    def complete(self) -> bool:
        """Whether all of it has come."""
        return self._size is not None and self._offset >= self._size

    def request(self) -> job_service_pb2.DownloadResultRequest:
        """The request for what is left."""
        return job_service_pb2.DownloadResultRequest(job_id=self._job_id, offset=self._offset)

    def take(self, response: job_service_pb2.DownloadResultResponse) -> bytes:
        """Takes a piece in; returns its bytes.

        Raises:
            ServerError: it is of another file than the pieces before it.
        """
        if response.sha256:
            if self._size is not None and (response.size, response.sha256) != (self._size, self._sha256):
                raise self._damaged("is another than the one whose download had begun")
            self._size, self._sha256 = response.size, response.sha256
        self._offset += len(response.data)
        self._hash.update(response.data)
        return response.data

    def check(self) -> None:
        """Compares what came with what the server said would come.

        Raises:
            ServerError: it is something else.
        """
        if self._offset != self._size:
            raise self._damaged(f"has {self._offset} bytes and not {self._size}")
        # Of a file whose beginning is elsewhere only the size can be checked.
        if self._begin == 0 and self._hash.hexdigest() != self._sha256:
            raise self._damaged("has not the SHA-256 that the server gave")

    def _damaged(self, what: str) -> ServerError:
        return ServerError(f"the result of job {self._job_id} {what}", "DATA_LOSS")


@contextlib.contextmanager
def destination(path_or_file: str | os.PathLike[str] | BinaryIO | None) -> Iterator[BinaryIO]:
    """The file to write to: one in memory for None, an open one as it is, a path whole or not at all."""
    if path_or_file is None:
        yield io.BytesIO()
    elif isinstance(path_or_file, str | os.PathLike):
        with atomic_file(Path(path_or_file).expanduser()) as file:
            yield file
    else:
        yield path_or_file


def contents(path_or_file: object, file: BinaryIO) -> bytes | None:
    """What was written to a `destination` in memory; None for others."""
    return cast(io.BytesIO, file).getvalue() if path_or_file is None else None
