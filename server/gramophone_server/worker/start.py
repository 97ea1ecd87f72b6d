"""The initial canvas of a job, and the noise that is added at its later levels."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ..engine import canvas as canvases
from ..engine import color
from ..messages.options import JobKind
from ..messages.spec import JobSpec, StylePicture
from .pictures import canvas_of

# Standard deviation of the initial noise. For style, strong noise makes all colors of a texture reachable from the
# start. For content it would remain visible where a layer is insensitive, above all in fine color detail: a
# reconstruction from conv1_2 reaches 34 dB from 0.01, and 22 dB from 0.15.
_NOISE: dict[JobKind, float] = {"style": 0.15, "content": 0.01, "transfer": 0.15}
# Standard deviation of the noise added at each finer level of the pyramid if the job starts from noise: it reduces the
# time to reach a given loss by a quarter.
_DETAIL: dict[JobKind, float] = {"style": 0.05, "content": 0.0, "transfer": 0.0}
# The same at a level of the same size as the previous one, where another model painted the detail.
_DETAIL_AT_SAME_SIZE: dict[JobKind, float] = {"style": 0.02, "content": 0.0, "transfer": 0.0}


def initial_canvas(spec: JobSpec, styles: Sequence[StylePicture]) -> Tensor:
    """Returns the initial canvas (1, 3, H, W) of a job's first level, on the CPU; pictures are resized to its size.

    Args:
        spec: the job.
        styles: its styles, in the colors that they have in the losses.
    """
    level = spec.levels[0]
    seeds, size = [spec.options.seed], (level.height, level.width)
    noise = partial(canvases.noise, seeds, *size)
    blended = spec.content or (spec.styles[0].picture if spec.styles else None)
    match spec.options.init:
        case "content" if spec.content is not None:
            return canvases.resized(canvas_of(spec.content), *size, spec.wraps)
        case "image" if spec.init_image is not None:
            return canvases.resized(canvas_of(spec.init_image), *size, spec.wraps)
        case "blend" if blended is not None:
            picture = canvases.resized(canvas_of(blended), *size, spec.wraps)
            return picture.lerp(noise(), spec.options.init_noise)
        case "style_statistics":
            statistics = [color.color_statistics(canvas_of(style.picture)) for style in styles]
            shares = [style.share for style in styles]
            mean = torch.stack([s * m for s, (m, _) in zip(shares, statistics, strict=True)]).sum(0)
            covariance = torch.stack([s * c for s, (_, c) in zip(shares, statistics, strict=True)]).sum(0)
            return canvases.colored_noise(seeds, *size, mean, covariance)
        case _:
            return noise(deviation=_NOISE[spec.kind])


def added_detail(spec: JobSpec, number: int) -> Tensor | None:
    """Returns the noise (1, 3, H, W) to add when a level begins, on the CPU; None for none.

    Args:
        spec: the job.
        number: index of the level.
    """
    if not number or spec.options.init != "noise":
        return None
    before, level = spec.levels[number - 1], spec.levels[number]
    same = (before.width, before.height) == (level.width, level.height)
    deviation = (_DETAIL_AT_SAME_SIZE if same else _DETAIL)[spec.kind]
    if not deviation:
        return None
    return canvases.fine_detail([spec.options.seed], level.height, level.width, deviation=deviation, wraps=spec.wraps)
