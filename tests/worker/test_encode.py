"""Encoded results and previews, read with other libraries."""

import hashlib
import io
import json
import struct

import numpy as np
import png
import pytest
import tifffile
from PIL import Image, ImageCms

from gramophone_server.messages.events import INLINE_BYTES
from gramophone_server.messages.options import ResultOptions
from gramophone_server.worker.encode import encode_preview, encode_result, srgb_profile

RECIPE = {"seed": 7, "layers": ["conv1_1"], "name": "Café ☕", "weight": 0.1}
KINDS = [("png", 8), ("png", 16), ("tiff", 8), ("tiff", 16)]


def picture(bit_depth: int) -> np.ndarray:
    """A random picture of 21x13 pixels with the darkest and the brightest level."""
    highest = (1 << bit_depth) - 1
    pixels = np.random.default_rng(0).integers(0, highest + 1, (13, 21, 3))
    pixels[0, 0], pixels[0, 1] = 0, highest
    return pixels.astype(np.uint16 if bit_depth > 8 else np.uint8)


def result(format: str, bit_depth: int, recipe: dict[str, object] | None = None) -> bytes:
    spec = ResultOptions(format=format, bit_depth=bit_depth)  # type: ignore[arg-type]
    return encode_result(picture(bit_depth), spec, RECIPE if recipe is None else recipe)[0].data


def decoded(data: bytes, format: str) -> np.ndarray:
    """Decodes a PNG with pypng or a TIFF with tifffile."""
    if format == "tiff":
        return tifffile.imread(io.BytesIO(data))
    width, height, rows, _ = png.Reader(bytes=data).read()
    return np.vstack([np.asarray(row) for row in rows]).reshape(height, width, 3)


@pytest.mark.parametrize(("format", "bit_depth"), KINDS)
def test_a_result_has_the_same_pixels(format, bit_depth):
    got = decoded(result(format, bit_depth), format)
    assert got.dtype == picture(bit_depth).dtype
    assert np.array_equal(got, picture(bit_depth))


@pytest.mark.parametrize(("format", "bit_depth"), KINDS)
def test_a_result_has_its_format_and_size(format, bit_depth):
    spec = ResultOptions(format=format, bit_depth=bit_depth)
    encoded, _ = encode_result(picture(bit_depth), spec, RECIPE)
    assert (encoded.format, encoded.width, encoded.height) == (format, 21, 13)
    with Image.open(io.BytesIO(encoded.data)) as image:
        assert (image.format.lower(), image.size) == (format, (21, 13))


# Pillow does not read TIFFs of 16-bit colors.
@pytest.mark.parametrize(("format", "bit_depth"), [("png", 8), ("png", 16), ("tiff", 8)])
def test_a_result_has_the_srgb_profile(format, bit_depth):
    with Image.open(io.BytesIO(result(format, bit_depth))) as image:
        assert image.info["icc_profile"] == srgb_profile()


def test_a_16_bit_tiff_has_the_srgb_profile():
    with tifffile.TiffFile(io.BytesIO(result("tiff", 16))) as file:
        assert file.pages[0].tags["InterColorProfile"].value == srgb_profile()


def test_the_profile_is_srgb_with_a_fixed_date():
    profile = ImageCms.ImageCmsProfile(io.BytesIO(srgb_profile()))
    image = Image.fromarray(picture(8))
    converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"))
    assert converted is not None
    assert np.abs(np.asarray(converted).astype(int) - picture(8)).max() <= 1
    # A fixed date: otherwise the same job would make other bytes a second later. (Pillow's creation_date fails in
    # January, so read the bytes.)
    assert struct.unpack_from(">6H", srgb_profile(), 24) == (2000, 1, 1, 0, 0, 0)
    assert profile.profile.profile_id == bytes(16)


@pytest.mark.parametrize(("format", "bit_depth"), KINDS)
def test_the_same_pixels_and_recipe_give_the_same_bytes(format, bit_depth):
    first = result(format, bit_depth)
    srgb_profile.cache_clear()
    assert result(format, bit_depth, dict(reversed(RECIPE.items()))) == first


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_a_png_has_its_recipe_in_a_text_chunk(bit_depth):
    with Image.open(io.BytesIO(result("png", bit_depth))) as image:
        assert json.loads(image.text["gramophone"]) == RECIPE  # type: ignore[attr-defined]


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_a_tiff_has_its_recipe_in_its_description(bit_depth):
    with tifffile.TiffFile(io.BytesIO(result("tiff", bit_depth))) as file:
        assert json.loads(file.pages[0].description) == RECIPE


@pytest.mark.parametrize(("format", "bit_depth"), KINDS)
def test_the_recipe_is_also_returned_separately(format, bit_depth):
    _, text = encode_result(picture(bit_depth), ResultOptions(format=format, bit_depth=bit_depth), RECIPE)
    assert json.loads(text) == RECIPE


def test_the_chunks_of_a_16_bit_png_are_in_the_order_of_the_standard():
    chunks = [name for name, _ in png.Reader(bytes=result("png", 16)).chunks()]
    assert chunks[0] == b"IHDR" and chunks[-1] == b"IEND"
    assert chunks.index(b"iCCP") < chunks.index(b"IDAT")


def smooth() -> np.ndarray:
    """A smooth picture (40, 64, 3), which lossy formats change little."""
    y, x = np.mgrid[:40, :64]
    return np.stack([4 * x, 6 * y, 255 - 2 * x - 3 * y], axis=2).astype(np.uint8)


@pytest.mark.parametrize(("format", "tolerance"), [("png", 0), ("jpeg", 12), ("webp", 24)])
def test_a_preview_is_the_picture_if_it_is_small_enough(format, tolerance):
    preview = encode_preview(smooth(), 64, format)
    assert (preview.format, preview.width, preview.height) == (format, 64, 40)
    with Image.open(io.BytesIO(preview.data)) as image:
        assert image.format.lower() == format
        difference = np.abs(np.asarray(image.convert("RGB")).astype(int) - smooth())
    assert difference.max() <= tolerance


@pytest.mark.parametrize(("size", "expected"), [(32, (32, 20)), (16, (16, 10)), (500, (64, 40))])
def test_a_preview_is_scaled_down_and_never_up(size, expected):
    preview = encode_preview(smooth(), size, "png")
    with Image.open(io.BytesIO(preview.data)) as image:
        assert image.size == (preview.width, preview.height) == expected
        assert np.asarray(image).mean((0, 1)) == pytest.approx(smooth().mean((0, 1)), abs=1)


@pytest.mark.parametrize("format", ["png", "webp"])
def test_a_preview_fits_into_an_event(format):
    noise = np.random.default_rng(0).integers(0, 256, (2048, 1400, 3), dtype=np.uint8)
    preview = encode_preview(noise, 2048, format)
    assert INLINE_BYTES // 2 < len(preview.data) <= INLINE_BYTES
    assert preview.sha256 == hashlib.sha256(preview.data).hexdigest()
    with Image.open(io.BytesIO(preview.data)) as image:
        assert image.size == (preview.width, preview.height)
    assert preview.width / preview.height == pytest.approx(1400 / 2048, rel=0.01)


@pytest.mark.parametrize(("format", "bit_depth"), KINDS)
def test_a_result_with_alpha_has_the_same_colors_and_straight_alpha(format, bit_depth):
    highest = (1 << bit_depth) - 1
    pixels = np.dstack([picture(bit_depth), np.random.default_rng(1).integers(0, highest, (13, 21))])
    pixels = pixels.astype(picture(bit_depth).dtype)
    data = encode_result(pixels, ResultOptions(format=format, bit_depth=bit_depth), RECIPE)[0].data
    if format == "tiff":
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            got = file.pages[0].asarray()
            assert file.pages[0].tags["ExtraSamples"].value == (2,), "2 is unassociated alpha"
    else:
        width, height, rows, info = png.Reader(bytes=data).read()
        assert info["alpha"]
        got = np.vstack([np.asarray(row) for row in rows]).reshape(height, width, 4)
    assert np.array_equal(got, pixels)
