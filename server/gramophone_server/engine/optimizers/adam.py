"""Adam."""

import torch
from torch import Tensor

from ..canvas import resized
from ..objective import Evaluation
from .batch import is_finite, per_canvas, per_pixel
from .optimizer import State


class Adam:
    """Adam (Kingma & Ba 2015) followed by projection onto the box.

    A canvas whose loss or gradient is not finite goes back to where it was last finite, forgets its moments and goes on
    with half the step size.

    Args:
        learning_rate: step size in units of the 0–255 pixel range.
    """

    def __init__(
        self, learning_rate: float = 10.0, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-12
    ) -> None:
        self._rate = learning_rate / 255
        self._betas = betas
        # Far below any gradient: losses differ by ten orders of magnitude between options, and eps is absolute.
        self._eps = eps
        self._state: State = {}

    def step(self, canvas: Tensor, at: Evaluation) -> Tensor:
        """The next canvas (N, 3, H, W), given the loss and gradient at this one."""
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
        # In this order least is held at a time.
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

    def resize(self, height: int, width: int) -> None:
        """Carries the moments over to canvases of another size."""
        for name in ("mean", "square", "finite"):
            if name in self._state:
                self._state[name] = resized(self._state[name], height, width)

    def state(self) -> State:
        """All that the next step depends on."""
        return dict(self._state)

    def load(self, state: State) -> None:
        """Goes on from a state."""
        self._state = dict(state)
