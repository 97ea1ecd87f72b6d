"""Compares losses, gradients and steps of the optimizers on the GPU with the CPU."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from gramophone_server.engine.canvas import noise, resized
from gramophone_server.engine.device import set_up_cuda
from gramophone_server.engine.objective import Evaluation, Objective
from gramophone_server.engine.optimizers.adam import Adam
from gramophone_server.engine.optimizers.lbfgs import LBFGS
from gramophone_server.engine.optimizers.optimizer import Optimizer
from gramophone_server.models.store import BUILTIN_MODEL

from .inputs import FULL_MODEL, device, objective, relative, spec
from .report import Report

_CPU = torch.device("cpu")
_SIDE = 96
# Maximum relative difference of losses and gradients.
_LIMITS = {"float32": 2e-4, "bfloat16": 0.3}
_JOBS: tuple[tuple[str, dict[str, Any]], ...] = (
    *((BUILTIN_MODEL, {"kind": kind}) for kind in ("style", "content", "transfer")),
    (BUILTIN_MODEL, {"pooling": "average"}),
    (BUILTIN_MODEL, {"pooling": "average_rescaled"}),
    (BUILTIN_MODEL, {"padding": "replicate"}),
    (BUILTIN_MODEL, {"kind": "transfer", "padding": "circular", "wrap": "both"}),
    (BUILTIN_MODEL, {"kind": "transfer", "tile_size": 64}),
    (BUILTIN_MODEL, {"kind": "transfer", "tv_weight": 1e-3}),
    (BUILTIN_MODEL, {"kind": "transfer", "color": "luminance"}),
    *((BUILTIN_MODEL, {"style_loss": loss}) for loss in ("mean_covariance", "sliced_wasserstein", "nearest_neighbor")),
    (FULL_MODEL, {}),
    (FULL_MODEL, {"kind": "transfer", "tile_size": 64}),
    (FULL_MODEL, {"padding": "replicate"}),
    (FULL_MODEL, {"padding": "circular", "wrap": "x", "tile_size": 64}),
)


def check(report: Report) -> None:
    """Compares the GPU with the CPU."""
    set_up_cuda(device())
    _check_optimizers(report)
    canvas = noise([1], _SIDE, _SIDE)
    for name, options in _JOBS:
        with report.case(f"{name} {options}"):
            expected = objective(spec(name, _SIDE, precision="float32", **options), _CPU).evaluate(canvas.clone())
            for precision, limit in _LIMITS.items():
                job = spec(name, _SIDE, precision=precision, **options)
                found = objective(job, device()).evaluate(canvas.to(device()))
                terms, gradient = relative(found.terms, expected.terms), relative(found.gradient, expected.gradient)
                report.check(
                    terms < limit and gradient < limit, f"{name} {precision} {options}: as on the CPU",
                    terms=f"{terms:.1e}", gradient=f"{gradient:.1e}",
                )  # fmt: skip
    with report.case("a resized canvas"):
        small = noise([1], 97, 61)
        error = relative(resized(small.to(device()), 40, 130), resized(small, 40, 130))
        report.check(error < 1e-5, "a resized canvas: as on the CPU", error=f"{error:.1e}")
    _check_batch(report)


def _check_optimizers(report: Report) -> None:
    """Feeds the optimizers the same losses and gradients on both devices, so that only the step is compared."""
    makers: tuple[Callable[[], Optimizer], ...] = (
        lambda: LBFGS(history=8),
        lambda: LBFGS(history=8, host=True),
        lambda: LBFGS(history=8, fixed=True),
        Adam,
    )
    for side, steps in ((64, 24), (900, 9)):
        for make in makers:
            with report.case(f"optimizer at {side}"):
                ours, theirs = make(), make()
                canvas, error = noise([5, 6], side, side), 0.0
                goal, stiffness = noise([7, 8], side, side), 1 + 9 * noise([9, 9], side, side)
                for _ in range(steps):
                    gradient = stiffness * (canvas - goal)
                    loss = (gradient * (canvas - goal)).sum((1, 2, 3)) / 2
                    at = Evaluation(torch.zeros(2, 1), loss, gradient)
                    there = Evaluation(*(part.to(device()) for part in (at.terms, at.loss, at.gradient)))
                    found = theirs.step(canvas.to(device()), there)
                    canvas = ours.step(canvas, at)
                    error = relative(found, canvas)
                name = type(ours).__name__
                report.check(error < 1e-4, f"{name} at {side}, {steps} steps: as on the CPU", error=f"{error:.1e}")


def _check_batch(report: Report) -> None:
    with report.case("a batch"):
        alone = objective(spec(BUILTIN_MODEL, _SIDE), device())
        together = Objective(alone.network, [replace(t, weight=t.weight.expand(3).clone()) for t in alone.terms])
        three = noise([1, 2, 3], _SIDE, _SIDE).to(device())
        error = relative(together.evaluate(three).gradient[:1], alone.evaluate(three[:1].clone()).gradient)
        report.check(error < 1e-2, "a canvas in a batch of 3 has the gradient that it has alone", error=f"{error:.1e}")
