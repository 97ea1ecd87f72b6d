"""Picture files of every format and mode, and mutations of them: flipped bits, missing or repeated parts, bombs."""

import io
import random
import struct
from collections.abc import Iterator

from PIL import Image, features

from tests.harness import encode, png, png_header

MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK", "YCbCr"),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16", "F", "CMYK", "LAB"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "GIF": ("1", "L", "P", "RGB"),
    **({"AVIF": ("L", "RGB", "RGBA")} if features.check("avif") else {}),
}


def originals() -> dict[str, bytes]:
    """Returns a valid file of each format and mode, so small that a flipped bit probably has an effect."""
    files: dict[str, bytes] = {}
    with Image.open(io.BytesIO(png(24, 20))) as opened:
        base = opened.convert("RGB")
    for format, modes in MODES.items():
        for mode in modes:
            files[f"{format} {mode}"] = encode(_as(base, mode), format)
    frames = [base, base.rotate(90), base.rotate(180)]
    for format in ("GIF", "PNG", "WEBP", "TIFF"):
        files[f"{format} animated"] = encode(base, format, save_all=True, append_images=frames)
    palette = base.quantize(16)
    files["PNG P transparent"] = encode(palette, "PNG", transparency=0)
    files["GIF P transparent"] = encode(palette, "GIF", transparency=0)
    files["JPEG progressive"] = encode(base, "JPEG", progressive=True)
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        files[f"TIFF {compression}"] = encode(base, "TIFF", compression=compression)
    return files


def mutated(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yields `count` pairs of (name, file); the name tells the original and the mutation. Repeatable for a seed."""
    chance = random.Random(seed)
    files = list(originals().items())
    changes = [_flip, _flip, _cut, _splice, _stretch, _claim, _repeat]
    bombs = _bombs()
    for i in range(count):
        if i % 20 == 19:
            yield bombs[i // 20 % len(bombs)]
            continue
        name, data = files[i % len(files)]
        change = chance.choice(changes)
        yield f"{i}: {name} {change.__name__.strip('_')}", change(bytearray(data), chance)


def _as(base: Image.Image, mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.frombytes(
            "I;16", base.size, b"".join(struct.pack("<H", 257 * v) for v in base.convert("L").tobytes())
        )
    if mode == "LAB":
        return Image.frombytes("LAB", base.size, base.tobytes())
    return base.convert(mode)


def _flip(data: bytearray, chance: random.Random) -> bytes:
    """Flips some bits; half of the time in the first 64 bytes, where most fields are that a decoder checks."""
    for _ in range(chance.choice([1, 1, 2, 8, 64])):
        data[chance.randrange(min(len(data), chance.choice([64, len(data)])))] ^= 1 << chance.randrange(8)
    return bytes(data)


def _cut(data: bytearray, chance: random.Random) -> bytes:
    """Cuts off the end."""
    return bytes(data[: chance.randrange(len(data))])


def _splice(data: bytearray, chance: random.Random) -> bytes:
    """Replaces a part by random bytes."""
    begin = chance.randrange(len(data))
    data[begin : begin + chance.randrange(1, 64)] = chance.randbytes(chance.randrange(64))
    return bytes(data)


def _stretch(data: bytearray, chance: random.Random) -> bytes:
    """Repeats a part, such as a chunk, a frame or a tag."""
    begin = chance.randrange(len(data))
    end = chance.randrange(begin, len(data)) + 1
    return bytes(data[:end] + data[begin:end] * chance.choice([1, 10, 200]) + data[end:])


def _claim(data: bytearray, chance: random.Random) -> bytes:
    """Overwrites four bytes in the header, where a length, a size or an offset may be."""
    at = chance.randrange(8, min(len(data) - 4, 120))
    value = chance.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 65_535, len(data)])
    data[at : at + 4] = struct.pack(chance.choice("<>") + "I", value)
    return bytes(data)


def _repeat(data: bytearray, chance: random.Random) -> bytes:
    """Appends the beginning of the file to the file."""
    return bytes(data + data[: chance.randrange(len(data))])


def _bombs() -> list[tuple[str, bytes]]:
    """Returns small files of very large pictures: some only claim the size, some have all pixels."""
    huge = Image.new("L", (4000, 4000))
    bmp = bytearray(encode(Image.new("RGB", (4, 4)), "BMP"))
    bmp[18:26] = struct.pack("<ii", 50_000, 50_000)
    gif = bytearray(encode(Image.new("P", (4, 4)), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    return [
        ("PNG bomb of a header", png_header(60_000, 60_000)),
        ("PNG line", png_header(2**31 - 1, 1)),
        ("BMP bomb", bytes(bmp)),
        ("GIF bomb", bytes(gif)),
        ("PNG bomb", encode(huge, "PNG")),
        ("WebP bomb", encode(huge, "WEBP", lossless=True)),
        ("TIFF bomb", encode(huge, "TIFF", compression="tiff_deflate")),
        ("GIF of many colors", encode(huge, "GIF")),
        ("JPEG bomb", encode(huge, "JPEG")),
    ]
