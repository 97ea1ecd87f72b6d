"""What a batch of canvases is optimized for: a weighted sum of losses against constant targets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .device import release_free_memory
from .kernels.gram import gram_matrix, tap_gram_matrix
from .losses import content_loss, squared_differences, style_loss
from .tiling import Tile, whole
from .vgg import TruncatedVGG

TermKind = Literal["style", "content", "total_variation"]


@dataclass(frozen=True)
class Term:
    """One term of the loss, for every canvas of the batch.

    Attributes:
        kind: which loss.
        layer: the layer it is taken at; empty for total variation.
        target: (N, C, C) Gram matrices averaged over positions for style, (N, C, H, W) features for content; a
            constant. A first dimension of 1 serves all canvases.
        weight: (N,) factor of the term in the total, >= 0.
        share: for style, what each position of the layer counts, (1 or N, H, W) summing to 1; None for all the same.
        region: number of the masked region a style term belongs to; None for the whole canvas.
        stated: the weight as a report states it, where the loss is optimized in another unit; None for `weight`.
    """

    kind: TermKind
    layer: str
    target: Tensor | None
    weight: Tensor
    share: Tensor | None = None
    region: int | None = None
    stated: float | None = None


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
    """Σ weight · term over `terms`, at the layers of `network`.

    Every term is a function of a statistic that adds up over the tiles of the canvas: the Gram matrix for style, the
    loss itself for the others. So with several tiles the statistics are summed first, and then each tile is
    differentiated alone, with the slope of the loss along the statistics held fixed. The gradient is that of the whole
    canvas; the memory is that of a tile.

    Args:
        tiles: what `cut` makes of the canvas; None for the whole canvas at once.
        view: what the network is shown of a canvas, pixel by pixel; None for the canvas itself.
    """

    def __init__(
        self,
        network: TruncatedVGG,
        terms: Sequence[Term],
        *,
        tiles: Sequence[Tile] | None = None,
        view: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.network = network
        self.terms = tuple(terms)
        self._tiles = tiles
        self._view = view
        self._shape: tuple[int, int] | None = None
        self._weights = torch.stack([term.weight for term in terms], dim=1)

    def losses(self, canvas: Tensor) -> Tensor:
        """The terms before their weights, (N, T), of a canvas (N, 3, H, W); differentiable if it is in one tile."""
        return self._losses(self._statistics(canvas), canvas.shape)

    def total(self, terms: Tensor) -> Tensor:
        """The weighted sum (N,) of terms (N, T)."""
        return (terms * self._weights).sum(1)

    def evaluate(self, canvas: Tensor) -> Evaluation:
        """Loss and gradient at a canvas (N, 3, H, W); waits for nothing on the device."""
        canvas = canvas.detach()
        if self._tiles is None or len(self._tiles) == 1:
            return self._evaluate_whole(canvas)
        return self._evaluate_tiles(canvas, self._tiles)

    def _evaluate_whole(self, canvas: Tensor) -> Evaluation:
        canvas = canvas.requires_grad_()
        terms = self.losses(canvas)
        loss = self.total(terms)
        # Summed over the batch: no term mixes canvases, so each canvas gets the gradient of its own loss.
        (gradient,) = torch.autograd.grad(loss.sum(), canvas)
        # As the canvas lies in memory, not with channels last, which would make an optimizer's every sum slow.
        return Evaluation(terms.detach(), loss.detach(), gradient.contiguous())

    def _evaluate_tiles(self, canvas: Tensor, tiles: Sequence[Tile]) -> Evaluation:
        local = all(term.kind != "style" for term in self.terms)
        if not local:
            with torch.no_grad():
                statistics = self._statistics(canvas)
            statistics = [statistic.requires_grad_() for statistic in statistics]
            terms = self._losses(statistics, canvas.shape)
            slopes = torch.autograd.grad(self.total(terms).sum(), statistics)
        else:
            # The statistics are the losses: their slopes are known, and one pass does.
            slopes = self._weights.unbind(1)
            terms = torch.zeros_like(self._weights)
        gradient = torch.zeros_like(canvas)
        for tile in tiles:
            self._make_room(tile)
            crop = canvas[:, :, *tile.crop].requires_grad_()
            parts = self._part(crop, tile, canvas.shape)
            (share,) = torch.autograd.grad(parts, crop, slopes)
            gradient[:, :, *tile.crop] += share
            del share, crop
            if local:
                terms = terms + torch.stack([part.detach() for part in parts], dim=1)
        return Evaluation(terms.detach(), self.total(terms).detach(), gradient)

    def _statistics(self, canvas: Tensor) -> list[Tensor]:
        """What each term is a function of, summed over the tiles."""
        total: list[Tensor] = []
        for tile in self._tiles or whole(*canvas.shape[2:]):
            self._make_room(tile)
            parts = self._part(canvas[:, :, *tile.crop], tile, canvas.shape)
            total = [a.add_(b) for a, b in zip(total, parts, strict=True)] if total else parts
        return total

    def _make_room(self, tile: Tile) -> None:
        """Gives back what was freed, if the latest tile was of another shape.

        The C library's heap would be left in pieces that fit no tensor of this one's; of the same shape all fit.
        """
        shape = tile.rows.seen_pixels, tile.columns.seen_pixels
        if self._shape not in (None, shape):
            release_free_memory()
        self._shape = shape

    def _losses(self, statistics: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
        """The terms (N, T) of their statistics."""
        values = []
        for term, statistic in zip(self.terms, statistics, strict=True):
            if term.kind == "style":
                assert term.target is not None
                head = None if self._head_first(term.layer, shape) else self.network.heads.get(term.layer)
                statistic = style_loss(statistic, term.target, head)
            values.append(statistic)
        return torch.stack(values, dim=1)

    def _part(self, crop: Tensor, tile: Tile, shape: Sequence[int]) -> list[Tensor]:
        """A tile's part of each term's statistic."""
        parts = [_variation(crop, tile, shape) if term.kind == "total_variation" else None for term in self.terms]

        def take(layer: str, features: Tensor) -> Tensor:
            for number, term in enumerate(self.terms):
                if term.layer == layer:
                    features, parts[number] = self._statistic(term, features, tile, shape)
            return features

        # As the layers come, not once all are there: so their gradients are made one by one, each when its turn comes.
        self.network.visit(crop if self._view is None else self._view(crop), take)
        return [part for part in parts if part is not None]

    def _statistic(self, term: Term, features: Tensor, tile: Tile, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """A layer's features for the network to go on with, and a tile's part of a term's statistic of them."""
        assert term.target is not None
        stride = self.network.stride(term.layer)
        rows, columns = tile.positions(stride)
        share: Tensor | float = 1 / ((shape[2] // stride) * (shape[3] // stride))
        if term.share is not None:
            share = term.share[:, rows, columns]
        if term.kind == "content":
            # Of the whole a slice would copy the gradient all the same.
            own = features if tile.is_whole else features[:, :, *tile.seen(stride)]
            own = self.network.features(term.layer, own)
            return features, content_loss(own, term.target[:, :, rows, columns])
        if self._head_first(term.layer, shape):
            return features, gram_matrix(self.network.features(term.layer, features), share)
        return tap_gram_matrix(features, share, None if tile.is_whole else tile.seen(stride))

    def _head_first(self, layer: str, shape: Sequence[int]) -> bool:
        """Whether a layer's head is applied at each position, rather than to the Gram matrix of all from both sides.

        Products with a large matrix are what takes the time, and of small pictures there are few positions.
        """
        head, stride = self.network.heads.get(layer), self.network.stride(layer)
        one = self._tiles is None or len(self._tiles) == 1
        return one and head is not None and (shape[2] // stride) * (shape[3] // stride) < 2 * len(head)


def _variation(crop: Tensor, tile: Tile, shape: Sequence[int]) -> Tensor:
    """A tile's part of `total_variation`: the pairs whose first pixel it owns."""
    _, channels, height, width = shape
    down, right = squared_differences(crop)
    rows, columns = tile.seen(1)
    pairs = channels * (height - 1) * width, channels * height * (width - 1)
    return down[:, :, rows, columns].sum((1, 2, 3)) / pairs[0] + right[:, :, rows, columns].sum((1, 2, 3)) / pairs[1]
