"""The pyramid of a job: how many levels it has, how large they are, and how many of the updates each gets."""

import math
from dataclasses import replace

from .options import JobKind, Optimizer
from .spec import LevelSpec

MOST_LEVELS = 8
# Least longer side of the coarsest level in pixels, unless a request says how many levels there are. A texture is made
# sooner coarse to fine, and content better at one level; so is anything with Adam, whose steps are so short that all of
# them are needed at full size (starry_night, 1 to 5 layers, 100 iterations: 3 to 20 times the loss with three levels).
COARSEST: dict[JobKind, float] = {"style": 56, "content": math.inf, "transfer": 128}


def levels_of(
    kind: JobKind, optimizer: Optimizer, size: tuple[int, int], iterations: int, *, number: int, least: int
) -> tuple[LevelSpec, ...]:
    """The levels of a job, coarse to fine, each half as large as the next; the last is the canvas.

    Args:
        size: width and height of the canvas in pixels.
        iterations: updates of all levels together; each level but the last gets an eighth of them.
        number: most levels; 0 for as many as the kind of job is best made with.
        least: the shorter side of a level in pixels is no less: the stride of the deepest layer.
    """
    coarsest = 1 if number else COARSEST[kind] if optimizer == "lbfgs" else math.inf
    width, height = size
    early = iterations // 8
    levels = [LevelSpec(width, height, iterations)]
    while early and len(levels) < (number or MOST_LEVELS):
        factor = 2 ** len(levels)
        coarse = LevelSpec(max(1, round(width / factor)), max(1, round(height / factor)), early)
        if min(coarse.width, coarse.height) < least or max(coarse.width, coarse.height) < coarsest:
            break
        levels.insert(0, coarse)
    levels[-1] = replace(levels[-1], iterations=iterations - early * (len(levels) - 1))
    return tuple(levels)
