"""The losses of Gatys, Ecker & Bethge (CVPR 2016), one value per canvas.

The losses are at least float32, also if the network computes with lower precision. Gram matrices are averaged over the
M_l positions, so that a canvas and a style picture of different sizes can be compared; with equal sizes every loss
equals the loss of the paper.
"""

from typing import Any

import torch
from torch import Tensor


def style_loss(gram: Tensor, target: Tensor, head: Tensor | None = None) -> Tensor:
    """Returns the style loss of one layer, equation 4: E_l = 1 / (4 N_l² M_l²) · Σ (G − A)².

    N_l is the number of channels. The division by M_l² is already part of the averaged Gram matrices.

    Args:
        gram: (N, C, C), the averaged Gram matrix G / M_l of the canvas.
        target: (1 or N, C, C), the averaged Gram matrix A / M_l of the style.
        head: (C, C) matrix H if `gram` is the matrix of the activations rather than of the features. The features are H
            times the activations, so their Gram matrix is H · gram · Hᵀ. None if there is no head to apply.

    Returns:
        (N,).
    """
    loss: Tensor = _StyleLoss.apply(gram, target, head)
    return loss


class _StyleLoss(torch.autograd.Function):
    """The style loss as a single autograd function, which saves a tenth of the time of a short step.

    With torch's own operations, that time goes into the calls of the many small operations and their derivatives.
    """

    @staticmethod
    def forward(context: Any, gram: Tensor, target: Tensor, head: Tensor | None) -> Tensor:
        difference = (gram if head is None else head @ gram @ head.T) - target
        context.save_for_backward(difference, head)
        return difference.square().sum((1, 2)) / (4 * gram.shape[1] ** 2)

    @staticmethod
    def backward(context: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        difference, head = context.saved_tensors
        if head is not None:
            difference = head.T @ difference @ head
        return difference * (grad_output / (2 * difference.shape[1] ** 2)).view(-1, 1, 1), None, None


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Returns the content loss of one layer, equation 1: ½ Σ (F − P)².

    Args:
        features: (N, C, H, W), the features F of the canvas.
        target: (1 or N, C, H, W), float32, the features P of the content picture.

    Returns:
        (N,), at least float32.
    """
    # The float32 target makes the difference float32; converting `features` first would need another copy of them.
    return (features - target).square().sum((1, 2, 3)) / 2


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
