"""The content loss of Gatys, Ecker & Bethge (CVPR 2016): the features themselves, position by position."""

import numpy as np
from torch import Tensor

from .loss import Layer, LayerView, Loss, squares


class Content(Loss):
    """Equation 1: ½ Σ (F − P)², with the features F of the canvas and P of the content picture.

    If the content has transparent parts, each position counts by the share of it that is visible.
    """

    name = "content"
    kind = "content"
    tiling = "value"

    def target(self, features: np.ndarray, share: np.ndarray | float) -> np.ndarray:
        """Returns the features themselves."""
        return features

    def statistic(self, view: LayerView, target: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns the activation, and the view's part (N,) of the loss."""
        assert target is not None
        visible = view.share if isinstance(view.share, Tensor) else None
        return view.activation, content_loss(view.features, target[:, :, view.rows, view.columns], visible)

    def value(self, statistic: Tensor, target: Tensor | None, layer: Layer) -> Tensor:
        """Returns the sum of the parts (N,), which is the loss."""
        return statistic

    def blank(self, target: np.ndarray) -> float:
        """Returns ½ Σ P²."""
        return squares(target) / 2


def content_loss(features: Tensor, target: Tensor, visible: Tensor | None = None) -> Tensor:
    """Returns the content loss of one layer, equation 1: ½ Σ (F − P)².

    Args:
        features: (N, C, H, W), the features F of the canvas.
        target: (1 or N, C, H, W), float32, the features P of the content picture.
        visible: (1 or N, H, W), 0 to 1, the weight of each position; None for 1.

    Returns:
        (N,), at least float32.
    """
    # The float32 target makes the difference float32; converting `features` first would need another copy of them.
    squares = (features - target).square()
    return squares.sum((1, 2, 3)) / 2 if visible is None else (squares.sum(1) * visible).sum((1, 2)) / 2
