"""Total variation: a penalty on differences of neighboring pixels of the canvas, which makes it smoother."""

import numpy as np
from torch import Tensor

from ..kernels.padding import CIRCULAR, padded
from .loss import Layer, LayerView, Loss, Share

# Roughly the total variation of a canvas of noise, in squared levels.
_NOISE = 4096.0


class TotalVariation(Loss):
    """The mean squared difference of neighboring pixels; see `total_variation`. Its layer is the canvas itself.

    If the content has transparent parts, each difference counts by the visible part of its upper or left pixel.
    """

    name = "total_variation"
    kind = "total_variation"
    tiling = "value"

    def target(self, features: np.ndarray, share: np.ndarray | float) -> np.ndarray:
        """Returns nothing: the loss has no target."""
        return np.empty(0, np.float32)

    def statistic(self, view: LayerView, target: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns the canvas, and the part (N,) of the pixel pairs whose first pixel is in the interior."""
        canvas, (height, width), wraps = view.activation, (view.layer.height, view.layer.width), view.layer.wraps
        rows, columns = view.interior or (slice(0, height), slice(0, width))
        # A halo contains the neighbor of the last pixel; without a halo, the neighbor is the first if the axis wraps.
        below, beside = (
            int(wrap and end == seen)
            for wrap, end, seen in zip(wraps, (rows.stop, columns.stop), canvas.shape[2:], strict=True)
        )
        down, right = squared_differences(padded(canvas, (0, below, 0, beside), CIRCULAR))
        channels = canvas.shape[1]
        pairs = channels * (height - (not wraps[0])) * width, channels * height * (width - (not wraps[1]))
        parts = [_mean(d[:, :, rows, columns], n, view.share) for d, n in zip((down, right), pairs, strict=True)]
        return canvas, parts[0] + parts[1]

    def value(self, statistic: Tensor, target: Tensor | None, layer: Layer) -> Tensor:
        """Returns the sum of the parts (N,), which is the loss."""
        return statistic

    def blank(self, target: np.ndarray) -> float:
        """Returns about the total variation of noise, because that of a blank canvas is 0."""
        return _NOISE


def _mean(differences: Tensor, pairs: int, share: Share) -> Tensor:
    """Returns a tile's part (N,) of the mean of all squared differences of one axis.

    Args:
        differences: (N, C, h, w), those of the tile.
        pairs: number of all differences.
        share: (1, H, W), weights of the first pixels of the differences; a number for equal weights.
    """
    if not isinstance(share, Tensor):
        return differences.sum((1, 2, 3)) / pairs
    # The last row or column of a canvas has no neighbor.
    return (differences.mean(1) * share[:, : differences.shape[2], : differences.shape[3]]).sum((1, 2))


def squared_differences(canvas: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the squared differences of vertically and of horizontally neighboring pixels, in 0–255 units.

    Args:
        canvas: (N, C, H, W) with values of 0 to 1.

    Returns:
        (N, C, H − 1, W) and (N, C, H, W − 1).
    """
    levels = 255 * canvas
    return (levels[:, :, 1:] - levels[:, :, :-1]).square(), (levels[..., 1:] - levels[..., :-1]).square()


def total_variation(canvas: Tensor) -> Tensor:
    """Returns the total variation (N,): the mean squared difference of neighboring pixels, in 0–255 units.

    The vertical and the horizontal mean are added. This is the anisotropic quadratic form (β = 2) of Mahendran &
    Vedaldi 2015, averaged over the pixels so that it does not grow with the size of the picture.

    Args:
        canvas: (N, 3, H, W) with values of 0 to 1.
    """
    down, right = squared_differences(canvas)
    return down.mean((1, 2, 3)) + right.mean((1, 2, 3))
