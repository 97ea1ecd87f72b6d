"""Downloads of results and inputs: the part that the synchronous and the asynchronous Job share."""

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
    """The state of a download, which can continue over several streams.

    Args:
        job_id: id of the job.
        offset: position in the file at which to start, in bytes.
    """

    def __init__(self, job_id: str, offset: int) -> None:
        if offset < 0:
            raise ValueError(f"offset must be at least 0, not {offset}")
        self._job_id = job_id
        self._start = self._offset = offset
        self._size: int | None = None
        self._sha256 = ""
        self._hash = hashlib.sha256()

    @property
    def complete(self) -> bool:
        """Whether the whole file has been received."""
        return self._size is not None and self._offset >= self._size

    def request(self) -> job_service_pb2.DownloadResultRequest:
        """Returns the request for the rest of the file."""
        return job_service_pb2.DownloadResultRequest(job_id=self._job_id, offset=self._offset)

    def take(self, response: job_service_pb2.DownloadResultResponse) -> bytes:
        """Processes a response; returns its bytes.

        Raises:
            ServerError: the response belongs to another file than the responses before.
        """
        if response.sha256:
            if self._size is not None and (response.size, response.sha256) != (self._size, self._sha256):
                raise self._damaged("has changed during the download")
            self._size, self._sha256 = response.size, response.sha256
        self._offset += len(response.data)
        self._hash.update(response.data)
        return response.data

    def check(self) -> None:
        """Checks that the received file has the size and the SHA-256 that the server has announced.

        Raises:
            ServerError: it has not.
        """
        if self._offset != self._size:
            raise self._damaged(f"has {self._offset} bytes instead of {self._size}")
        # If the start of the file was not downloaded, only the size can be checked.
        if self._start == 0 and self._hash.hexdigest() != self._sha256:
            raise self._damaged("does not have the SHA-256 that the server has announced")

    def _damaged(self, what: str) -> ServerError:
        return ServerError(f"the result of job {self._job_id} {what}", "DATA_LOSS")


class InputDownload:
    """The download of an input, which starts again after a broken connection: inputs are smaller than results.

    Args:
        job_id: id of the job.
        sha256: SHA-256 of the file that the job was given.
    """

    def __init__(self, job_id: str, sha256: str) -> None:
        self._job_id = job_id
        self._sha256 = sha256
        self.restart()

    def restart(self) -> None:
        """Drops what has been received."""
        self._size: int | None = None
        self._data = bytearray()

    @property
    def data(self) -> bytes:
        """The bytes received."""
        return bytes(self._data)

    @property
    def complete(self) -> bool:
        """Whether the whole file has been received."""
        return self._size is not None and len(self._data) >= self._size

    def request(self) -> job_service_pb2.DownloadInputRequest:
        """Returns the request for the file."""
        return job_service_pb2.DownloadInputRequest(job_id=self._job_id, sha256=self._sha256)

    def take(self, response: job_service_pb2.DownloadInputResponse) -> None:
        """Adds the bytes of a response."""
        self._size = self._size or response.size
        self._data += response.data


@contextlib.contextmanager
def destination(path_or_file: str | os.PathLike[str] | BinaryIO | None) -> Iterator[BinaryIO]:
    """Yields the file to write to: a file in memory for None, the open file itself, or for a path an atomic file."""
    if path_or_file is None:
        yield io.BytesIO()
    elif isinstance(path_or_file, str | os.PathLike):
        with atomic_file(Path(path_or_file).expanduser()) as file:
            yield file
    else:
        yield path_or_file


def contents(path_or_file: object, file: BinaryIO) -> bytes | None:
    """Returns the bytes written to a `destination` in memory; None for other destinations."""
    return cast(io.BytesIO, file).getvalue() if path_or_file is None else None
