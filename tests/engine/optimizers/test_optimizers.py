"""Optimizers on problems with known minima, and the independence of the canvases of a batch."""

from collections.abc import Callable

import pytest
import torch

from gramophone_server.engine.objective import Evaluation
from gramophone_server.engine.optimizers.adam import Adam
from gramophone_server.engine.optimizers.lbfgs import LBFGS
from gramophone_server.engine.optimizers.optimizer import Optimizer
from gramophone_server.engine.synthesis import Best

SHAPE = (3, 4, 4)


def quadratic(center: torch.Tensor, curvature: torch.Tensor) -> Callable[[torch.Tensor], Evaluation]:
    """Returns an objective: ½ Σ curvature · (x − center)² for each canvas."""

    def evaluate(canvas: torch.Tensor) -> Evaluation:
        offset = canvas - center
        loss = (curvature * offset.square()).sum((1, 2, 3)) / 2
        return Evaluation(loss[:, None], loss, curvature * offset)

    return evaluate


def run(optimizer: Optimizer, evaluate: Callable[[torch.Tensor], Evaluation], canvas: torch.Tensor, steps: int):
    """Returns each canvas's iterate with the lowest loss, as the engine does."""
    best = Best(canvas, torch.full((len(canvas),), torch.inf))
    for _ in range(steps):
        at = evaluate(canvas)
        best = best.or_better(canvas, at)
        canvas = optimizer.step(canvas, at)
    return best.or_better(canvas, evaluate(canvas)).canvas


def problem(n: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draws (centers, partly outside 0 to 1; curvatures over three decades; starting points) for N canvases."""
    generator = torch.Generator().manual_seed(n)
    center, curvature, start = (torch.rand(n, *SHAPE, generator=generator).to(dtype) for _ in range(3))
    return 2 * center - 0.5, 10 ** (3 * curvature), start


def test_adam_equals_torchs_adam_inside_the_box():
    center, curvature, start = problem(2)
    center = center.clamp(0.3, 0.7)
    start = start.clamp(0.4, 0.6)
    ours = run(Adam(learning_rate=255e-3), quadratic(center, curvature), start, 30)
    theirs = start.clone().requires_grad_()
    reference = torch.optim.Adam([theirs], lr=1e-3)
    for _ in range(30):
        reference.zero_grad()
        quadratic(center, curvature)(theirs).loss.sum().backward()
        reference.step()
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-6)


def test_lbfgs_finds_the_minimum_within_the_box():
    center, curvature, start = problem(2)
    got = run(LBFGS(), quadratic(center, curvature), start, 150)
    torch.testing.assert_close(got, center.clamp(0, 1), rtol=0, atol=5e-3)


def test_lbfgs_needs_far_fewer_evaluations_than_adam():
    center, curvature, start = problem(1)
    evaluate = quadratic(center, curvature)
    floor = evaluate(center.clamp(0, 1)).loss.item()
    optimizers: dict[str, Optimizer] = {"lbfgs": LBFGS(), "adam": Adam()}
    excess = {
        name: evaluate(run(optimizer, evaluate, start, 40)).loss.item() - floor
        for name, optimizer in optimizers.items()
    }
    assert excess["lbfgs"] < 0.2 * excess["adam"]


@pytest.mark.parametrize("make", [Adam, LBFGS])
def test_pixels_stay_in_the_box(make):
    center, curvature, start = problem(2)
    optimizer, canvas, evaluate = make(), start, quadratic(3 * center, curvature)
    for _ in range(20):
        canvas = optimizer.step(canvas, evaluate(canvas))
        assert canvas.min() >= 0
        assert canvas.max() <= 1


@pytest.mark.parametrize("make", [Adam, LBFGS])
def test_a_canvas_does_not_depend_on_its_batch(make):
    # float64: rounding may depend on a canvas's position in the batch, and forty steps amplify the difference.
    center, curvature, start = problem(4, torch.float64)
    together = run(make(), quadratic(center, curvature), start, 40)
    for n in range(4):
        one = slice(n, n + 1)
        alone = run(make(), quadratic(center[one], curvature[one]), start[one], 40)
        torch.testing.assert_close(alone[0], together[n], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("make", [Adam, LBFGS])
def test_the_memory_layout_does_not_change_the_result(make):
    center, curvature, start = problem(2, torch.float64)
    evaluate = quadratic(center, curvature)
    other = run(make(), evaluate, start.contiguous(memory_format=torch.channels_last), 30)
    torch.testing.assert_close(other, run(make(), evaluate, start, 30), rtol=1e-9, atol=1e-10)


def test_a_history_in_host_memory_does_not_change_the_result():
    center, curvature, start = problem(2)
    evaluate = quadratic(center, curvature)
    assert torch.equal(run(LBFGS(host=True), evaluate, start, 40), run(LBFGS(), evaluate, start, 40))


def test_lbfgs_starts_with_negative_curvature():
    """−cos has negative curvature at the start: the optimizer must drop the first curvature pair and continue."""

    def evaluate(canvas: torch.Tensor) -> Evaluation:
        angle = torch.pi * (canvas - 0.9)
        loss = (1 - torch.cos(angle)).sum((1, 2, 3))
        return Evaluation(loss[:, None], loss, torch.pi * torch.sin(angle))

    got = run(LBFGS(), evaluate, torch.full((1, *SHAPE), 0.1), 60)
    torch.testing.assert_close(got, torch.full_like(got, 0.9), rtol=0, atol=1e-3)


def test_lbfgs_leaves_a_region_without_a_finite_loss():
    center, curvature, start = problem(2)
    smooth = quadratic(center.clamp(0, 0.45), curvature)

    def evaluate(canvas: torch.Tensor) -> Evaluation:
        at = smooth(canvas)
        bad = canvas.amax((1, 2, 3)) > 0.5
        spoil = torch.where(bad, torch.nan, 1.0)
        return Evaluation(at.terms, at.loss * spoil, at.gradient * spoil.view(-1, 1, 1, 1))

    optimizer, canvas = LBFGS(), start * 0.4
    best = begun = smooth(canvas).loss
    for _ in range(100):
        canvas = optimizer.step(canvas, evaluate(canvas))
        assert canvas.isfinite().all()
        best = torch.fmin(best, evaluate(canvas).loss)
    assert (best < 0.01 * begun).all()
