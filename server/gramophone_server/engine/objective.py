"""The objective of the optimization: a weighted sum of losses against constant targets, and its gradient."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .device import release_free_memory
from .losses import Layer, LayerView, Loss
from .network import Network
from .tiling import Tile, Wraps, whole


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


@dataclass(frozen=True)
class Evaluation:
    """The loss and its gradient at a canvas; all tensors are on the canvas's device.

    Attributes:
        terms: (N, T) the unweighted losses of the T terms.
        loss: (N,) the total loss, the weighted sum of the terms.
        gradient: (N, 3, H, W) ∂loss/∂canvas, for canvas values of 0 to 1.
    """

    terms: Tensor
    loss: Tensor
    gradient: Tensor


class Objective:
    """The total loss Σ weight · term of a batch of canvases, and its gradient.

    Every term is a function of a statistic that is a sum over the tiles of the canvas, such as a Gram matrix; for some
    losses it is the loss itself. With several tiles, the first pass sums the statistics. The second pass
    differentiates each tile alone, with the gradient of the loss with respect to the statistics held fixed. The result
    is the gradient of the whole canvas; the memory needed is that of one tile.

    With a cut, only the operations up to it are computed in tiles, and twice. The first pass also assembles the whole
    output of the cut. The operations after it are then computed once, without tiles; their gradient with respect to
    that output is held fixed in the second pass. This is checkpointing (Chen et al. 2016, "Training Deep Nets with
    Sublinear Memory Cost") with a segment in tiles.

    Args:
        network: computes the features of all layers of `terms`.
        terms: the T terms of the loss.
        tiles: the tiles of the canvas, from `tiling.cut`; None to process the whole canvas at once. If the network has
            circular padding along an axis, and the canvas's length there is not a multiple of the deepest stride, only
            tiles give the features of a canvas that repeats.
        cut: the operation, one of the architecture's `cuts`, after which there are no tiles: the grid and the radius of
            the tiles are those of the operations up to it. None for tiles at all operations.
        view: function applied to each pixel of the canvas before the network sees it, such as a conversion to gray;
            None for the canvas itself.
        fixed: (1, 1, H, W), bool, pixels that the optimization must not change: their gradient is 0. None for none.

    Raises:
        ValueError: there are several tiles, but a loss needs the whole canvas at once.
    """

    def __init__(
        self,
        network: Network,
        terms: Sequence[WeightedTerm],
        *,
        tiles: Sequence[Tile] | None = None,
        cut: str | None = None,
        view: Callable[[Tensor], Tensor] | None = None,
        fixed: Tensor | None = None,
    ) -> None:
        self.network = network
        self.terms = tuple(terms)
        self._tiles = tiles
        self._cut = cut
        self._view = view
        self._fixed = fixed
        self._shape: tuple[int, int] | None = None
        whole_only = [term.loss.name for term in terms if term.loss.tiling is None]
        if whole_only and self._is_tiled:
            raise ValueError(f"{whole_only[0]} needs the whole canvas at once, but there are several tiles")
        self._weights = torch.stack([term.weight for term in terms], dim=1)

    @classmethod
    def merged(cls, objectives: Sequence["Objective"]) -> "Objective":
        """Returns the objective of the canvases of several objectives of equal `structure`, in their order."""
        first = objectives[0]
        terms = [_merged(terms) for terms in zip(*(objective.terms for objective in objectives), strict=True)]
        fixed = [objective._fixed.expand(len(objective._weights), -1, -1, -1) for objective in objectives
                 if objective._fixed is not None]  # fmt: skip
        joined = torch.cat(fixed) if fixed else None
        return cls(first.network, terms, tiles=first._tiles, cut=first._cut, view=first._view, fixed=joined)

    @property
    def structure(self) -> Hashable:
        """A key that is equal for objectives whose canvases of one size can be a batch; None if there are tiles."""
        if self._is_tiled:
            return None
        return id(self.network), self._view, self._fixed is None, tuple(map(_structure, self.terms))

    def losses(self, canvas: Tensor) -> Tensor:
        """Returns the unweighted terms (N, T) of a canvas (N, 3, H, W); differentiable only with a single tile."""
        front, middle = self._front_statistics(canvas)
        return self._losses(front | self._back_statistics(middle, canvas.shape), canvas.shape)

    def total(self, terms: Tensor) -> Tensor:
        """Returns the weighted sum (N,) of unweighted terms (N, T)."""
        return (terms * self._weights).sum(1)

    def evaluate(self, canvas: Tensor) -> Evaluation:
        """Returns the loss and gradient at a canvas (N, 3, H, W), without synchronizing with the device."""
        canvas = canvas.detach()
        at = self._evaluate_tiles(canvas) if self._is_tiled else self._evaluate_whole(canvas)
        return at if self._fixed is None else replace(at, gradient=at.gradient.masked_fill(self._fixed, 0))

    @property
    def _is_tiled(self) -> bool:
        return self._tiles is not None and len(self._tiles) > 1

    def _evaluate_whole(self, canvas: Tensor) -> Evaluation:
        canvas = canvas.requires_grad_()
        terms = self.losses(canvas)
        loss = self.total(terms)
        # No term mixes canvases, so the gradient of the sum over the batch is each canvas's gradient of its own loss.
        (gradient,) = torch.autograd.grad(loss.sum(), canvas)
        # Use the canvas's memory layout: with channels last, all sums of the optimizer would be slow.
        return Evaluation(terms.detach(), loss.detach(), gradient.contiguous())

    def _evaluate_tiles(self, canvas: Tensor) -> Evaluation:
        if self._cut is None and all(term.loss.tiling == "value" for term in self.terms):
            # The statistics are the losses themselves: their gradients are the weights, and one pass is enough.
            total, gradient = self._add_tiles(canvas, dict(enumerate(self._weights.unbind(1))), None)
            terms = self._losses(total, canvas.shape)
            return Evaluation(terms, self.total(terms), gradient)
        with torch.no_grad():
            front, middle = self._front_statistics(canvas)
        leaves = [statistic.requires_grad_() for statistic in front.values()]
        if middle is not None:
            leaves.append(middle.requires_grad_())
            self._release_stale_memory(None)
        terms = self._losses(front | self._back_statistics(middle, canvas.shape), canvas.shape)
        loss = self.total(terms)
        slopes = list(torch.autograd.grad(loss.sum(), leaves))
        middle_slope = None if middle is None else slopes.pop()
        # The second pass needs the memory of the first.
        del leaves, middle
        _, gradient = self._add_tiles(canvas, dict(zip(front, slopes, strict=True)), middle_slope)
        return Evaluation(terms.detach(), loss.detach(), gradient)

    def _add_tiles(
        self, canvas: Tensor, slopes: Mapping[int, Tensor], middle_slope: Tensor | None
    ) -> tuple[dict[int, Tensor], Tensor]:
        """Returns the statistics summed over the tiles, by number of the term, and the gradient of the canvas.

        Args:
            canvas: (N, 3, H, W).
            slopes: the gradient of the loss with respect to the statistic of each term.
            middle_slope: the gradient with respect to the whole output of the cut; None without a cut.
        """
        total: dict[int, Tensor] = {}
        gradient = torch.zeros_like(canvas)
        for tile in self._tiles or ():
            self._release_stale_memory(tile)
            crop = _seen(canvas, tile).requires_grad_()
            parts, middle = self._tile_statistics(crop, tile, canvas.shape)
            ends, end_slopes = list(parts.values()), [slopes[number] for number in parts]
            if middle_slope is not None and middle is not None:
                ends.append(middle)
                end_slopes.append(middle_slope[:, :, *tile.positions(self._stride(self._cut or ""))])
            (tile_gradient,) = torch.autograd.grad(ends, crop, end_slopes)
            _add_seen(gradient, tile, tile_gradient)
            _add_to(total, {number: part.detach() for number, part in parts.items()})
            del tile_gradient, crop, ends, middle
        return total, gradient

    def _front_statistics(self, canvas: Tensor) -> tuple[dict[int, Tensor], Tensor | None]:
        """Returns the statistics of the part in tiles, by number of the term, and the whole output of the cut."""
        total: dict[int, Tensor] = {}
        whole_middle: Tensor | None = None
        for tile in self._tiles or whole(*canvas.shape[2:]):
            self._release_stale_memory(tile)
            parts, middle = self._tile_statistics(_seen(canvas, tile), tile, canvas.shape)
            _add_to(total, parts)
            if middle is None or self._cut is None:
                continue
            if whole_middle is None:
                size = self._size(self._cut, canvas.shape[2], canvas.shape[3])
                whole_middle = torch.empty(
                    *middle.shape[:2], *size, dtype=middle.dtype, device=middle.device,
                    memory_format=torch.channels_last,
                )  # fmt: skip
            whole_middle[:, :, *tile.positions(self._stride(self._cut))] = middle
        return total, whole_middle

    def _back_statistics(self, middle: Tensor | None, shape: Sequence[int]) -> dict[int, Tensor]:
        """Returns the statistics of the part after the cut, by number of the term; none without a cut.

        Args:
            middle: the whole output of the cut.
            shape: shape of the canvas.
        """
        if middle is None or self._cut is None:
            return {}
        parts: dict[int, Tensor] = {}
        (all_of_it,) = whole(shape[2], shape[3])
        self.network.visit(middle, self._collector(parts, all_of_it, shape), after=self._cut)
        return parts

    def _release_stale_memory(self, tile: Tile | None) -> None:
        """Returns freed memory to the system if the previous tile had another shape.

        The freed blocks of the C library's heap fit the tensors of a tile of the same shape, but not those of another
        shape.

        Args:
            tile: the next tile; None before the part of the network after the cut.
        """
        shape = (0, 0) if tile is None else (tile.rows.seen_pixels, tile.columns.seen_pixels)
        if self._shape not in (None, shape) and not self._weights.is_cuda:
            release_free_memory()
        self._shape = shape

    def _losses(self, statistics: Mapping[int, Tensor], shape: Sequence[int]) -> Tensor:
        """Returns the unweighted terms (N, T), given the statistic of each term by its number."""
        values = [
            term.loss.value(statistics[number], term.target, self._layer(term.layer, shape))
            for number, term in enumerate(self.terms)
        ]
        return torch.stack(values, dim=1)

    def _tile_statistics(
        self, crop: Tensor, tile: Tile, shape: Sequence[int]
    ) -> tuple[dict[int, Tensor], Tensor | None]:
        """Returns a tile's contribution to the statistics, by number of the term, and to the output of the cut."""
        seen = crop if self._view is None else self._view(crop)
        # The total variation is that of the canvas itself, a style that of what the network sees.
        parts = {
            number: self._statistic(term, seen if term.loss.kind == "style" else crop, tile, shape)[1]
            for number, term in enumerate(self.terms)
            if not term.layer
        }
        middle = self.network.visit(seen, self._collector(parts, tile, shape), until=self._cut)
        return parts, None if self._cut is None else middle[:, :, *tile.seen(self._stride(self._cut))]

    def _collector(self, parts: dict[int, Tensor], tile: Tile, shape: Sequence[int]) -> Callable[[str, Tensor], Tensor]:
        """Returns a function for `Network.visit` that adds a tile's statistics to `parts`.

        Each statistic is computed when its layer is ready: the backward pass then creates the layers' gradients one
        after the other instead of all at once.
        """

        def take(layer: str, activation: Tensor) -> Tensor:
            for number, term in enumerate(self.terms):
                if term.layer == layer:
                    activation, parts[number] = self._statistic(term, activation, tile, shape)
            return activation

        return take

    def _statistic(
        self, term: WeightedTerm, activation: Tensor, tile: Tile, shape: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Returns the activation that the network continues with, and the tile's contribution to a term's statistic."""
        stride, layer = self._stride(term.layer), self._layer(term.layer, shape)
        rows, columns = tile.positions(stride)
        share = 1 / layer.positions if term.share is None else term.share
        if isinstance(share, Tensor) and not tile.is_whole:
            share = share[:, rows, columns]
        interior = None if tile.is_whole else tile.seen(stride)
        return term.loss.statistic(LayerView(layer, activation, interior, rows, columns, share), term.target)

    def _layer(self, name: str, shape: Sequence[int]) -> Layer:
        """Returns a layer of a canvas (N, 3, H, W) of that shape; without a name, the canvas itself."""
        height, width = self._size(name, shape[2], shape[3])
        return Layer(height, width, self._is_tiled, self.network.heads.get(name), self._wraps)

    @property
    def _wraps(self) -> Wraps:
        vertical, horizontal = self.network.paddings
        return vertical == "circular", horizontal == "circular"

    def _size(self, layer: str, height: int, width: int) -> tuple[int, int]:
        return self.network.architecture.size(layer, height, width, self._wraps) if layer else (height, width)

    def _stride(self, layer: str) -> int:
        return self.network.architecture.stride(layer) if layer else 1


def _add_to(total: dict[int, Tensor], parts: Mapping[int, Tensor]) -> None:
    """Adds the statistics of a tile to those of the tiles before it, in place."""
    for number, part in parts.items():
        total[number] = total[number].add_(part) if number in total else part


def _structure(term: WeightedTerm) -> Hashable:
    """Returns a key that is equal for terms that can be one term of a batch."""
    shapes = tuple(None if tensor is None else tensor.shape[1:] for tensor in (term.target, term.share))
    return type(term.loss), term.layer, term.region, shapes


def _merged(terms: Sequence[WeightedTerm]) -> WeightedTerm:
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


def _seen(canvas: Tensor, tile: Tile) -> Tensor:
    """Returns the pixels of a canvas (N, 3, H, W) that the network sees of a tile; a view unless the halo wraps."""
    rows = [canvas[:, :, piece] for piece in tile.rows.pieces]
    seen = rows[0] if len(rows) == 1 else torch.cat(rows, 2)
    columns = [seen[..., piece] for piece in tile.columns.pieces]
    return columns[0] if len(columns) == 1 else torch.cat(columns, 3)


def _add_seen(gradient: Tensor, tile: Tile, part: Tensor) -> None:
    """Adds the gradient of the pixels that the network sees of a tile to that of the canvas."""
    top = 0
    for rows in tile.rows.pieces:
        bottom, left = top + rows.stop - rows.start, 0
        for columns in tile.columns.pieces:
            right = left + columns.stop - columns.start
            gradient[:, :, rows, columns] += part[:, :, top:bottom, left:right]
            left = right
        top = bottom
