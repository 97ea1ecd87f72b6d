"""Plans the pyramid of a job: the number of levels, their sizes, and the iterations of each."""

import math
from collections.abc import Sequence
from dataclasses import replace

from .options import JobKind, Optimizer
from .spec import LevelSpec

MAX_LEVELS = 8
"""Maximum number of levels of a pyramid."""
# Share of a job's iterations, and of its time limit, that each level but the last gets: one that runs through the job's
# own model, and one that runs through the small model of a warm start.
_COARSE_SHARE, _WARM_SHARE = 1 / 8, 1 / 16
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

    With a warm start, each size but the coarsest begins with a level that runs through another, small model. Measured
    from noise (starry_night, 224 px, vgg19-caffe): without the own model at the coarse sizes, the loss falls faster at
    first, but in the end not as low as without a warm start.

    Args:
        size: width and height of the canvas in pixels.
        iterations: iterations of all levels together; each level but the last gets a share of them.
        number: maximum number of sizes; 0 to choose by the kind of job and the optimizer.
        min_side: minimum shorter side of a level in pixels: the stride of the deepest layer.
        multiple: along an axis that wraps, the sides of all levels but the last are multiples of this; with the stride
            of the deepest layer, a step takes the least time.
        wraps: whether the vertical and whether the horizontal axis wraps.
        warm: name of the small model of a warm start; empty for none.
    """
    early = int(iterations * _COARSE_SHARE)
    sizes = [size]
    coarsest = 1 if number else COARSEST[kind] if optimizer == "lbfgs" else math.inf
    while early and len(sizes) < (number or MAX_LEVELS):
        width, height = (max(1, round(side / 2 ** len(sizes))) for side in size)
        if min(width, height) < min_side or max(width, height) < coarsest:
            break
        sizes.insert(0, _multiples(width, height, multiple, wraps))
    first = int(iterations * _WARM_SHARE) if warm else 0
    # With many sizes, only the finest ones have a warm start: the last level keeps an eighth of the iterations.
    begins = min(max(1, len(sizes) - 1), 2 * (MAX_LEVELS - len(sizes))) if first else 0
    levels: list[LevelSpec] = []
    for number, (width, height) in enumerate(sizes):
        levels += [LevelSpec(width, height, first, warm)] if number >= len(sizes) - begins else []
        levels.append(LevelSpec(width, height, early))
    rest = iterations - sum(level.iterations for level in levels[:-1])
    return *levels[:-1], replace(levels[-1], iterations=rest)


def end_of(levels: Sequence[LevelSpec], number: int) -> float:
    """Returns the share of a job's time limit at which a level ends; 1 for the last level.

    Args:
        number: index of the level.
    """
    if number == len(levels) - 1:
        return 1.0
    return sum(_WARM_SHARE if level.model else _COARSE_SHARE for level in levels[: number + 1])


def _multiples(width: int, height: int, of: int, wraps: tuple[bool, bool]) -> tuple[int, int]:
    """Returns the width and height, rounded to multiples of `of` along the axes that wrap."""
    vertical, horizontal = (max(1, round(side / of)) * of for side in (height, width))
    return horizontal if wraps[1] else width, vertical if wraps[0] else height
