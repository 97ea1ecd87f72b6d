"""The optimization itself: an iterable of frames that can be stopped, saved and taken up again."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .canvas import resized
from .objective import Evaluation, Objective
from .optimizers.batch import per_canvas
from .optimizers.optimizer import Optimizer


@dataclass(frozen=True)
class Level:
    """A level of the pyramid, coarse to fine.

    Attributes:
        height, width: of the canvas, in pixels.
        iterations: most updates at this level.
        open: makes the level's objective; called when the level begins.
        detail: (N, 3, height, width) added to the canvas that comes up from a coarser level, which has no fine detail
            for the optimizer to work on; None for nothing.
    """

    height: int
    width: int
    iterations: int
    open: Callable[[], Objective]
    detail: Tensor | None = None


@dataclass(frozen=True)
class Plateau:
    """When to leave a level early: the best loss fell by less than a fraction `tolerance` over `window` updates."""

    tolerance: float
    window: int = 50


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
        return Best(per_canvas(better, canvas, self.canvas), torch.where(better, at.loss, self.loss))


@dataclass(frozen=True)
class Frame:
    """A batch of canvases on its way.

    Attributes:
        iteration: updates done, over all levels.
        level: number of the level they are at, the coarsest being 0.
        canvas: (N, 3, H, W) after update number `iteration`, 0 to 1; its loss is not known yet.
        terms: (N, T) loss terms before their weights, at the canvas before that update.
        loss: (N,) their weighted sum.
        best: the best iterates of this level whose loss is known.
        average: (N, 3, H, W) the averaged iterate; None unless it was asked for.
    """

    iteration: int
    level: int
    canvas: Tensor
    terms: Tensor
    loss: Tensor
    best: Best
    average: Tensor | None


def climbed(canvas: Tensor, height: int, width: int, detail: Tensor | None) -> Tensor:
    """A canvas (N, 3, H, W) brought up to a finer level, with the level's `detail` added."""
    canvas = resized(canvas, height, width)
    return canvas if detail is None else (canvas + detail).clamp_(0, 1)


class Synthesis:
    """Optimizes a batch of canvases level by level, one gradient evaluation an update.

    Iterating yields a frame every `report_every` updates and after the last of each level; between frames nothing waits
    for the device. Leaving the iteration ends the optimization; at a frame `state` says all that is needed to go on
    from it, and gives the same bytes as if it had never been left.

    Args:
        levels: of the pyramid, coarse to fine; one for none.
        canvas: the start, (N, 3, H, W) of the first level's size.
        averaging: decay of the exponential average of the iterates, 0 to 1 (exclusive); 0 keeps none.
        plateau: when to leave a level before its iterations are done; None for never.
    """

    def __init__(
        self,
        levels: Sequence[Level],
        canvas: Tensor,
        optimizer: Optimizer,
        *,
        report_every: int,
        averaging: float = 0.0,
        plateau: Plateau | None = None,
    ) -> None:
        self._levels = tuple(levels)
        self._optimizer = optimizer
        self._report_every = report_every
        self._decay = averaging
        self._plateau = plateau
        self._iteration = 0
        self._number = 0
        self._course: list[tuple[int, Tensor]] = []
        self._terms = self._loss = torch.zeros(0)
        self._begin(canvas)

    def __iter__(self) -> Iterator[Frame]:
        while self._number < len(self._levels):
            level = self._levels[self._number]
            objective = level.open()
            while self._done < level.iterations and not self._stopped.all():
                self._update(objective)
                if self._iteration % self._report_every == 0 or self._done == level.iterations:
                    self._look_for_plateau()
                    yield self.frame()
            self._number += 1
            if self._number < len(self._levels):
                self._climb(self._levels[self._number])

    def frame(self) -> Frame:
        """The frame of the latest update; there must have been one, here or in what was loaded."""
        average = self._average / (1 - self._decay**self._averaged) if self._decay else None
        return Frame(self._iteration, self._number, self._canvas, self._terms, self._loss, self._best, average)

    def state(self) -> dict[str, Any]:
        """Where the optimization stands: tensors, numbers, and lists and dicts of them."""
        return {
            "iteration": self._iteration,
            "number": self._number,
            "done": self._done,
            "canvas": self._canvas,
            "terms": self._terms,
            "loss": self._loss,
            "best": [self._best.canvas, self._best.loss],
            "average": self._average,
            "averaged": self._averaged,
            "stopped": self._stopped,
            "course": [list(entry) for entry in self._course],
            "optimizer": self._optimizer.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from a `state` of an optimization that was set up like this one; its tensors are on the device."""
        self._iteration, self._number, self._done = state["iteration"], state["number"], state["done"]
        self._canvas, self._best = state["canvas"], Best(*state["best"])
        self._terms, self._loss = state["terms"], state["loss"]
        self._average, self._averaged = state["average"], state["averaged"]
        self._stopped = state["stopped"]
        self._course = [(iteration, loss) for iteration, loss in state["course"]]
        self._optimizer.load(state["optimizer"])

    def _begin(self, canvas: Tensor) -> None:
        """Begins a level at a canvas."""
        self._canvas = canvas
        self._done = 0
        self._best = Best(canvas, torch.full((len(canvas),), torch.inf, device=canvas.device))
        self._average = torch.zeros_like(canvas) if self._decay else torch.zeros(0)
        self._averaged = 0
        self._stopped = torch.zeros(len(canvas), dtype=torch.bool, device=canvas.device)
        self._course = []

    def _climb(self, level: Level) -> None:
        """Goes up to a finer level, from the best canvas of the last."""
        self._begin(climbed(self._best.canvas, level.height, level.width, level.detail))
        self._optimizer.resize(level.height, level.width)

    def _update(self, objective: Objective) -> None:
        """Takes a step."""
        at = objective.evaluate(self._canvas)
        self._best = self._best.or_better(self._canvas, at)
        canvas = self._optimizer.step(self._canvas, at)
        if self._plateau is not None:
            # One that has stopped waits for the others, so that its result does not depend on them.
            canvas = per_canvas(self._stopped, self._best.canvas, canvas)
        self._canvas = canvas
        self._iteration += 1
        self._done += 1
        if self._decay:
            self._average = self._average.lerp(canvas, 1 - self._decay)
            self._averaged += 1
        self._terms, self._loss = at.terms, at.loss

    def _look_for_plateau(self) -> None:
        if self._plateau is None:
            return
        self._course.append((self._done, self._best.loss))
        before = [loss for done, loss in self._course if done <= self._done - self._plateau.window]
        if before:
            gained = before[-1] - self._best.loss
            self._stopped = self._stopped | (gained < self._plateau.tolerance * before[-1])
            # What is older than the window is not looked at again.
            self._course = self._course[len(before) - 1 :]
