"""Packed convolutions compared with torch's convolutions, bit for bit."""

import pytest
import torch
from torch.nn import functional as F

from gramophone_server.engine.device import has_native_bfloat16
from gramophone_server.engine.kernels.packed import PackedConvolution, is_available

pytestmark = pytest.mark.skipif(
    not has_native_bfloat16(torch.device("cpu")), reason="only CPUs with native bfloat16 use packed kernels"
)


def rand(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


@pytest.mark.parametrize("size", [(32, 48), (13, 7), (1, 1)])
@pytest.mark.parametrize("channels", [(3, 16), (64, 96), (5, 3)])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("relu", [False, True])
def test_convolution_and_gradient_equal_torchs(size, channels, padding, relu):
    inputs, outputs = channels
    height, width = (side + 2 * (1 - padding) for side in size)
    kernel, bias = rand(outputs, inputs, 3, 3, seed=0), rand(outputs, seed=1)
    x = rand(2, inputs, height, width, seed=2).contiguous(memory_format=torch.channels_last).requires_grad_()
    grad_output = rand(2, outputs, *size, seed=3).contiguous(memory_format=torch.channels_last)
    expected = F.conv2d(x, kernel, bias, padding=padding)
    expected = expected.relu() if relu else expected
    (expected_gradient,) = torch.autograd.grad(expected, x, grad_output)
    got = PackedConvolution(kernel, bias, padding)(x, relu=relu)
    (gradient,) = torch.autograd.grad(got, x, grad_output)
    assert got.is_contiguous(memory_format=torch.channels_last)
    # The packed kernel applies ReLU before rounding to bfloat16; ReLU and rounding commute.
    assert torch.equal(got, expected)
    torch.testing.assert_close(
        gradient.float(), expected_gradient.float(), rtol=1e-2, atol=1e-2 * grad_output.abs().max().item()
    )


def test_only_bfloat16_is_packed():
    kernel = rand(4, 4, 3, 3, seed=0)
    assert is_available(kernel)
    assert not is_available(kernel.float())
