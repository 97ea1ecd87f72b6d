"""Jobs whose pictures are gray make gray results; a picture in color anywhere allows colors."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from .painting import paint


def picture(seed: int, *, gray: bool) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    image = Image.fromarray(levels)
    return image.convert("L").convert("RGB") if gray else image


def chroma(job: dict[str, Any], kind: Any) -> int:
    """Returns the largest difference of the channels of the job's result, in levels."""
    made = paint(kind, size=48, iterations=4, **job).picture.astype(int)
    return int(np.ptp(made, axis=2).max())


GRAY, COLORED = picture(1, gray=True), picture(1, gray=False)
JOBS: dict[str, tuple[Any, dict[str, Any], bool]] = {
    "style": ("style", {"content": GRAY}, True),
    "style in color": ("style", {"content": COLORED}, False),
    "content": ("content", {"content": GRAY}, True),
    "gray content, gray style": ("transfer", {"content": GRAY, "styles": picture(2, gray=True)}, True),
    "gray content, style in color": ("transfer", {"content": GRAY, "styles": COLORED}, False),
    "histogram": ("transfer", {"content": GRAY, "styles": COLORED, "color": "histogram"}, True),
    "match": ("transfer", {"content": GRAY, "styles": COLORED, "color": "match"}, True),
    "luminance": ("transfer", {"content": GRAY, "styles": COLORED, "color": "luminance"}, True),
    "start in color": ("style", {"content": GRAY, "init": COLORED}, False),
}


@pytest.mark.parametrize("name", JOBS)
def test_a_result_is_gray_if_all_pictures_are(name: str) -> None:
    kind, job, gray = JOBS[name]
    assert (chroma(job, kind) <= 1) == gray


def test_gray_with_the_rounding_of_a_jpeg_is_gray() -> None:
    levels = np.asarray(GRAY).astype(int)
    levels[::2, :, 0] += 1
    rounded = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    assert chroma({"content": rounded}, "style") <= 1
