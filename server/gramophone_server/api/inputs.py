"""The pictures and masks that jobs were given, as files."""

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path

from ..blobs import is_blob_name
from ..decoding.decoders import Decoders
from ..decoding.messages import PictureError, PixelKind, PixelSpec
from ..decoding.staging import Staging
from ..messages.spec import Mask, Picture
from ..reading.request_images import on_disk
from ..rpc.violations import Checker, NotFoundError
from ..storage.job import Job
from ..storage.store import JobStore
from .pieces import PIECE


class Inputs:
    """Makes files of the stored pixels of jobs, in decoder processes."""

    def __init__(self, store: JobStore, decoders: Decoders) -> None:
        self._store = store
        self._decoders = decoders

    async def pieces(self, job: Job, sha256: str, client: str) -> AsyncGenerator[tuple[int, bytes], None]:
        """Yields the pieces of a PNG as (size of the whole file in the first piece, at most `PIECE` bytes).

        Args:
            sha256: SHA-256 of the file that the job was given.
            client: the client that asks; decoders serve clients in turn.

        Raises:
            InvalidRequestError: `sha256` has another form.
            NotFoundError: the job has no such picture, or its pixels are damaged or too large to encode.
            DecodersError: no decoder process is available.
            StorageError: the disk is full or cannot be used.
        """
        part = _part(job, sha256)
        with Staging(self._store.folder.staging) as staging, on_disk():
            if not await asyncio.to_thread(self._store.files.is_good, part.blob):
                raise _missing(job, sha256, "whose pixels are damaged on the disk of the server")
            pixels = self._store.files.file(part.blob)
            assert pixels is not None
            try:
                file = await self._decoders.encode(pixels, _spec(part), staging.path, client)
            except PictureError as error:
                raise _missing(job, sha256, f"which {error}") from error
            async for piece in _read(file):
                yield piece


def _part(job: Job, sha256: str) -> Picture | Mask:
    """Returns the largest picture or mask of a job that was made from a file."""
    check = Checker()
    if not is_blob_name(sha256):
        check.add("sha256", "must be the SHA-256 of the file, 64 lower-case hexadecimal digits")
    check.stop_if_wrong()
    parts = [part for part in job.spec.pictures() if part.sha256 == sha256 and part.blob]
    # The region of a map has no file of its own.
    parts = [part for part in parts if not (isinstance(part, Mask) and part.color)]
    if not parts:
        raise _missing(job, sha256, "which is not among its pictures; see the recipe of its result")
    return max(parts, key=lambda part: (part.width * part.height, part.size))


def _spec(part: Picture | Mask) -> PixelSpec:
    kind: PixelKind = "mask" if isinstance(part, Mask) else "rgba" if part.alpha else "rgb"
    return PixelSpec(part.width, part.height, kind)


def _missing(job: Job, sha256: str, reason: str) -> NotFoundError:
    return NotFoundError("sha256", "input", sha256, f"is {sha256} of job {job.id}, {reason}")


async def _read(file: Path) -> AsyncGenerator[tuple[int, bytes], None]:
    size = await asyncio.to_thread(os.path.getsize, file)
    with file.open("rb") as opened:
        while data := await asyncio.to_thread(opened.read, PIECE):
            yield size, data
            size = 0
