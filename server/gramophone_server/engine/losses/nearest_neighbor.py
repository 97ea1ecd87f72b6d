"""The nearest-neighbor loss: every position of the canvas resembles some position of the style."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..cost import Copies
from ..kernels.neighbors import neighbor_distance
from .loss import Layer, LayerView, Loss


class NearestNeighbor(Loss):
    """Σ_k ρ_k min_j (1 − cos(F_k − μ_s, P_j − μ_s)), with the style's features P_j and their mean μ_s.

    This is the loss of Kolkin, Kucera, Paris, Sýkora, Shechtman & Shakhnarovich 2022 ("Neural Neighbor Style
    Transfer"), which follows Li & Wand 2016 ("Combining Markov Random Fields and Convolutional Neural Networks for
    Image Synthesis", equations 2 and 3): it keeps structures whole that a statistic of all positions takes apart. The
    canvas is centered by the style's mean, not by its own, so that the loss is a sum over positions. As in both papers,
    the choice of the neighbors has no gradient, and the neighbors are chosen again at each step.
    """

    name = "nearest_neighbor"
    kind = "style"
    tiling = "value"
    # Saved: the gradient. The forward pass needs a centered copy of the style's features, twice while it is made.
    copies = Copies(saved=1, forward=2, backward=1, target=1)

    def target(self, features: np.ndarray, share: np.ndarray | float) -> np.ndarray:
        """Returns the features (C, K) of the positions with a weight above 0."""
        vectors = features.reshape(len(features), -1)
        return vectors[:, share.reshape(-1) > 0] if isinstance(share, np.ndarray) else vectors

    def mixed(self, targets: Sequence[np.ndarray], shares: Sequence[float]) -> np.ndarray:
        """Returns the features of all styles with a share above 0: a neighbor can come from any of them."""
        used: list[np.ndarray] = [target for target, share in zip(targets, shares, strict=True) if share]
        return np.concatenate(used, axis=1)

    def statistic(self, view: LayerView, target: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns the activation, and the view's part (N,) of the loss."""
        assert target is not None
        return view.activation, neighbor_distance(view.features, view.share, target)

    def value(self, statistic: Tensor, target: Tensor | None, layer: Layer) -> Tensor:
        """Returns the sum of the parts (N,), which is the loss."""
        return statistic

    def operations(self, channels: int, positions: int, style_positions: int) -> float:
        """Returns those of the product of all pairs of positions; the gradient takes the neighbors as constant."""
        return 2.0 * channels * positions * style_positions

    def blank(self, target: np.ndarray) -> float:
        """Returns 1, the distance of unrelated features."""
        return 1.0
