"""The transforms of Winograd's convolutions F(m x m, 3x3), after Toom and Cook: evaluation at points, interpolation.

Along one axis, m outputs of a correlation with 3 weights w are Aᵀ [(G w) ⊙ (Bᵀ d)], where d are the m + 2 inputs
(Lavin & Gray 2015, equation 6). Inputs, weights and outputs are polynomials, and ⊙ multiplies their values at m + 2
points, of which the last is infinity.

The points are closed under a → 1/a. The values of the turned weights are then the values of the weights at the inverse
points, up to a factor: the adjoint convolution uses the same transformed kernel.
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

# Small numbers and powers of two keep the rounding errors low (Barabasz et al. 2020).
_POINTS = {4: (0.0, 1.0, -1.0, 2.0, 0.5), 6: (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)}


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
    """Returns the transforms of F(m x m, 3x3) for a tile of m = 4 or 6 outputs."""
    points = _POINTS[tile]
    size = tile + 2
    slopes = [math.prod(a - b for b in points if b != a) for a in points]
    kernel, inputs, outputs = (torch.zeros(rows, size, dtype=torch.float64) for rows in (3, size, size))
    for i, (a, slope) in enumerate(zip(points, slopes, strict=True)):
        kernel[:, i] = torch.tensor([a**k / slope for k in range(3)])
        outputs[:, i] = torch.tensor([a**k for k in range(size)])
        inputs[i, :-1] = _polynomial([b for b in points if b != a])
    # At infinity, the value of a polynomial is its leading coefficient.
    inputs[-1] = _polynomial(points)
    outputs[tile - 1, -1] = kernel[2, -1] = 1
    outputs = outputs[:tile]
    inverses, factors = _turned(points, slopes)
    return Transforms(
        kernel.T,
        Pair(inputs.float(), outputs.float()),
        Pair(inputs[inverses].float(), (outputs * factors)[:, inverses].float().contiguous()),
    )


def _turned(points: tuple[float, ...], slopes: list[float]) -> tuple[list[int], Tensor]:
    """Returns for each point the number of its inverse, and by which factor its value there gives the turned weights.

    With three weights, Σ_k w_(2-k) aᵏ = a² Σ_k w_k a⁻ᵏ.
    """
    zero, infinity = points.index(0), len(points)
    inverses = [infinity if a == 0 else points.index(1 / a) for a in points] + [zero]
    factors = [1 / slopes[i] if a == 0 else a * a * slopes[inverses[i]] / slopes[i] for i, a in enumerate(points)]
    return inverses, torch.tensor([*factors, slopes[zero]], dtype=torch.float64)


def _polynomial(roots: list[float] | tuple[float, ...]) -> Tensor:
    """Returns the coefficients of Π (x − root), in ascending order, float64."""
    coefficients = torch.ones(1, dtype=torch.float64)
    for root in roots:
        zero = coefficients.new_zeros(1)
        coefficients = torch.cat((zero, coefficients)) - root * torch.cat((coefficients, zero))
    return coefficients
