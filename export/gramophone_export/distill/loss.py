"""The losses between the student and the teacher."""

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
    """Returns for each layer the squared relative error of its features and the relative error of its Gram matrices.

    The error of the features is ‖P F − F_t‖² / ‖F_t‖². The error of the Gram matrices is the mean of
    ‖P G Pᵀ − G_t‖ / ‖G_t‖ over the styles and over the differences between pictures and styles, from which the style
    loss is computed. It is 0 at layers without Gram matrices.

    Args:
        student: the student.
        teacher: the teacher.
        pairs: the batch.
        dtype: float32 or bfloat16, the precision of the student's convolutions.
        silence: list to which `Student.forward` appends the losses of its dead channels; None to skip them.
    """
    entries = [pair.picture for pair in pairs] + [pair.style for pair in pairs]
    canvas = torch.stack([entry.picture.float() for entry in entries])
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        activations = student(canvas, silence)
    entry_targets = [entry.targets(teacher) for entry in entries]
    losses = {}
    for name, activation in activations.items():
        known = [targets[name] for targets in entry_targets]
        target = torch.stack([layer.features for layer in known]).float()
        p = student.maps[name]
        found = positions(activation, student.stride(name), name).float() @ p.T
        squares = target.square().mean((1, 2))
        # For pictures with almost no features, such as a flat one, the error becomes absolute rather than relative.
        features = ((found - target).square().mean((1, 2)) / (0.8 * squares + 0.2)).mean()
        grams = torch.zeros(())
        if known[0].gram is not None:
            theirs = torch.stack([layer.gram for layer in known if layer.gram is not None]).float()
            grams = _gram_errors(p, _gram(activation), theirs, len(pairs))
        losses[name] = (features, grams)
    return losses


def total(losses: Mapping[str, tuple[Tensor, Tensor]], recipe: Recipe) -> Tensor:
    """Returns the weighted sum of the losses of all layers."""
    parts = []
    for name, (features, grams) in losses.items():
        # The student's first layer has one position for four of the teacher's, so its features cover only a quarter of
        # what the Gram matrix is made of: give them a lower weight.
        hint = recipe.hint if name == STEM else 1.0
        parts.append(recipe.weights[name] * (hint * features + recipe.gram * grams))
    return torch.stack(parts).sum()


def gradient_loss(student: Student, teacher: Teacher, pairs: Sequence[Pair]) -> Tensor:
    """Returns 1 − the mean cosine similarity of the student's and the teacher's gradient of the style loss.

    `Teacher.gradient` defines the loss.
    """
    style_targets = [pair.style.targets(teacher) for pair in pairs]
    with torch.no_grad():
        style_activations = student(torch.stack([pair.style.picture.float() for pair in pairs]))
    canvas = torch.stack([pair.picture.picture.float() for pair in pairs]).requires_grad_()
    found = student(canvas)
    errors = []
    for name in STYLE_LAYERS:
        p = student.maps[name]
        kd = (p.T @ p) @ (_gram(found[name]) - _gram(style_activations[name]))
        sizes = torch.stack([_size(targets[name].gram) for targets in style_targets])
        errors.append((kd * kd.transpose(1, 2)).sum((1, 2)) / sizes.square())
    (gradient,) = torch.autograd.grad(torch.stack(errors).sum(), canvas, create_graph=True)
    known = torch.stack([pair.gradient(teacher) for pair in pairs])
    cosine: Tensor = nn.functional.cosine_similarity(gradient.flatten(1), known.flatten(1))
    loss: Tensor = 1 - cosine.mean()
    return loss


def _gram(activation: Tensor) -> Tensor:
    # The engine's Gram matrix has no second derivative, which `gradient_loss` needs.
    v = activation.permute(0, 2, 3, 1).flatten(1, 2).float()
    gram: Tensor = v.transpose(1, 2) @ v / v.shape[1]
    return gram


def _size(gram: Tensor | None) -> Tensor:
    assert gram is not None
    return gram.float().square().sum().sqrt()


def _gram_errors(p: Tensor, ours: Tensor, theirs: Tensor, pairs: int) -> Tensor:
    """Returns the mean relative error of the Gram matrices.

    Args:
        p: (C_t, C_s), the map from the student's channels to the teacher's.
        ours: (2 · pairs, C_s, C_s), the student's Gram matrices of the pictures, then of their styles.
        theirs: (2 · pairs, C_t, C_t), the teacher's.
        pairs: number of pairs.
    """
    sizes = theirs[pairs:].square().sum((1, 2)).sqrt() + 0.05 * theirs.shape[1] ** 0.5
    ours = torch.cat([ours[pairs:], ours[:pairs] - ours[pairs:]])
    theirs = torch.cat([theirs[pairs:], theirs[:pairs] - theirs[pairs:]])
    # ‖P D Pᵀ − T‖² = tr(K D K D) − 2 tr(D Pᵀ T P) + ‖T‖² with K = PᵀP: products of small matrices for any teacher.
    kd = (p.T @ p) @ ours
    across = p.T @ theirs @ p
    squares = (kd * kd.transpose(1, 2)).sum((1, 2)) - 2 * (ours * across).sum((1, 2)) + theirs.square().sum((1, 2))
    errors = (squares.clamp_min(0) + 1e-6).sqrt()
    mean: Tensor = (errors / sizes.repeat(2)).mean()
    return mean
