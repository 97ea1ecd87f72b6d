"""Straight alpha of all kinds of transparent pictures, and scaling that keeps hidden colors out of visible pixels."""

import io
from typing import Any

import numpy as np
import png as pypng
import pytest
import tifffile
from PIL import Image, ImageCms, features

from gramophone_server.decoding.pictures import decode, write_pixels
from tests.harness import encode

from .files import opened
from .test_pictures import swap_red_and_green

RNG = np.random.default_rng(0)
RGBA = RNG.integers(0, 256, (9, 7, 4), np.uint8)
RGBA[0, 0], RGBA[0, 1] = (10, 20, 30, 0), (40, 50, 60, 255)
IMAGE = Image.fromarray(RGBA)


def decoded(data: bytes) -> np.ndarray:
    with opened(data) as file:
        return np.asarray(decode(file, 10_000, alpha=True)[0])


def tiff(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric="rgb", extrasamples=[kind])
    return buffer.getvalue()


def png(depth: int, values: list[int], *, alpha: bool, transparent: Any = None) -> bytes:
    """A PNG of two pixels: one with the given values, and one with all values 0."""
    buffer = io.BytesIO()
    writer = pypng.Writer(
        2, 1, bitdepth=depth, greyscale=len(values) < 3, alpha=alpha, transparent=transparent, compression=1
    )
    writer.write(buffer, [[*values, *[0] * len(values)]])
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        encode(IMAGE),
        encode(IMAGE, "WEBP", lossless=True, exact=True),
        encode(IMAGE, "TIFF"),
        tiff(RGBA, "unassalpha"),
        tiff(RGBA.astype(np.uint16) * 257, "unassalpha"),
    ],
    ids=["PNG", "WebP", "TIFF", "TIFF by tifffile", "16-bit TIFF"],
)
def test_lossless_files_keep_colors_and_alpha(data):
    assert np.array_equal(decoded(data), RGBA)


def test_associated_alpha_becomes_straight():
    product = np.dstack([np.round(RGBA[..., :3] * (RGBA[..., 3:] / 255)), RGBA[..., 3]]).astype(np.uint8)
    got = decoded(tiff(product, "assocalpha")).astype(int)
    assert np.array_equal(got[..., 3], RGBA[..., 3])
    solid = RGBA[..., 3] > 128
    assert np.abs(got - RGBA)[solid].max() <= 1


@pytest.mark.parametrize("format", ["AVIF"] if features.check("avif") else [])
def test_lossy_files_keep_alpha_nearly(format):
    smooth = IMAGE.resize((64, 64), Image.Resampling.BICUBIC)
    got = decoded(encode(smooth, format, quality=100))[..., 3].astype(int)
    assert np.abs(got - np.asarray(smooth)[..., 3]).max() <= 3


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(16, [0x1234, 0x80FF], alpha=True), (0x12, 0x12, 0x12, 0x80)),
        (png(16, [0x1234, 0, 0xFFFF, 0x80FF], alpha=True), (0x12, 0, 0xFF, 0x80)),
        (png(8, [9, 100], alpha=True), (9, 9, 9, 100)),
        (png(16, [0x1234], alpha=False, transparent=0x1234), (0x12, 0x12, 0x12, 0)),
        (png(16, [0x1234, 0, 0xFFFF], alpha=False, transparent=(0x1234, 0, 0xFFFF)), (0x12, 0, 0xFF, 0)),
        (png(8, [9, 8, 7], alpha=False, transparent=(9, 8, 7)), (9, 8, 7, 0)),
        (png(8, [9], alpha=False, transparent=9), (9, 9, 9, 0)),
        (png(4, [3], alpha=False, transparent=3), (51, 51, 51, 0)),
        (png(2, [1], alpha=False, transparent=1), (85, 85, 85, 0)),
        (png(1, [1], alpha=False, transparent=1), (255, 255, 255, 0)),
    ],
    ids=[
        "16-bit gray and alpha", "16-bit RGBA", "gray and alpha", "16-bit gray", "16-bit RGB", "RGB", "gray",
        "4-bit gray", "2-bit gray", "bilevel",
    ],
)  # fmt: skip
def test_alpha_and_transparent_colors_of_a_png_of_any_depth(data, expected):
    got = decoded(data)
    assert tuple(got[0, 0].tolist()) == expected
    # The second pixel is transparent only if the file has a channel of alpha: bit 2 of its color type.
    assert got[0, 1, 3] == (0 if data[25] & 4 else 255)


def test_palettes_have_the_alpha_of_their_colors():
    palette = IMAGE.quantize(16)
    assert np.array_equal(decoded(encode(palette)), np.asarray(palette.convert("RGBA")))
    gif = Image.new("P", (4, 2), 1)
    gif.putpalette([0, 0, 0, 200, 100, 50])
    gif.putpixel((0, 0), 0)
    got = decoded(encode(gif, "GIF", transparency=0))
    assert got[0, 0, 3] == 0 and (got[0, 1] == (200, 100, 50, 255)).all()


def test_an_opaque_alpha_is_dropped():
    for alpha in (Image.new("RGBA", (4, 4), (1, 2, 3, 255)), Image.new("LA", (4, 4), (1, 255))):
        assert decoded(encode(alpha)).shape == (4, 4, 3)
    assert decoded(encode(Image.new("RGB", (4, 4)))).shape == (4, 4, 3)


def test_the_exif_orientation_turns_alpha_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert np.array_equal(decoded(encode(IMAGE, exif=exif)), np.rot90(RGBA, -1))


def test_an_icc_profile_changes_colors_only(tmp_path):
    profile = swap_red_and_green(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    got, plain = decoded(encode(IMAGE, icc_profile=profile)), decoded(encode(IMAGE.convert("RGB"), icc_profile=profile))
    assert np.array_equal(got[..., :3], plain)
    assert np.array_equal(got[..., 3], RGBA[..., 3])


def written(image: Image.Image, size: tuple[int, int], folder: Any) -> np.ndarray:
    made = write_pixels(image, *size, "rgba", folder, durable=False)
    assert made.alpha
    return np.frombuffer((folder / made.blob).read_bytes(), np.uint8).reshape(size[1], size[0], 4)


def test_pixels_of_the_same_size_are_unchanged(tmp_path):
    assert np.array_equal(written(IMAGE, IMAGE.size, tmp_path), RGBA)


@pytest.mark.parametrize("size", [(20, 20), (64, 64), (33, 40)])
def test_hidden_colors_do_not_reach_visible_pixels(tmp_path, size):
    """A gray disk on hidden green stays gray at any size, and alpha is scaled like any channel."""
    pixels = np.zeros((48, 48, 4), np.uint8)
    y, x = np.mgrid[:48, :48]
    disk = (x - 24) ** 2 + (y - 24) ** 2 < 300
    pixels[disk], pixels[~disk] = (120, 120, 120, 255), (0, 255, 0, 0)
    got = written(Image.fromarray(pixels), size, tmp_path)
    visible = got[..., 3] > 8
    assert np.abs(got[visible][:, :3].astype(int) - 120).max() <= 15
    solid = got[..., 3] == 255
    assert (got[solid][:, :3] == 120).all()
    alpha = Image.fromarray(pixels[..., 3]).resize(size, Image.Resampling.BILINEAR)
    assert np.array_equal(got[..., 3], np.asarray(alpha))


def test_a_picture_that_is_transparent_all_over_is_reported(tmp_path):
    clear = write_pixels(Image.new("RGBA", (8, 8), (9, 9, 9, 0)), 4, 4, "rgba", tmp_path, durable=False)
    assert clear.black and clear.source_black
    assert not write_pixels(IMAGE, 4, 4, "rgba", tmp_path, durable=False).black
