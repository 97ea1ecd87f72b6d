"""Picture files made to use far more time or memory than their size suggests: each is refused, or decoded cheaply."""

import contextlib
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
from PIL import Image

from gramophone_server.decoding import pictures
from gramophone_server.decoding.header import FORMATS
from gramophone_server.decoding.messages import PictureError
from gramophone_server.decoding.metadata import MAX_GIF_METADATA
from gramophone_server.decoding.structure import MAX_PADDING, MAX_PARTS, MAX_SCANS
from tests.harness import encode, png

from .files import chunk, opened

PIXELS = 1 << 20
MEGABYTE = 1_000_000


def decode(data: bytes, max_pixels: int) -> Image.Image:
    with opened(data) as file:
        return pictures.decode(file, max_pixels)[0]


def png_with(*chunks: bytes) -> bytes:
    """A PNG with chunks before its pixels."""
    data = png(32, 32)
    at = data.index(b"IDAT") - 4
    return data[:at] + b"".join(chunks) + data[at:]


def png_of_zeros() -> bytes:
    """A PNG with 50 MB of pixel data after its last row."""
    data = png(32, 32)
    return data[: data.index(b"IDAT") - 4] + chunk(b"IDAT", zlib.compress(bytes(50 * MEGABYTE))) + chunk(b"IEND", b"")


def tiff(tags: int, size: int) -> bytes:
    """An 8x8 TIFF with `tags` tags whose values are all the same `size` bytes of the file."""
    base = [(256, 8), (257, 8), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 8), (279, 64)]
    entries = [struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in base]
    entries += [struct.pack("<HHII", 40_000 + i, 7, size, 8) for i in range(tags)]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + size) + b"x" * size + directory


def jpeg_with_exif(exif: bytes) -> bytes:
    """A JPEG with EXIF data split into as many segments as needed."""
    data = encode(Image.new("RGB", (8, 8)), "JPEG")
    parts = [b"Exif\0\0" + exif[i : i + 65_000] for i in range(0, len(exif), 65_000)]
    return data[:2] + b"".join(b"\xff\xe1" + struct.pack(">H", len(p) + 2) + p for p in parts) + data[2:]


def gif_with(extensions: bytes) -> bytes:
    """A GIF with extensions before its picture."""
    data = encode(Image.new("P", (8, 8)), "GIF")
    at = 13 + (3 * (2 << (data[10] & 7)) if data[10] & 128 else 0)
    return data[:at] + extensions + data[at:]


def gif_with_a_large_frame() -> bytes:
    """A GIF whose frame is far larger than its screen."""
    data = bytearray(gif_with(b""))
    at = data.index(b",", 13)
    data[at + 5 : at + 9] = struct.pack("<HH", 65_000, 65_000)
    return bytes(data)


def webp(width: int, height: int) -> bytes:
    """An animation of one small frame on a canvas of any size."""

    def part(kind: bytes, data: bytes) -> bytes:
        return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)

    def three(value: int) -> bytes:
        return struct.pack("<I", value)[:3]

    frame = encode(Image.new("RGB", (16, 16)), "WEBP", lossless=True)[12:]
    place = bytes(6) + three(15) + three(15) + three(100) + b"\0"
    header = part(b"VP8X", bytes([2, 0, 0, 0]) + three(width - 1) + three(height - 1))
    return b"RIFF" + part(b"", b"WEBP" + header + part(b"ANIM", bytes(6)) + part(b"ANMF", place + frame))


def bmp(width: int, height: int) -> bytes:
    """The headers of a BMP."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


def jpeg_that_claims(width: int, height: int) -> bytes:
    """A JPEG of 8x8 pixels whose header claims another size."""
    data = bytearray(encode(Image.new("RGB", (8, 8)), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def jpeg_of_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated `count` more times."""
    data = encode(Image.radial_gradient("L"), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * count + data[-2:]


def jpeg_with(filling: bytes) -> bytes:
    """A JPEG with `filling` before its first segment."""
    data = encode(Image.new("RGB", (8, 8)), "JPEG")
    return data[:2] + filling + data[2:]


def webp_of_chunks() -> bytes:
    """A WebP with many empty chunks after its picture."""
    data = encode(Image.new("RGB", (8, 8)), "WEBP")[8:] + b"JUNK\0\0\0\0" * (MAX_PARTS + 1)
    return b"RIFF" + struct.pack("<I", len(data)) + data


def rle_bmp(width: int, height: int, codes: bytes) -> bytes:
    """A run-length coded BMP."""
    palette = bytes(4 * 256)
    start = 54 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(codes), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(codes), 0, 0, start) + header + palette + codes


def avif_of_items(count: int) -> bytes:
    """An AVIF whose header claims `count` items."""
    data = bytearray(encode(Image.new("RGB", (64, 64)), "AVIF"))
    at = data.index(b"iinf") + 8
    data[at : at + 2] = count.to_bytes(2, "big")
    return bytes(data)


def avif_of_extents(size: int) -> bytes:
    """An AVIF whose item location claims `size` bytes."""
    data = bytearray(encode(Image.new("RGB", (64, 64)), "AVIF"))
    at = data.index(b"iloc") + 4
    assert data[at + 4] == 0x44  # offsets and lengths of four bytes
    data[at + 18 : at + 22] = size.to_bytes(4, "big")
    return bytes(data)


def avif_that_claims(width: int, height: int) -> bytes:
    """An AVIF of 64x64 pixels whose properties claim another size."""
    data = encode(Image.new("RGB", (64, 64)), "AVIF")
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]


def heic(**options: Any) -> bytes:
    """A HEIC of 1024x1024 pixels, stored as tiles."""
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    return encode(Image.new("RGB", (1024, 1024)), "HEIF", **options)


def heic_that_claims(width: int, height: int) -> bytes:
    """A HEIC of 1024x1024 pixels whose properties claim another size."""
    data = heic()
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]


TEXT = zlib.compress(b"x" * 50 * MEGABYTE, 9)
COMMENT = b"!\xfe" + (b"\xff" + b"c" * 255) * 4000 + b"\0"
BOMBS: dict[str, Callable[[], bytes]] = {
    "PNG text": lambda: png_with(chunk(b"zTXt", b"k\0\0" + TEXT)),
    "PNG international text": lambda: png_with(chunk(b"iTXt", b"k\0\1\0\0\0" + TEXT)),
    "PNG profile": lambda: png_with(chunk(b"iCCP", b"k\0\0" + TEXT)),
    "PNG of many texts": lambda: png_with(
        *[chunk(b"zTXt", b"k%d\0\0" % i + zlib.compress(b"x" * 900_000, 9)) for i in range(200)]
    ),
    "PNG EXIF": lambda: png_with(chunk(b"eXIf", tiff(300, MEGABYTE))),
    "TIFF tags": lambda: tiff(300, MEGABYTE),
    "GIF comment": lambda: gif_with(COMMENT),
    "GIF of many comments": lambda: gif_with(b"!\xfe\1c\0" * 200_000),
    "GIF comments after junk": lambda: gif_with(b"\0" + COMMENT),
    "GIF frame": gif_with_a_large_frame,
    "WebP canvas": lambda: webp(16_383, 16_383),
    "WebP canvas beyond WebP": lambda: webp(65_536, 65_535),
    "WebP EXIF": lambda: encode(Image.new("RGB", (16, 16)), "WEBP", exif=b"Exif\0\0" + tiff(300, MEGABYTE)),
    "BMP": lambda: bmp(2**30, 2**30),
    "BMP upside down": lambda: bmp(60_000, -60_000),
    "BMP of end-of-line codes": lambda: rle_bmp(1000, 1000, b"\0\0" * 1000),
    "JPEG": lambda: jpeg_that_claims(65_000, 65_000),
    "JPEG of scans": lambda: jpeg_of_scans(4000),
    "JPEG of fill bytes": lambda: jpeg_with(b"\xff" * 30_000_000),
    "JPEG of fill bytes in its data": lambda: jpeg_of_scans(1)[:-2] + b"\xff" * 30_000_000 + b"\xff\xd9",
    "JPEG of junk": lambda: jpeg_with(b"\x01" * 1_000_000),
    "JPEG of markers": lambda: jpeg_with(b"\xff\xe5\0\2" * 10_000_000),
    "PNG of chunks": lambda: png_with(chunk(b"abCd", b"") * (MAX_PARTS + 1)),
    "WEBP of chunks": webp_of_chunks,
    "AVIF of items": lambda: avif_of_items(60_000),
    "AVIF of one huge item": lambda: avif_of_extents(1 << 30),
    "AVIF": lambda: avif_that_claims(16_000, 16_000),
    "AVIF of boxes": lambda: encode(Image.new("RGB", (64, 64)), "AVIF") + (b"\0\0\0\x08free" * 30_000),
}
HEIF_BOMBS = {"HEIF": lambda: heic_that_claims(16_000, 16_000), "HEIF of tiles": lambda: heic_that_claims(1, 60_000)}
if find_spec("pillow_heif"):
    BOMBS.update(HEIF_BOMBS)
HARMLESS: dict[str, Callable[[], bytes]] = {
    "PNG pixels": png_of_zeros,
    "JPEG EXIF": lambda: jpeg_with_exif(tiff(300, MEGABYTE)),
    "JPEG of many scans": lambda: jpeg_of_scans(MAX_SCANS - 10),
    "JPEG of some padding": lambda: jpeg_with(b"\xff" * (MAX_PADDING - 10)),
    "JPEG with data after its end": lambda: encode(Image.new("RGB", (8, 8)), "JPEG") + b"\xff\xe5\0\2" * 1_000_000,
    "PNG with data after its end": lambda: png(32, 32) + bytes(1_000_000),
    "WEBP with data after its end": lambda: encode(Image.new("RGB", (8, 8)), "WEBP") + bytes(1_000_000),
    "AVIF with data after its end": lambda: encode(Image.new("RGB", (64, 64)), "AVIF") + bytes(1_000_000),
    "AVIF larger than its header claims": lambda: avif_that_claims(2, 2),
    "BMP of runs": lambda: rle_bmp(255, 100, b"\xff\1\0\0" * 100),
}


def measured(data: bytes) -> tuple[PictureError | None, float, int]:
    """Decodes the file and returns (error or None, CPU seconds, peak of Python's memory in bytes).

    Metadata is in Python's memory, pixels are not.
    """
    tracemalloc.start()
    began = time.process_time()
    failure = None
    try:
        decode(data, PIXELS)
    except PictureError as error:
        failure = error
    finally:
        seconds = time.process_time() - began
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return failure, seconds, peak


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused(name):
    failure, seconds, peak = measured(BOMBS[name]())
    assert failure is not None
    assert seconds < 5
    # Pillow itself allows 64 MiB of text in a PNG.
    assert peak < 100 * MEGABYTE


@pytest.mark.parametrize("name", HARMLESS)
def test_unusual_but_harmless_files_use_little_time_and_memory(name):
    _, seconds, peak = measured(HARMLESS[name]())
    assert seconds < 5
    assert peak < 20 * MEGABYTE


def test_every_format_has_a_bomb():
    assert {name.split()[0].upper() for name in BOMBS} == set(FORMATS)


def test_metadata_of_usual_size_is_accepted():
    image = Image.new("RGB", (20, 10), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "x" * 50_000
    for data in (
        encode(image, "JPEG", exif=exif),
        encode(image, "TIFF", exif=exif),
        encode(image, "WEBP", exif=exif),
        encode(image, "PNG", exif=exif),
    ):
        assert decode(data, PIXELS).size == (10, 20)
    assert decode(gif_with(b"!\xfe" + (b"\xff" + b"c" * 255) * 500 + b"\0"), PIXELS).size == (8, 8)
    assert MAX_GIF_METADATA > 500 * 256


def test_the_metadata_limit_applies_to_each_file_separately():
    data = gif_with(b"!\xfe" + (b"\xff" + b"c" * 255) * 900 + b"\0")
    for _ in range(3):
        decode(data, PIXELS)


@pytest.mark.parametrize("format", FORMATS)
def test_cut_and_changed_files_give_a_picture_or_a_picture_error(format):
    """A damaged file raises no other exception than PictureError."""
    data = encode(Image.radial_gradient("L").resize((24, 24)).convert("RGB"), format)
    damaged = [data[:n] for n in range(0, len(data), max(1, len(data) // 60))]
    for at in range(0, len(data), max(1, len(data) // 120)):
        damaged.append(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
    for file in damaged:
        with contextlib.suppress(PictureError):
            assert decode(file, PIXELS).mode == "RGB"


def test_files_that_contain_programs_are_refused():
    """For example PostScript, which Pillow would run with Ghostscript."""
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
    for data in (eps, b"<svg/>", b"%PDF-1.4", b"\x80\x04N.", b"GIF89a"):
        with pytest.raises(PictureError):
            decode(data, PIXELS)
