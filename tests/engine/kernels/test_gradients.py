"""Gradients that are changed in place are those that autograd would make."""

import pytest
import torch
from torch.nn import functional as F

from gramophone_server.engine.kernels.gradients import masked_, relu_
from gramophone_server.engine.kernels.gram import gram_matrix, tap_gram_matrix
from gramophone_server.engine.losses import style_loss


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    values = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return values.contiguous(memory_format=torch.channels_last)


def test_relu_has_the_gradient_of_relu():
    x = rand(2, 3, 4, 5).requires_grad_()
    weights = rand(2, 3, 4, 5, seed=1)
    (got,) = torch.autograd.grad((weights * relu_(x * 2)).sum(), x)
    (expected,) = torch.autograd.grad((weights * torch.relu(x * 2)).sum(), x)
    assert torch.equal(got, expected)


def test_a_slope_is_masked_in_its_place():
    slope, y = rand(2, 3, 4, 5), rand(2, 3, 4, 5, seed=1)
    expected = torch.where(y > 0, slope, 0)
    got = masked_(slope, y)
    assert got.data_ptr() == slope.data_ptr()
    assert torch.equal(got, expected)


def test_a_slope_whose_numbers_share_a_place_is_left_alone():
    y = rand(2, 3, 4, 5)
    one = torch.ones((), dtype=torch.float64)
    got = masked_(one.expand(2, 3, 4, 5), y)
    assert torch.equal(got, (y > 0).double())
    assert one == 1
    # Such a slope is what a sum has.
    x = rand(2, 3, 4, 5, seed=2).requires_grad_()
    (gradient,) = torch.autograd.grad(relu_(x * 1).sum(), x)
    assert torch.equal(gradient, (x > 0).double())


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("shares", [None, "each its own"])
def test_what_goes_on_from_a_tap_has_both_gradients(layout, shares):
    """A chain of two taps and a convolution, beside the same with Gram matrices at its side."""
    x, kernel, target = rand(2, 3, 6, 7).requires_grad_(), rand(4, 3, 3, 3, seed=1), rand(1, 1, 3, 3, seed=2)[0]
    share = None if shares is None else rand(2, 1, 6, 7, seed=3)[:, 0].square()

    def after(features: torch.Tensor) -> torch.Tensor:
        return F.conv2d(features, kernel).contiguous(memory_format=layout).square().sum()

    through, first = tap_gram_matrix(x * 3, share)
    through, second = tap_gram_matrix(through)
    got = after(through) + style_loss(first, target).sum() + 2 * style_loss(second, target).sum()
    side = x * 3
    at_its_side = style_loss(gram_matrix(side, share), target).sum() + 2 * style_loss(gram_matrix(side), target).sum()
    expected = after(side) + at_its_side
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)
    gradients = (torch.autograd.grad(loss, x)[0] for loss in (got, expected))
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_a_gram_matrix_that_nobody_uses_leaves_the_gradient_alone():
    x = rand(1, 3, 4, 5).requires_grad_()
    through, _ = tap_gram_matrix(x * 3)
    (gradient,) = torch.autograd.grad(through.square().sum(), x)
    torch.testing.assert_close(gradient, 18 * x.detach())
