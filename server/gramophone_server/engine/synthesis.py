"""The optimisation itself: a generator of frames."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from .objective import Objective
from .optimizers import Optimizer


@dataclass(frozen=True)
class Frame:
    """A batch of canvases on its way.

    Attributes:
        iteration: updates done.
        canvas: (N, 3, H, W) after update number `iteration`, 0 to 1.
        terms: (N, T) loss terms before their weights, at the canvas before that update.
        loss: (N,) their weighted sum.
    """

    iteration: int
    canvas: Tensor
    terms: Tensor
    loss: Tensor


def optimise(
    objective: Objective, canvas: Tensor, optimizer: Optimizer, *, iterations: int, report_every: int
) -> Iterator[Frame]:
    """Updates the canvas (N, 3, H, W) `iterations` times, one gradient evaluation each.

    Yields a frame every `report_every` updates and after the last; between frames nothing waits for the device. Closing
    the generator ends the optimisation.
    """
    for iteration in range(1, iterations + 1):
        at = objective.evaluate(canvas)
        canvas = optimizer.step(canvas, at)
        if iteration % report_every == 0 or iteration == iterations:
            yield Frame(iteration, canvas, at.terms, at.loss)
