"""Regions of color-coded maps: clean, antialiased, JPEG, and pictures that are no maps."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from gramophone_server.decoding.messages import PictureError
from gramophone_server.decoding.regions import MAX_REGIONS, find_regions
from tests.harness import encode, png

SKY, LAND, SUN, HILL = (90, 160, 255), (40, 140, 40), (255, 220, 0), (150, 150, 70)
SIDE = 240


def doodle(factor: int = 1) -> Image.Image:
    """A map of four regions; drawn at a larger size and scaled down, its edges are antialiased."""
    side = SIDE * factor
    image = Image.new("RGB", (side, side), SKY)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, int(side * 0.6), side, side), fill=LAND)
    draw.ellipse([side * part for part in (0.6, 0.1, 0.85, 0.35)], fill=SUN)
    draw.polygon([(side * x, side * y) for x, y in ((0.1, 0.6), (0.35, 0.2), (0.5, 0.6))], fill=HILL)
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS) if factor > 1 else image


def reopened(image: Image.Image, format: str, **options: Any) -> Image.Image:
    return Image.open(io.BytesIO(encode(image, format, **options))).convert("RGB")


def distance(color: str, other: tuple[int, ...]) -> float:
    return float(np.linalg.norm(np.array(list(bytes.fromhex(color[1:]))) - other))


CLEAN, _ = find_regions(doodle(), SIDE, SIDE)


def test_a_clean_map_has_its_exact_colors_by_area():
    labels, regions = find_regions(doodle(), SIDE, SIDE)
    assert [region.color for region in regions] == ["#5aa0ff", "#288c28", "#969646", "#ffdc00"]
    pixels = np.asarray(doodle())
    for number, color in enumerate((SKY, LAND, HILL, SUN)):
        own = (pixels == color).all(2)
        assert np.array_equal(labels == number, own)
        assert regions[number].area == pytest.approx(own.mean())
    assert sum(region.area for region in regions) == pytest.approx(1)


@pytest.mark.parametrize("quality", [None, 95, 75, 30])
@pytest.mark.parametrize("size", [(SIDE, SIDE), (100, 100), (500, 500), (1500, 1200)])
def test_antialiased_edges_and_jpeg_noise_belong_to_the_regions_beside_them(quality, size):
    image = doodle(4)
    image = image if quality is None else reopened(image, "JPEG", quality=quality)
    labels, regions = find_regions(image, *size)
    assert len(regions) == 4
    for region, color in zip(regions, (SKY, LAND, HILL, SUN), strict=True):
        assert distance(region.color, color) < 12
    expected = np.asarray(Image.fromarray(CLEAN).resize(size, Image.Resampling.NEAREST))
    assert (labels != expected).mean() < 0.025


def test_an_edge_never_becomes_a_line_of_another_region():
    """The mixture of red and blue is purple, which is another region far away."""
    pixels = np.zeros((60, 90, 3), np.uint8)
    pixels[:, :40], pixels[:, 40], pixels[:, 41:70] = (255, 0, 0), (128, 0, 128), (0, 0, 255)
    pixels[:, 70:] = (128, 0, 128)
    labels, regions = find_regions(Image.fromarray(pixels), 90, 60)
    purple = next(number for number, region in enumerate(regions) if region.color == "#800080")
    assert not (labels[:, :70] == purple).any()
    assert (labels[:, 71:] == purple).all()


def test_specks_get_the_color_around_them():
    pixels = np.full((100, 100, 3), 200, np.uint8)
    pixels[50, 50] = (255, 0, 0)
    labels, regions = find_regions(Image.fromarray(pixels), 100, 100)
    assert [region.color for region in regions] == ["#c8c8c8"] and not labels.any()


def test_similar_colors_are_different_regions_if_they_differ_by_more_than_noise():
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :40], pixels[:, 40:] = (120, 120, 120), (120, 120, 150)
    assert len(find_regions(Image.fromarray(pixels), 80, 40)[1]) == 2
    pixels[:, 40:] = (120, 120, 130)
    assert len(find_regions(Image.fromarray(pixels), 80, 40)[1]) == 1


def stripes(count: int) -> Image.Image:
    colors = [(40 * (n % 7), 50 * (n // 7), 100 * (n % 2)) for n in range(count)]
    return Image.fromarray(np.repeat(np.array([colors], np.uint8), 10, axis=1).repeat(40, axis=0))


def test_the_number_of_colors_is_limited():
    assert len(find_regions(stripes(MAX_REGIONS), 160, 40)[1]) == MAX_REGIONS
    with pytest.raises(PictureError, match="more than 16 colors"):
        find_regions(stripes(MAX_REGIONS + 1), 170, 40)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (Image.open(io.BytesIO(png(200, 200))), "flat"),
        (Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8)), "flat"),
        (Image.linear_gradient("L").point(lambda level: level // 3).convert("RGB"), "shaded like a photo"),
    ],
    ids=["photo", "noise", "gradient"],
)
def test_a_picture_that_is_no_map_is_refused(image, reason):
    with pytest.raises(PictureError, match=reason):
        find_regions(image, 200, 200)


def test_the_outlines_of_a_small_map_are_smooth_on_a_large_canvas():
    small = Image.new("L", (20, 20))
    ImageDraw.Draw(small).ellipse((3, 3, 16, 16), fill=255)
    labels, _ = find_regions(small.convert("RGB"), 400, 400)
    y, x = np.mgrid[:400, :400]
    disk = np.hypot(x - 199.5, y - 199.5) < 142
    assert (labels.astype(bool) != disk).mean() < 0.03
    # The longest straight part of the outline is far shorter than that of blocks of 20 pixels would be.
    steps = np.flatnonzero(np.diff(labels.argmax(1)[80:160]))
    assert len(steps) > 15
