"""How far the student is from the teacher."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gramophone_server.models.layers import STYLE_LAYERS

from .networks import STEM, Student, Teacher, positions
from .pool import Pair
from .recipe import Recipe


def pair_losses(
    student: Student, teacher: Teacher, pairs: Sequence[Pair], dtype: torch.dtype, silence: list[Tensor] | None = None
) -> dict[str, tuple[Tensor, Tensor]]:
    """For each layer the relative error of its features, squared, and of its Gram matrices, not squared.

    The features' is ‖P F − F_t‖² / ‖F_t‖². The Gram matrices' is the mean of ‖P G Pᵀ − G_t‖ / ‖G_t‖ over the styles and
    over the differences between pictures and styles, which are what the style loss is made of; 0 where they are not
    learned.

    Args:
        silence: takes in what `Student` says of its silent channels.
    """
    entries = [pair.picture for pair in pairs] + [pair.style for pair in pairs]
    canvas = torch.stack([entry.picture.float() for entry in entries])
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        activations = student(canvas, silence)
    lessons = [entry.lesson(teacher) for entry in entries]
    losses = {}
    for name, activation in activations.items():
        known = [lesson[name] for lesson in lessons]
        target = torch.stack([lesson.features for lesson in known]).float()
        p = student.maps[name]
        found = positions(activation, student.stride(name), name).float() @ p.T
        squares = target.square().mean((1, 2))
        # Where there is next to nothing to see, as in a flat picture, an error counts by its size.
        features = ((found - target).square().mean((1, 2)) / (0.8 * squares + 0.2)).mean()
        grams = torch.zeros(())
        if known[0].gram is not None:
            theirs = torch.stack([lesson.gram for lesson in known if lesson.gram is not None]).float()
            grams = _gram_errors(p, _gram(activation), theirs, len(pairs))
        losses[name] = (features, grams)
    return losses


def total(losses: Mapping[str, tuple[Tensor, Tensor]], recipe: Recipe) -> Tensor:
    """The weighted sum of all layers' losses."""
    parts = []
    for name, (features, grams) in losses.items():
        # One pixel in four is a hint of what the Gram matrix is made of; to match it alone would leave out the others.
        hint = recipe.hint if name == STEM else 1.0
        parts.append(recipe.weights[name] * (hint * features + recipe.gram * grams))
    return torch.stack(parts).sum()


def gradient_loss(student: Student, teacher: Teacher, pairs: Sequence[Pair]) -> Tensor:
    """1 − the cosine between the student's and the teacher's gradient of the style loss; see `Teacher.gradient`."""
    lessons = [pair.style.lesson(teacher) for pair in pairs]
    with torch.no_grad():
        targets = student(torch.stack([pair.style.picture.float() for pair in pairs]))
    canvas = torch.stack([pair.picture.picture.float() for pair in pairs]).requires_grad_()
    found = student(canvas)
    errors = []
    for name in STYLE_LAYERS:
        p = student.maps[name]
        kd = (p.T @ p) @ (_gram(found[name]) - _gram(targets[name]))
        sizes = torch.stack([_size(lesson[name].gram) for lesson in lessons])
        errors.append((kd * kd.transpose(1, 2)).sum((1, 2)) / sizes.square())
    (gradient,) = torch.autograd.grad(torch.stack(errors).sum(), canvas, create_graph=True)
    known = torch.stack([pair.gradient(teacher) for pair in pairs])
    cosine: Tensor = nn.functional.cosine_similarity(gradient.flatten(1), known.flatten(1))
    apart: Tensor = 1 - cosine.mean()
    return apart


def _gram(activation: Tensor) -> Tensor:
    # Written out: the engine's has no second derivative.
    v = activation.permute(0, 2, 3, 1).flatten(1, 2).float()
    gram: Tensor = v.transpose(1, 2) @ v / v.shape[1]
    return gram


def _size(gram: Tensor | None) -> Tensor:
    assert gram is not None
    return gram.float().square().sum().sqrt()


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
