"""Decoding of all supported formats, mostly with pictures of one known color."""

import hashlib
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from gramophone_server.decoding.header import read_header
from gramophone_server.decoding.messages import PictureError
from gramophone_server.decoding.pictures import decode, write_pixels
from tests.harness import encode, png, png_header

from .files import chunk, decoded, opened

PIXELS = 10_000
COLOR = (200, 100, 50)


def color_of(data: bytes) -> tuple[int, ...]:
    """Returns the mean color of the decoded file, rounded."""
    image = decoded(data)
    assert image.mode == "RGB"
    return tuple(np.asarray(image).reshape(-1, 3).mean(0).round().astype(int).tolist())


def flat(mode: str = "RGB", color: Any = COLOR, size: tuple[int, int] = (20, 10)) -> Image.Image:
    return Image.new(mode, size, color)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_formats_keep_the_color(format):
    assert color_of(encode(flat(), format)) == pytest.approx(COLOR, abs=3)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (flat("L", 77), (77, 77, 77)),
        (flat("1", 1), (255, 255, 255)),
        (flat().quantize(4), COLOR),
        (flat("RGBA", (*COLOR, 255)), COLOR),
        (flat("RGBA", (0, 0, 0, 0)), (255, 255, 255)),
        (flat("RGBA", (0, 0, 0, 128)), (127, 127, 127)),
        (flat("LA", (0, 0)), (255, 255, 255)),
    ],
    ids=["gray", "bilevel", "palette", "opaque", "transparent", "half transparent", "gray with alpha"],
)
def test_modes_are_converted_to_rgb_on_white(image, expected):
    assert color_of(encode(image)) == pytest.approx(expected, abs=1)


def test_a_transparent_palette_color_becomes_white():
    image = flat("P", 0)
    image.putpalette([0, 0, 0] * 256)
    assert color_of(encode(image, "GIF", transparency=0)) == (255, 255, 255)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_gray_is_scaled_not_clipped(format):
    image = Image.fromarray(np.full((10, 20), 257 * 100, np.uint16))
    assert color_of(encode(image, format)) == (100, 100, 100)


def test_cmyk_is_converted_to_rgb():
    assert color_of(encode(flat("CMYK", (0, 0, 0, 0)), "TIFF")) == (255, 255, 255)
    assert color_of(encode(flat("CMYK", (0, 0, 0, 255)), "JPEG")) == pytest.approx((0, 0, 0), abs=3)


def test_exif_orientation_turns_the_picture():
    image = Image.new("RGB", (20, 10), "black")
    image.paste("white", (0, 0, 10, 10))  # the left half
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate clockwise by 90 degrees
    turned = np.asarray(decoded(encode(image, "JPEG", exif=exif, quality=95)))
    assert turned.shape == (20, 10, 3)
    assert turned[:8].mean() > 240
    assert turned[12:].mean() < 15


def test_profile_is_converted_to_srgb():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    assert color_of(encode(flat(), icc_profile=srgb.tobytes())) == pytest.approx(COLOR, abs=1)
    assert color_of(encode(flat(), icc_profile=swap_red_and_green(srgb.tobytes()))) == pytest.approx(
        (COLOR[1], COLOR[0], COLOR[2]), abs=60
    )


@pytest.mark.parametrize("space", ["LAB", "XYZ", None])
def test_an_unsuitable_color_profile_is_ignored(space):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes() if space else b"not a profile"
    assert color_of(encode(flat(), icc_profile=profile)) == COLOR


def swap_red_and_green(profile: bytes) -> bytes:
    """Swaps the first two primaries of an RGB profile."""
    tags = profile.index(b"rXYZ"), profile.index(b"gXYZ")
    swapped = bytearray(profile)
    swapped[tags[0] : tags[0] + 4], swapped[tags[1] : tags[1] + 4] = b"gXYZ", b"rXYZ"
    return bytes(swapped)


def test_the_first_frame_of_an_animation_is_read():
    frames = [flat("RGB", color) for color in ((255, 0, 0), (0, 255, 0))]
    assert color_of(encode(frames[0], "GIF", save_all=True, append_images=frames[1:])) == (255, 0, 0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello", "not a picture"),
        (png()[:40], "damaged|decoded|not a picture"),
        (encode(flat(), "TIFF")[:-200], "cannot be decoded"),
        (encode(flat("RGB", COLOR, (101, 100))), "101x100, 10,100 pixels, .* at most 10,000"),
        (encode(flat("F", 0.5), "TIFF"), "floating-point"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    ],
    ids=["empty", "text", "cut header", "cut data", "too large", "float", "format not allowed"],
)
def test_invalid_files_are_refused(data, reason):
    with pytest.raises(PictureError, match=reason), opened(data) as file:
        decode(file, PIXELS)


def test_a_picture_above_the_pixel_limit_is_refused_before_decoding(monkeypatch):
    loaded = []
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: loaded.append(self))
    with pytest.raises(PictureError, match="at most"), opened(png_header(40_000, 40_000)) as file:
        decode(file, 64 << 20)
    assert not loaded


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("format", "mode"), [("JPEG", "L"), ("PNG", "RGB"), ("TIFF", "RGB"), ("WEBP", "RGB")])
def test_all_exif_orientations_are_applied(format, mode, orientation):
    """The pixels equal Pillow's; `decoded` also checks the size that the header gives without decoding."""
    image = Image.radial_gradient("L").resize((30, 20)).rotate(30).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(image, format, exif=exif)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert decoded(data).tobytes() == turned.convert("RGB").tobytes()
    assert decoded(data).size == ((20, 30) if orientation >= 5 else (30, 20))


def test_exif_data_after_the_pixels_of_a_png_is_used():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = png(30, 20)
    end = data.index(b"IEND") - 4
    assert decoded(data[:end] + chunk(b"eXIf", exif.tobytes()[6:]) + data[end:]).size == (20, 30)


def test_conversion_in_strips_equals_conversion_at_once(monkeypatch):
    """Large pictures are converted in strips to bound the memory."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.radial_gradient("L").resize((64, 97)).convert("RGBA")
    data = encode(image, icc_profile=swap_red_and_green(srgb))
    whole = decoded(data).tobytes()
    monkeypatch.setattr("gramophone_server.decoding.pictures._STRIP", 640)
    assert decoded(data).tobytes() == whole


@pytest.mark.parametrize("size", [(10, 5), (40, 20), (37, 20), (40, 11), (100, 90)])
def test_pixels_are_scaled_as_pillow_scales_them(tmp_path, size):
    image = Image.open(io.BytesIO(png(40, 20)))
    made = write_pixels(image, size[0], size[1], "rgb", tmp_path, durable=True)
    expected = image.resize(size, Image.Resampling.BILINEAR).tobytes()
    assert (tmp_path / made.blob).read_bytes() == expected
    assert made.blob == hashlib.sha256(expected).hexdigest()
    mask = write_pixels(image, size[0], size[1], "mask", tmp_path, durable=False)
    assert (tmp_path / mask.blob).read_bytes() == image.convert("L").resize(size, Image.Resampling.BILINEAR).tobytes()
    assert not made.black and not made.source_black


def test_write_pixels_reports_a_mask_that_is_black_before_or_after_scaling(tmp_path):
    assert write_pixels(flat("RGB", 0), 5, 5, "mask", tmp_path, durable=False).source_black
    dot = flat("RGB", 0, (200, 200))
    dot.putpixel((0, 0), (255, 255, 255))
    made = write_pixels(dot, 2, 2, "mask", tmp_path, durable=False)
    assert made.black and not made.source_black


def test_a_side_that_is_too_long_is_refused_by_the_header():
    with pytest.raises(PictureError, match="pixels a side"), opened(png_header(1, 70_000)) as file:
        read_header(file, 1 << 26)
