"""The loss that compares the mean and the covariance of the features."""

import torch
from torch import Tensor

from ..kernels.gram import gram_matrix
from .loss import Share, StyleLoss


class MeanCovariance(StyleLoss):
    """‖μ − μ_s‖² + ‖Σ − Σ_s‖² / (4 N_l²) of the features' mean μ and covariance Σ, and those of the style.

    A Gram matrix is Σ + μ μᵀ: it cannot distinguish a large mean from a large variance, so the contrast of a texture
    can drift (Risser, Wilmot & Barnes 2017, "Stable and Controllable Neural Texture Synthesis and Style Transfer Using
    Histogram Losses", section 3). This loss compares both.
    """

    name = "mean_covariance"

    def describe(self, features: Tensor, share: Share) -> Tensor:
        """Returns the raw moments (N, C, C + 1), which add up over tiles: Σ_k ρ_k F_k F_kᵀ, and Σ_k ρ_k F_k."""
        if isinstance(share, Tensor):
            mean = torch.einsum("nchw,nhw->nc", features, share.to(features.dtype).expand(len(features), -1, -1))
        else:
            mean = features.sum((2, 3)) * share
        return torch.cat([gram_matrix(features, share), mean.unsqueeze(2)], dim=2)

    def operations(self, channels: int, positions: int, style_positions: int) -> float:
        """Returns those of the product for the covariance, and of that for the gradient."""
        return 4.0 * channels**2 * positions

    def compare(self, statistic: Tensor, target: Tensor) -> Tensor:
        """Returns the loss (N,)."""
        (covariance, mean), (covariance_s, mean_s) = _central(statistic), _central(target)
        channels = mean.shape[1]
        return (mean - mean_s).square().sum(1) + (covariance - covariance_s).square().sum((1, 2)) / (4 * channels**2)


def _central(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Returns covariance (N, C, C) and mean (N, C) of raw moments."""
    mean = moments[..., -1]
    return moments[..., :-1] - mean.unsqueeze(2) * mean.unsqueeze(1), mean
