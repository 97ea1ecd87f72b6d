"""Limits the metadata that Pillow reads: in a hostile file it can cost any multiple of the file's size."""

from typing import IO, Any

from PIL import GifImagePlugin, TiffImagePlugin

# Maximum number of bytes of a GIF's comments. They have blocks of 255 bytes, and Pillow copies the whole comment for
# each block.
MAX_GIF_METADATA = 256 << 10
# Bytes that a TIFF directory may read beyond the size of the file. Values of a normal file do not overlap.
_SLACK = 64 << 10


class HostileFileError(ValueError):
    """A file's metadata is built to cost far more than the file's size; the message is the reason."""


class _BoundedReader:
    """A file whose reads may total its size plus a margin; more raise HostileFileError."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        here = file.tell()
        self._left = file.seek(0, 2) + _SLACK
        file.seek(here)

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise HostileFileError("its TIFF or EXIF tags share their values; save it without metadata")
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def guard_pillow() -> None:
    """Patches Pillow with the limits, for the whole process."""
    load = TiffImagePlugin.ImageFileDirectory_v2.load
    block = GifImagePlugin.GifImageFile.data

    # A TIFF directory, or EXIF data, has up to 65535 tags, and each may refer to the whole file as its value.
    def metered_load(self: Any, fp: IO[bytes]) -> None:
        load(self, _BoundedReader(fp))  # type: ignore[arg-type]

    def counted_block(self: Any) -> bytes | None:
        data = block(self)
        seen = self.__dict__.get("_metadata_seen", 0) + 1 + len(data or b"")
        if seen > MAX_GIF_METADATA:
            raise HostileFileError(f"it has more than {MAX_GIF_METADATA:,} bytes of comments; save it without them")
        self.__dict__["_metadata_seen"] = seen
        return data

    TiffImagePlugin.ImageFileDirectory_v2.load = metered_load  # type: ignore[method-assign]
    GifImagePlugin.GifImageFile.data = counted_block  # type: ignore[method-assign]
