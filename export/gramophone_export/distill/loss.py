"""How far the student is from the teacher."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .networks import Student, Teacher
from .pool import Pair


def pair_losses(
    student: Student, teacher: Teacher, pairs: Sequence[Pair], dtype: torch.dtype
) -> dict[str, tuple[Tensor, Tensor]]:
    """For each layer the relative error of its features, squared, and of its Gram matrices, not squared.

    The features' is ‖P F − F_t‖² / ‖F_t‖². The Gram matrices' is the mean of that of the styles, ‖P G Pᵀ − G_t‖ / ‖G_t‖,
    and of the differences between pictures and styles, which are what the style loss is made of.
    """
    entries = [pair.picture for pair in pairs] + [pair.style for pair in pairs]
    canvas = torch.stack([entry.picture.float() for entry in entries])
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        activations = student(canvas)
    known = [entry.features(teacher) for entry in entries]
    losses = {}
    for name, activation in activations.items():
        target = torch.stack([features[name].float() for features in known]).flatten(2)
        found = student.maps[name] @ activation.float().flatten(2)
        squares = target.square().mean((1, 2))
        # Where there is next to nothing to see, as in a flat picture, an error counts by its size.
        features = ((found - target).square().mean((1, 2)) / (0.8 * squares + 0.2)).mean()
        error = _gram(found) - _gram(target)
        size = _gram(target).square().sum((1, 2))[len(pairs) :].sqrt() + 0.05 * target.shape[1] ** 0.5
        of_style, difference = error[len(pairs) :], error[: len(pairs)] - error[len(pairs) :]
        grams = 0.5 * sum((_norm(e) / size).mean() for e in (of_style, difference))
        losses[name] = (features, grams)
    return losses


def total(losses: Mapping[str, tuple[Tensor, Tensor]], weights: Mapping[str, float], gram: float) -> Tensor:
    """The weighted sum of all layers' losses."""
    return torch.stack([weights[name] * (f + gram * g) for name, (f, g) in losses.items()]).sum()


def _gram(features: Tensor) -> Tensor:
    """(N, C, C) of features (N, C, M), averaged over positions."""
    return features @ features.transpose(1, 2) / features.shape[2]


def _norm(matrices: Tensor) -> Tensor:
    return (matrices.square().sum((1, 2)) + 1e-8).sqrt()
