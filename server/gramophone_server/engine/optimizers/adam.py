"""The Adam optimizer."""

import torch
from torch import Tensor

from ..canvas import resized
from ..objective import Evaluation
from ..tiling import FLAT, Wraps
from .batch import is_finite, per_canvas, per_pixel
from .optimizer import State


class Adam:
    """Adam (Kingma & Ba 2015) followed by projection onto the box.

    If the loss or gradient of a canvas is not finite, the canvas returns to its last finite iterate, its moments are
    reset, and its step size is halved.

    Args:
        learning_rate: step size in 0–255 units.
        betas: decay of the first and second moment.
        eps: constant added to the root of the second moment.
    """

    is_uniform = True

    def __init__(
        self, learning_rate: float = 10.0, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-12
    ) -> None:
        self._rate = learning_rate / 255
        self._betas = betas
        # eps is absolute, and losses differ by ten orders of magnitude between options: keep it far below any gradient.
        self._eps = eps
        self._state: State = {}

    def reserve(self, canvas: Tensor) -> None:
        """Allocates nothing: the moments are allocated by the first step."""

    def step(self, canvas: Tensor, at: Evaluation) -> Tensor:
        """Returns the next canvas (N, 3, H, W), 0 to 1, given the loss and gradient at the current one."""
        first, second = self._betas
        if not self._state:
            self._state = {
                "mean": torch.zeros_like(canvas),
                "square": torch.zeros_like(canvas),
                "steps": torch.zeros_like(at.loss),
                "damping": torch.ones_like(at.loss),
                "finite": canvas,
            }
        state = self._state
        good = is_finite(at)
        # This order of operations needs the least memory.
        state["finite"] = per_canvas(good, canvas, state["finite"])
        gradient = per_canvas(good, at.gradient, 0)
        state["mean"] = per_canvas(good, state["mean"], 0).lerp(gradient, 1 - first)
        square = per_canvas(good, state["square"], 0) * second
        state["square"] = square.addcmul_(gradient, gradient, value=1 - second)
        state["steps"] = torch.where(good, state["steps"] + 1, 0)
        state["damping"] = torch.where(good, state["damping"], state["damping"] / 2)
        taken = state["steps"].clamp_min(1)
        rate = self._rate * state["damping"] / (1 - first**taken)
        scale = (1 - second**taken).rsqrt()
        change = square.sqrt().mul_(per_pixel(scale)).add_(self._eps).reciprocal_().mul_(state["mean"])
        following: Tensor = change.mul_(per_pixel(-rate)).add_(state["finite"]).clamp_(0, 1)
        return following

    def resize(self, height: int, width: int, wraps: Wraps = FLAT) -> None:
        """Resizes the moments to canvases of height x width pixels."""
        for name in ("mean", "square", "finite"):
            if name in self._state:
                self._state[name] = resized(self._state[name], height, width, wraps)

    def forget(self) -> None:
        """Drops all state."""
        self._state = {}

    def state(self) -> State:
        """Returns everything that the next step depends on."""
        return dict(self._state)

    def load(self, state: State) -> None:
        """Resumes from a state."""
        self._state = dict(state)

    def variables(self) -> State:
        """Returns the moments, the last finite iterate, and the numbers of each canvas."""
        return self.state()

    def assign(self, variables: State) -> None:
        """Sets the tensors that `variables` returns."""
        self.load(variables)
