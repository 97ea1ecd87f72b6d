"""The default initial pictures, and the artifacts that an initial picture leaves in the result."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gramophone.options import JobKind
from gramophone.requests import estimate_request
from gramophone_server.models.store import BUILTIN_MODEL
from tests.harness import png
from tests.requests import read_job

from .painting import paint

DEFAULTS = {"style": ("style_statistics", "zeros"), "content": ("noise", "margin"), "transfer": ("content", "margin")}
STARTS: list[tuple[str, dict[str, Any]]] = [("default", {}), ("noise", {"init": "noise"})]
# Matrix from RGB to (R - G, B - G).
CHROMA = np.array([[1, 0], [-1, -1], [0, 1]])


@pytest.mark.parametrize("kind", DEFAULTS)
def test_the_defaults_of_each_kind(kind: JobKind) -> None:
    spec = read_job(estimate_request(kind, [png(seed=1), png(seed=2)][: 1 + (kind == "transfer")]), BUILTIN_MODEL)
    assert (spec.options.init, spec.options.padding) == DEFAULTS[kind]


def test_a_dark_texture_has_no_colored_dots() -> None:
    """The first layer hardly responds to colors that change from pixel to pixel: those of the start would remain."""
    left = {init: _dots(paint("style", content=_dark(), size=64, iterations=20, **how).picture) for init, how in STARTS}
    print(left)
    assert left["default"] < left["noise"] / 3


def _dark() -> bytes:
    """A dark, nearly gray picture with some texture."""
    levels = np.asarray(Image.open(io.BytesIO(png(96, 96, seed=3))).convert("L")) / 8
    buffer = io.BytesIO()
    Image.fromarray(np.stack([levels + 4, levels + 2, levels], axis=2).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def _dots(picture: np.ndarray) -> float:
    """Returns the root mean square difference in color between a pixel and its four neighbors, in levels."""
    chroma = picture.astype(float) @ CHROMA
    around = sum(np.roll(chroma, step, axis) for axis in (0, 1) for step in (-1, 1)) / 4
    return float(np.sqrt(((chroma - around)[1:-1, 1:-1] ** 2).mean()))
