"""The part of an objective that is computed in tiles, on one device."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .device import release_free_memory
from .losses import Layer, LayerView
from .network import Network
from .term import WeightedTerm
from .tiling import Tile, Wraps

View = Callable[[Tensor], Tensor]
"""A function applied to each pixel of the canvas before the network sees it."""


@dataclass(frozen=True, eq=False)
class Piece:
    """What the network computes of one tile.

    Attributes:
        crop: (N, 3, h, w), the pixels that the network sees.
        parts: the tile's contribution to the statistics, by number of the term.
        middle: the tile's part of the output of the cut; None without a cut.
    """

    crop: Tensor
    parts: dict[int, Tensor]
    middle: Tensor | None


class Front:
    """Computes the statistics of tiles on one device.

    Args:
        network: computes the features, on its device.
        terms: the terms of the loss, on the same device.
        tiled: whether the canvas has several tiles.
        cut: the operation after which there are no tiles; None for tiles at all operations.
        view: function applied to each pixel of the canvas before the network sees it; None for the canvas itself.

    Attributes:
        device: the device.
    """

    def __init__(
        self, network: Network, terms: Sequence[WeightedTerm], *, tiled: bool, cut: str | None, view: View | None
    ) -> None:
        self.device = terms[0].weight.device
        self._network = network
        self._terms = terms
        self._tiled = tiled
        self._cut = cut
        self._view = view
        self._shape: tuple[int, int] | None = None

    def piece(self, canvas: Tensor, tile: Tile, *, differentiable: bool = False) -> Piece:
        """Computes the statistics of a tile.

        Args:
            canvas: the whole canvas (N, 3, H, W), on any device.
            differentiable: whether to record what the gradient with respect to `crop` needs.
        """
        self.release_stale_memory(tile)
        crop = _seen(canvas, tile).to(self.device, non_blocking=True)
        if differentiable:
            crop = crop.requires_grad_()
        shape = canvas.shape
        seen = crop if self._view is None else self._view(crop)
        # The total variation is that of the canvas itself, a style that of what the network sees.
        parts = {
            number: self._statistic(term, seen if term.loss.kind == "style" else crop, tile, shape)[1]
            for number, term in enumerate(self._terms)
            if not term.layer
        }
        middle = self._network.visit(seen, self.collector(parts, tile, shape), until=self._cut)
        return Piece(crop, parts, None if self._cut is None else middle[:, :, *tile.seen(self._stride(self._cut))])

    def collector(self, parts: dict[int, Tensor], tile: Tile, shape: Sequence[int]) -> Callable[[str, Tensor], Tensor]:
        """Returns a function for `Network.visit` that adds a tile's statistics to `parts`.

        Each statistic is computed when its layer is ready: the backward pass then creates the layers' gradients one
        after the other instead of all at once.
        """

        def take(layer: str, activation: Tensor) -> Tensor:
            for number, term in enumerate(self._terms):
                if term.layer == layer:
                    activation, parts[number] = self._statistic(term, activation, tile, shape)
            return activation

        return take

    def layer(self, name: str, shape: Sequence[int]) -> Layer:
        """Returns a layer of a canvas (N, 3, H, W) of that shape; without a name, the canvas itself."""
        height, width = self.size(name, shape)
        return Layer(height, width, self._tiled, self._network.heads.get(name), self._wraps)

    def size(self, layer: str, shape: Sequence[int]) -> tuple[int, int]:
        """Returns height and width of a layer of a canvas (N, 3, H, W) of that shape."""
        height, width = shape[2], shape[3]
        return self._network.architecture.size(layer, height, width, self._wraps) if layer else (height, width)

    def release_stale_memory(self, tile: Tile | None) -> None:
        """Returns freed memory to the system if the previous tile had another shape.

        The freed blocks of the C library's heap fit the tensors of a tile of the same shape, but not those of another
        shape.

        Args:
            tile: the next tile; None before the part of the network after the cut.
        """
        shape = (0, 0) if tile is None else (tile.rows.seen_pixels, tile.columns.seen_pixels)
        if self._shape not in (None, shape) and self.device.type == "cpu":
            release_free_memory()
        self._shape = shape

    def _statistic(
        self, term: WeightedTerm, activation: Tensor, tile: Tile, shape: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Returns the activation that the network continues with, and the tile's contribution to a term's statistic."""
        stride, layer = self._stride(term.layer), self.layer(term.layer, shape)
        rows, columns = tile.positions(stride)
        share = 1 / layer.positions if term.share is None else term.share
        if isinstance(share, Tensor) and not tile.is_whole:
            share = share[:, rows, columns]
        interior = None if tile.is_whole else tile.seen(stride)
        return term.loss.statistic(LayerView(layer, activation, interior, rows, columns, share), term.target)

    @property
    def _wraps(self) -> Wraps:
        vertical, horizontal = self._network.paddings
        return vertical == "circular", horizontal == "circular"

    def _stride(self, layer: str) -> int:
        return self._network.architecture.stride(layer) if layer else 1


def _seen(canvas: Tensor, tile: Tile) -> Tensor:
    """Returns the pixels of a canvas (N, 3, H, W) that the network sees of a tile; a view unless the halo wraps."""
    rows = [canvas[:, :, piece] for piece in tile.rows.pieces]
    seen = rows[0] if len(rows) == 1 else torch.cat(rows, 2)
    columns = [seen[..., piece] for piece in tile.columns.pieces]
    return columns[0] if len(columns) == 1 else torch.cat(columns, 3)
