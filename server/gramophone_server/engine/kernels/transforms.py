"""The transforms of Winograd's convolutions F(m x m, 3x3), after Toom and Cook: evaluation at points, interpolation.

Along one axis, m outputs of a correlation with 3 weights w are Aᵀ [(G w) ⊙ (Bᵀ d)], where d are the m + 2 inputs
(Lavin & Gray 2015, equation 6). Inputs, weights and outputs are polynomials, and ⊙ multiplies their values at m + 2
points, of which one is infinity.

The points are closed under a → 1/a. The values of the turned weights are then the values of the weights at the inverse
points, up to a factor: the adjoint convolution uses the same transformed kernel. The points of small tiles are the
first ones of larger tiles, and G has no factors that depend on the tile: the transformed kernel of a tile contains
those of all smaller tiles.
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

# Small numbers and powers of two keep the rounding errors low (Barabasz et al. 2020).
_POINTS = (0.0, 1.0, -1.0, math.inf, 2.0, 0.5, -2.0, -0.5)


@dataclass(frozen=True)
class Pair:
    """The transforms of the inputs and of the outputs of one convolution, float32.

    Attributes:
        input: Bᵀ, (m + 2, m + 2).
        output: Aᵀ, (m, m + 2).
    """

    input: Tensor
    output: Tensor


@dataclass(frozen=True)
class Transforms:
    """The transforms of F(m x m, 3x3) along one axis.

    Attributes:
        kernel: G, (m + 2, 3), float64.
        forwards: the other transforms of the convolution.
        backwards: those of its adjoint, for the same transformed kernel.
    """

    kernel: Tensor
    forwards: Pair
    backwards: Pair


@cache
def transforms(tile: int) -> Transforms:
    """Returns the transforms of F(m x m, 3x3) for a tile of m = 2, 4 or 6 outputs."""
    size = tile + 2
    points = _POINTS[:size]
    finite = [a for a in points if a != math.inf]
    kernel, outputs = _powers(points, 3), _powers(points, tile)
    inputs = torch.zeros(size, size, dtype=torch.float64)
    for i, a in enumerate(points):
        others = [b for b in finite if b != a]
        slope = 1.0 if a == math.inf else math.prod(a - b for b in others)
        inputs[i, : len(others) + 1] = _polynomial(others) / slope
    inverses, factors = _turned(points)
    return Transforms(
        kernel.T,
        Pair(inputs.float(), outputs.float()),
        Pair(inputs[inverses].float(), (outputs * factors)[:, inverses].float().contiguous()),
    )


def _powers(points: tuple[float, ...], count: int) -> Tensor:
    """Returns the powers 0 to count - 1 of each point, (count, points); of infinity the value counts at the highest."""
    powers = torch.zeros(count, len(points), dtype=torch.float64)
    for i, a in enumerate(points):
        powers[:, i] = torch.tensor([float(k == count - 1) if a == math.inf else a**k for k in range(count)])
    return powers


def _turned(points: tuple[float, ...]) -> tuple[list[int], Tensor]:
    """Returns for each point the number of its inverse, and by which factor its value there gives the turned weights.

    With three weights, Σ_k w_(2-k) aᵏ = a² Σ_k w_k a⁻ᵏ.
    """
    inverses = [points.index(math.inf if a == 0 else 1 / a) for a in points]
    factors = [1.0 if a in (0, math.inf) else a * a for a in points]
    return inverses, torch.tensor(factors, dtype=torch.float64)


def _polynomial(roots: list[float]) -> Tensor:
    """Returns the coefficients of Π (x − root), in ascending order, float64."""
    coefficients = torch.ones(1, dtype=torch.float64)
    for root in roots:
        zero = coefficients.new_zeros(1)
        coefficients = torch.cat((zero, coefficients)) - root * torch.cat((coefficients, zero))
    return coefficients
