"""The Muon optimizer compared with a singular value decomposition and with a loop."""

import copy

import pytest
import torch

from gramophone_export.distill.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (8, 8), (1, 9)])
def test_orthogonal_keeps_the_singular_vectors_and_makes_the_values_about_1(shape):
    matrix = 1e-3 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    values = u.T @ orthogonal(matrix) @ v.T
    torch.testing.assert_close(values, torch.diag(values.diag()), rtol=0, atol=1e-4)
    assert values.diag().min() > 0.65
    assert values.diag().max() < 1.25


def test_orthogonal_of_zero_is_zero():
    assert torch.equal(orthogonal(torch.zeros(3, 4)), torch.zeros(3, 4))


def test_steps_use_nesterov_momentum_and_have_the_size_of_the_learning_rate():
    generator = torch.Generator().manual_seed(1)
    kernel = torch.nn.Parameter(torch.zeros(6, 2, 3, 3))
    optimizer = Muon([{"params": [kernel]}], lr=0.02, momentum=0.9)
    average, expected = torch.zeros_like(kernel), torch.zeros_like(kernel)
    for _ in range(3):
        gradient = torch.randn(kernel.shape, generator=generator)
        kernel.grad = gradient
        before = kernel.detach().clone()
        optimizer.step()
        average = 0.9 * average + 0.1 * gradient
        ahead = 0.1 * gradient + 0.9 * average
        expected -= 0.02 * 18**0.5 * orthogonal(ahead.reshape(6, 18)).reshape(kernel.shape)
        # The factor √18 for 18 inputs gives each row a root mean square of about one learning rate.
        assert (kernel.detach() - before).square().mean().sqrt() == pytest.approx(0.02, rel=0.3)
    torch.testing.assert_close(kernel.detach(), expected)


def test_the_state_can_be_restored_and_parameters_without_gradient_do_not_change():
    first, second = (torch.nn.Parameter(torch.ones(2, 3)) for _ in range(2))
    gradient = torch.arange(6.0).view(2, 3)
    one = Muon([{"params": [first]}], lr=0.1)
    first.grad = gradient
    one.step()
    other = Muon([{"params": [second]}], lr=0.1)
    other.step()
    assert torch.equal(second.detach(), torch.ones(2, 3))
    second.data.copy_(first.data)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    first.grad = second.grad = gradient.flip(1)
    one.step()
    other.step()
    assert torch.equal(first.detach(), second.detach())
