"""Small pictures of jobs, for lists and histories."""

import asyncio
from collections import OrderedDict
from pathlib import Path

from ..decoding.decoders import Decoders
from ..decoding.messages import PictureError
from ..decoding.staging import Staging
from ..messages.events import EncodedPicture, Result
from ..reading.request_images import on_disk
from ..storage.job import Job

# Bytes of the small pictures in memory, each of some kilobytes.
_MAX_BYTES = 16 << 20


class Previews:
    """Makes small pictures in decoder processes, and keeps the latest.

    Args:
        staging: the folder of staging folders.
    """

    def __init__(self, decoders: Decoders, staging: Path) -> None:
        self._decoders = decoders
        self._staging = staging
        self._kept: OrderedDict[tuple[str, int], EncodedPicture] = OrderedDict()

    async def of(self, job: Job, size: int, client: str) -> EncodedPicture | None:
        """Returns a job's result, or else its latest preview, scaled down; None if it has neither.

        Args:
            size: maximum number of pixels of its longest side.
            client: the client that asks; decoders serve clients in turn.

        Raises:
            DecodersError: no decoder process is available.
            StorageError: the disk is full or cannot be used.
        """
        picture = job.outcome.image if isinstance(job.outcome, Result) else job.preview
        if picture is None or (max(picture.width, picture.height) <= size and picture.format != "tiff"):
            return picture
        key = picture.sha256, size
        if (small := self._kept.pop(key, None)) is None:
            small = await self._shrunk(picture, size, client)
        if small is not None:
            self._kept[key] = small
            while sum(len(kept.data) for kept in self._kept.values()) > _MAX_BYTES:
                self._kept.popitem(last=False)
        return small

    async def _shrunk(self, picture: EncodedPicture, size: int, client: str) -> EncodedPicture | None:
        with Staging(self._staging) as staging, on_disk():
            file = await staging.keep(picture.data)
            (header,) = await self._decoders.headers([file], client)
            if isinstance(header, PictureError):
                return None
            try:
                small = await self._decoders.shrink(file, header, size, staging.path, client)
            except PictureError:
                # A result of a server with more memory for decoding.
                return None
            data = await asyncio.to_thread((staging.path / small.file).read_bytes)
        return EncodedPicture(data, small.format, small.width, small.height)
