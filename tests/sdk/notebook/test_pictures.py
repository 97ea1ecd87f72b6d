"""Pictures for notebooks are PNG files of a bounded size."""

import io

import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from PIL import Image

import gramophone
from gramophone.notebook.pictures import display_png
from tests.harness import encode, png


def opened(data: bytes | None) -> Image.Image:
    assert data is not None and data.startswith(b"\x89PNG")
    return Image.open(io.BytesIO(data))


def test_a_small_png_is_unchanged():
    assert display_png(png(48, 32), 48) == png(48, 32)


def test_a_large_picture_is_reduced_and_keeps_its_shape():
    assert opened(display_png(png(96, 48), 32)).size == (32, 16)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "TIFF"])
def test_other_formats_become_png(format):
    image = Image.open(io.BytesIO(png(48, 32)))
    shown = opened(display_png(encode(image, format), 512))
    assert shown.size == (48, 32)
    assert np.abs(np.asarray(shown, float) - np.asarray(image, float)).mean() < 12


def test_a_file_that_is_no_picture_is_not_shown():
    assert display_png(b"no picture", 512) is None


def test_notebooks_print_no_bytes():
    """As the output of a cell, alone and in a list."""
    formatter = DisplayFormatter()
    result = gramophone.Result(png(), 1.0, (), 1, "m", {}, gramophone.Timings(0, 0, 0))
    frame = gramophone.Frame(1, 2, 3.0, (), 1, 1, 1, png())
    for value in (result, frame, gramophone.Outcome(0, "id", result, None), gramophone.Style(png())):
        assert formatter.format(value)[0]["text/plain"] == repr(value)
        assert formatter.format([value])[0]["text/plain"] == f"[{value!r}]"
        assert "\\x" not in repr(value) and "PNG" not in repr(value)
    assert set(formatter.format(result)[0]) == {"text/plain", "image/png"}


def test_a_result_displays_as_its_picture():
    timings = gramophone.Timings(0, 0, 0)
    result = gramophone.Result(png(), 1.0, (), 1, "m", {}, timings)
    assert result._repr_png_() == png()
    assert opened(gramophone.Result(png(1500, 300), 1.0, (), 1, "m", {}, timings)._repr_png_()).size == (1024, 205)
