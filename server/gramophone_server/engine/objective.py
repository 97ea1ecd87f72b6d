"""What a batch of canvases is optimised for: a weighted sum of losses against constant targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .losses import content_loss, style_loss, total_variation
from .vgg import TruncatedVGG

TermKind = Literal["style", "content", "total_variation"]


@dataclass(frozen=True)
class Term:
    """One term of the loss, for every canvas of the batch.

    Attributes:
        kind: which loss.
        layer: the layer it is taken at; empty for total variation.
        target: (N, C, C) Gram matrices divided by M for style, (N, C, H, W) features for content; a constant.
        weight: (N,) factor of the term in the total, >= 0.
    """

    kind: TermKind
    layer: str
    target: Tensor | None
    weight: Tensor


@dataclass(frozen=True)
class Evaluation:
    """The loss at a canvas, all on the canvas's device.

    Attributes:
        terms: (N, T) the terms before their weights.
        loss: (N,) the weighted sum.
        gradient: (N, 3, H, W) ∂loss/∂canvas.
    """

    terms: Tensor
    loss: Tensor
    gradient: Tensor


class Objective:
    """Σ weight · term over `terms`, at the layers of `network`."""

    def __init__(self, network: TruncatedVGG, terms: Sequence[Term]) -> None:
        self.network = network
        self.terms = tuple(terms)
        self._weights = torch.stack([term.weight for term in terms], dim=1)

    def losses(self, canvas: Tensor) -> Tensor:
        """The terms before their weights, (N, T) float32, differentiable with respect to the canvas (N, 3, H, W)."""
        features = self.network(canvas)
        values = []
        for term in self.terms:
            if term.target is None:
                values.append(total_variation(canvas))
            elif term.kind == "style":
                values.append(style_loss(features[term.layer], term.target))
            else:
                values.append(content_loss(features[term.layer], term.target))
        return torch.stack(values, dim=1)

    def total(self, terms: Tensor) -> Tensor:
        """The weighted sum (N,) of terms (N, T)."""
        return (terms * self._weights).sum(1)

    def evaluate(self, canvas: Tensor) -> Evaluation:
        """Loss and gradient at a canvas (N, 3, H, W); waits for nothing on the device."""
        canvas = canvas.detach().requires_grad_()
        terms = self.losses(canvas)
        loss = self.total(terms)
        # Summed over the batch: no term mixes canvases, so each canvas gets the gradient of its own loss.
        (gradient,) = torch.autograd.grad(loss.sum(), canvas)
        return Evaluation(terms.detach(), loss.detach(), gradient)
