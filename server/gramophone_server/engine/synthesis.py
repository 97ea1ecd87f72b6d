"""The optimization loop: an iterable of frames that can be stopped, saved and resumed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from .canvas import resized
from .graphs import Captured, CapturedObjective, Evaluator, Recorder, tensors_of, with_tensors
from .objective import Evaluation
from .optimizers.batch import per_canvas
from .optimizers.optimizer import Optimizer
from .tiling import FLAT, Wraps
from .transfer import download


@dataclass(frozen=True)
class Level:
    """One level of the pyramid of sizes.

    Attributes:
        height, width: size of the canvas in pixels.
        iterations: maximum number of updates at this level.
        open: returns the level's objective; called when the level begins.
        detail: (N, 3, height, width) noise added to the canvas that was enlarged from the coarser level: the enlarged
            canvas has no fine detail that the optimizer could work on. None to add nothing.
        project: function applied to the canvas when the level begins and after each update, such as one that restores
            fixed pixels; None to leave it unchanged.
        wraps: the axes along which opposite edges of the canvas are neighbors.
        fresh: whether the optimizer begins anew, because the loss is another one than at the previous level.
    """

    height: int
    width: int
    iterations: int
    open: Callable[[], Evaluator]
    detail: Tensor | None = None
    project: Callable[[Tensor], Tensor] | None = None
    wraps: Wraps = FLAT
    fresh: bool = False

    def projected(self, canvas: Tensor) -> Tensor:
        """Returns the canvas after `project`."""
        return canvas if self.project is None else self.project(canvas)

    def enlarged(self, canvas: Tensor) -> Tensor:
        """Returns the canvas of the coarser level (N, 3, H, W) resized to this level, with `detail`, and projected."""
        canvas = resized(canvas, self.height, self.width, self.wraps)
        return self.projected(canvas if self.detail is None else (canvas + self.detail).clamp_(0, 1))


@dataclass(frozen=True)
class Plateau:
    """The condition for leaving a level early: the best loss fell by less than a fraction over a number of updates.

    Attributes:
        tolerance: the relative decrease of the best loss below which the level ends.
        window: number of updates over which the decrease is measured.
    """

    tolerance: float
    window: int = 50


@dataclass(frozen=True)
class Best:
    """The iterate with the lowest loss so far, for each canvas of a batch.

    Attributes:
        canvas: (N, 3, H, W), 0 to 1.
        loss: (N,) loss of each canvas; infinite until an iterate has a finite loss.
    """

    canvas: Tensor
    loss: Tensor

    def or_better(self, canvas: Tensor, at: Evaluation) -> "Best":
        """Returns, for each canvas, the given iterate if its loss is lower, else the present best one."""
        better = at.loss < self.loss
        return Best(per_canvas(better, canvas, self.canvas), torch.where(better, at.loss, self.loss))


@dataclass(frozen=True)
class Frame:
    """The state of a batch of canvases after an update.

    Attributes:
        iteration: number of updates so far, over all levels.
        level: index of the current level; 0 is the coarsest.
        canvas: (N, 3, H, W), 0 to 1, after update number `iteration`; its loss is not known yet.
        terms: (N, T) unweighted loss terms of the canvas before that update.
        loss: (N,) weighted sum of `terms`.
        best: the best iterates of this level whose loss is known.
        average: (N, 3, H, W) averaged iterate; None without averaging.
        scheduled: whether the frame comes every `report_every` updates or at the end of a level, not by `attention`.
    """

    iteration: int
    level: int
    canvas: Tensor
    terms: Tensor
    loss: Tensor
    best: Best
    average: Tensor | None
    scheduled: bool = True

    @cached_property
    def numbers(self) -> "Numbers":
        """The losses as numbers on the host, read once: each read makes the host wait for a GPU."""
        n = len(self.loss)
        values = download(torch.cat([self.loss, self.best.loss, self.terms.flatten()]))().tolist()
        rows = self.terms.shape[1]
        terms = tuple(tuple(values[2 * n + i * rows : 2 * n + (i + 1) * rows]) for i in range(n))
        return Numbers(tuple(values[:n]), tuple(values[n : 2 * n]), terms)


@dataclass(frozen=True)
class Numbers:
    """The losses of a frame.

    Attributes:
        loss: loss of each of the N canvases.
        best: lowest loss so far of each canvas.
        terms: T unweighted terms of each canvas.
    """

    loss: tuple[float, ...]
    best: tuple[float, ...]
    terms: tuple[tuple[float, ...], ...]


class Synthesis:
    """Optimizes a batch of canvases level by level, with one gradient evaluation per update.

    Iteration yields a frame every `report_every` updates, after the last update of each level, and when `attention`
    asks for one. Between frames, on a GPU, the host does not wait for the device. To stop the optimization, stop
    iterating. `state`, called at a frame, returns everything needed to resume from that frame; the resumed optimization
    produces the same bytes as an uninterrupted one.

    Args:
        levels: levels of the pyramid, from coarse to fine; a single level for no pyramid.
        canvas: initial canvas (N, 3, H, W), of the first level's size.
        optimizer: computes each update of the canvas.
        report_every: number of updates between frames, >= 1.
        attention: called after each update; returns whether a frame follows at once. Such frames do not count for a
            plateau.
        averaging: decay of the exponential average of the iterates, in [0, 1); 0 for no averaging.
        plateau: condition for leaving a level before its iterations are done; None to do all iterations.
        recorder: makes the recorder with which the updates of a level are recorded; None to record nothing.
        evaluates_apart: whether the objectives wait for others or record themselves, so that no update records their
            evaluation.
    """

    def __init__(
        self,
        levels: Sequence[Level],
        canvas: Tensor,
        optimizer: Optimizer,
        *,
        report_every: int,
        attention: Callable[[], bool] = lambda: False,
        averaging: float = 0.0,
        plateau: Plateau | None = None,
        recorder: Callable[[], Recorder] | None = None,
        evaluates_apart: bool = False,
    ) -> None:
        self._recorder = recorder
        self._evaluates_apart = evaluates_apart
        self._captured: Captured | None = None
        self._levels = tuple(levels)
        self._optimizer = optimizer
        self._report_every = report_every
        self._attention = attention
        self._decay = averaging
        self._plateau = plateau
        self._iteration = 0
        self._number = 0
        self._history: list[tuple[int, Tensor]] = []
        self._terms = self._loss = torch.zeros(0)
        self._begin(canvas)

    def __iter__(self) -> Iterator[Frame]:
        while self._number < len(self._levels):
            level = self._levels[self._number]
            with self.updates(level) as update:
                while self._done < level.iterations and not self._all_stopped and not self._ended:
                    update()
                    if self._iteration % self._report_every == 0 or self._done == level.iterations:
                        self._check_plateau()
                        yield self.frame()
                    elif self._attention():
                        yield replace(self.frame(), scheduled=False)
            self._number += 1
            if self._number < len(self._levels):
                self._climb(self._levels[self._number])

    @contextmanager
    def updates(self, level: Level) -> Iterator[Callable[[], None]]:
        """Opens the objective of a level; the `with` block receives the function that makes one update."""
        objective, evaluation = level.open(), None
        self._optimizer.reserve(self._canvas)
        work: Callable[[], object]
        if self._recorder is None:
            work = partial(self._advance, objective)
        elif self._optimizer.is_uniform:
            recorded = self._follow if self._evaluates_apart else partial(self._advance, objective)
            captured = Captured(recorded, self._recorder(), variables=self._variables, assign=self._assign)
            work = self._captured = captured
            if self._evaluates_apart:
                work = lambda: captured(*_parts(objective.evaluate(self._canvas)))  # noqa: E731
        elif self._evaluates_apart:
            work = partial(self._advance, objective)
        else:
            # The optimizer's work changes from step to step: record the evaluation alone.
            evaluation = CapturedObjective(objective, self._recorder())
            work = partial(self._advance, evaluation)

        def update() -> None:
            work()
            self._iteration += 1
            self._done += 1
            self._averaged += bool(self._decay)

        try:
            yield update
        finally:
            for recording in (self._captured, evaluation):
                if recording is not None:
                    recording.close()
            self._captured = None

    def end_level(self) -> None:
        """Ends the current level before its iterations are done; the last level continues. Call this at a frame."""
        self._ended = self._number < len(self._levels) - 1

    def frame(self) -> Frame:
        """Returns the frame of the latest update; requires at least one update, here or in the loaded state."""
        average = self._average / (1 - self._decay**self._averaged) if self._decay else None
        canvas, terms, loss, best = self._canvas, self._terms, self._loss, self._best
        if self._overwrites:
            canvas, terms, loss = canvas.clone(), terms.clone(), loss.clone()
            best = Best(best.canvas.clone(), best.loss.clone())
        return Frame(self._iteration, self._number, canvas, terms, loss, best, average)

    def state(self) -> dict[str, Any]:
        """Returns everything needed to resume: tensors, numbers, and lists and dicts of them."""
        state = {
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
            "course": [list(entry) for entry in self._history],
            "optimizer": self._optimizer.state(),
        }
        if not self._overwrites:
            return state
        overwritten = {id(tensor) for tensor in tensors_of(self._variables())}
        copies = (tensor.to("cpu", copy=True) if id(tensor) in overwritten else tensor for tensor in tensors_of(state))
        copied: dict[str, Any] = with_tensors(state, copies)
        return copied

    def load(self, state: dict[str, Any]) -> None:
        """Resumes from the `state` of an optimization with the same settings; its tensors must be on the device."""
        self._iteration, self._number, self._done = state["iteration"], state["number"], state["done"]
        self._canvas, self._best = state["canvas"], Best(*state["best"])
        self._terms, self._loss = state["terms"], state["loss"]
        self._average, self._averaged = state["average"], state["averaged"]
        self._stopped = state["stopped"]
        self._all_stopped = bool(self._stopped.all())
        self._history = [(iteration, loss) for iteration, loss in state["course"]]
        self._optimizer.load(state["optimizer"])

    def _begin(self, canvas: Tensor) -> None:
        """Begins a level with the given canvas."""
        self._canvas = canvas
        self._done = 0
        self._ended = False
        self._best = Best(canvas, torch.full((len(canvas),), torch.inf, device=canvas.device))
        self._average = torch.zeros_like(canvas) if self._decay else torch.zeros(0)
        self._averaged = 0
        self._stopped = torch.zeros(len(canvas), dtype=torch.bool, device=canvas.device)
        # Known on the host: reading `_stopped` before each update would make the host wait for a GPU.
        self._all_stopped = False
        self._history = []

    def _climb(self, level: Level) -> None:
        """Begins the next level with the best canvas of the previous level."""
        self._begin(level.enlarged(self._best.canvas))
        if level.fresh:
            self._optimizer.forget()
        else:
            self._optimizer.resize(level.height, level.width, level.wraps)

    @property
    def _overwrites(self) -> bool:
        """Whether updates overwrite the canvas and all other variables instead of replacing them."""
        return self._captured is not None and self._captured.is_recorded

    def _advance(self, objective: Evaluator) -> tuple[Tensor, ...]:
        """Evaluates the gradient and updates the canvas; changes nothing but the variables."""
        return self._follow(*_parts(objective.evaluate(self._canvas)))

    def _follow(self, terms: Tensor, loss: Tensor, gradient: Tensor) -> tuple[Tensor, ...]:
        """Updates the canvas, given its evaluation; changes nothing but the variables."""
        at = Evaluation(terms, loss, gradient)
        self._best = self._best.or_better(self._canvas, at)
        canvas = self._levels[self._number].projected(self._optimizer.step(self._canvas, at))
        if self._plateau is not None:
            # Keep a canvas that has stopped unchanged, so that its result does not depend on the rest of the batch.
            canvas = per_canvas(self._stopped, self._best.canvas, canvas)
        self._canvas = canvas
        if self._decay:
            self._average = self._average.lerp(canvas, 1 - self._decay)
        self._terms, self._loss = at.terms, at.loss
        return ()

    def _variables(self) -> dict[str, Any]:
        """Returns the tensors that an update replaces."""
        return {
            "canvas": self._canvas,
            "best": [self._best.canvas, self._best.loss],
            "average": self._average,
            "stopped": self._stopped,
            "terms": self._terms,
            "loss": self._loss,
            "optimizer": self._optimizer.variables(),
        }

    def _assign(self, variables: dict[str, Any]) -> None:
        """Sets the tensors that `_variables` returns."""
        self._canvas, self._best = variables["canvas"], Best(*variables["best"])
        self._average, self._stopped = variables["average"], variables["stopped"]
        self._terms, self._loss = variables["terms"], variables["loss"]
        self._optimizer.assign(variables["optimizer"])

    def _check_plateau(self) -> None:
        if self._plateau is None:
            return
        # The next update may overwrite the loss.
        self._history.append((self._done, self._best.loss.clone()))
        before = [loss for done, loss in self._history if done <= self._done - self._plateau.window]
        if before:
            gained = before[-1] - self._best.loss
            self._stopped = self._stopped | (gained < self._plateau.tolerance * before[-1])
            self._all_stopped = bool(self._stopped.all())
            # Drop entries that are no longer needed: keep the newest one that is older than the window.
            self._history = self._history[len(before) - 1 :]


def _parts(at: Evaluation) -> tuple[Tensor, Tensor, Tensor]:
    return at.terms, at.loss, at.gradient
