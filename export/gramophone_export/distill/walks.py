"""Canvases that are being optimized through the student, as jobs will be, and what they pass on their way."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gramophone_server.engine.canvas import fine_detail, noise, resized
from gramophone_server.engine.kernels.gram import gram_matrix
from gramophone_server.engine.objective import Objective, Term
from gramophone_server.engine.optimizers.lbfgs import LBFGS
from gramophone_server.engine.vgg import TruncatedVGG
from gramophone_server.models.layers import CONTENT_LAYERS, STYLE_LAYERS

from .networks import Student, Teacher
from .pictures import Photos, disturbed
from .pool import Entry, Pair
from .recipe import Recipe

# How often a stretch is walked with the teacher instead, so that the student sees where it should have gone; and how
# often each layer counts the same, so that none is left unexplored.
_LED, _EVEN = 0.08, 0.4
_LAYERS = (*STYLE_LAYERS, *CONTENT_LAYERS)


@dataclass
class Walk:
    """Canvases (N, 3, S, S), what they are to look like, and for how many stretches they have been on their way."""

    canvas: Tensor
    styles: list[Entry]
    age: int


class Walks:
    """Several walks, which take turns."""

    def __init__(self, recipe: Recipe, photos: Photos, number: int = 4) -> None:
        self._recipe = recipe
        self._photos = photos
        self._walks: list[Walk | None] = [None] * number
        self._turn = 0

    def photographs(self, generator: torch.Generator) -> list[Pair]:
        """Photographs, and what `disturbed` makes of them."""
        fresh = [Entry.of(self._photos.crop(self._recipe.side, generator)) for _ in range(self._recipe.fresh)]
        return [self._disturbed(style, generator) for style in fresh]

    def stretch(self, student: Student, teacher: Teacher, generator: torch.Generator) -> list[Pair]:
        """Moves the walk whose turn it is, through the student as it is now; where its canvases are now."""
        number, self._turn = self._turn, (self._turn + 1) % len(self._walks)
        walk = self._walks[number]
        # The first round is cut short at different ages, so that the walks do not begin anew together.
        if walk is None or walk.age >= self._recipe.ages:
            age = number * self._recipe.ages // len(self._walks) if walk is None else 0
            walk = self._begin(age, generator)
        led, even, length = torch.rand(3, generator=generator).tolist()
        least, most = self._recipe.stretch
        steps = least + round((most - least) * length)
        network, steps = (teacher.network, 6) if led < _LED else (student.network(_LAYERS, teacher.scales), steps)
        if walk.age == 0:
            coarse = resized(walk.canvas, walk.canvas.shape[2] // 2, walk.canvas.shape[3] // 2)
            coarse = self._optimized(coarse, walk, network, even < _EVEN, steps)
            canvas = resized(coarse, *walk.canvas.shape[2:])
            seeds = torch.randint(2**31, (len(canvas),), generator=generator).tolist()
            walk.canvas = (canvas + fine_detail(seeds, *canvas.shape[2:], deviation=0.05)).clamp_(0, 1)
        walk.canvas = self._optimized(walk.canvas, walk, network, even < _EVEN, steps)
        walk.age += 1
        self._walks[number] = walk
        return [Pair(Entry.of(c), style) for c, style in zip(walk.canvas, walk.styles, strict=True)]

    def state(self) -> dict[str, Any]:
        """All that the next stretch depends on."""
        walks = [w and {"canvas": w.canvas, "styles": [s.picture for s in w.styles], "age": w.age} for w in self._walks]
        return {"turn": self._turn, "walks": walks}

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""
        self._turn = state["turn"]
        self._walks = [w and Walk(w["canvas"], [Entry(s) for s in w["styles"]], w["age"]) for w in state["walks"]]

    def _begin(self, age: int, generator: torch.Generator) -> Walk:
        side, number = self._recipe.side, self._recipe.walkers
        styles = [Entry.of(self._photos.crop(side, generator)) for _ in range(number)]
        seeds = torch.randint(2**31, (number,), generator=generator).tolist()
        canvas = noise(seeds, side, side)
        # A quarter begins at a photograph, as style transfers do.
        for i in range(0, number, 4):
            canvas[i] = self._photos.crop(side, generator)
        return Walk(canvas, styles, age)

    def _disturbed(self, style: Entry, generator: torch.Generator) -> Pair:
        other = self._photos.crop(self._recipe.side, generator)
        return Pair(Entry.of(disturbed(style.picture.float(), other, generator)), style)

    def _optimized(self, canvas: Tensor, walk: Walk, network: TruncatedVGG, even: bool, steps: int) -> Tensor:
        styles = torch.stack([style.picture.float() for style in walk.styles])
        with torch.no_grad():
            features = network(resized(styles, *canvas.shape[2:]) if styles.shape != canvas.shape else styles)
        # A quarter are content reconstructions.
        of_content = torch.arange(len(canvas)) % 4 == 1
        terms = [Term("content", layer, features[layer].float(), of_content.float()) for layer in CONTENT_LAYERS]
        for layer in STYLE_LAYERS:
            target = gram_matrix(features[layer])
            weight = torch.where(of_content, 0.0, 0.2)
            if even:
                weight = weight * 4 * target.shape[1] ** 2 / target.square().sum((1, 2)).clamp_min(1e-12)
            terms.append(Term("style", layer, target, weight))
        # A stretch begins with no curvature known; near the end of a walk a long first step would lead off it.
        objective, optimizer = Objective(network, terms), LBFGS(first_step=2.0)
        for _ in range(steps):
            canvas = optimizer.step(canvas, objective.evaluate(canvas))
        return canvas.detach()
