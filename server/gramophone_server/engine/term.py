"""The terms of an objective."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .losses import Loss


@dataclass(frozen=True)
class WeightedTerm:
    """One term of the total loss, with its target and its weight, for every canvas of the batch.

    Attributes:
        loss: the loss of this term.
        layer: the layer whose features the loss compares; empty for the canvas itself.
        target: constant target, as `loss.target` returns it, with a first dimension of N, or of 1 for the same target
            for all canvases; None for a loss without a target.
        weight: (N,) factor of the term in the total loss, >= 0.
        share: for style, the weight of each position of the layer in the Gram matrix, (1 or N, H, W), summing to 1;
            None for equal weights; the same for total variation. For content, the visible part of each position, 0 to
            1; None for 1.
        region: for style, the number of the masked region that the term belongs to; None for the whole canvas.
        reported_weight: the weight to show in reports, if the loss is optimized in another unit; None to show `weight`.
    """

    loss: Loss
    layer: str
    target: Tensor | None
    weight: Tensor
    share: Tensor | None = None
    region: int | None = None
    reported_weight: float | None = None

    def on(self, device: torch.device) -> "WeightedTerm":
        """Returns the term with its tensors on a device; the same tensors if they are there."""
        target, share = (None if t is None else t.to(device, non_blocking=True) for t in (self.target, self.share))
        return replace(self, target=target, share=share, weight=self.weight.to(device, non_blocking=True))


def structure(term: WeightedTerm) -> Hashable:
    """Returns a key that is equal for terms that can be one term of a batch."""
    shapes = tuple(None if tensor is None else tensor.shape[1:] for tensor in (term.target, term.share))
    return type(term.loss), term.layer, term.region, shapes


def merged(terms: Sequence[WeightedTerm]) -> WeightedTerm:
    """Returns the term of the canvases of several terms of equal structure."""

    def joined(parts: list[Tensor | None]) -> Tensor | None:
        present = [
            part.expand(len(term.weight), *part.shape[1:])
            for part, term in zip(parts, terms, strict=True)
            if part is not None
        ]
        return torch.cat(present) if present else None

    target, share = joined([term.target for term in terms]), joined([term.share for term in terms])
    return replace(terms[0], target=target, share=share, weight=torch.cat([term.weight for term in terms]))
