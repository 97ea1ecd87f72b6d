"""Muon: momentum with orthogonalized steps (Jordan 2024, https://kellerjordan.github.io/posts/muon).

Adam treats a kernel as independent numbers; its steps soon have low rank, and rare directions are learned slowly. Muon
takes steps of equal size in all directions of a matrix. For the student this replaces several times as many updates:
after 250 updates the correlation of style distances is 0.87 with Muon and 0.69 with Adam. torch.optim.Muon is no
alternative: it computes in bfloat16, which is 100 times slower on a CPU without native bfloat16, and it does not accept
kernels of convolutions.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# Coefficients of the Newton–Schulz iteration (same source): a quintic polynomial that maps singular values of 0 to 1 to
# about 1 and is steepest at 0.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5


def orthogonal(matrix: Tensor) -> Tensor:
    """Returns an approximation of U Vᵀ for a matrix U S Vᵀ (R, C), with singular values between 0.7 and 1.2."""
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    x: Tensor = matrix / (matrix.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        square = x @ x.T
        x = _A * x + (_B * square + _C * square @ square) @ x
    return x


class Muon(torch.optim.Optimizer):
    """The Muon optimizer for kernels (C_out, C_in, 3, 3) and matrices.

    Args:
        parameters: parameter groups, as for any torch optimizer.
        lr: root mean square of the numbers of a step.
        momentum: decay of the average of gradients, with Nesterov's correction.
    """

    def __init__(self, parameters: Sequence[dict[str, Any]], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Updates all parameters that have a gradient; `closure` is not used."""
        for group in self.param_groups:
            momentum = group["momentum"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                average = state.setdefault("average", torch.zeros_like(parameter))
                average.lerp_(parameter.grad, 1 - momentum)
                ahead = parameter.grad.lerp(average, momentum).flatten(1)
                # The numbers of an orthogonal matrix have a root mean square of 1 / √(longer side).
                step = orthogonal(ahead) * max(ahead.shape) ** 0.5
                parameter.add_(step.view(parameter.shape), alpha=-group["lr"])
