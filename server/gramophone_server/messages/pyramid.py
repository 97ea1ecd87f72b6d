"""Plans the pyramid of a job: the number of levels, their sizes, and the iterations of each."""

import math
from collections.abc import Sequence

from .options import JobKind, Optimizer
from .spec import LevelSpec

MAX_LEVELS = 8
"""Maximum number of levels of a pyramid."""
# Share of a job's iterations, and of its time limit, that each level but the last gets.
_SHARE = 1 / 8
# The small model of a warm start gets at least this many iterations at each of its levels, if all its levels together
# then have at most half of the iterations (starry_night, 224 px, after the time of 50 steps: 0.85 times the loss).
_WARM_ITERATIONS = 20
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
    warm: str = "",
) -> tuple[LevelSpec, ...]:
    """Returns the levels of a job from coarse to fine, each half as large as the next; the last is the canvas.

    With a warm start, the own model begins with the coarsest size, and then another, small model runs through each
    finer size, before the own model goes on at the last one. Measured from noise (starry_night, 224 px, vgg19-caffe):
    with the small model at the coarsest size too, the loss ends 5 % higher; with the own model at all sizes it ends
    equally low, but takes a fifth more time to fall as low as neural-style's.

    Args:
        size: width and height of the canvas in pixels.
        iterations: iterations of all levels together; each level but the last gets a share of them, in short jobs a
            larger one if it runs through the small model.
        number: maximum number of sizes; 0 to choose by the kind of job and the optimizer.
        min_side: minimum shorter side of a level in pixels: the stride of the deepest layer.
        multiple: along an axis that wraps, the sides of all levels but the last are multiples of this; with the stride
            of the deepest layer, a step takes the least time.
        wraps: whether the vertical and whether the horizontal axis wraps.
        warm: name of the small model of a warm start; empty for none.
    """
    early = int(iterations * _SHARE)
    sizes = [size]
    coarsest = 1 if number else COARSEST[kind] if optimizer == "lbfgs" else math.inf
    # With a warm start, the last size has two levels.
    most = min(number or MAX_LEVELS, MAX_LEVELS - 1 if warm else MAX_LEVELS)
    while early and len(sizes) < most:
        width, height = (max(1, round(side / 2 ** len(sizes))) for side in size)
        if min(width, height) < min_side or max(width, height) < coarsest:
            break
        sizes.insert(0, _multiples(width, height, multiple, wraps))
    coarse = [LevelSpec(*each, early) for each in sizes[:-1]]
    if warm and early:
        finer = sizes[1:] or sizes
        first = max(early, min(_WARM_ITERATIONS, (iterations - early) // (2 * len(finer))))
        coarse = coarse[:1] + [LevelSpec(*each, first, warm) for each in finer]
    return *coarse, LevelSpec(*size, iterations - sum(level.iterations for level in coarse))


def end_of(levels: Sequence[LevelSpec], number: int) -> float:
    """Returns the share of a job's time limit at which a level ends; 1 for the last level.

    Args:
        number: index of the level.
    """
    return 1.0 if number == len(levels) - 1 else _SHARE * (number + 1)


def _multiples(width: int, height: int, of: int, wraps: tuple[bool, bool]) -> tuple[int, int]:
    """Returns the width and height, rounded to multiples of `of` along the axes that wrap."""
    vertical, horizontal = (max(1, round(side / of)) * of for side in (height, width))
    return horizontal if wraps[1] else width, vertical if wraps[0] else height
