"""What an optimizer is to the synthesis."""

from typing import Any, Protocol

from torch import Tensor

from ..objective import Evaluation

State = dict[str, Any]
"""What an optimizer has learned: tensors, numbers, and lists and dicts of them."""


class Optimizer(Protocol):
    """Moves canvases downhill, a gradient evaluation at a time."""

    def step(self, canvas: Tensor, at: Evaluation) -> Tensor:
        """The next canvas (N, 3, H, W), given the loss and gradient at this one."""
        ...

    def resize(self, height: int, width: int) -> None:
        """Carries what has been learned over to canvases of another size."""
        ...

    def state(self) -> State:
        """All that the next step depends on."""
        ...

    def load(self, state: State) -> None:
        """Goes on from a state; its tensors are on the canvas's device."""
        ...
