"""The example pictures that the project draws: repeatable, independent of size, colorful and textured."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gallery import PAINTERS  # type: ignore[import-not-found]
from gallery.painting import Array, broken, color, mix, noise, ramp  # type: ignore[import-not-found]
from numpy.typing import NDArray
from PIL import Image

from tests.marks import slow

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PAINTED = ("seascape", "night")
SMALL = 160


@pytest.fixture(scope="module")
def gallery() -> dict[str, Image.Image]:
    return {name: painter(SMALL, 0) for name, painter in PAINTERS.items()}


@pytest.fixture(scope="module")
def others() -> dict[str, Image.Image]:
    """The pictures of another seed."""
    return {name: painter(SMALL, 1) for name, painter in PAINTERS.items()}


def pixels(image: Image.Image) -> NDArray[np.float64]:
    return np.asarray(image, float) / 255


def colorfulness(image: Image.Image) -> float:
    """Returns the colorfulness of Hasler & Süsstrunk (2003): 0 is gray, 33 moderately, 82 highly colorful."""
    red, green, blue = np.moveaxis(pixels(image) * 255, -1, 0)
    rg, yb = red - green, (red + green) / 2 - blue
    return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))


def texture(image: Image.Image) -> float:
    """Returns the mean absolute difference of neighboring pixels, 0 to 1; large smooth forms add little to it."""
    p = pixels(image)
    return float((np.abs(np.diff(p, axis=0)).mean() + np.abs(np.diff(p, axis=1)).mean()) / 2)


@pytest.mark.parametrize("name", PAINTERS)
def test_a_seed_repeats_its_picture_and_another_seed_does_not(
    name: str, gallery: dict[str, Image.Image], others: dict[str, Image.Image]
) -> None:
    assert PAINTERS[name](SMALL, 0).tobytes() == gallery[name].tobytes()
    assert np.abs(pixels(others[name]) - pixels(gallery[name])).mean() > 0.02


@pytest.mark.parametrize("name", PAINTERS)
@pytest.mark.parametrize("size", [64, slow(97)])
def test_size_is_the_width(name: str, size: int) -> None:
    image = PAINTERS[name](size, 0)
    assert image.mode == "RGB"
    assert image.width == size
    assert 0.7 < image.height / size < 0.85


@pytest.mark.parametrize("name", PAINTERS)
def test_a_picture_is_the_same_at_every_size(
    name: str, gallery: dict[str, Image.Image], others: dict[str, Image.Image]
) -> None:
    large = PAINTERS[name](2 * SMALL, 0).resize(gallery[name].size, Image.Resampling.BOX)
    difference = np.abs(pixels(large) - pixels(gallery[name])).mean()
    other = np.abs(pixels(others[name]) - pixels(gallery[name])).mean()
    # The harbor's haze and ripples are drawn per pixel, so they differ between sizes.
    assert difference < min(0.04, 0.7 * other)


@pytest.mark.parametrize(("name", "least"), [("seascape", 55), ("night", 55), ("harbour", 35)])
def test_pictures_are_colorful(name: str, least: float, gallery: dict[str, Image.Image]) -> None:
    assert colorfulness(gallery[name]) > least
    assert colorfulness(gallery[name].convert("L").convert("RGB")) < 1


@pytest.mark.parametrize("name", PAINTED)
def test_paintings_have_texture_everywhere(name: str, gallery: dict[str, Image.Image]) -> None:
    """Each of 16 fields of a painting has texture, not only the outlines."""
    width, height = gallery[name].size
    for row in range(4):
        for column in range(4):
            box = (column * width // 4, row * height // 4, (column + 1) * width // 4, (row + 1) * height // 4)
            assert texture(gallery[name].crop(box)) > 0.02, (row, column)


def test_the_seascape_is_warm_below_and_cool_above(gallery: dict[str, Image.Image]) -> None:
    p = pixels(gallery["seascape"])
    warmth = (p[..., 0] - p[..., 2]).mean(1)
    bands = len(warmth) // 8
    assert warmth[:bands].mean() < -0.1
    assert warmth[4 * bands : 6 * bands].mean() < -0.1
    assert warmth[7 * bands :].mean() > 0.02


def test_the_night_is_dark_with_lights(gallery: dict[str, Image.Image]) -> None:
    luminance = pixels(gallery["night"].convert("L"))
    assert np.median(luminance) < 0.45
    assert np.quantile(luminance, 0.99) > 0.75


def test_broken_color_keeps_its_mean() -> None:
    rng = np.random.default_rng(0)
    gray: Array = np.full((20_000, 3), 0.5)
    strayed = broken(rng, gray, hue=0.05, light=0.05)
    np.testing.assert_allclose(strayed.mean(0), 0.5, atol=0.005)
    assert strayed.std(0).min() > 0.04


def test_noise_is_standardized_and_has_its_shape() -> None:
    field = noise(np.random.default_rng(0), (30, 50), (3, 4))
    assert field.shape == (30, 50)
    assert abs(field.mean()) < 1e-9
    assert abs(field.std() - 1) < 1e-9


def test_mix_and_ramp_clamp_to_0_and_1() -> None:
    x = np.array([-1.0, 0.0, 0.5, 1.0, 2.0])
    np.testing.assert_allclose(ramp(0.0, 1.0, x), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(mix(color("000000"), color("ffffff"), x)[:, 0], [0, 0, 0.5, 1, 1])


def test_the_script_writes_all_pictures(tmp_path: Path) -> None:
    script = [sys.executable, str(EXAMPLES / "pictures.py")]
    done = subprocess.run([*script, str(tmp_path / "new"), "64", "3"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert {path.stem for path in (tmp_path / "new").iterdir()} == set(PAINTERS)
    assert done.stdout.split() == [str(tmp_path / "new" / f"{name}.png") for name in PAINTERS]
    with Image.open(tmp_path / "new/night.png") as night:
        assert night.tobytes() == PAINTERS["night"](64, 3).tobytes()
    assert subprocess.run(script, capture_output=True, timeout=60).returncode != 0
