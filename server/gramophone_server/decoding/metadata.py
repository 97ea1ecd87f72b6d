"""Bounds on what Pillow does with metadata, which a hostile file can make cost any multiple of its size."""

from typing import IO, Any

from PIL import GifImagePlugin, TiffImagePlugin

# Comments of a GIF come in pieces of 255 bytes, and Pillow copies all that it has at each.
MAX_GIF_METADATA = 256 << 10
# What a directory may read beyond the size of its file: values are apart from each other, but for padding.
_SLACK = 64 << 10


class CraftedFileError(ValueError):
    """A file is made to cost far more than its size; the message is the reason."""


class _Metered:
    """A file that gives each of its bytes about once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        here = file.tell()
        self._left = file.seek(0, 2) + _SLACK
        file.seek(here)

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise CraftedFileError("its TIFF or EXIF tags share their values; save it without its metadata")
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def guard_pillow() -> None:
    """Puts the bounds in place, for the whole process."""
    load = TiffImagePlugin.ImageFileDirectory_v2.load
    block = GifImagePlugin.GifImageFile.data

    # Up to 65535 tags of a TIFF file, or of EXIF data in any other, may each have the whole file as their value.
    def metered_load(self: Any, fp: IO[bytes]) -> None:
        load(self, _Metered(fp))  # type: ignore[arg-type]

    def counted_block(self: Any) -> bytes | None:
        data = block(self)
        seen = self.__dict__.get("_metadata_seen", 0) + 1 + len(data or b"")
        if seen > MAX_GIF_METADATA:
            raise CraftedFileError(f"it has more than {MAX_GIF_METADATA:,} bytes of comments; save it without them")
        self.__dict__["_metadata_seen"] = seen
        return data

    TiffImagePlugin.ImageFileDirectory_v2.load = metered_load  # type: ignore[method-assign]
    GifImagePlugin.GifImageFile.data = counted_block  # type: ignore[method-assign]
