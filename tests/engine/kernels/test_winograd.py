"""Winograd convolutions compared with direct convolutions in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from gramophone_server.engine.cost import winograd_fitting, winograd_tile
from gramophone_server.engine.kernels.winograd import Kernel, convolve
from gramophone_server.engine.network import Network
from gramophone_server.models.vgg import vgg

from .test_padding import ALL, looped


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def error(got: torch.Tensor, exact: torch.Tensor) -> float:
    """Returns the largest absolute error, relative to the largest exact value."""
    return float((got.detach() - exact.detach()).abs().max() / exact.detach().abs().max().clamp_min(1e-3))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 40), st.integers(1, 40), st.integers(0, 9),
    st.sampled_from(ALL), st.sampled_from([2, 4, 6]), st.sampled_from([0, 2, 4, 6]),
)  # fmt: skip
def test_convolution_and_gradient_equal_the_direct_ones(
    n, inputs, outputs, height, width, seed, paddings, largest, tile
):
    x = rand(n, inputs, height, width, seed=seed).requires_grad_()
    kernel, bias = rand(outputs, inputs, 3, 3, seed=seed + 1), rand(outputs, seed=seed + 2)
    grad_output = rand(n, outputs, height, width, seed=seed + 3)
    y = convolve(x, Kernel(kernel, largest), bias, paddings, tile=min(tile, largest))
    (gradient,) = torch.autograd.grad(y, x, grad_output)
    exact_x = x.detach().double().requires_grad_()
    exact = F.conv2d(looped(exact_x, (1, 1, 1, 1), paddings), kernel.double(), bias.double()).relu()
    # Rounding may change whether an activation near 0 is 0: use a gradient of 0 there.
    grad_output = torch.where((y > 0) == (exact > 0), grad_output, 0).double()
    (exact_gradient,) = torch.autograd.grad(exact, exact_x, grad_output)
    # The error is relative to the largest possible sum, because the terms of a sum may cancel. The transforms
    # accumulate some tens of float32's rounding errors (6e-8); how many depends on the order in which a CPU adds.
    most = x.abs().max() * kernel.abs().sum((1, 2, 3)).max() + bias.abs().max()
    assert (y - exact).abs().max() < 5e-6 * most
    if ((y > 0) == (exact > 0)).all():
        most = grad_output.abs().max() * kernel.abs().sum((0, 2, 3)).max()
        assert (gradient - exact_gradient).abs().max() <= 5e-6 * most


@pytest.mark.parametrize("tile", [2, 4, 6])
def test_strips_do_not_change_the_result(tile):
    """The picture has several strips, and its size is not a multiple of the tile."""
    x, kernel, bias = rand(2, 130, 90, 107).requires_grad_(), rand(140, 130, 3, 3) / 34, rand(140)
    y = convolve(x, Kernel(kernel, tile), bias)
    exact_x = x.detach().double().requires_grad_()
    exact = F.conv2d(exact_x, kernel.double(), bias.double(), padding=1).relu()
    assert error(y, exact) < 2e-5
    grad_output = rand(*y.shape) * ((y > 0) == (exact > 0))
    (gradient,) = torch.autograd.grad(y, x, grad_output)
    (exact_gradient,) = torch.autograd.grad(exact, exact_x, grad_output.double())
    assert error(gradient, exact_gradient) < 2e-5


@pytest.mark.parametrize("tile", [2, 4, 6])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (14, 14), (61, 59)])
def test_the_error_of_many_channels_is_small(size, tile):
    """The input is positive, like after ReLU."""
    x, kernel, bias = rand(1, 256, *size).abs().requires_grad_(), rand(256, 256, 3, 3, seed=1) / 34, rand(256, seed=2)
    y = convolve(x, Kernel(kernel, tile), bias)
    exact_x = x.detach().double().requires_grad_()
    exact = F.conv2d(exact_x, kernel.double(), bias.double(), padding=1).relu()
    assert error(y, exact) < 5e-5
    grad_output = rand(*y.shape, seed=3) * ((y > 0) == (exact > 0))
    (gradient,) = torch.autograd.grad(y, x, grad_output)
    (exact_gradient,) = torch.autograd.grad(exact, exact_x, grad_output.double())
    assert error(gradient, exact_gradient) < 1e-4


def test_the_result_has_channels_last_and_does_not_change_its_inputs():
    x, kernel, bias = rand(2, 48, 13, 17).requires_grad_(), rand(64, 48, 3, 3), rand(64)
    y = convolve(x, Kernel(kernel, 6), bias)
    assert y.is_contiguous(memory_format=torch.channels_last)
    grad_output = rand(*y.shape).contiguous(memory_format=torch.channels_last)
    before = x.detach().clone(), y.detach().clone(), grad_output.clone()
    torch.autograd.grad(y, x, grad_output)
    assert all(map(torch.equal, before, (x.detach(), y.detach(), grad_output)))


def test_the_same_input_gives_the_same_bytes_again():
    x, kernel, bias = rand(1, 64, 50, 70).requires_grad_(), Kernel(rand(64, 64, 3, 3), 6), rand(64)
    first, second = (convolve(x, kernel, bias) for _ in range(2))
    assert torch.equal(first, second)
    grad_output = rand(*first.shape)
    assert torch.equal(*(torch.autograd.grad(y, x, grad_output)[0] for y in (first, second)))


@pytest.fixture(scope="module")
def wide() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Weights of a network with enough channels for Winograd in its second and third layer."""
    generator, weights, inputs = torch.Generator().manual_seed(0), {}, 3
    for name, outputs in (("conv1_1", 128), ("conv2_1", 128), ("conv2_2", 160)):
        kernel = torch.randn(outputs, inputs, 3, 3, generator=generator) * (2 / (9 * inputs)) ** 0.5
        weights[name] = (kernel.numpy(), torch.randn(outputs, generator=generator).numpy() / 10)
        inputs = outputs
    return weights


def test_a_wide_network_uses_winograd_and_stays_accurate(wide):
    canvas = torch.rand(1, 3, 37, 50, generator=torch.Generator().manual_seed(1))
    fast = Network(vgg(wide), wide, ["conv2_2"])
    assert [tensor.shape[0] for tensor in fast.parameters] == [128, 128, 128, 128, 8, 160, 160, 8]
    exact = Network(vgg(wide), wide, ["conv2_2"], dtype=torch.float64)(canvas.double())["conv2_2"]
    assert error(fast(canvas)["conv2_2"], exact) < 1e-5


def test_maps_of_several_sizes_in_turn_use_tiles_that_fit():
    """The kernel keeps its transposed copy only for one size of tile."""
    kernel, bias = rand(48, 48, 3, 3), rand(48)
    transformed = Kernel(kernel, 6)
    for height, width in ((9, 8), (40, 40), (9, 8), (23, 24)):
        x = rand(1, 48, height, width).requires_grad_()
        y = convolve(x, transformed, bias, tile=winograd_fitting(6, 512, 512, height, width))
        exact_x = x.detach().double().requires_grad_()
        exact = F.conv2d(exact_x, kernel.double(), bias.double(), padding=1).relu()
        assert error(y, exact) < 2e-5
        grad_output = rand(*y.shape) * ((y > 0) == (exact > 0))
        (gradient,) = torch.autograd.grad(y, x, grad_output)
        (exact_gradient,) = torch.autograd.grad(exact, exact_x, grad_output.double())
        assert error(gradient, exact_gradient) < 2e-5


def test_small_maps_have_small_tiles_and_the_smallest_none():
    assert [winograd_fitting(6, 256, 256, side, side) for side in (7, 14, 28, 56)] == [0, 4, 4, 6]
    assert [winograd_fitting(4, 512, 512, side, side) for side in (1, 7, 10, 14, 224)] == [0, 2, 2, 4, 4]


def test_the_tile_depends_on_the_channels():
    assert winograd_tile(64, 64, 64) == winograd_tile(128, 256, 64) == 6
    assert winograd_tile(256, 512, 64) == winograd_tile(512, 512, 64) == 4
    assert not winograd_tile(32, 512, 48)
    assert not winograd_tile(48, 96, 64)
