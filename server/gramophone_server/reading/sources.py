"""The picture files of one request: from their bytes, or from what was uploaded, to pixels."""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol

from gramophone.v1 import options_pb2

from ..decoding.decoders import Decoders
from ..decoding.messages import Cut, Header, PictureError, Pixels
from ..decoding.staging import Staging
from ..messages.options import Fit
from ..messages.spec import Mask, Picture
from ..rpc.violations import Checker
from ..security.caller import current_caller
from ..settings import Limits
from ..storage.errors import storage_error

log = logging.getLogger(__name__)

FindUpload = Callable[[str, str], Awaitable[Path | None]]
"""Finds the file that a client, by its name, has uploaded, by its SHA-256."""


@dataclass
class Source:
    """A picture of a request.

    Attributes:
        image: as it stands in the request.
        field: its path in the request.
        file: where its bytes are, once it is open.
        header: of the file, once it is open and good.
    """

    image: options_pb2.InputImage
    field: str
    file: Path | None = None
    header: Header | None = None

    @property
    def data_field(self) -> str:
        """The field that says which file it is."""
        return f"{self.field}.sha256" if self.image.sha256 else f"{self.field}.data"

    def fitted(self, size: int, fit: Fit) -> tuple[int, int]:
        """Width and height of this picture for a `size` and the rule of `fit`; pixels."""
        if fit == "square":
            return size, size
        assert self.header is not None
        longest = max(self.header.width, self.header.height)
        width, height = (max(1, round(side * size / longest)) for side in (self.header.width, self.header.height))
        return width, height


class Sources:
    """The pictures of a request, for the length of a `with` block, after which their files are gone.

    Args:
        client: takes turns with other clients; see Decoders.
        durable: whether pixels are to be on the disk itself.

    Attributes:
        staging: has the pixels, each in a file of its blob's name.
    """

    def __init__(
        self, decoders: Decoders, limits: Limits, find: FindUpload, staging: Staging, client: str, *, durable: bool
    ) -> None:
        self.staging = staging
        self._decoders = decoders
        self._limits = limits
        self._find = find
        self._client = client
        self._durable = durable

    def __enter__(self) -> "Sources":
        self.staging.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.staging.__exit__(kind, error, trace)

    async def open(self, sources: list[Source], check: Checker) -> None:
        """Finds the files of pictures and reads their headers, noting what is wrong with them.

        Raises:
            DecodersError: no decoder can be had.
            StorageError: the disk is full, or cannot be used.
        """
        with on_disk():
            await self._open(sources, check)

    async def _open(self, sources: list[Source], check: Checker) -> None:
        for source in sources:
            source.file = await self._file(source, check)
        there = [(source, source.file) for source in sources if source.file is not None]
        if not there:
            return
        headers = await self._decoders.headers([file for _, file in there], self._client)
        for (source, _), header in zip(there, headers, strict=True):
            await self._accept(source, header, check)

    async def picture(self, source: Source, width: int, height: int, check: Checker) -> Picture:
        """A picture squeezed to width x height, or one of no pixels if it cannot be decoded, which is noted."""
        made = await self._cut(source, Cut(width, height), check)
        return Picture(width, height, b"", source.header.sha256 if source.header else "", made.blob, made.warning)

    async def mask(self, source: Source, width: int, height: int, check: Checker) -> Mask:
        """A picture's brightness squeezed to width x height, likewise; noting if nothing is inside."""
        made = await self._cut(source, Cut(width, height, "mask"), check)
        if made.source_black:
            check.add(source.field, "is black all over, so nothing is inside; paint its region white")
        elif made.black:
            reason = f"is black all over at {width}x{height}, so nothing is inside; make it larger"
            check.add(source.field, reason)
        return Mask(width, height, b"", source.header.sha256 if source.header else "", made.blob, made.warning)

    async def _cut(self, source: Source, cut: Cut, check: Checker) -> Pixels:
        """The pixels, with the warning of the file as a sentence about its field."""
        assert source.file is not None and source.header is not None
        try:
            with on_disk():
                made = await self._decoders.cut(
                    source.file, source.header, cut, self.staging.path, self._client, durable=self._durable
                )
        except PictureError as error:
            check.add(source.data_field, str(error))
            return Pixels("", black=False, source_black=False)
        return replace(made, warning=f"{source.data_field} {made.warning}.") if made.warning else made

    async def _file(self, source: Source, check: Checker) -> Path | None:
        image = source.image
        if not image.sha256:
            if image.data:
                return await self.staging.keep(image.data)
            check.add(source.data_field, "is empty; send the bytes of a picture file")
            return None
        file = await self._find(current_caller().name, image.sha256)
        if file is None:
            self._miss(source, check)
        return file

    async def _accept(self, source: Source, header: Header | PictureError, check: Checker) -> None:
        if isinstance(header, PictureError) and not await _is_damaged(source):
            check.add(source.data_field, str(header))
        elif isinstance(header, PictureError) or source.image.sha256 not in ("", header.sha256):
            log.error("the uploaded picture %s is damaged on the disk", source.image.sha256)
            self._miss(source, check)
        elif check.pixels >= (most := self._limits.max_request_pixels):
            reason = f"comes after {check.pixels:,} pixels of other pictures; one request may have {most:,}"
            check.add(source.data_field, reason)
        else:
            check.pixels += header.pixels
            source.header = header

    def _miss(self, source: Source, check: Checker) -> None:
        name = source.image.sha256[:80]
        check.add(f"{source.field}.sha256", f"is {name!r}, of which no file is here; upload it first")


async def _is_damaged(source: Source) -> bool:
    """Whether an uploaded file is not what it was."""

    def hash_of(file: Path) -> str:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()

    if source.file is None or not source.image.sha256:
        return False
    return await asyncio.to_thread(hash_of, source.file) != source.image.sha256


@contextmanager
def on_disk() -> Iterator[None]:
    """Has what goes wrong on the disk in the block be a StorageError."""
    try:
        yield
    except OSError as error:
        log.warning("a picture cannot be kept: %s", error)
        raise storage_error(error) from error


class MakeSources(Protocol):
    """Makes the sources of a request."""

    def __call__(self, client: str, *, durable: bool) -> Sources:
        """Those of a client's request; see `Sources`."""
        ...
