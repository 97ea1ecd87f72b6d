"""The sliced Wasserstein loss compared with loops in float64, and its gradient with finite differences."""

import numpy as np
import pytest
import torch

from gramophone_server.engine.losses import sliced_wasserstein
from gramophone_server.engine.losses.sliced_wasserstein import SlicedWasserstein

LOSS = SlicedWasserstein()
CHANNELS = 3


def features(seed: int, height: int = 4, width: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, CHANNELS, height, width, dtype=torch.float64, generator=generator)


def test_the_loss_equals_the_loops():
    canvas, style = features(1), features(2)
    got = LOSS.compare(LOSS.describe(canvas, 1 / 20), LOSS.describe(style, 1 / 20))
    directions = sliced_wasserstein._directions(CHANNELS, torch.device("cpu"), torch.float64).numpy()
    for n in range(2):
        total = 0.0
        for v in directions:
            p = sorted(float(v @ canvas[n, :, y, x].numpy()) for y in range(4) for x in range(5))
            q = sorted(float(v @ style[n, :, y, x].numpy()) for y in range(4) for x in range(5))
            total += sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) / 20
        assert got[n].item() == pytest.approx(total / len(directions), rel=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_the_gradient_equals_finite_differences(masked):
    share = torch.rand(1, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    share[0, 0, :3] = 0
    weights = share / share.sum() if masked else 1 / 20
    target = LOSS.describe(features(2, 3, 3), 1 / 9)

    def loss(canvas: torch.Tensor) -> torch.Tensor:
        return LOSS.compare(LOSS.describe(canvas, weights), target)

    assert torch.autograd.gradcheck(loss, features(1).requires_grad_(), eps=1e-7, atol=1e-6)


def test_a_mask_takes_its_region_only():
    canvas = features(1, 4, 6)
    share = torch.zeros(1, 4, 6, dtype=torch.float64)
    share[..., :3] = 1 / 12
    torch.testing.assert_close(LOSS.describe(canvas, share), LOSS.describe(canvas[..., :3].contiguous(), 1 / 12))


def test_weights_are_read_once_per_tensor_and_each_tensor_has_its_own():
    """Another mask of the same size, also one in the memory of a freed one, takes its own region."""
    canvas = features(1, 4, 6)
    for first in range(3):
        share = torch.zeros(1, 4, 6, dtype=torch.float64)
        share[..., first : first + 3] = 1 / 12
        expected = LOSS.describe(canvas[..., first : first + 3].contiguous(), 1 / 12)
        for _ in range(2):
            torch.testing.assert_close(LOSS.describe(canvas, share), expected)
        assert sliced_wasserstein._inside(share) is sliced_wasserstein._inside(share)
        del share
    assert not len(sliced_wasserstein._known), "the places of freed weights are kept"


def test_repeated_pictures_have_no_loss():
    """A style of another size with the same distribution: the quantiles agree up to their interpolation."""
    style = features(1, 16, 16)
    loss = LOSS.compare(LOSS.describe(style.repeat(1, 1, 2, 2), 1 / 1024), LOSS.describe(style, 1 / 256))
    assert loss.max() < 1e-4 * LOSS.describe(style, 1 / 256).square().mean()


def test_it_distinguishes_distributions_with_the_same_gram_matrix():
    two = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(8).view(1, 1, 4, 4)
    spread = torch.from_numpy(np.linspace(-1, 1, 16)).view(1, 1, 4, 4)
    spread = spread / spread.square().mean().sqrt()
    assert two.square().mean().item() == pytest.approx(spread.square().mean().item())
    assert LOSS.compare(LOSS.describe(two, 1 / 16), LOSS.describe(spread, 1 / 16)).item() > 0.01
