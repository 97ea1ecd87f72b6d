"""How far the student is from the teacher."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .networks import Student, Teacher, positions
from .pool import Pair


def pair_losses(
    student: Student, teacher: Teacher, pairs: Sequence[Pair], dtype: torch.dtype
) -> dict[str, tuple[Tensor, Tensor]]:
    """For each layer the relative error of its features, squared, and of its Gram matrices, not squared.

    The features' is ‖P F − F_t‖² / ‖F_t‖². The Gram matrices' is the mean of ‖P G Pᵀ − G_t‖ / ‖G_t‖ over the styles and
    over the differences between pictures and styles, which are what the style loss is made of; 0 where they are not
    learned.
    """
    entries = [pair.picture for pair in pairs] + [pair.style for pair in pairs]
    canvas = torch.stack([entry.picture.float() for entry in entries])
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        activations = student(canvas)
    lessons = [entry.lesson(teacher) for entry in entries]
    losses = {}
    for name, activation in activations.items():
        known = [lesson[name] for lesson in lessons]
        target = torch.stack([lesson.features for lesson in known]).float()
        p = student.maps[name]
        found = positions(activation, name).float() @ p.T
        squares = target.square().mean((1, 2))
        # Where there is next to nothing to see, as in a flat picture, an error counts by its size.
        features = ((found - target).square().mean((1, 2)) / (0.8 * squares + 0.2)).mean()
        grams = torch.zeros(())
        if known[0].gram is not None:
            v = activation.permute(0, 2, 3, 1).flatten(1, 2).float()
            ours = v.transpose(1, 2) @ v / v.shape[1]
            theirs = torch.stack([lesson.gram for lesson in known if lesson.gram is not None]).float()
            grams = _gram_errors(p, ours, theirs, len(pairs))
        losses[name] = (features, grams)
    return losses


def total(losses: Mapping[str, tuple[Tensor, Tensor]], weights: Mapping[str, float], gram: float) -> Tensor:
    """The weighted sum of all layers' losses."""
    return torch.stack([weights[name] * (f + gram * g) for name, (f, g) in losses.items()]).sum()


def _gram_errors(p: Tensor, ours: Tensor, theirs: Tensor, pairs: int) -> Tensor:
    """The mean relative error of Gram matrices (2 · pairs, C, C), of the pictures and then of their styles."""
    sizes = theirs[pairs:].square().sum((1, 2)).sqrt() + 0.05 * theirs.shape[1] ** 0.5
    ours = torch.cat([ours[pairs:], ours[:pairs] - ours[pairs:]])
    theirs = torch.cat([theirs[pairs:], theirs[:pairs] - theirs[pairs:]])
    # ‖P D Pᵀ − T‖² = tr(K D K D) − 2 tr(D Pᵀ T P) + ‖T‖² with K = PᵀP: small matrices, whatever the teacher's width.
    kd = (p.T @ p) @ ours
    across = p.T @ theirs @ p
    squares = (kd * kd.transpose(1, 2)).sum((1, 2)) - 2 * (ours * across).sum((1, 2)) + theirs.square().sum((1, 2))
    errors = (squares.clamp_min(0) + 1e-6).sqrt()
    mean: Tensor = (errors / sizes.repeat(2)).mean()
    return mean
