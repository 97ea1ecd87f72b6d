"""Transparent pictures in jobs of a real server: the alpha of the content comes back, byte by byte."""

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import gramophone
from gramophone import Style
from tests.harness import ServerProcess, encode, png

SIDE = 48
RGBA = np.dstack([np.asarray(Image.open(io.BytesIO(png(SIDE, 40)))), np.zeros((40, SIDE), np.uint8)])
RGBA[5:30, 8:40, 3] = np.random.default_rng(0).integers(1, 256, (25, 32))
CUT = encode(Image.fromarray(RGBA))
STYLE = png(seed=2)


@pytest.fixture
def client(server: ServerProcess):
    with gramophone.Client(server.address) as connected:
        yield connected


def transfer(client: gramophone.Client, content: Any = CUT, style: Any = STYLE, **options: Any) -> gramophone.Result:
    return client.transfer(content, style, **({"size": SIDE, "iterations": 2} | options)).result()


def test_a_png_has_the_alpha_and_the_hidden_colors_of_the_content(client, tmp_path):
    result = transfer(client)
    assert result.image.mode == "RGBA"
    made = np.asarray(result.image)
    assert np.array_equal(made[..., 3], RGBA[..., 3])
    hidden = RGBA[..., 3] == 0
    assert np.array_equal(made[hidden], RGBA[hidden])
    assert not np.array_equal(made[~hidden], RGBA[~hidden])
    result.save(tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as saved:
        assert saved.mode == "RGB"
        assert np.asarray(saved)[38:].min() > 245
    assert result.recipe["transparency"] == "keep"


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_a_tiff_has_straight_alpha(client, bit_depth):
    data = transfer(client, result_format="tiff", bit_depth=bit_depth).data
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        assert page.tags["ExtraSamples"].value == (2,)
        assert np.array_equal(page.asarray()[..., 3], RGBA[..., 3].astype(int) * (257 if bit_depth == 16 else 1))


def test_alpha_is_turned_with_the_picture_and_scaled_with_the_canvas(client):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = np.asarray(transfer(client, encode(Image.fromarray(RGBA), exif=exif)).image)
    assert np.array_equal(turned[..., 3], np.rot90(RGBA[..., 3], -1))
    half = transfer(client, size=SIDE // 2).image
    expected = Image.fromarray(RGBA[..., 3]).resize((SIDE // 2, 20), Image.Resampling.BILINEAR)
    assert np.array_equal(np.asarray(half)[..., 3], np.asarray(expected))


def test_previews_in_png_have_alpha(client):
    job = client.transfer(CUT, STYLE, size=SIDE, iterations=2, report_every=1, preview_format="png")
    shown = [frame.preview for frame in job if frame.preview is not None]
    assert shown and all(preview.mode == "RGBA" for preview in shown)


def test_opaque_pictures_make_opaque_results(client):
    opaque = encode(Image.fromarray(RGBA[..., :3]).convert("RGBA"))
    first, second = transfer(client, opaque), transfer(client, encode(Image.fromarray(RGBA[..., :3])))
    assert first.image.mode == "RGB"
    assert first.image.tobytes() == second.image.tobytes()
    assert transfer(client, transparency="white").image.mode == "RGB"
    assert client.style(CUT, size=SIDE, iterations=1).result().image.mode == "RGB"


CLEAR = encode(Image.new("RGBA", (SIDE, 40), (90, 90, 90, 0)))
CORNER = np.zeros((40, SIDE), np.uint8)
CORNER[34:] = 255


@pytest.mark.parametrize(
    ("content", "style", "field", "words"),
    [
        (CLEAR, STYLE, "content", "is transparent all over"),
        (CUT, CLEAR, "styles[0].image", "is transparent all over"),
        (CUT, Style(STYLE, mask=Image.fromarray(CORNER)), "styles[0].mask", "transparent pixels of the content"),
        (STYLE, Style(CUT, source_mask=Image.fromarray(CORNER)), "styles[0].source_mask", "transparent pixels of its"),
    ],
    ids=["content", "style", "mask", "source mask"],
)
def test_pictures_without_visible_pixels_are_refused(client, content, style, field, words):
    with pytest.raises(gramophone.InvalidRequestError) as caught:
        transfer(client, content, style)
    assert f"{field}: " in str(caught.value)
    assert words in str(caught.value)


def test_an_estimate_counts_the_memory_of_alpha(client):
    opaque = encode(Image.fromarray(RGBA[..., :3]))
    assert client.estimate("transfer", CUT, STYLE, size=1024).peak_memory > (
        client.estimate("transfer", opaque, STYLE, size=1024).peak_memory
    )
