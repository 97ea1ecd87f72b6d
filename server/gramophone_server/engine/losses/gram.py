"""The style loss of Gatys, Ecker & Bethge (CVPR 2016): Gram matrices, the correlations between channels.

Gram matrices are averaged over the M_l positions, so that a canvas and a style picture of different sizes can be
compared; with equal sizes the loss equals that of the paper.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..kernels.gram import gram_matrix, tap_gram_matrix
from .loss import Layer, LayerView, Loss, squares


class Gram(Loss):
    """Equation 4: 1 / (4 N_l² M_l²) · Σ (G − A)², with the Gram matrices G of the canvas and A of the style.

    With masks, these are the guided Gram matrices of Gatys et al. 2017 ("Controlling Perceptual Factors in Neural Style
    Transfer", equation 4).
    """

    name = "gram"
    kind = "style"
    tiling = "statistic"

    def target(self, features: np.ndarray, share: np.ndarray | float) -> np.ndarray:
        """Returns the Gram matrix (C, C)."""
        return averaged_gram(features, share)

    def statistic(self, view: LayerView, target: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns the activation and its Gram matrix (N, C, C), or that of the features if a head is applied first."""
        if _head_per_position(view.layer):
            return view.activation, gram_matrix(view.features, view.share)
        return tap_gram_matrix(view.activation, view.share, view.interior)

    def value(self, statistic: Tensor, target: Tensor | None, layer: Layer) -> Tensor:
        """Returns the loss (N,)."""
        assert target is not None
        return style_loss(statistic, target, None if _head_per_position(layer) else layer.head)

    def operations(self, channels: int, positions: int, style_positions: int) -> float:
        """Returns those of the product for the Gram matrix, and of that for the gradient."""
        return 4.0 * channels**2 * positions

    def blank(self, target: np.ndarray) -> float:
        """Returns 1 / (4 N_l²) · Σ A²."""
        return squares(target) / (4 * len(target) ** 2)


def _head_per_position(layer: Layer) -> bool:
    """Returns whether to apply a layer's head to each position rather than to both sides of the Gram matrix.

    The products with a large head dominate the time, so this is faster when a small picture has few positions.
    """
    return not layer.tiled and layer.head is not None and layer.positions < 2 * len(layer.head)


def averaged_gram(features: np.ndarray, share: np.ndarray | float | None = None) -> np.ndarray:
    """Returns the weighted Gram matrix Σ_k ρ_k F_ik F_jk (C, C), float32, of a feature map (C, H, W).

    This is the paper's equation 3 as an average over positions.

    Args:
        share: ρ, a number or (H, W); 1 / M by default.
    """
    v = features.reshape(len(features), -1)
    if isinstance(share, np.ndarray):
        matrix: np.ndarray = (v * share.reshape(1, -1).astype(np.float32)) @ v.T
        return matrix
    scaled: np.ndarray = (v @ v.T) * np.float32(1 / v.shape[1] if share is None else share)
    return scaled


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
