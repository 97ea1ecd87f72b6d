"""Plans the pyramid of a job: the number of levels, their sizes, and the iterations of each."""

import math
from dataclasses import replace

from .options import JobKind, Optimizer
from .spec import LevelSpec

MAX_LEVELS = 8
"""Maximum number of levels of a pyramid."""
COARSE_SHARE = 1 / 8
"""Share of a job's iterations, and of its time limit, that each level but the last gets."""
# Minimum longer side of the coarsest level in pixels, unless a request sets the number of levels. Textures converge
# faster from coarse to fine, and content better at one level. Adam uses one level: its steps are so short that it needs
# all of them at full size (starry_night, 1 to 5 layers, 100 iterations: 3 to 20 times the loss with three levels).
COARSEST: dict[JobKind, float] = {"style": 56, "content": math.inf, "transfer": 128}


def levels_of(
    kind: JobKind,
    optimizer: Optimizer,
    size: tuple[int, int],
    iterations: int,
    *,
    number: int,
    min_side: int,
    multiple: int = 1,
    wraps: tuple[bool, bool] = (False, False),
) -> tuple[LevelSpec, ...]:
    """Returns the levels of a job from coarse to fine, each half as large as the next; the last is the canvas.

    Args:
        size: width and height of the canvas in pixels.
        iterations: iterations of all levels together; each level but the last gets `COARSE_SHARE` of them.
        number: maximum number of levels; 0 to choose by the kind of job and the optimizer.
        min_side: minimum shorter side of a level in pixels: the stride of the deepest layer.
        multiple: along an axis that wraps, the sides of all levels but the last are multiples of this; with the stride
            of the deepest layer, a step takes the least time.
        wraps: whether the vertical and whether the horizontal axis wraps.
    """
    coarsest = 1 if number else COARSEST[kind] if optimizer == "lbfgs" else math.inf
    width, height = size
    early = int(iterations * COARSE_SHARE)
    levels = [LevelSpec(width, height, iterations)]
    while early and len(levels) < (number or MAX_LEVELS):
        factor = 2 ** len(levels)
        coarse = LevelSpec(max(1, round(width / factor)), max(1, round(height / factor)), early)
        if min(coarse.width, coarse.height) < min_side or max(coarse.width, coarse.height) < coarsest:
            break
        levels.insert(0, replace(coarse, **_multiples(coarse, multiple, wraps)))
    levels[-1] = replace(levels[-1], iterations=iterations - early * (len(levels) - 1))
    return tuple(levels)


def _multiples(level: LevelSpec, of: int, wraps: tuple[bool, bool]) -> dict[str, int]:
    """Returns the sides of a level along the axes that wrap, rounded to multiples of `of`."""
    return {
        side: max(1, round(getattr(level, side) / of)) * of
        for side, wrap in zip(("height", "width"), wraps, strict=True)
        if wrap
    }
