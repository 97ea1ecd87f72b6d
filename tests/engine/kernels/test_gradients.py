"""Functions that change gradients in place, compared with plain autograd."""

import pytest
import torch
from torch.nn import functional as F

from gramophone_server.engine.kernels.gradients import masked_, relu_
from gramophone_server.engine.kernels.gram import gram_matrix, tap_gram_matrix
from gramophone_server.engine.losses.gram import style_loss


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    values = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return values.contiguous(memory_format=torch.channels_last)


def test_relu_in_place_has_the_gradient_of_relu():
    x = rand(2, 3, 4, 5).requires_grad_()
    weights = rand(2, 3, 4, 5, seed=1)
    (got,) = torch.autograd.grad((weights * relu_(x * 2)).sum(), x)
    (expected,) = torch.autograd.grad((weights * torch.relu(x * 2)).sum(), x)
    assert torch.equal(got, expected)


def test_masked_changes_the_gradient_in_place():
    grad_output, y = rand(2, 3, 4, 5), rand(2, 3, 4, 5, seed=1)
    expected = torch.where(y > 0, grad_output, 0)
    got = masked_(grad_output, y)
    assert got.data_ptr() == grad_output.data_ptr()
    assert torch.equal(got, expected)


def test_masked_copies_an_expanded_gradient():
    y = rand(2, 3, 4, 5)
    one = torch.ones((), dtype=torch.float64)
    got = masked_(one.expand(2, 3, 4, 5), y)
    assert torch.equal(got, (y > 0).double())
    assert one == 1
    # The gradient of a sum is such an expanded tensor.
    x = rand(2, 3, 4, 5, seed=2).requires_grad_()
    (gradient,) = torch.autograd.grad(relu_(x * 1).sum(), x)
    assert torch.equal(gradient, (x > 0).double())


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("shares", [None, "per canvas"])
def test_tapped_features_get_the_gradients_of_gram_matrix_and_next_layer(layout, shares):
    """Compares two taps and a convolution in a chain with Gram matrices computed separately from the features."""
    x, kernel, target = rand(2, 3, 6, 7).requires_grad_(), rand(4, 3, 3, 3, seed=1), rand(1, 1, 3, 3, seed=2)[0]
    share = None if shares is None else rand(2, 1, 6, 7, seed=3)[:, 0].square()

    def after(features: torch.Tensor) -> torch.Tensor:
        return F.conv2d(features, kernel).contiguous(memory_format=layout).square().sum()

    through, first = tap_gram_matrix(x * 3, share)
    through, second = tap_gram_matrix(through)
    got = after(through) + style_loss(first, target).sum() + 2 * style_loss(second, target).sum()
    features = x * 3
    first, second = gram_matrix(features, share), gram_matrix(features)
    expected = after(features) + style_loss(first, target).sum() + 2 * style_loss(second, target).sum()
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)
    gradients = (torch.autograd.grad(loss, x)[0] for loss in (got, expected))
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_an_unused_gram_matrix_does_not_change_the_gradient():
    x = rand(1, 3, 4, 5).requires_grad_()
    through, _ = tap_gram_matrix(x * 3)
    (gradient,) = torch.autograd.grad(through.square().sum(), x)
    torch.testing.assert_close(gradient, 18 * x.detach())
