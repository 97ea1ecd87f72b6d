"""The losses of Gatys, Ecker & Bethge (CVPR 2016), one value per canvas.

They are float32 even if the network computes in less. Gram matrices are averaged over the M_l positions here, so that a
canvas and a style picture of different sizes can be compared; with equal sizes every loss equals the paper's.
"""

from typing import Any

import torch
from torch import Tensor


def style_loss(gram: Tensor, target: Tensor, head: Tensor | None = None) -> Tensor:
    """Equation 4: E_l = 1 / (4 N_l² M_l²) · Σ (G − A)², with N_l channels; M_l is in the averaged matrices already.

    Args:
        gram: (N, C, C), of the canvas.
        target: (1 or N, C, C), of the style.
        head: (C, C) that the features are still to be multiplied with. Their Gram matrix is its product with that of
            the activations, from both sides.

    Returns:
        (N,).
    """
    loss: Tensor = _StyleLoss.apply(gram, target, head)
    return loss


class _StyleLoss(torch.autograd.Function):
    """As one function: in a short step a tenth of the time would go into calling its parts, and their derivatives."""

    @staticmethod
    def forward(context: Any, gram: Tensor, target: Tensor, head: Tensor | None) -> Tensor:
        apart = (gram if head is None else head @ gram @ head.T) - target
        context.save_for_backward(apart, head)
        return apart.square().sum((1, 2)) / (4 * gram.shape[1] ** 2)

    @staticmethod
    def backward(context: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        apart, head = context.saved_tensors
        if head is not None:
            apart = head.T @ apart @ head
        return apart * (slope / (2 * apart.shape[1] ** 2)).view(-1, 1, 1), None, None


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Equation 1: ½ Σ (F − P)².

    Args:
        features: (N, C, H, W), of the canvas.
        target: (1 or N, C, H, W), float32, of the content picture.

    Returns:
        (N,), at least float32.
    """
    # Their difference is float32 because the target is; a converted copy would cost their size again.
    return (features - target).square().sum((1, 2, 3)) / 2


def squared_differences(canvas: Tensor) -> tuple[Tensor, Tensor]:
    """Squared differences of pixels that are neighbors in a column, and in a row, in 0–255 units."""
    levels = 255 * canvas
    return (levels[:, :, 1:] - levels[:, :, :-1]).square(), (levels[..., 1:] - levels[..., :-1]).square()


def total_variation(canvas: Tensor) -> Tensor:
    """Mean squared difference of neighboring pixels in 0–255 units, rows and columns added; (N,) of (N, 3, H, W).

    The anisotropic quadratic form (β = 2) of Mahendran & Vedaldi 2015, averaged so as not to grow with the picture.
    """
    down, right = squared_differences(canvas)
    return down.mean((1, 2, 3)) + right.mean((1, 2, 3))
