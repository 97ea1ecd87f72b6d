"""The curvature pairs of L-BFGS, and their inverse Hessian approximation applied to a gradient."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cost import pairs_at_once

# Number of partial sums into which a dot product over a canvas is split.
_PIECES = 16


class Pairs(ABC):
    """The latest curvature pairs of a batch of canvases, oldest first: steps s, and changes y of the gradient.

    `apply` computes the two-loop recursion (Nocedal & Wright, algorithm 7.4) in the compact form of Byrd, Nocedal &
    Schnabel 1994. S and Y have the pairs as columns, R is the upper triangle of SᵀY, and D is its diagonal:

        a = R⁻¹Sᵀg,  r = H₀(g − Ya),  Hg = r + Sc,  c = R⁻ᵀ(Da − Yᵀr).

    This form reads the pairs as often as the recursion, but many at a time: it needs fewer calls and reads at the full
    bandwidth of the memory.

    Args:
        most: maximum number of pairs, >= 1.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.clear()

    def clear(self) -> None:
        """Drops all pairs."""
        # For the k pairs in use: the upper triangle of SᵀY, (N, k, k), and which pairs are good, (N, k).
        self._products = self._good = torch.zeros(0, 0, 0)

    def __len__(self) -> int:
        return self._good.shape[1]

    @abstractmethod
    def reserve(self, canvas: Tensor) -> None:
        """Allocates the memory of all pairs of canvases (N, 3, H, W), if it does not grow with their number."""

    @abstractmethod
    def add(self, s: Tensor, y: Tensor, good: Tensor) -> None:
        """Adds a pair, and drops the oldest one if there are more than the maximum.

        Args:
            s: (N, 3, H, W), the step.
            y: (N, 3, H, W), the change of the gradient.
            good: (N,), bool; for canvases where it is false, the pair is stored but ignored.
        """

    def apply(self, gradient: Tensor, first: Callable[[Tensor], Tensor], rate: float) -> Tensor:
        """Returns `rate` times the product of the inverse Hessian approximation and a gradient.

        Args:
            gradient: (N, 3, H, W); overwritten.
            first: function that returns the product of `rate` times the initial inverse Hessian H₀ and its argument.
            rate: factor of the result.
        """
        if not len(self):
            return first(gradient)
        found, self._products[:, :, -1] = self._dots("s", gradient.flatten(1), self._latest(gradient.device))
        # Neutralize ignored pairs: identity rows and columns in the triangle, and 0 as dot product with the gradient.
        counts = self._good[:, :, None] & self._good[:, None]
        triangle = torch.where(counts, self._products, torch.eye(len(self), device=counts.device))
        a = _solve_triangular(triangle, found.masked_fill(~self._good, 0), upper=True)
        self._combine(gradient, "y", -a)
        r = first(gradient)
        (found,) = self._dots("y", r.flatten(1))
        rest = (rate * triangle.diagonal(dim1=1, dim2=2) * a - found).masked_fill(~self._good, 0)
        self._combine(r, "s", _solve_triangular(triangle.transpose(1, 2), rest, upper=False))
        return r

    @abstractmethod
    def forget(self, lost: Tensor) -> None:
        """Ignores all present pairs of the canvases for which `lost` (N,) is true."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Returns all pairs. Later steps do not change the returned tensors, so a thread can write them to a file."""

    @abstractmethod
    def load(self, state: dict[str, Any]) -> None:
        """Resumes from a state. The "blocks" may be on another device than the products, which are on the device."""

    @abstractmethod
    def _latest(self, device: torch.device) -> Tensor:
        """Returns the y (N, 3·H·W) of the latest pair."""

    @abstractmethod
    def _rows(self, name: str, device: torch.device) -> Iterator[Tensor]:
        """Yields the s or y (`name`) of all pairs, one tensor (N, pairs, 3·H·W) after the other."""

    def _dots(self, name: str, *vectors: Tensor) -> list[Tensor]:
        """Returns the dot products (N, k), float64, of all s or y (`name`) with each of the vectors (N, 3·H·W)."""
        if len(vectors) > 1 and pairs_at_once(vectors[0].shape[1]) > 1:
            # Read the pairs in one pass. For large canvases, the copy made by `stack` would need too much memory.
            stacked = [torch.stack(vectors, 1)]
        else:
            stacked = [vector[:, None] for vector in vectors]
        parts: list[list[list[Tensor]]] = [[[] for _ in several] for several in stacked]
        for rows in self._rows(name, vectors[0].device):
            for several, of_each in zip(stacked, parts, strict=True):
                # Multiply canvas by canvas: a batched product would round differently than the product for one canvas.
                for i, v in enumerate(several):
                    of_each[i].append(_dot_products(v, rows[i]))
        return [
            dots for of_each in parts for dots in torch.stack([torch.cat(found, 1) for found in of_each], 1).unbind()
        ]

    def _combine(self, onto: Tensor, name: str, weights: Tensor) -> None:
        """Adds to `onto` (N, 3, H, W) the sum of all s or y (`name`), weighted by `weights` (N, k)."""
        flat, begin = onto.view(len(onto), -1), 0
        weights = weights.to(flat.dtype)
        for rows in self._rows(name, flat.device):
            some = weights[:, begin : begin + rows.shape[1]]
            for i, v in enumerate(flat):
                v.addmv_(rows[i].T, some[i])
            begin += rows.shape[1]


@dataclass
class _Block:
    """Storage for several pairs. A full block never changes.

    Attributes:
        s, y: (N, pairs, 3·H·W).
        filled: number of pairs stored so far.
    """

    s: Tensor
    y: Tensor
    filled: int = 0


class CurvaturePairs(Pairs):
    """Curvature pairs in memory that grows with their number.

    Args:
        most: maximum number of pairs.
        host: keep the pairs in the host's memory rather than the device's; slower, with the same result.
    """

    def __init__(self, most: int, *, host: bool = False) -> None:
        self._host = host
        super().__init__(most)

    def clear(self) -> None:
        """Drops all pairs."""
        super().clear()
        self._blocks: list[_Block] = []

    def reserve(self, canvas: Tensor) -> None:
        """Allocates nothing."""

    def add(self, s: Tensor, y: Tensor, good: Tensor) -> None:
        """Adds a pair, and drops the oldest one if there are more than the maximum.

        Args:
            s: (N, 3, H, W), the step.
            y: (N, 3, H, W), the change of the gradient.
            good: (N,), bool; for canvases where it is false, the pair is stored but ignored.
        """
        kept = min(len(self), self._most - 1)
        if not self._blocks:
            self._products, self._good = s.new_zeros(len(s), 0, 0, dtype=torch.float64), good[:, None][:, :0]
        elif sum(block.filled for block in self._blocks[1:]) >= kept:
            del self._blocks[0]
        if not self._blocks or self._blocks[-1].filled == self._blocks[-1].s.shape[1]:
            self._blocks.append(self._new_block(s.flatten(1), s.device))
        block, first = self._blocks[-1], len(self) - kept
        for rows, new in ((block.s, s), (block.y, y)):
            for own, other in zip(rows, new, strict=True):
                own[block.filled].copy_(other.flatten(), non_blocking=True)
        block.filled += 1
        self._good = torch.cat([self._good[:, first:], good[:, None]], 1)
        products = self._products.new_zeros(len(s), kept + 1, kept + 1)
        products[:, :kept, :kept] = self._products[:, first:, first:]
        self._products = products

    def forget(self, lost: Tensor) -> None:
        """Ignores all present pairs of the canvases for which `lost` (N,) is true."""
        if self._blocks:
            self._good = self._good & ~lost[:, None]

    def state(self) -> dict[str, Any]:
        """Returns all pairs. Later steps do not change the returned tensors, so a thread can write them to a file."""
        if self._host and self._products.is_cuda:
            # The copies of the latest pairs may be under way.
            torch.cuda.current_stream(self._products.device).synchronize()
        blocks = []
        for block in self._blocks:
            full = block.filled == block.s.shape[1]
            blocks.append([rows if full else rows[:, : block.filled].clone() for rows in (block.s, block.y)])
        return {"blocks": blocks, "products": self._products, "good": self._good}

    def load(self, state: dict[str, Any]) -> None:
        """Resumes from a state. The blocks may be on another device than the products, which are on the device."""
        self._products, self._good = state["products"], state["good"]
        self._blocks = []
        for s, y in state["blocks"]:
            block, filled = self._new_block(s[:, 0], self._products.device), s.shape[1]
            if filled == block.s.shape[1]:
                # Use the loaded tensors without a copy: for large canvases, memory does not suffice for both.
                block = _Block(s.to(block.s.device), y.to(block.y.device), filled)
            else:
                block.s[:, :filled], block.y[:, :filled], block.filled = s, y, filled
            self._blocks.append(block)

    def _new_block(self, like: Tensor, device: torch.device) -> _Block:
        """Returns an empty block for canvases like `like` (N, 3·H·W), on the device or in the host's memory.

        On a CPU, the system allocates the memory only when it is written.
        """
        shape = len(like), min(self._most, pairs_at_once(like.shape[1])), like.shape[1]
        if not self._host:
            return _Block(like.new_empty(shape, device=device), like.new_empty(shape, device=device))
        # Neither side waits for copies between pinned memory and a GPU.
        pinned = device.type == "cuda"
        s, y = (torch.empty(shape, dtype=like.dtype, pin_memory=pinned) for _ in range(2))
        return _Block(s, y)

    def _latest(self, device: torch.device) -> Tensor:
        return _on(device, self._blocks[-1].y[:, self._blocks[-1].filled - 1])

    def _rows(self, name: str, device: torch.device) -> Iterator[Tensor]:
        """Yields the s or y (`name`) of the pairs in use, one tensor (N, pairs, 3·H·W) per block.

        Pairs in the host's memory are copied block by block: the device never holds more than one block of them.
        """
        skipped = sum(block.filled for block in self._blocks) - len(self)
        for block in self._blocks:
            some: Tensor = getattr(block, name)[:, skipped : block.filled]
            yield _on(device, some)
            skipped = 0


class FixedPairs(Pairs):
    """Curvature pairs in memory that is allocated at once, at `most` places.

    Each step does the same work, whatever the number of pairs, so that it can be recorded as a CUDA graph: a place
    without a pair counts as one that is ignored. A new pair overwrites the oldest one.
    """

    def clear(self) -> None:
        """Drops all pairs and their memory."""
        super().clear()
        self._s = self._y = torch.zeros(0, 0, 0)
        # The place of each pair, oldest first.
        self._places = torch.zeros(0, dtype=torch.long)
        self._has_pairs = False

    def __len__(self) -> int:
        return self._most if self._has_pairs else 0

    def reserve(self, canvas: Tensor) -> None:
        """Allocates all places, filled with 0, unless they are there."""
        if len(self._places):
            return
        n, size = canvas.flatten(1).shape
        self._s, self._y = (canvas.new_zeros(n, self._most, size) for _ in range(2))
        self._places = torch.arange(self._most, device=canvas.device)
        self._products = canvas.new_zeros(n, self._most, self._most, dtype=torch.float64)
        self._good = canvas.new_zeros(n, self._most, dtype=torch.bool)

    def add(self, s: Tensor, y: Tensor, good: Tensor) -> None:
        """Adds a pair in place of the oldest one."""
        self.reserve(s)
        self._has_pairs = True
        self._places.copy_(self._places.roll(-1))
        for rows, new in ((self._s, s), (self._y, y)):
            rows.index_copy_(1, self._places[-1:], new.flatten(1)[:, None])
        self._good.copy_(torch.cat([self._good[:, 1:], good[:, None]], 1))
        self._products.copy_(F.pad(self._products[:, 1:, 1:], (0, 1, 0, 1)))

    def forget(self, lost: Tensor) -> None:
        """Ignores all present pairs of the canvases for which `lost` (N,) is true."""
        self._good &= ~lost[:, None]

    def state(self) -> dict[str, Any]:
        """Returns all pairs, copied to the host's memory: the next step overwrites them on the device."""
        s, y, *rest = (
            tensor.to("cpu", copy=True) for tensor in (self._s, self._y, self._places, self._products, self._good)
        )
        places, products, good = rest
        return {"blocks": [[s, y]], "places": places, "products": products, "good": good, "any": self._has_pairs}

    def load(self, state: dict[str, Any]) -> None:
        """Resumes from a state."""
        device, [[s, y]] = state["products"].device, state["blocks"]
        self._s, self._y = s.to(device, copy=True), y.to(device, copy=True)
        self._places, self._products, self._good = (state[name].clone() for name in ("places", "products", "good"))
        self._has_pairs = state["any"]

    def _latest(self, device: torch.device) -> Tensor:
        return self._y.index_select(1, self._places[-1:])[:, 0]

    def _rows(self, name: str, device: torch.device) -> Iterator[Tensor]:
        yield self._s if name == "s" else self._y

    def _dots(self, name: str, *vectors: Tensor) -> list[Tensor]:
        # From the order of the places to that of the pairs.
        return [found.index_select(1, self._places) for found in super()._dots(name, *vectors)]

    def _combine(self, onto: Tensor, name: str, weights: Tensor) -> None:
        super()._combine(onto, name, torch.empty_like(weights).index_copy_(1, self._places, weights))


def _on(device: torch.device, rows: Tensor) -> Tensor:
    """Returns rows (N, …) on a device."""
    if rows.device == device:
        return rows
    copy = torch.empty(rows.shape, dtype=rows.dtype, device=device)
    # Canvas by canvas: torch would first rearrange the rows of several canvases on the host, before they are there.
    for own, other in zip(copy, rows, strict=True):
        own.copy_(other, non_blocking=True)
    return copy


def _dot_products(a: Tensor, b: Tensor) -> Tensor:
    """Returns the dot products (I, J), float64, of the rows of a (I, K) with the rows of b (J, K)."""
    # Split the rows into pieces, which run in parallel; the plain product of few long rows would not.
    whole = a.shape[1] // _PIECES * _PIECES
    pieces, others = (x[:, :whole].reshape(len(x), _PIECES, whole // _PIECES) for x in (a, b))
    sums = torch.bmm(pieces.transpose(0, 1), others.permute(1, 2, 0)).sum(0, dtype=torch.float64)
    return sums + a[:, whole:] @ b[:, whole:].T


def _solve_triangular(triangle: Tensor, values: Tensor, *, upper: bool) -> Tensor:
    solution: Tensor = torch.linalg.solve_triangular(triangle, values[:, :, None], upper=upper)[:, :, 0]
    return solution
