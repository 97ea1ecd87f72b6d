"""The curvature pairs of L-BFGS, and what they make of a gradient."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..cost import pairs_at_once

# Of sums over a canvas.
_PIECES = 16


@dataclass
class _Block:
    """Some pairs, of which `filled` are there: s and y, (N, pairs, 3·H·W). One that is full never changes."""

    s: Tensor
    y: Tensor
    filled: int = 0


class CurvaturePairs:
    """The latest steps s of a batch of canvases with the changes y of their gradients, oldest first.

    The two-loop recursion (Nocedal & Wright, algorithm 7.4) in the compact form of Byrd, Nocedal & Schnabel 1994: with
    S and Y of the pairs as columns, R the upper triangle of SᵀY and D its diagonal,

        a = R⁻¹Sᵀg,  r = H₀(g − Ya),  Hg = r + Sc,  c = R⁻ᵀ(Da − Yᵀr).

    The pairs are read no less often than in the recursion, but many at a time: less to be called, and at the full speed
    of the memory.

    Args:
        most: number of pairs kept.
        host: keep them in the host's memory rather than the device's; slower, the same result.
    """

    def __init__(self, most: int, *, host: bool = False) -> None:
        self._most = most
        self._host = host
        self.clear()

    def clear(self) -> None:
        """Lets go of all of them."""
        self._blocks: list[_Block] = []
        # Of the pairs that count: sᵀy of each with each that is no older, (N, k, k), and which are good, (N, k).
        self._products = self._good = torch.zeros(0, 0, 0)

    def __len__(self) -> int:
        return self._good.shape[1]

    def add(self, s: Tensor, y: Tensor, good: Tensor) -> None:
        """Takes in a pair (N, 3, H, W) each; for canvases that are not `good` (N,) it has no weight."""
        kept = min(len(self), self._most - 1)
        if not self._blocks:
            self._products, self._good = s.new_zeros(len(s), 0, 0, dtype=torch.float64), good[:, None][:, :0]
        elif sum(block.filled for block in self._blocks[1:]) >= kept:
            del self._blocks[0]
        if not self._blocks or self._blocks[-1].filled == self._blocks[-1].s.shape[1]:
            self._blocks.append(self._room(s.flatten(1)))
        block, first = self._blocks[-1], len(self) - kept
        block.s[:, block.filled], block.y[:, block.filled] = s.flatten(1), y.flatten(1)
        block.filled += 1
        self._good = torch.cat([self._good[:, first:], good[:, None]], 1)
        products = self._products.new_zeros(len(s), kept + 1, kept + 1)
        products[:, :kept, :kept] = self._products[:, first:, first:]
        self._products = products

    def forget(self, lost: Tensor) -> None:
        """Takes the weight from all pairs of the canvases that are `lost` (N,)."""
        if self._blocks:
            self._good = self._good & ~lost[:, None]

    def apply(self, gradient: Tensor, first: Callable[[Tensor], Tensor], rate: float) -> Tensor:
        """`rate` times the inverse Hessian's product with a gradient (N, 3, H, W), which is overwritten.

        Args:
            first: the product with `rate` times the initial inverse Hessian, H₀.
        """
        if not self._blocks:
            return first(gradient)
        latest = self._blocks[-1].y[:, self._blocks[-1].filled - 1].to(gradient.device)
        found, self._products[:, :, -1] = self._dots("s", gradient.flatten(1), latest)
        # A pair without weight is one that has nothing to do with the others, and 0 with the gradient.
        counts = self._good[:, :, None] & self._good[:, None]
        triangle = torch.where(counts, self._products, torch.eye(len(self), device=counts.device))
        a = _solved(triangle, found.masked_fill(~self._good, 0), upper=True)
        self._combine(gradient, "y", -a)
        r = first(gradient)
        (found,) = self._dots("y", r.flatten(1))
        rest = (rate * triangle.diagonal(dim1=1, dim2=2) * a - found).masked_fill(~self._good, 0)
        self._combine(r, "s", _solved(triangle.transpose(1, 2), rest, upper=False))
        return r

    def state(self) -> dict[str, Any]:
        """All of them. It does not change while others are added: it may be written to a file meanwhile."""
        blocks = []
        for block in self._blocks:
            full = block.filled == block.s.shape[1]
            blocks.append([rows if full else rows[:, : block.filled].clone() for rows in (block.s, block.y)])
        return {"blocks": blocks, "products": self._products, "good": self._good}

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""
        self._products, self._good = state["products"], state["good"]
        self._blocks = []
        for s, y in state["blocks"]:
            block, filled = self._room(s[:, 0]), s.shape[1]
            if filled == block.s.shape[1]:
                # As they are: of large canvases there is no room for them twice.
                block = _Block(s.to(block.s.device), y.to(block.y.device), filled)
            else:
                block.s[:, :filled], block.y[:, :filled], block.filled = s, y, filled
            self._blocks.append(block)

    def _room(self, like: Tensor) -> _Block:
        """An empty block for canvases like these, (N, 3·H·W); it takes no memory before it is written to (CPU)."""
        shape = len(like), min(self._most, pairs_at_once(like.shape[1])), like.shape[1]
        device = "cpu" if self._host else like.device
        return _Block(like.new_empty(shape, device=device), like.new_empty(shape, device=device))

    def _rows(self, name: str, device: torch.device) -> list[Tensor]:
        """Those of each block that count, (N, pairs, 3·H·W)."""
        skipped = sum(block.filled for block in self._blocks) - len(self)
        rows = []
        for block in self._blocks:
            some: Tensor = getattr(block, name)[:, skipped : block.filled]
            rows.append(some.to(device))
            skipped = 0
        return rows

    def _dots(self, name: str, *vectors: Tensor) -> list[Tensor]:
        """The products (N, k), float64, of all s, or y, with vectors (N, 3·H·W)."""
        if len(vectors) > 1 and pairs_at_once(vectors[0].shape[1]) > 1:
            # In one pass; of large canvases a copy is too much.
            stacked = [torch.stack(vectors, 1)]
        else:
            stacked = [vector[:, None] for vector in vectors]
        dots: list[Tensor] = []
        for several in stacked:
            blocks = self._rows(name, several.device)
            # Canvas by canvas: a product for all would round otherwise than for one alone.
            of_each = [torch.cat([_products(v, rows[i]) for rows in blocks], 1) for i, v in enumerate(several)]
            dots += torch.stack(of_each, 1).unbind()
        return dots

    def _combine(self, onto: Tensor, name: str, weights: Tensor) -> None:
        """Adds to vectors (N, 3, H, W) all s, or y, with weights (N, k)."""
        flat, begin = onto.view(len(onto), -1), 0
        weights = weights.to(flat.dtype)
        for rows in self._rows(name, flat.device):
            some = weights[:, begin : begin + rows.shape[1]]
            for i, v in enumerate(flat):
                v.addmv_(rows[i].T, some[i])
            begin += rows.shape[1]


def _products(a: Tensor, b: Tensor) -> Tensor:
    """The product (I, J), float64, of each row of a (I, K) with each of b (J, K)."""
    # In pieces, which run in parallel; a product of so few and so long rows by itself does not.
    whole = a.shape[1] // _PIECES * _PIECES
    pieces, others = (x[:, :whole].reshape(len(x), _PIECES, whole // _PIECES) for x in (a, b))
    sums = torch.bmm(pieces.transpose(0, 1), others.permute(1, 2, 0)).sum(0, dtype=torch.float64)
    return sums + a[:, whole:] @ b[:, whole:].T


def _solved(triangle: Tensor, values: Tensor, *, upper: bool) -> Tensor:
    solution: Tensor = torch.linalg.solve_triangular(triangle, values[:, :, None], upper=upper)[:, :, 0]
    return solution
