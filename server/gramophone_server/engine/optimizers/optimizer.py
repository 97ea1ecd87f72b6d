"""The interface between the synthesis and an optimizer."""

from typing import Any, Protocol

from torch import Tensor

from ..objective import Evaluation
from ..tiling import FLAT, Wraps

State = dict[str, Any]
"""The state of an optimizer: tensors, numbers, and lists and dicts of them."""


class Optimizer(Protocol):
    """Minimizes the loss of a batch of canvases, with one gradient evaluation per step.

    Attributes:
        is_uniform: whether every step after the first few does the same work on the device, so that it can be recorded.
    """

    is_uniform: bool

    def reserve(self, canvas: Tensor) -> None:
        """Allocates the memory that later steps need for long, before the gradient needs memory for a short time.

        Args:
            canvas: (N, 3, H, W), a canvas like those of the steps.
        """
        ...

    def step(self, canvas: Tensor, at: Evaluation) -> Tensor:
        """Returns the next canvas (N, 3, H, W), 0 to 1, given the loss and gradient at the current one."""
        ...

    def resize(self, height: int, width: int, wraps: Wraps = FLAT) -> None:
        """Adapts the state to canvases of height x width pixels, the next level of the pyramid.

        Args:
            wraps: the axes along which opposite edges of the canvases are neighbors.
        """
        ...

    def forget(self) -> None:
        """Drops all state: the next level has another objective."""
        ...

    def state(self) -> State:
        """Returns everything that the next step depends on."""
        ...

    def load(self, state: State) -> None:
        """Resumes from a state; its tensors must be on the canvas's device."""
        ...

    def variables(self) -> State:
        """Returns the tensors that each step replaces; tensors that it overwrites are not among them."""
        ...

    def assign(self, variables: State) -> None:
        """Sets the tensors that `variables` returns."""
        ...
