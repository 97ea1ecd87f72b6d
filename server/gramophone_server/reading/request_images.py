"""Decodes the images of one request, sent inline or uploaded before, to pixels in a staging folder."""

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
from ..decoding.messages import Header, PictureError, Pixels, PixelSpec, Regions
from ..decoding.staging import Staging
from ..messages.options import Fit
from ..messages.spec import Mask, Picture
from ..rpc.violations import Checker
from ..security.caller import current_caller
from ..settings import Limits
from ..storage.errors import storage_error

log = logging.getLogger(__name__)

# Maps 0 to 0 and all other bytes to 1.
_NOT_ZERO = bytes([0, *[1] * 255])

FindUpload = Callable[[str, str], Awaitable[Path | None]]
"""Finds an uploaded file by (name of the client, SHA-256 of the file); None if there is none."""


@dataclass
class RequestImage:
    """An image of a request.

    Attributes:
        message: the image's message in the request.
        field: path of the message in the request.
        file: the image's file; None until `RequestImages.open`.
        header: the file's header; None until `RequestImages.open`, and if the file is invalid.
    """

    message: options_pb2.InputImage
    field: str
    file: Path | None = None
    header: Header | None = None

    @property
    def data_field(self) -> str:
        """Path of the field that is set: `data` or `sha256`."""
        return f"{self.field}.sha256" if self.message.sha256 else f"{self.field}.data"

    def fitted(self, size: int, fit: Fit) -> tuple[int, int]:
        """Returns width and height in pixels for the `size` and `fit` of the options."""
        if fit == "square":
            return size, size
        assert self.header is not None
        longest = max(self.header.width, self.header.height)
        width, height = (max(1, round(side * size / longest)) for side in (self.header.width, self.header.height))
        return width, height


class RequestImages:
    """Opens and decodes the images of a request; a context manager that deletes their files on exit.

    Args:
        client: the client; decoders serve clients in turn, see `Decoders`.
        durable: whether pixels are synced to the disk.

    Attributes:
        staging: folder of the pixels: each file is named by its blob's name.
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

    def __enter__(self) -> "RequestImages":
        self.staging.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.staging.__exit__(kind, error, trace)

    async def open(self, images: list[RequestImage], check: Checker) -> None:
        """Finds the images' files and reads their headers; adds violations to `check`.

        Raises:
            DecodersError: no decoder process is available.
            StorageError: the disk is full or cannot be used.
        """
        with on_disk():
            await self._open(images, check)

    async def _open(self, images: list[RequestImage], check: Checker) -> None:
        for image in images:
            image.file = await self._file(image, check)
        found = [(image, image.file) for image in images if image.file is not None]
        if not found:
            return
        headers = await self._decoders.headers([file for _, file in found], self._client)
        for (image, _), header in zip(found, headers, strict=True):
            await self._check_header(image, header, check)

    async def picture(
        self, image: RequestImage, width: int, height: int, check: Checker, *, alpha: bool = False
    ) -> Picture:
        """Returns an image scaled to width x height; adds a violation to `check` if it cannot be decoded.

        Args:
            alpha: whether to keep the image's alpha, and to add a violation if all of the image is transparent; else
                transparent pixels become white.
        """
        pixels = await self._decode(image, PixelSpec(width, height, "rgba" if alpha else "rgb"), check)
        if pixels.alpha and pixels.black:
            at = "" if pixels.source_black else f" at {width}x{height}"
            reason = f"is transparent all over{at}, so it has no visible pixel; set options.transparency to"
            check.add(image.field, f"{reason} TRANSPARENCY_WHITE to see white instead")
        sha256 = image.header.sha256 if image.header else ""
        return Picture(width, height, b"", sha256, pixels.blob, pixels.warning, pixels.alpha)

    async def mask(self, image: RequestImage, width: int, height: int, check: Checker) -> Mask:
        """Returns an image's brightness scaled to width x height; adds a violation also if the image is all black."""
        pixels = await self._decode(image, PixelSpec(width, height, "mask"), check)
        if pixels.source_black:
            check.add(image.field, "is black all over, so it selects nothing; paint the region white")
        elif pixels.black:
            reason = f"is black all over at {width}x{height}, so it selects nothing; make the white region larger"
            check.add(image.field, reason)
        return Mask(width, height, b"", image.header.sha256 if image.header else "", pixels.blob, pixels.warning)

    async def regions(self, image: RequestImage, width: int, height: int, check: Checker) -> Regions:
        """Returns the regions of a map scaled to width x height; adds a violation to `check` if it is none."""
        assert image.file is not None and image.header is not None
        try:
            with on_disk():
                found = await self._decoders.regions(
                    image.file, image.header, width, height, self.staging.path, self._client, durable=self._durable
                )
        except PictureError as error:
            check.add(image.data_field, str(error))
            return Regions("", ())
        return replace(found, warning=f"{image.data_field} {found.warning}.") if found.warning else found

    async def has_visible(self, picture: Picture | None, mask: Mask) -> bool:
        """Returns whether a mask selects any visible pixel of a picture of the same size; True without a picture."""
        if picture is None or not (picture.alpha and picture.blob and mask.blob):
            return True

        def meet() -> bool:
            alpha = (self.staging.path / picture.blob).read_bytes()[3::4]
            levels = mask.with_pixels(lambda blob: (self.staging.path / blob).read_bytes()).levels
            first, second = (int.from_bytes(values.translate(_NOT_ZERO)) for values in (alpha, levels))
            return first & second != 0

        with on_disk():
            return await asyncio.to_thread(meet)

    async def _decode(self, image: RequestImage, spec: PixelSpec, check: Checker) -> Pixels:
        """Decodes an image; a warning about its file becomes a sentence that names the field."""
        assert image.file is not None and image.header is not None
        try:
            with on_disk():
                pixels = await self._decoders.decode(
                    image.file, image.header, spec, self.staging.path, self._client, durable=self._durable
                )
        except PictureError as error:
            check.add(image.data_field, str(error))
            return Pixels("", black=False, source_black=False)
        return replace(pixels, warning=f"{image.data_field} {pixels.warning}.") if pixels.warning else pixels

    async def _file(self, image: RequestImage, check: Checker) -> Path | None:
        message = image.message
        if not message.sha256:
            if message.data:
                return await self.staging.keep(message.data)
            check.add(image.data_field, "is empty; send the bytes of a picture file")
            return None
        file = await self._find(current_caller().name, message.sha256)
        if file is None:
            self._add_missing(image, check)
        return file

    async def _check_header(self, image: RequestImage, header: Header | PictureError, check: Checker) -> None:
        if isinstance(header, PictureError) and not await _is_damaged(image):
            check.add(image.data_field, str(header))
        elif isinstance(header, PictureError) or image.message.sha256 not in ("", header.sha256):
            log.error("the uploaded picture %s is damaged on the disk", image.message.sha256)
            self._add_missing(image, check)
        elif check.pixels >= (most := self._limits.max_request_pixels):
            reason = f"follows other pictures of {check.pixels:,} pixels; one request may have {most:,}"
            check.add(image.data_field, reason)
        else:
            check.pixels += header.pixels
            image.header = header

    def _add_missing(self, image: RequestImage, check: Checker) -> None:
        name = image.message.sha256[:80]
        check.add(
            f"{image.field}.sha256", f"is {name!r}, but no file with this SHA-256 is on the server; upload it first"
        )


async def _is_damaged(image: RequestImage) -> bool:
    """Returns whether an uploaded file no longer matches its SHA-256."""

    def hash_of(file: Path) -> str:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()

    if image.file is None or not image.message.sha256:
        return False
    return await asyncio.to_thread(hash_of, image.file) != image.message.sha256


@contextmanager
def on_disk() -> Iterator[None]:
    """Converts OSErrors of the block to StorageErrors."""
    try:
        yield
    except OSError as error:
        log.warning("a picture cannot be stored: %s", error)
        raise storage_error(error) from error


class MakeRequestImages(Protocol):
    """The type of a function that makes `RequestImages`."""

    def __call__(self, client: str, *, durable: bool) -> RequestImages:
        """Returns the images of a client's request; see `RequestImages`."""
        ...
