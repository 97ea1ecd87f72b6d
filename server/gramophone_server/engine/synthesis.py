"""The optimisation itself: a generator of frames."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .objective import Evaluation, Objective
from .optimizers import Optimizer


@dataclass(frozen=True)
class Best:
    """Of each canvas of a batch the iterate with the least loss so far.

    Attributes:
        canvas: (N, 3, H, W), 0 to 1.
        loss: (N,) its loss; infinite until there has been a finite one.
    """

    canvas: Tensor
    loss: Tensor

    def or_better(self, canvas: Tensor, at: Evaluation) -> "Best":
        """This, or canvas by canvas the given iterate where its loss is less."""
        better = at.loss < self.loss
        return Best(torch.where(better.view(-1, 1, 1, 1), canvas, self.canvas), torch.where(better, at.loss, self.loss))


@dataclass(frozen=True)
class Frame:
    """A batch of canvases on its way.

    Attributes:
        iteration: updates done.
        canvas: (N, 3, H, W) after update number `iteration`, 0 to 1; its loss is not known yet.
        terms: (N, T) loss terms before their weights, at the canvas before that update.
        loss: (N,) their weighted sum.
        best: the best iterates whose loss is known.
    """

    iteration: int
    canvas: Tensor
    terms: Tensor
    loss: Tensor
    best: Best


def optimise(
    objective: Objective, canvas: Tensor, optimizer: Optimizer, *, iterations: int, report_every: int
) -> Iterator[Frame]:
    """Updates the canvas (N, 3, H, W) `iterations` times, one gradient evaluation each.

    Yields a frame every `report_every` updates and after the last; between frames nothing waits for the device. Closing
    the generator ends the optimisation.
    """
    best = Best(canvas, torch.full((len(canvas),), torch.inf, device=canvas.device))
    for iteration in range(1, iterations + 1):
        at = objective.evaluate(canvas)
        best = best.or_better(canvas, at)
        canvas = optimizer.step(canvas, at)
        if iteration % report_every == 0 or iteration == iterations:
            yield Frame(iteration, canvas, at.terms, at.loss, best)
