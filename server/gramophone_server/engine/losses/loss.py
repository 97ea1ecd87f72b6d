"""The interface of losses, and what a loss sees of a layer."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..cost import Copies
from ..tiling import FLAT, Wraps

LossKind = Literal["style", "content", "total_variation"]
Tiling = Literal["statistic", "value"]
Share = Tensor | float
"""Weights of positions: (1 or N, h, w), or one number for all; those of a whole canvas sum to 1."""


@dataclass(frozen=True)
class Layer:
    """A layer's feature map of a whole canvas.

    Attributes:
        height, width: size of the feature map.
        tiled: whether the canvas is computed in several tiles.
        head: (C, C) matrix; the features are its product with the activation at each position. None for the activation
            itself.
        wraps: the axes along which opposite edges are neighbors.
    """

    height: int
    width: int
    tiled: bool = False
    head: Tensor | None = None
    wraps: Wraps = FLAT

    @property
    def positions(self) -> int:
        """Number of positions M of the feature map."""
        return self.height * self.width


@dataclass(frozen=True)
class LayerView:
    """The part of a layer that belongs to one tile of the canvas: all of it if the canvas is not tiled.

    Attributes:
        layer: the layer's feature map of the whole canvas.
        activation: (N, C, H, W), the layer's activation at all that the network sees of the tile, with its halo.
        interior: rows and columns of `activation` that belong to the tile; None for all.
        rows, columns: the interior's positions in the feature map of the whole canvas.
        share: weight of each position of the interior.
    """

    layer: Layer
    activation: Tensor
    interior: tuple[slice, slice] | None
    rows: slice
    columns: slice
    share: Share

    @property
    def features(self) -> Tensor:
        """The features (N, C, h, w) of the interior."""
        # Do not slice the whole feature map: even a full slice copies the gradient.
        own = self.activation if self.interior is None else self.activation[:, :, *self.interior]
        head = self.layer.head
        return own if head is None else F.conv2d(own, head.to(own.dtype)[:, :, None, None])


class Loss(ABC):
    """A differentiable function of a layer of the canvas and a target, one value for each canvas.

    Attributes:
        name: the loss's name in requests and recipes.
        kind: the kind of its terms in reports.
        tiling: what is summed over the tiles of a canvas. "statistic": the loss is a function of a statistic that is a
            sum over positions. "value": the loss itself is such a sum. None: the loss needs the whole canvas at once.
        copies: memory that the loss needs beyond that of a Gram matrix.
        on_canvas: for a style loss, whether it compares the canvas itself with the style's pixels instead of features.
    """

    name: ClassVar[str]
    kind: ClassVar[LossKind]
    tiling: ClassVar[Tiling | None]
    copies: ClassVar[Copies] = Copies()
    on_canvas: ClassVar[bool] = False

    @abstractmethod
    def target(self, features: np.ndarray, share: np.ndarray | float) -> np.ndarray:
        """Returns the target for the features (C, H, W), float32, of a picture or, with tiling, of a tile of it.

        Args:
            share: weight of each position, (H, W) or one number for all. The weights of the whole picture sum to 1.
        """

    def mixed(self, targets: Sequence[np.ndarray], shares: Sequence[float]) -> np.ndarray:
        """Returns the target for a mixture of pictures with the given targets, whose shares sum to 1."""
        total: np.ndarray = np.float32(shares[0]) * targets[0]
        for target, share in zip(targets[1:], shares[1:], strict=True):
            total = total + np.float32(share) * target
        return total

    @abstractmethod
    def statistic(self, view: LayerView, target: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns the activation that the network continues with, and the view's statistic.

        The activation has the values of `view.activation`; another tensor allows a loss to write its own gradient. With
        tiling "value" the statistic is the part (N,) of the loss.

        Args:
            target: the target of the whole canvas, with a first dimension of 1 or N.
        """

    @abstractmethod
    def value(self, statistic: Tensor, target: Tensor | None, layer: Layer) -> Tensor:
        """Returns the loss (N,) of each canvas, at least float32, given the statistic of the whole canvas."""

    @abstractmethod
    def blank(self, target: np.ndarray) -> float:
        """Returns about the loss of a canvas whose features are all 0; > 0."""

    def operations(self, channels: int, positions: int, style_positions: int) -> float:
        """Returns the operations of the loss of one layer and its gradient, per canvas; a multiply-add counts as two.

        Element-wise operations do not count: the default, 0, is right for a loss that has no others.

        Args:
            channels, positions: channels and positions of the canvas's feature map.
            style_positions: positions of the feature maps of all styles together.
        """
        return 0.0


class StyleLoss(Loss):
    """A loss that compares a statistic of the canvas's features with that of a style's features.

    A subclass defines the statistic (`describe`) and the difference of two statistics (`compare`).
    """

    kind = "style"
    tiling: ClassVar[Tiling | None] = "statistic"
    # The gradient of `describe` is a tensor of its own, which autograd adds to that of the next layer.
    copies = Copies(backward=1)

    @abstractmethod
    def describe(self, features: Tensor, share: Share) -> Tensor:
        """Returns the statistic (N, …) of features (N, C, h, w) whose positions have the given weights."""

    @abstractmethod
    def compare(self, statistic: Tensor, target: Tensor) -> Tensor:
        """Returns the loss (N,) between the statistic (N, …) of the canvas and that of the style, (1 or N, …)."""

    def target(self, features: np.ndarray, share: np.ndarray | float) -> np.ndarray:
        """Returns the statistic of the style's features."""
        weights = torch.from_numpy(share)[None] if isinstance(share, np.ndarray) else share
        described: np.ndarray = self.describe(torch.from_numpy(features)[None], weights)[0].numpy()
        return described

    def statistic(self, view: LayerView, target: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns the activation, and the statistic (N, …) of its features, at least float32."""
        features = view.features
        exact = torch.promote_types(features.dtype, torch.float32)
        return view.activation, self.describe(features.to(exact), view.share)

    def value(self, statistic: Tensor, target: Tensor | None, layer: Layer) -> Tensor:
        """Returns the loss (N,)."""
        assert target is not None
        return self.compare(statistic, target)

    def blank(self, target: np.ndarray) -> float:
        """Returns the loss of a statistic of zeros; > 0."""
        known = torch.from_numpy(target)[None]
        return self.compare(torch.zeros_like(known), known).item() or 1.0


def squares(target: np.ndarray) -> float:
    """Returns the sum of the squares of a target, or 1 if that is 0."""
    # Channel by channel: a float64 copy of the whole target would need twice its memory.
    return float(sum(np.square(part, dtype=np.float64).sum() for part in target)) or 1.0
