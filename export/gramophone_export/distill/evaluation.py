"""Evaluates how well a student approximates its teacher, on photographs that it was not trained with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from gramophone_server.engine.canvas import noise
from gramophone_server.engine.kernels.gram import gram_matrix
from gramophone_server.engine.losses import GRAM
from gramophone_server.engine.losses.gram import style_loss
from gramophone_server.engine.objective import Objective
from gramophone_server.engine.optimizers.lbfgs import LBFGS
from gramophone_server.engine.term import WeightedTerm
from gramophone_server.models.layers import STYLE_LAYERS

from .networks import Student, Teacher
from .pictures import load, tensor

SIDE, ITERATIONS = 128, 60


@dataclass(frozen=True)
class StudentEvaluation:
    """The accuracy of a student, per layer. G_t is a Gram matrix of the teacher, P G Pᵀ the student's estimate of it.

    Attributes:
        photos: median of ‖P G Pᵀ − G_t‖ / ‖G_t‖ over photographs.
        iterates: median of ‖P G Pᵀ − G_t‖ / ‖A_t‖ over pictures that were optimized from noise through the student to
            the style of each photograph, where A_t is the teacher's Gram matrix of the photograph.
        reached: median of ‖G_t − A_t‖ / ‖A_t‖ over the same pictures: their distance from the target according to the
            teacher.
        correlation: correlation between student and teacher of √E_l (the style loss of a layer) over all pairs of
            photographs.
        distance: correlation between student and teacher of the square root of the paper's loss, over all style layers.
    """

    photos: dict[str, float]
    iterates: dict[str, float]
    reached: dict[str, float]
    correlation: dict[str, float]
    distance: float

    def table(self) -> str:
        """Returns the numbers as a Markdown table."""
        rows = [
            "| layer | error on photographs | error on iterates | distance reached | correlation of distances |",
            "| --- | --- | --- | --- | --- |",
        ]
        for name, error in self.photos.items():
            rest = self.iterates[name], self.reached[name], self.correlation[name]
            rows.append(f"| {name} | {error:.3f} | " + " | ".join(f"{value:.3f}" for value in rest) + " |")
        return "\n".join([*rows, f"| all style layers | | | | {self.distance:.3f} |"]) + "\n"


def evaluate(
    student: Student, teacher: Teacher, paths: Sequence[Path], layers: Sequence[str] = STYLE_LAYERS
) -> StudentEvaluation:
    """Evaluates a student on photographs, resized to squares of SIDE pixels.

    Args:
        student: the trained student.
        teacher: its teacher.
        paths: the photographs.
        layers: the layers to evaluate.
    """
    photos, iterates, reached = [], [], []
    grams: list[dict[str, Tensor]] = []
    ours: list[dict[str, Tensor]] = []
    for path in paths:
        image = load(path).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        picture = tensor(image)[None]
        theirs = _grams(teacher.features(picture))
        mapped = _mapped(student, picture)
        grams.append(theirs)
        ours.append(mapped)
        photos.append({name: _relative(mapped[name], theirs[name], theirs[name]) for name in layers})
        made = _optimized(student, teacher, picture)
        known, guessed = _grams(teacher.features(made)), _mapped(student, made)
        iterates.append({name: _relative(guessed[name], known[name], theirs[name]) for name in layers})
        reached.append({name: _relative(known[name], theirs[name], theirs[name]) for name in layers})
    pairs = [(a, b) for a in range(len(paths)) for b in range(a)]

    def distances(found: Sequence[dict[str, Tensor]], name: str) -> Tensor:
        scale = teacher.scales[name] ** 2
        return torch.stack([style_loss(scale * found[a][name], scale * found[b][name])[0] for a, b in pairs])

    each = {name: (distances(ours, name), distances(grams, name)) for name in layers}
    whole = [torch.stack([each[name][i] for name in STYLE_LAYERS]).mean(0) for i in (0, 1)]
    return StudentEvaluation(
        _median(photos, layers), _median(iterates, layers), _median(reached, layers),
        {name: _correlation(a.sqrt(), b.sqrt()) for name, (a, b) in each.items()},
        _correlation(whole[0].sqrt(), whole[1].sqrt()),
    )  # fmt: skip


def _grams(features: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: gram_matrix(value) for name, value in features.items()}


def _mapped(student: Student, picture: Tensor) -> dict[str, Tensor]:
    """Returns P G Pᵀ of each layer, (1, C_t, C_t)."""
    with torch.no_grad():
        found = _grams(student(picture))
        return {name: student.maps[name] @ found[name] @ student.maps[name].T for name in student.layers}


def _optimized(student: Student, teacher: Teacher, picture: Tensor) -> Tensor:
    """Returns a style reconstruction of `picture` through the student, from noise, with relative losses."""
    network = student.network(STYLE_LAYERS, teacher.scales)
    with torch.no_grad():
        targets = _grams(network(picture))
    terms = []
    for name, target in targets.items():
        weight = 4 * target.shape[1] ** 2 / target.square().sum((1, 2))
        terms.append(WeightedTerm(GRAM, name, target, weight / len(targets)))
    objective, optimizer, canvas = Objective(network, terms), LBFGS(), noise([0], *picture.shape[2:])
    for _ in range(ITERATIONS):
        canvas = optimizer.step(canvas, objective.evaluate(canvas))
    return canvas


def _relative(found: Tensor, expected: Tensor, size: Tensor) -> float:
    return float(((found - expected).norm() / size.norm()).item())


def _median(values: Sequence[dict[str, float]], layers: Sequence[str]) -> dict[str, float]:
    return {name: float(torch.tensor([v[name] for v in values]).median()) for name in layers}


def _correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])
