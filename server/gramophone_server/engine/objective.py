"""The objective of the optimization: a weighted sum of losses against constant targets, and its gradient."""

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from .devices import Devices
from .front import Front, Piece, View
from .network import Network
from .term import WeightedTerm, merged, structure
from .tiling import Tile, deal, whole

_Computed = tuple[dict[int, Tensor], Tensor | None]


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

    With several devices, the tiles are dealt to them by their cost. Statistics and gradients are summed on the canvas's
    device in the order of the tiles, so that the sums do not depend on the number of devices. A device that has only
    one tile keeps what the second pass needs instead of computing it twice.

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
        devices: the devices that compute the tiles; the first one has `network`, the terms and the canvas. None for a
            single one.
        copies: the network on each further device.

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
        view: View | None = None,
        fixed: Tensor | None = None,
        devices: Devices | None = None,
        copies: Sequence[Network] = (),
    ) -> None:
        self.network = network
        self.terms = tuple(terms)
        self._tiles = tiles
        self._cut = cut
        self._view = view
        self._fixed = fixed
        whole_only = [term.loss.name for term in terms if term.loss.tiling is None]
        if whole_only and self._is_tiled:
            raise ValueError(f"{whole_only[0]} needs the whole canvas at once, but there are several tiles")
        self._weights = torch.stack([term.weight for term in terms], dim=1)
        self._devices = devices if self._is_tiled else None
        make = partial(Front, tiled=self._is_tiled, cut=cut, view=view)
        self._first = make(network, self.terms)
        self._fronts = [self._first]
        if self._devices is not None:
            others = zip(copies, self._devices.all[1:], strict=True)
            self._fronts += [make(copy, [term.on(device) for term in terms]) for copy, device in others]

    @classmethod
    def merged(cls, objectives: Sequence["Objective"]) -> "Objective":
        """Returns the objective of the canvases of several objectives of equal `structure`, in their order."""
        first = objectives[0]
        terms = [merged(terms) for terms in zip(*(objective.terms for objective in objectives), strict=True)]
        fixed = [objective._fixed.expand(len(objective._weights), -1, -1, -1) for objective in objectives
                 if objective._fixed is not None]  # fmt: skip
        joined = torch.cat(fixed) if fixed else None
        return cls(first.network, terms, tiles=first._tiles, cut=first._cut, view=first._view, fixed=joined)

    @property
    def structure(self) -> Hashable:
        """A key that is equal for objectives whose canvases of one size can be a batch; None if there are tiles."""
        if self._is_tiled:
            return None
        return id(self.network), self._view, self._fixed is None, tuple(map(structure, self.terms))

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
        keeps = self._devices is not None and len(self._tiles or ()) <= len(self._devices)
        kept: dict[Tile, Piece] | None = {} if keeps else None
        with torch.no_grad():
            front, middle = self._front_statistics(canvas, kept)
        leaves = [statistic.requires_grad_() for statistic in front.values()]
        if middle is not None:
            leaves.append(middle.requires_grad_())
            self._first.release_stale_memory(None)
        terms = self._losses(front | self._back_statistics(middle, canvas.shape), canvas.shape)
        loss = self.total(terms)
        slopes = list(torch.autograd.grad(loss.sum(), leaves))
        middle_slope = None if middle is None else slopes.pop()
        # The second pass needs the memory of the first.
        del leaves, middle
        _, gradient = self._add_tiles(canvas, dict(zip(front, slopes, strict=True)), middle_slope, kept)
        return Evaluation(terms.detach(), loss.detach(), gradient)

    def _add_tiles(
        self,
        canvas: Tensor,
        slopes: Mapping[int, Tensor],
        middle_slope: Tensor | None,
        kept: dict[Tile, Piece] | None = None,
    ) -> tuple[dict[int, Tensor], Tensor]:
        """Returns the statistics summed over the tiles, by number of the term, and the gradient of the canvas.

        Args:
            canvas: (N, 3, H, W).
            slopes: the gradient of the loss with respect to the statistic of each term.
            middle_slope: the gradient with respect to the whole output of the cut; None without a cut.
            kept: what the first pass has kept of each tile, which is dropped; None if it has kept nothing.
        """
        total: dict[int, Tensor] = {}
        gradient = torch.zeros_like(canvas)
        placed = [{n: s.to(front.device, non_blocking=True) for n, s in slopes.items()} for front in self._fronts]

        def work(number: int, tile: Tile) -> _Computed:
            front, own = self._fronts[number], placed[number]
            piece = front.piece(canvas, tile, differentiable=True) if kept is None else kept.pop(tile)
            ends, end_slopes = list(piece.parts.values()), [own[number] for number in piece.parts]
            if middle_slope is not None and piece.middle is not None:
                slope = middle_slope[:, :, *tile.positions(self._cut_stride)]
                ends.append(piece.middle)
                end_slopes.append(slope.to(front.device, non_blocking=True))
            (tile_gradient,) = torch.autograd.grad(ends, piece.crop, end_slopes)
            return {number: part.detach() for number, part in piece.parts.items()}, tile_gradient

        for tile, (parts, tile_gradient) in self._each(canvas.shape, work):
            assert tile_gradient is not None
            _add_seen(gradient, tile, tile_gradient.to(gradient.device, non_blocking=True))
            _add_to(total, parts, gradient.device)
            del parts, tile_gradient
        return total, gradient

    def _front_statistics(
        self, canvas: Tensor, kept: dict[Tile, Piece] | None = None
    ) -> tuple[dict[int, Tensor], Tensor | None]:
        """Returns the statistics of the part in tiles, by number of the term, and the whole output of the cut.

        Args:
            canvas: (N, 3, H, W).
            kept: receives what the gradient needs of each tile; None to keep nothing.
        """
        total: dict[int, Tensor] = {}
        whole_middle: Tensor | None = None
        differentiable = torch.is_grad_enabled()

        def work(number: int, tile: Tile) -> _Computed:
            # Each thread has its own mode.
            with torch.set_grad_enabled(differentiable or kept is not None):
                piece = self._fronts[number].piece(canvas, tile, differentiable=kept is not None)
            if kept is None:
                return piece.parts, piece.middle
            kept[tile] = piece
            # The sum over the tiles is made in place.
            parts = {number: part.detach().clone() for number, part in piece.parts.items()}
            return parts, None if piece.middle is None else piece.middle.detach()

        for tile, (parts, middle) in self._each(canvas.shape, work):
            _add_to(total, parts, canvas.device)
            if middle is None or self._cut is None:
                continue
            if whole_middle is None:
                whole_middle = torch.empty(
                    *middle.shape[:2], *self._first.size(self._cut, canvas.shape), dtype=middle.dtype,
                    device=canvas.device, memory_format=torch.channels_last,
                )  # fmt: skip
            whole_middle[:, :, *tile.positions(self._cut_stride)] = middle.to(canvas.device, non_blocking=True)
            del parts, middle
        return total, whole_middle

    def _each(self, shape: Sequence[int], work: Callable[[int, Tile], _Computed]) -> Iterator[tuple[Tile, _Computed]]:
        """Yields each tile, in order, with the result of `work` for the number of its device and the tile.

        Args:
            shape: shape of the canvas.
            work: is called in the thread of the device, if there are several.
        """
        tiles = self._tiles or whole(shape[2], shape[3])
        if self._devices is None:
            for tile in tiles:
                yield tile, work(0, tile)
            return
        given = deque(
            self._devices.submit(number, partial(work, number, tile))
            for tile, number in zip(tiles, deal(tiles, len(self._devices)), strict=True)
        )
        try:
            for tile in tiles:
                yield tile, given.popleft().result()
        finally:
            # After an error, the others must not go on beside what comes next.
            for future in given:
                future.cancel()
            wait(given)

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
        self.network.visit(middle, self._first.collector(parts, all_of_it, shape), after=self._cut)
        return parts

    def _losses(self, statistics: Mapping[int, Tensor], shape: Sequence[int]) -> Tensor:
        """Returns the unweighted terms (N, T), given the statistic of each term by its number."""
        values = [
            term.loss.value(statistics[number], term.target, self._first.layer(term.layer, shape))
            for number, term in enumerate(self.terms)
        ]
        return torch.stack(values, dim=1)

    @property
    def _cut_stride(self) -> int:
        return self.network.architecture.stride(self._cut) if self._cut else 1


def _add_to(total: dict[int, Tensor], parts: Mapping[int, Tensor], device: torch.device) -> None:
    """Adds the statistics of a tile to those of the tiles before it, in place, on a device."""
    for number, part in parts.items():
        own = part.to(device, non_blocking=True)
        total[number] = total[number].add_(own) if number in total else own


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
