"""Optimisers over a batch of canvases whose pixels stay in the displayable box, 0 to 1.

torch.optim.LBFGS would couple the canvases of a batch through its dot products and step lengths; these keep every
canvas to itself. A step is one gradient evaluation, and nothing here makes the host wait for the device.
"""

from typing import Protocol

import torch
from torch import Tensor

from .objective import Evaluation


class Optimizer(Protocol):
    """Moves canvases downhill, a gradient evaluation at a time."""

    def step(self, canvas: Tensor, at: Evaluation) -> Tensor:
        """The next canvas (N, 3, H, W), given the loss and gradient at this one."""
        ...


class Adam:
    """Adam (Kingma & Ba 2015) followed by projection onto the box.

    Args:
        learning_rate: step size in units of the 0–255 pixel range.
    """

    def __init__(
        self, learning_rate: float = 10.0, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        self._rate = learning_rate / 255
        self._betas = betas
        self._eps = eps
        self._steps = 0
        self._mean: Tensor | None = None
        self._square: Tensor | None = None

    def step(self, canvas: Tensor, at: Evaluation) -> Tensor:
        """The next canvas (N, 3, H, W), given the loss and gradient at this one."""
        if self._mean is None or self._square is None:
            self._mean, self._square = torch.zeros_like(canvas), torch.zeros_like(canvas)
        first, second = self._betas
        self._steps += 1
        self._mean.lerp_(at.gradient, 1 - first)
        self._square.mul_(second).addcmul_(at.gradient, at.gradient, value=1 - second)
        mean = self._mean / (1 - first**self._steps)
        square = self._square / (1 - second**self._steps)
        return (canvas - self._rate * mean / (square.sqrt() + self._eps)).clamp_(0, 1)


class LBFGS:
    """Limited-memory BFGS (Liu & Nocedal 1989; two-loop recursion of Nocedal & Wright, algorithm 7.4) in the box.

    One evaluation a step and no line search. A step is accepted while its loss is finite and no higher than the
    higher of the latest two accepted ones (Grippo, Lampariello & Lucidi 1986; asking for less at every step stalls in
    the rounding of bfloat16). Else it is taken back to a quarter of its length, and if that fails too, the curvature
    is forgotten for a short step down the gradient. Pixels that rest on the box's edge with the gradient pointing
    outwards are held out of the direction, so it is the clipped picture that converges.

    Args:
        learning_rate: factor on the quasi-Newton step.
        history: number of curvature pairs kept.
        first_step: root-mean-square pixel change of the very first step, when no curvature is known, in 0–255 units.
        memory: number of accepted losses with which a new one is compared.
    """

    def __init__(self, learning_rate: float = 1.0, history: int = 20, first_step: float = 4.0, memory: int = 2) -> None:
        self._rate = learning_rate
        self._history = history
        self._first_step = first_step / 255
        self._memory = memory
        self._pairs: list[tuple[Tensor, Tensor, Tensor]] = []
        self._scale = torch.zeros(())
        self._canvas: Tensor | None = None
        self._losses: list[Tensor] = []
        self._gradient: Tensor | None = None
        self._rejections = torch.zeros(())

    def step(self, canvas: Tensor, at: Evaluation) -> Tensor:
        """The next canvas (N, 3, H, W), given the loss and gradient at this one."""
        if self._canvas is None or self._gradient is None:
            self._canvas, self._gradient = canvas, at.gradient
            self._losses.append(at.loss)
            self._rejections, self._scale = torch.zeros_like(at.loss), torch.zeros_like(at.loss)
            return self._steepest(torch.full_like(at.loss, self._rate * self._first_step))
        recent = torch.stack(self._losses).amax(0)
        accepted = torch.isfinite(at.loss) & (at.loss <= recent)
        keep = _per_pixel(accepted)
        s = canvas - self._canvas
        y = torch.where(keep, at.gradient - self._gradient, 0)
        self._remember(s, y, accepted)
        self._canvas = torch.where(keep, canvas, self._canvas)
        self._gradient = torch.where(keep, at.gradient, self._gradient)
        self._losses.append(torch.where(accepted, at.loss, self._losses[-1]))
        del self._losses[: -self._memory]
        self._rejections = torch.where(accepted, 0, self._rejections + 1)
        # A direction that fails twice is not a direction of descent: what was learned of the curvature is wrong here.
        lost = self._rejections >= 2
        self._pairs = [(s_, y_, rho.masked_fill(lost, 0)) for s_, y_, rho in self._pairs]
        self._scale = self._scale.masked_fill(lost, 0)
        blind = self._scale == 0
        free = _projected(self._canvas, self._gradient)
        newton = (self._canvas - self._rate * self._inverse_hessian(free)).clamp(0, 1)
        shorter = self._canvas + s / 4
        # Where no curvature is known (yet, or it is negative) strides grow while they pay and shrink when they do not.
        downhill = self._steepest(_rms(s) * torch.where(accepted, 2, 0.25))
        return torch.where(_per_pixel(blind), downhill, torch.where(keep, newton, shorter))

    def _steepest(self, length: Tensor) -> Tensor:
        """A step down the gradient of root-mean-square `length` (N,)."""
        assert self._canvas is not None and self._gradient is not None
        free = _projected(self._canvas, self._gradient)
        return (self._canvas - _per_pixel(length / _rms(free).clamp_min(1e-30)) * free).clamp(0, 1)

    def _remember(self, s: Tensor, y: Tensor, accepted: Tensor) -> None:
        sy, yy, ss = _dot(s, y), _dot(y, y), _dot(s, s)
        # The curvature condition, with room for rounding; a pair that fails it is kept with weight zero, because the
        # other canvases of the batch may need theirs.
        good = accepted & (sy > 1e-8 * (ss * yy).sqrt())
        rho = torch.where(good, 1 / sy.clamp_min(1e-38), 0)
        scale = sy / yy.clamp_min(1e-38)
        self._scale = torch.where(good, scale, self._scale)
        self._pairs.append((s, y, rho))
        del self._pairs[: -self._history]

    def _inverse_hessian(self, gradient: Tensor) -> Tensor:
        """H·gradient by the two-loop recursion."""
        q = gradient.clone()
        alphas = []
        for s, y, rho in reversed(self._pairs):
            alpha = rho * _dot(s, q)
            alphas.append(alpha)
            q -= _per_pixel(alpha) * y
        q *= _per_pixel(self._scale)
        for (s, y, rho), alpha in zip(self._pairs, reversed(alphas), strict=True):
            beta = rho * _dot(y, q)
            q += _per_pixel(alpha - beta) * s
        return q


def _per_pixel(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _rms(a: Tensor) -> Tensor:
    return a.square().mean((1, 2, 3)).sqrt()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((1, 2, 3))


def _projected(canvas: Tensor, gradient: Tensor) -> Tensor:
    """The gradient without the pixels that would leave the box."""
    outwards = ((canvas <= 0) & (gradient > 0)) | ((canvas >= 1) & (gradient < 0))
    return gradient.masked_fill(outwards, 0)
