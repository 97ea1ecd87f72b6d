"""Jobs with color-coded maps on a real server: each region gets the style of the region in the same color."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

import gramophone
from gramophone import Style
from tests.harness import ServerProcess, encode, png

WIDTH, HEIGHT = 96, 64
RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)
LEFT = np.arange(WIDTH) < WIDTH // 2


def two(left: Any, right: Any) -> Image.Image:
    """A picture with one color, or pixel pattern, on the left and another on the right."""
    pixels = np.where(LEFT[None, :, None], np.asarray(left, np.uint8), np.asarray(right, np.uint8))
    return Image.fromarray(np.broadcast_to(pixels, (HEIGHT, WIDTH, 3)).copy())


def noisy(color: tuple[int, int, int], seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-25, 26, (HEIGHT, WIDTH, 1))
    return np.clip(noise + color, 0, 255)


# A style that is warm on the left and cold on the right; the canvas has it the other way around.
STYLE = two(noisy((220, 120, 30), 1), noisy((30, 60, 200), 2))
STYLE_MAP, CANVAS_MAP = two(RED, BLUE), two(BLUE, RED)
SMALL: dict[str, Any] = {"size": WIDTH, "iterations": 30}


@pytest.fixture
def client(server: ServerProcess):
    with gramophone.Client(server.address) as connected:
        yield connected


def warmth(picture: Any) -> tuple[float, float]:
    """Mean of red minus blue on the left and on the right, away from the border between them."""
    pixels = np.asarray(picture).astype(float)
    difference = pixels[..., 0] - pixels[..., 2]
    return difference[:, :40].mean(), difference[:, 56:].mean()


@pytest.mark.parametrize("quality", [None, 80])
def test_a_texture_has_the_regions_of_its_map(client, quality):
    maps = [
        encode(image) if quality is None else encode(image, "JPEG", quality=quality)
        for image in (STYLE_MAP, CANVAS_MAP)
    ]
    result = client.style(Style(STYLE, source_map=maps[0]), canvas_map=maps[1], **SMALL).result()
    assert result.image.size == (WIDTH, HEIGHT), "the map determines the aspect ratio"
    cold, warm = warmth(result.image)
    assert cold < -60 and warm > 60
    assert {term.region for term in result.layer_losses if term.kind == "style"} == {0, 1}
    colors = [(style["mask"]["color"], style["source_mask"]["color"]) for style in result.recipe["styles"]]
    if quality is None:
        assert sorted(colors) == [("#0000ff", "#0000ff"), ("#ff0000", "#ff0000")]


def test_a_transfer_has_the_regions_of_its_map(client):
    content = png(WIDTH, HEIGHT, seed=5)
    how: dict[str, Any] = {"style_weight": 1e4, "init": "noise", **SMALL}
    painted = client.transfer(content, Style(STYLE, source_map=STYLE_MAP), canvas_map=CANVAS_MAP, **how).result()
    cold, warm = warmth(painted.image)
    assert warm - cold > 60
    turned = client.transfer(content, Style(STYLE, source_map=CANVAS_MAP), canvas_map=CANVAS_MAP, **how).result()
    warm, cold = warmth(turned.image)
    assert warm - cold > 0


def test_maps_equal_masks_of_the_same_regions(client):
    """A map is another way to write masks: with equal areas, both jobs are the same."""
    left, right = (
        Image.fromarray(np.where(half, 255, 0).astype(np.uint8)[None].repeat(HEIGHT, 0)) for half in (LEFT, ~LEFT)
    )
    content = png(WIDTH, HEIGHT, seed=5)
    masks = [Style(STYLE, mask=left, source_mask=right), Style(STYLE, mask=right, source_mask=left)]
    first = client.transfer(content, masks, size=WIDTH, iterations=4).result()
    second = client.transfer(
        content, Style(STYLE, source_map=STYLE_MAP), canvas_map=CANVAS_MAP, size=WIDTH, iterations=4
    )
    assert first.image.tobytes() == second.result().image.tobytes()


def test_two_styles_share_a_map(client):
    other = Image.fromarray(noisy((40, 200, 60), 3).astype(np.uint8))
    whole = Image.new("RGB", (WIDTH, HEIGHT), GREEN)
    styles = [Style(STYLE, source_map=two(RED, (9, 9, 9))), Style(other, source_map=whole)]
    made = np.asarray(client.style(styles, canvas_map=two(GREEN, RED), **SMALL).result().image).astype(int)
    left, right = made[:, :40].mean((0, 1)), made[:, 56:].mean((0, 1))
    assert left[1] > left[0] + 50 and right[0] > right[2] + 60


def test_a_region_without_a_style_keeps_the_content(client):
    content = png(WIDTH, HEIGHT, seed=5)
    styles = Style(STYLE, source_map=two(RED, (9, 9, 9)))
    made = client.transfer(content, styles, canvas_map=CANVAS_MAP, outside="keep", size=WIDTH, iterations=4).result()
    own, painted = np.asarray(Image.open(io.BytesIO(content))), np.asarray(made.image)
    assert np.array_equal(painted[:, : WIDTH // 2], own[:, : WIDTH // 2])
    assert not np.array_equal(painted[:, WIDTH // 2 :], own[:, WIDTH // 2 :])


def test_a_job_with_a_map_can_be_repeated_with_the_same_bytes(client):
    how: dict[str, Any] = {"canvas_map": CANVAS_MAP, "size": WIDTH, "iterations": 4, "seed": 3}
    styles = Style(STYLE, source_map=STYLE_MAP, scale=0.5)
    first, second = (client.style(styles, **how).result().data for _ in range(2))
    assert first == second


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "no map of the style": ({"styles": STYLE}, "styles[0].source_map", "is missing"),
    "no map of the canvas": ({"canvas_map": None}, "styles[0].source_map", "options.canvas_map"),
    "a mask, too": ({"styles": Style(STYLE, source_map=STYLE_MAP, mask=STYLE)}, "styles[0].mask", "leave out one of"),
    "another shape": ({"canvas_map": CANVAS_MAP.resize((90, 90))}, "options.canvas_map", "but content is 96x64"),
    "another shape of a style": (
        {"styles": Style(STYLE, source_map=STYLE_MAP.resize((10, 96)))}, "styles[0].source_map", "is 96x64",
    ),
    "a photo": ({"canvas_map": png(WIDTH, HEIGHT)}, "options.canvas_map.data", "flat"),
    "no picture": ({"canvas_map": b"hello"}, "options.canvas_map.data", "not a picture"),
    "a color that no style has": ({"canvas_map": two(GREEN, RED)}, "options.canvas_map", "the color #00ff00, 0.5 of"),
    "no color of the canvas": (
        {"styles": Style(STYLE, source_map=two(GREEN, (9, 9, 9)))}, "styles[0].source_map", "none of them is in",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_maps_are_refused_with_the_field_and_the_reason(client, name):
    changed, field, words = WRONG[name]
    job: dict[str, Any] = {"styles": Style(STYLE, source_map=STYLE_MAP), "canvas_map": CANVAS_MAP} | changed
    with pytest.raises(gramophone.InvalidRequestError) as caught:
        client.transfer(png(WIDTH, HEIGHT), job["styles"], canvas_map=job["canvas_map"], size=WIDTH, iterations=1)
    found = {violation.field: violation.description for violation in caught.value.violations}
    assert words in found[field], found


def test_a_content_reconstruction_takes_no_map(client):
    with pytest.raises(gramophone.InvalidRequestError, match="canvas_map"):
        client.content(png(), canvas_map=CANVAS_MAP)


def test_an_estimate_takes_maps(client):
    found = client.estimate("style", Style(STYLE, source_map=STYLE_MAP), canvas_map=CANVAS_MAP, size=300)
    assert (found.width, found.height) == (300, 200) and found.fits


def transparent(left: int, right: int) -> Image.Image:
    """The style with one alpha on the left and another on the right."""
    image = STYLE.copy()
    image.putalpha(Image.fromarray(np.where(LEFT, left, right).astype(np.uint8)[None].repeat(HEIGHT, 0)))
    return image


def test_a_region_that_is_transparent_in_its_style_is_refused(client):
    with pytest.raises(gramophone.InvalidRequestError) as caught:
        client.style(Style(transparent(0, 255), source_map=STYLE_MAP), canvas_map=CANVAS_MAP, size=WIDTH)
    assert "styles[0].source_map: has the color #ff0000 only where its picture is transparent" in str(caught.value)


def test_a_region_that_is_transparent_in_the_content_is_not_painted(client):
    content = transparent(255, 0)
    styles = Style(STYLE, source_map=STYLE_MAP)
    result = client.transfer(content, styles, canvas_map=CANVAS_MAP, size=WIDTH, iterations=2).result()
    painted, own = np.asarray(result.image), np.asarray(content)
    assert np.array_equal(painted[:, WIDTH // 2 :], own[:, WIDTH // 2 :])
    assert {term.region for term in result.layer_losses if term.kind == "style"} == {0}
