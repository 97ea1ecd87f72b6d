"""The nearest-neighbor loss compared with loops in float64, and its gradient with finite differences."""

import itertools

import numpy as np
import pytest
import torch

from gramophone_server.engine.kernels import neighbors
from gramophone_server.engine.losses.loss import Layer, LayerView
from gramophone_server.engine.losses.nearest_neighbor import NearestNeighbor

LOSS = NearestNeighbor()
CHANNELS, HEIGHT, WIDTH = 3, 4, 5


def features(seed: int, height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, CHANNELS, height, width, dtype=torch.float64, generator=generator)


def shares() -> torch.Tensor:
    share = torch.rand(1, HEIGHT, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return share / share.sum()


def loss(canvas: torch.Tensor, target: torch.Tensor, share: torch.Tensor | float = 1 / (HEIGHT * WIDTH)):
    layer = Layer(canvas.shape[2], canvas.shape[3])
    return LOSS.statistic(LayerView(layer, canvas, None, slice(None), slice(None), share), target)[1]


def by_loops(canvas: np.ndarray, style: np.ndarray, share: np.ndarray) -> float:
    """Returns the loss of features (C, H, W) against the vectors (C, K) of a style."""
    mean = style.mean(1)
    total = 0.0
    for y, x in itertools.product(range(HEIGHT), range(WIDTH)):
        u = canvas[:, y, x] - mean
        cosines = [u @ (v - mean) / (np.linalg.norm(u) * np.linalg.norm(v - mean)) for v in style.T]
        total += share[y, x] * min(1 - cosine for cosine in cosines)
    return total


@pytest.mark.parametrize("chunk", [1, 8 * 30 * 3, 1 << 20])
@pytest.mark.parametrize("masked", [False, True])
def test_the_loss_equals_the_loops_for_any_chunk_of_similarities(masked, chunk, monkeypatch):
    monkeypatch.setattr(neighbors, "_CHUNK", chunk)
    share = shares() if masked else torch.full((1, HEIGHT, WIDTH), 1 / (HEIGHT * WIDTH), dtype=torch.float64)
    canvas, style = features(1), features(2, 5, 6).flatten(2)
    got = loss(canvas, style, share)
    for n in range(2):
        expected = by_loops(canvas[n].numpy(), style[n].numpy(), share[0].numpy())
        assert got[n].item() == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(loss(canvas, style[:1], share)[:1], got[:1])


@pytest.mark.parametrize("masked", [False, True])
def test_the_gradient_equals_finite_differences(masked):
    target = features(2, 5, 6).flatten(2)
    share = shares() if masked else 1 / (HEIGHT * WIDTH)
    weights = torch.tensor([1.0, 3.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda canvas: loss(canvas, target, share) * weights, features(1).requires_grad_(), eps=1e-7, atol=1e-6
    )


def test_a_rearranged_style_has_no_loss():
    style = features(2)
    shuffled = style.flatten(2)[..., torch.randperm(HEIGHT * WIDTH)].view(style.shape)
    assert loss(shuffled, style.flatten(2)).abs().max() < 1e-12


def test_the_target_has_the_positions_inside_the_mask():
    values, share = features(1)[0].numpy(), np.zeros((HEIGHT, WIDTH))
    share[:, :2] = 1 / (2 * HEIGHT)
    np.testing.assert_array_equal(LOSS.target(values, share), values[:, :, :2].reshape(CHANNELS, -1))


def test_a_neighbor_can_come_from_any_style_with_a_share():
    parts = [features(seed)[0].flatten(1).numpy() for seed in (1, 2, 3)]
    np.testing.assert_array_equal(LOSS.mixed(parts, [0.5, 0, 0.5]), np.concatenate([parts[0], parts[2]], axis=1))


def test_features_equal_to_the_mean_have_a_finite_gradient():
    target = features(2).flatten(2)[:1]
    canvas = target.mean(2).view(1, CHANNELS, 1, 1).repeat(1, 1, HEIGHT, WIDTH).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(canvas, target).sum(), canvas)
    assert gradient.isfinite().all()
