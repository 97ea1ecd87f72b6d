"""`-o` with other formats than PNG: the quality, the metadata, and what is refused before a job is submitted."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from gramophone import read_recipe
from gramophone_server.worker.encode import srgb_profile
from tests.cli.quick import gramophone
from tests.harness import ServerProcess, encode, png

PAINT = ["--size", "48", "--iterations", "4", "--model", "vgg19-random", "--quiet"]
PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)).resize((160, 120))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: ServerProcess) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAMOPHONE_SERVER", server.address)
    Path("photo.png").write_bytes(png())
    return tmp_path


def paint(output: str, *options: object, picture: str = "photo.png") -> str:
    """Paints a picture and returns what the command wrote to standard error."""
    done = gramophone("style", picture, *PAINT, "-o", output, *options)
    assert done.returncode == 0, done.stderr
    return done.stderr


def refused(output: str, *options: object) -> str:
    """Returns the error message of a command that must be refused before it submits a job."""
    jobs_before = jobs()
    done = gramophone("style", "photo.png", *PAINT, "-o", output, *options)
    assert done.returncode == 2
    assert jobs() == jobs_before
    assert not Path(output).exists()
    return done.stderr


def jobs() -> str:
    return gramophone("jobs", "list", "--limit", "500").stdout


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_all_formats_have_the_pixels_the_profile_and_the_recipe():
    paint("out.png")
    recipe = read_recipe("out.png")
    suffixes = [".jpg", ".jpeg", ".webp", ".tif", *([".avif"] if features.check("avif") else [])]
    for suffix in suffixes:
        paint(f"out{suffix}")
        assert np.abs(pixels(f"out{suffix}") - pixels("out.png")).mean() < 4
        assert Image.open(f"out{suffix}").info["icc_profile"] == srgb_profile()
        made = read_recipe(f"out{suffix}")
        assert {**made, "result": None} == {**recipe, "result": None}


def test_quality_is_ignored_with_a_warning_for_formats_without_it():
    paint("fine.jpg")
    assert paint("coarse.jpg", "--quality", 20) == ""
    assert Path("coarse.jpg").stat().st_size < Path("fine.jpg").stat().st_size / 2
    assert "--quality has no effect on .png" in paint("out.png", "--quality", 20)
    assert "--quality must" not in refused("out.jpg", "--quality", 0)
    assert "1<=x<=100" in refused("out.jpg", "--quality", 101)


def test_a_result_can_be_saved_again_in_any_format_and_quality():
    paint("out.png")
    job = jobs().split()[0]
    for command in ("watch", "download"):
        for name, options in (("a.jpg", []), ("b.jpg", ["--quality", 30]), ("c.webp", [])):
            done = gramophone("jobs", command, job, "-o", name, *options)
            assert done.returncode == 0, done.stderr
            assert read_recipe(name) == read_recipe("out.png")
        assert Path("b.jpg").stat().st_size < Path("a.jpg").stat().st_size
        assert np.array_equal(pixels("c.webp"), pixels("out.png"))


def test_an_output_that_cannot_be_written_is_refused_before_the_job():
    assert "use .png, .tif" in refused("out.docx")
    assert "use .png, .tif" in refused("out")
    assert "use .png, .tif" in refused("out.xbm")  # a format without colors
    assert "16 bits per channel, but .jpg files have 8" in refused("out.jpg", "--bit-depth", 16)


def test_a_16_bit_tiff_is_saved_as_tiff_and_refused_as_png():
    paint("out.tif", "--bit-depth", 16)
    assert read_recipe("out.tif")["result"] == {"format": "tiff", "bit_depth": 16}
    job = jobs().split()[0]
    done = gramophone("jobs", "download", job, "-o", "out.png")
    assert done.returncode != 0
    assert "save it as .tif" in done.stderr and "Traceback" not in done.stderr
    assert not Path("out.png").exists()


def test_a_contact_sheet_has_quality_95_and_full_color_resolution():
    done = gramophone("sweep", "photo.png", *PAINT[2:], "--layers", "1", "--seeds", "0", "--sizes", "48", "-o", "s.jpg")
    assert done.returncode == 0, done.stderr
    image = Image.open("s.jpg")
    # No chroma subsampling (4:4:4), and the quantization tables of quality 95.
    assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    assert image.quantization == Image.open(buffer).quantization  # type: ignore[attr-defined]


def test_a_damaged_picture_gives_a_warning_with_its_file_name():
    Path("cut.jpg").write_bytes(encode(PHOTO, "JPEG")[:-900])
    assert "warning: cut.jpg is truncated: the last " in paint("out.png", picture="cut.jpg")
    assert "warning" not in paint("out.png")
