"""The spectrum loss compared with loops in float64, and its gradient with finite differences."""

import itertools

import numpy as np
import pytest
import torch

from gramophone_server.engine.losses.loss import Layer, LayerView
from gramophone_server.engine.losses.spectrum import Spectrum

LOSS = Spectrum()
HEIGHT, WIDTH = 4, 5


def picture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    return torch.rand(2, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def target(style: torch.Tensor) -> torch.Tensor:
    share = 1 / style[0, 0].numel()
    return torch.stack([torch.from_numpy(LOSS.target(one.numpy(), share)) for one in style])


def loss(canvas: torch.Tensor, style: torch.Tensor, share: torch.Tensor | None = None) -> torch.Tensor:
    layer = Layer(canvas.shape[2], canvas.shape[3])
    view = LayerView(
        layer, canvas, None, slice(0, None), slice(0, None), 1 / layer.positions if share is None else share
    )
    return LOSS.value(LOSS.statistic(view, style)[1], style, layer)


def transform_by_loops(values: np.ndarray) -> np.ndarray:
    """Returns the Fourier transform (C, H, W) of (C, H, W) by its definition."""
    _, height, width = values.shape
    found = np.zeros(values.shape, complex)
    for u, v, y, x in itertools.product(range(height), range(width), range(height), range(width)):
        found[:, u, v] += values[:, y, x] * np.exp(-2j * np.pi * (u * y / height + v * x / width))
    return found


def loss_by_loops(canvas: np.ndarray, style: np.ndarray) -> float:
    """Returns the mean squared distance of a canvas to the nearest picture with the style's Fourier magnitudes."""
    one, other = transform_by_loops(canvas), transform_by_loops(style)
    total = 0.0
    for u, v in itertools.product(*map(range, canvas.shape[1:])):
        product = sum(one[c, u, v] * np.conj(other[c, u, v]) for c in range(3))
        nearest = product / abs(product) * other[:, u, v]
        total += sum(abs(one[c, u, v] - nearest[c]) ** 2 for c in range(3))
    # Parseval: the sum over frequencies is M times that over positions.
    return total / canvas[0].size ** 2


@pytest.mark.parametrize("size", [(4, 5), (5, 6), (3, 3)])
def test_the_loss_equals_the_loops(size):
    canvas, style = picture(1, *size), picture(2, *size)
    got = loss(canvas, target(style))
    for n in range(2):
        assert got[n].item() == pytest.approx(loss_by_loops(canvas[n].numpy(), style[n].numpy()), rel=1e-6)


@pytest.mark.parametrize("style_size", [(4, 5), (3, 8), (7, 2)])
@pytest.mark.parametrize("masked", [False, True])
def test_the_gradient_equals_finite_differences(style_size, masked):
    share = None
    if masked:
        share = torch.rand(1, HEIGHT, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        share[0, 0, :2] = 0
        share = share / share.sum()
    style = target(picture(2, *style_size))
    assert torch.autograd.gradcheck(
        lambda canvas: loss(canvas, style, share), picture(1).requires_grad_(), eps=1e-6, atol=1e-7
    )


def test_a_shifted_style_has_no_loss():
    style = picture(1, 8, 9)
    assert loss(style.roll((3, 2), (2, 3)), target(style)).max() < 1e-12
    assert loss(style.flip(2), target(style)).max() > 1e-4


def test_a_larger_canvas_is_as_far_from_white_noise_as_its_variance():
    """The deviations of a smaller style keep their variance, so a flat canvas is one variance away."""
    style = picture(1, 6, 7)
    flat = style.mean((2, 3), keepdim=True).expand(-1, -1, 16, 18).contiguous()
    variance = (style - style.mean((2, 3), keepdim=True)).square().mean((2, 3)).sum(1)
    torch.testing.assert_close(loss(flat, target(style)), variance)
    small = style.mean((2, 3), keepdim=True).expand(-1, -1, 4, 4).contiguous()
    torch.testing.assert_close(loss(small, target(style)), variance)


def test_stripes_of_a_larger_style_are_stripes_of_the_same_period():
    def stripes(height: int, period: int) -> torch.Tensor:
        rows = torch.arange(height, dtype=torch.float64)
        return torch.cos(2 * torch.pi * rows / period).view(1, 1, -1, 1).repeat(1, 3, 1, 24) / 4 + 0.5

    style = target(stripes(48, 6))
    same, other = (loss(stripes(24, period), style).item() for period in (6, 8))
    assert same < 0.01 * other


def test_a_mixture_of_a_picture_with_itself_is_the_picture():
    made = [target(picture(1))[0].numpy()] * 2
    mixed = torch.from_numpy(LOSS.mixed(made, [0.3, 0.7]))[None]
    torch.testing.assert_close(loss(picture(1)[:1], mixed), torch.zeros(1, dtype=torch.float64), atol=1e-12, rtol=0)


def test_a_mixture_of_sizes_has_the_mean_color_of_its_pictures():
    one, two = picture(1), picture(2, 7, 3)
    mixed = LOSS.mixed([target(one)[0].numpy(), target(two)[0].numpy()], [0.25, 0.75])
    assert mixed.shape == (4, 7, 5)
    expected = 0.25 * one[0].mean((1, 2)) + 0.75 * two[0].mean((1, 2))
    np.testing.assert_allclose((mixed[:3] * mixed[3]).sum((1, 2)), expected.numpy())
