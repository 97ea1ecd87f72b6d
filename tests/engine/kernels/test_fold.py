"""3x3 convolutions of folded pictures, compared with torch's 6x6 convolution with stride 2."""

import pytest
import torch
from torch.nn import functional as F

from gramophone_server.engine.kernels.fold import folded, folded_kernel

from .test_padding import ALL, looped


@pytest.mark.parametrize("paddings", ALL)
@pytest.mark.parametrize("size", [(16, 12), (15, 12), (12, 17), (7, 9), (2, 2)])
def test_a_3x3_convolution_of_the_folded_picture_equals_the_6x6_convolution(size, paddings):
    generator = torch.Generator().manual_seed(0)
    canvas, kernel, offset, grad_output = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((2, 3, *size), (5, 3, 6, 6), (3, 1, 1), (2, 5, size[0] // 2, size[1] // 2))
    )
    canvas.requires_grad_()
    got = F.conv2d(folded(canvas, offset, torch.float64, paddings=paddings), folded_kernel(kernel))
    around = looped(canvas + offset, (2, 2 - size[0] % 2, 2, 2 - size[1] % 2), paddings)
    expected = F.conv2d(around, kernel, stride=2)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(*(torch.autograd.grad(y, canvas, grad_output)[0] for y in (got, expected)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_folded_picture_is_channels_last_and_its_gradient_is_contiguous(dtype):
    canvas = torch.rand(2, 3, 8, 10, requires_grad=True)
    picture = folded(canvas, torch.zeros(3, 1, 1), dtype)
    assert picture.dtype == dtype
    assert picture.shape == (2, 12, 6, 7)
    assert picture.is_contiguous(memory_format=torch.channels_last)
    (gradient,) = torch.autograd.grad(picture.sum(), canvas)
    assert gradient.dtype == torch.float32
    assert gradient.is_contiguous()
    assert torch.equal(gradient, torch.ones_like(canvas))
