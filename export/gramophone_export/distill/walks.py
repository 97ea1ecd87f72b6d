"""Walks: optimizations of canvases through the current student, whose intermediate results are training pictures.

A walk consists of stretches of some optimizer steps; the canvases after each stretch are added to the training pool.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gramophone_server.engine.canvas import fine_detail, noise, resized
from gramophone_server.engine.kernels.gram import gram_matrix
from gramophone_server.engine.losses import CONTENT, GRAM
from gramophone_server.engine.network import Network
from gramophone_server.engine.objective import Objective
from gramophone_server.engine.optimizers.lbfgs import LBFGS
from gramophone_server.engine.term import WeightedTerm
from gramophone_server.models.layers import CONTENT_LAYERS, STYLE_LAYERS

from .networks import Student, Teacher
from .pictures import Photos, perturbed
from .pool import Entry, Pair
from .recipe import Recipe

# Probability that a stretch optimizes through the teacher, so that the student also learns the right path; and
# probability that all layers have equal weights, so that each layer's errors are explored.
_TEACHER_SHARE, _EQUAL_SHARE = 0.08, 0.4
_LAYERS = (*STYLE_LAYERS, *CONTENT_LAYERS)


@dataclass
class Walk:
    """A batch of canvases that is optimized toward styles.

    Attributes:
        canvas: (N, 3, S, S), 0 to 1.
        styles: the N target styles.
        age: number of stretches so far.
    """

    canvas: Tensor
    styles: list[Entry]
    age: int


class Walks:
    """Several walks, which are continued in turn.

    Args:
        recipe: the hyperparameters.
        photos: source of styles and initial canvases.
        number: number of walks.
    """

    def __init__(self, recipe: Recipe, photos: Photos, number: int = 4) -> None:
        self._recipe = recipe
        self._photos = photos
        self._walks: list[Walk | None] = [None] * number
        self._turn = 0

    def photographs(self, generator: torch.Generator) -> list[Pair]:
        """Returns pairs of new photographs, as styles, and their perturbed versions, as pictures."""
        fresh = [Entry.of(self._photos.crop(self._recipe.side, generator)) for _ in range(self._recipe.fresh)]
        return [self._perturbed(style, generator) for style in fresh]

    def stretch(self, student: Student, teacher: Teacher, generator: torch.Generator) -> list[Pair]:
        """Continues the next walk by one stretch through the current student, and returns its canvases as pairs."""
        number, self._turn = self._turn, (self._turn + 1) % len(self._walks)
        walk = self._walks[number]
        # Start the walks at different ages, so that they do not restart at the same time.
        if walk is None or walk.age >= self._recipe.ages:
            age = number * self._recipe.ages // len(self._walks) if walk is None else 0
            walk = self._begin(age, generator)
        through_teacher, equal, length = torch.rand(3, generator=generator).tolist()
        least, most = self._recipe.stretch
        steps = least + round((most - least) * length)
        network, steps = (
            (teacher.network, 6)
            if through_teacher < _TEACHER_SHARE
            else (student.network(_LAYERS, teacher.scales), steps)
        )
        if walk.age == 0:
            coarse = resized(walk.canvas, walk.canvas.shape[2] // 2, walk.canvas.shape[3] // 2)
            coarse = self._optimized(coarse, walk, network, equal < _EQUAL_SHARE, steps)
            canvas = resized(coarse, *walk.canvas.shape[2:])
            seeds = torch.randint(2**31, (len(canvas),), generator=generator).tolist()
            walk.canvas = (canvas + fine_detail(seeds, *canvas.shape[2:], deviation=0.05)).clamp_(0, 1)
        walk.canvas = self._optimized(walk.canvas, walk, network, equal < _EQUAL_SHARE, steps)
        walk.age += 1
        self._walks[number] = walk
        return [Pair(Entry.of(c), style) for c, style in zip(walk.canvas, walk.styles, strict=True)]

    def state(self) -> dict[str, Any]:
        """Returns everything that the next stretch depends on."""
        walks = [w and {"canvas": w.canvas, "styles": [s.picture for s in w.styles], "age": w.age} for w in self._walks]
        return {"turn": self._turn, "walks": walks}

    def load(self, state: dict[str, Any]) -> None:
        """Resumes from a state."""
        self._turn = state["turn"]
        self._walks = [w and Walk(w["canvas"], [Entry(s) for s in w["styles"]], w["age"]) for w in state["walks"]]

    def _begin(self, age: int, generator: torch.Generator) -> Walk:
        side, number = self._recipe.side, self._recipe.walkers
        styles = [Entry.of(self._photos.crop(side, generator)) for _ in range(number)]
        seeds = torch.randint(2**31, (number,), generator=generator).tolist()
        canvas = noise(seeds, side, side)
        # A quarter of the canvases start from a photograph, like style transfers.
        for i in range(0, number, 4):
            canvas[i] = self._photos.crop(side, generator)
        return Walk(canvas, styles, age)

    def _perturbed(self, style: Entry, generator: torch.Generator) -> Pair:
        other = self._photos.crop(self._recipe.side, generator)
        return Pair(Entry.of(perturbed(style.picture.float(), other, generator)), style)

    def _optimized(self, canvas: Tensor, walk: Walk, network: Network, equal: bool, steps: int) -> Tensor:
        styles = torch.stack([style.picture.float() for style in walk.styles])
        with torch.no_grad():
            features = network(resized(styles, *canvas.shape[2:]) if styles.shape != canvas.shape else styles)
        # A quarter of the canvases are content reconstructions.
        of_content = torch.arange(len(canvas)) % 4 == 1
        terms = [WeightedTerm(CONTENT, layer, features[layer].float(), of_content.float()) for layer in CONTENT_LAYERS]
        for layer in STYLE_LAYERS:
            target = gram_matrix(features[layer])
            weight = torch.where(of_content, 0.0, 0.2)
            if equal:
                weight = weight * 4 * target.shape[1] ** 2 / target.square().sum((1, 2)).clamp_min(1e-12)
            terms.append(WeightedTerm(GRAM, layer, target, weight))
        # L-BFGS starts each stretch without curvature pairs. A long first step would move an almost converged canvas
        # away from its path.
        objective, optimizer = Objective(network, terms), LBFGS(first_step=2.0)
        for _ in range(steps):
            canvas = optimizer.step(canvas, objective.evaluate(canvas))
        return canvas.detach()
