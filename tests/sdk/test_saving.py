"""Saving results in other formats keeps the pixels (nearly, if lossy), the color profile and the recipe."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, features

import gramophone
from gramophone import saving
from gramophone.values import Result, Timings
from gramophone_server.messages.options import ResultOptions
from gramophone_server.worker.encode import encode_result, srgb_profile

RECIPE = {"seed": 7, "layers": ["conv1_1"], "name": "Café ☕", "weight": 0.1}
PHOTO = np.asarray(Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 25, 3), np.uint8)).resize((200, 160)))
# Stripes of red and blue, one pixel wide: chroma subsampling would mix them.
STRIPES = np.zeros((32, 32, 3), np.uint8)
STRIPES[:, ::2] = (255, 0, 0)
STRIPES[:, 1::2] = (0, 0, 255)
AVIF = pytest.param(".avif", marks=pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF"))
LOSSLESS, LOSSY = [".png", ".tif", ".tiff", ".webp", ".bmp"], [".jpg", ".jpeg", ".JPG", AVIF]
WITH_RECIPE = [".png", ".tif", ".jpg", ".jpeg", ".webp", AVIF]


def result(pixels: np.ndarray = PHOTO, format: str = "png") -> Result:
    spec = ResultOptions(format=format, bit_depth=16 if pixels.dtype == np.uint16 else 8)  # type: ignore[arg-type]
    encoded, text = encode_result(pixels, spec, RECIPE)
    return Result(encoded.data, 1.0, (), 1, "vgg19", json.loads(text), Timings(0, 0, 0))


def saved(path: Path, pixels: np.ndarray = PHOTO, **options: int) -> Image.Image:
    result(pixels).save(path, **options)
    image = Image.open(path)
    image.load()
    return image


def error(path: Path, pixels: np.ndarray, **options: int) -> float:
    made = np.asarray(saved(path, pixels, **options).convert("RGB")).astype(int)
    return float(np.abs(made - pixels).mean())


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_lossless_formats_have_the_same_pixels(tmp_path, suffix):
    assert error(tmp_path / f"out{suffix}", PHOTO) == 0


@pytest.mark.parametrize("suffix", LOSSY)
def test_lossy_formats_have_nearly_the_same_pixels(tmp_path, suffix):
    assert error(tmp_path / f"out{suffix}", PHOTO) < 1.5
    assert error(tmp_path / f"out{suffix}", STRIPES) < 1


@pytest.mark.parametrize("suffix", WITH_RECIPE)
def test_files_have_the_color_profile_and_the_recipe(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    assert saved(path).info["icc_profile"] == srgb_profile()
    assert gramophone.read_recipe(path) == RECIPE
    assert gramophone.read_recipe(path.read_bytes()) == RECIPE
    with path.open("rb") as file:
        assert gramophone.read_recipe(file) == RECIPE


def test_the_recipe_is_in_exif_where_other_programs_find_it(tmp_path):
    """The tag is ImageDescription."""
    for suffix in (".jpg", ".webp", ".tif"):
        assert json.loads(saved(tmp_path / f"out{suffix}").getexif()[0x010E]) == RECIPE


def test_quality_sets_the_size_and_the_error_of_lossy_files(tmp_path):
    sizes = []
    for quality in (30, 60, 90, 100):
        for suffix in (".jpg", ".webp"):
            saved(tmp_path / f"{quality}{suffix}", quality=quality)
        sizes.append((tmp_path / f"{quality}.jpg").stat().st_size)
    assert sizes == sorted(set(sizes))
    assert (tmp_path / "30.webp").stat().st_size < (tmp_path / "100.webp").stat().st_size
    assert error(tmp_path / "out.webp", PHOTO, quality=100) == 0
    assert 0 < error(tmp_path / "out.webp", PHOTO, quality=95) < 10
    result().save(tmp_path / "out.jpg")
    result().save(tmp_path / "95.jpg", quality=95)
    assert (tmp_path / "out.jpg").read_bytes() == (tmp_path / "95.jpg").read_bytes()
    for quality in (0, 101, -5):
        with pytest.raises(ValueError, match=f"quality must be 1 to 100, not {quality}"):
            result().save(tmp_path / "never.jpg", quality=quality)
    assert not (tmp_path / "never.jpg").exists()


@pytest.mark.parametrize(("format", "suffix"), [("png", ".png"), ("tiff", ".tif"), ("tiff", ".TIFF")])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_result_of_the_same_format_is_written_unchanged(tmp_path, format, suffix, bits):
    made = result(PHOTO if bits == 8 else PHOTO.astype(np.uint16) * 257, format)
    made.save(tmp_path / f"out{suffix}")
    assert (tmp_path / f"out{suffix}").read_bytes() == made.data
    assert gramophone.read_recipe(tmp_path / f"out{suffix}") == RECIPE


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_tiff_result_is_saved_in_another_format(tmp_path, suffix):
    result(PHOTO, "tiff").save(tmp_path / f"out{suffix}")
    image = Image.open(tmp_path / f"out{suffix}")
    assert image.info["icc_profile"] == srgb_profile()
    assert np.abs(np.asarray(image).astype(int) - PHOTO).mean() < 2
    assert gramophone.read_recipe(tmp_path / f"out{suffix}") == RECIPE


def test_a_saved_tiff_is_read_by_another_library(tmp_path):
    result().save(tmp_path / "out.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "out.tif"), PHOTO)


@pytest.mark.parametrize(
    ("format", "suffix", "instead"),
    [("png", ".jpg", ".png"), ("png", ".tif", ".png"), ("tiff", ".png", ".tif"), ("tiff", ".webp", ".tif")],
)
def test_saving_16_bits_in_a_format_of_8_bits_is_refused(tmp_path, format, suffix, instead):
    made = result(PHOTO.astype(np.uint16) * 257, format)
    with pytest.raises(ValueError, match=f"has 16 bits per channel, .* save it as {instead}"):
        made.save(tmp_path / f"out{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["out", "out.", "out.docx", "out.xbm", "out.fits", ".png"])
def test_unknown_suffixes_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"cannot be written .*use \.png, \.tif"):
        result().save(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["out.gif", "out.ppm"])
def test_other_formats_that_pillow_writes_are_saved(tmp_path, name):
    assert saved(tmp_path / name).size == (200, 160)


def test_check_accepts_16_bits_for_png_and_tiff_only():
    for name in ("out.png", "out.tif", "OUT.TIFF"):
        saving.check(Path(name), 16)
    for name in ("out.jpg", "out.webp", "out.bmp", "out.gif"):
        saving.check(Path(name), 8)
        with pytest.raises(ValueError, match=r"16 bits .*save it as \.png or \.tif"):
            saving.check(Path(name), 16)


def test_a_picture_without_a_recipe_is_an_error():
    for format in ("PNG", "JPEG", "TIFF", "WEBP"):
        buffer = io.BytesIO()
        Image.new("RGB", (4, 4)).save(buffer, format)
        with pytest.raises(ValueError, match="no recipe of gramophone"):
            gramophone.read_recipe(buffer)
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "TIFF", description="a sunset")
    with pytest.raises(ValueError, match="no recipe of gramophone"):
        gramophone.read_recipe(buffer)


RGBA = np.dstack([PHOTO, np.random.default_rng(1).integers(0, 256, PHOTO.shape[:2], np.uint8)])


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_lossless_formats_keep_alpha_and_the_colors_under_it(tmp_path, suffix):
    assert np.array_equal(np.asarray(saved(tmp_path / f"out{suffix}", RGBA)), RGBA)


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_formats_without_alpha_are_composited_over_white(tmp_path, suffix):
    alpha = RGBA[..., 3:] / 255
    expected = RGBA[..., :3] * alpha + 255 * (1 - alpha)
    got = saved(tmp_path / f"out{suffix}", RGBA)
    assert got.mode == "RGB"
    assert np.abs(np.asarray(got) - expected).mean() < (5 if suffix == ".jpg" else 1)
