"""Padding along each axis, compared with plain loops."""

from itertools import product

import pytest
import torch
from torch import Tensor

from gramophone_server.engine.kernels.padding import Padding, Paddings, Widths, padded

_EACH: tuple[Padding, ...] = ("zeros", "replicate", "circular")
ALL: list[Paddings] = list(product(_EACH, _EACH))


def looped(x: Tensor, widths: Widths, paddings: Paddings) -> Tensor:
    """Returns the padded x (N, C, H, W), position by position."""
    height, width = x.shape[2:]
    top, bottom, left, right = widths
    y = x.new_zeros(*x.shape[:2], top + height + bottom, left + width + right)
    for row, column in product(range(y.shape[2]), range(y.shape[3])):
        at, exists = [], True
        for position, length, padding in zip((row - top, column - left), (height, width), paddings, strict=True):
            exists &= padding != "zeros" or 0 <= position < length
            at.append(position % length if padding == "circular" else min(max(position, 0), length - 1))
        if exists:
            y[:, :, row, column] = x[:, :, at[0], at[1]]
    return y


@pytest.mark.parametrize("paddings", ALL)
@pytest.mark.parametrize("size", [(5, 7), (1, 4), (2, 1)])
@pytest.mark.parametrize("widths", [(1, 1, 1, 1), (2, 1, 0, 3), (0, 0, 2, 0)])
def test_padding_and_its_gradient_equal_a_loop(size, widths, paddings):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64, requires_grad=True)
    got, expected = padded(x, widths, paddings), looped(x, widths, paddings)
    assert torch.equal(got, expected)
    grad_output = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    (slope,) = torch.autograd.grad(expected, x, grad_output)
    torch.testing.assert_close(torch.autograd.grad(got, x, grad_output)[0], slope)


def test_padding_keeps_the_order_of_the_memory():
    """A convolution of channels first takes many times as long on some devices."""
    x = torch.rand(2, 8, 6, 5)
    for order in (torch.contiguous_format, torch.channels_last):
        y = padded(x.contiguous(memory_format=order), (1, 1, 1, 1), ("zeros", "circular"))
        assert y.is_contiguous(memory_format=order)


def test_no_padding_is_no_copy():
    x = torch.rand(1, 2, 3, 4)
    assert padded(x, (0, 0, 0, 0), ("circular", "circular")) is x
