"""Mean and covariance compared with sums written as loops, and the gradient with finite differences in float64."""

import itertools

import numpy as np
import pytest
import torch

from gramophone_server.engine.losses.mean_covariance import MeanCovariance

LOSS = MeanCovariance()
CHANNELS, HEIGHT, WIDTH = 3, 4, 5


def features(seed: int) -> torch.Tensor:
    return torch.rand(2, CHANNELS, HEIGHT, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def moments_by_loops(values: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean (C,) and covariance (C, C) of features (C, H, W) whose positions have the weights (H, W)."""
    mean, covariance = np.zeros(CHANNELS), np.zeros((CHANNELS, CHANNELS))
    for y, x in itertools.product(range(HEIGHT), range(WIDTH)):
        mean += share[y, x] * values[:, y, x]
    for y, x, i, j in itertools.product(range(HEIGHT), range(WIDTH), range(CHANNELS), range(CHANNELS)):
        covariance[i, j] += share[y, x] * (values[i, y, x] - mean[i]) * (values[j, y, x] - mean[j])
    return mean, covariance


@pytest.mark.parametrize("masked", [False, True])
def test_the_loss_equals_the_loops(masked):
    share = np.full((HEIGHT, WIDTH), 1 / (HEIGHT * WIDTH))
    if masked:
        share = np.random.default_rng(0).random((HEIGHT, WIDTH))
        share /= share.sum()
    canvas, style = features(1), features(2)
    target = LOSS.describe(style, torch.from_numpy(share)[None])
    got = LOSS.compare(LOSS.describe(canvas, torch.from_numpy(share)[None]), target)
    for n in range(2):
        mean, covariance = moments_by_loops(canvas[n].numpy(), share)
        mean_s, covariance_s = moments_by_loops(style[n].numpy(), share)
        expected = ((mean - mean_s) ** 2).sum() + ((covariance - covariance_s) ** 2).sum() / (4 * CHANNELS**2)
        assert got[n].item() == pytest.approx(expected, rel=1e-6)


def test_the_gradient_equals_finite_differences():
    target = LOSS.describe(features(2), 1 / (HEIGHT * WIDTH))

    def loss(canvas: torch.Tensor) -> torch.Tensor:
        return LOSS.compare(LOSS.describe(canvas, 1 / (HEIGHT * WIDTH)), target)

    assert torch.autograd.gradcheck(loss, features(1).requires_grad_(), eps=1e-6, atol=1e-8)


def test_it_distinguishes_a_mean_from_a_variance_which_gram_matrices_do_not():
    constant = torch.full((1, 1, 2, 2), 2.0, dtype=torch.float64)
    varying = torch.tensor([[[[0.0, 8**0.5], [0.0, 8**0.5]]]], dtype=torch.float64)
    first, second = (LOSS.describe(x, 0.25) for x in (constant, varying))
    torch.testing.assert_close(first[..., :-1], second[..., :-1])
    assert LOSS.compare(first, second).item() > 0.3
