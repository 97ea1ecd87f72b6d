"""Color conversions and color matching, compared with numpy in float64."""

import numpy as np
import pytest
import torch

from gramophone_server.engine.color import (
    color_statistics,
    gray,
    luminance,
    match_covariance,
    match_histogram,
    match_luminance,
    with_luminance,
)

# The matrix from RGB to YIQ as defined by the FCC (1953).
YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


def picture(height: int, width: int, seed: int, mean: tuple[float, float, float], spread: float = 0.05) -> torch.Tensor:
    """Draws a picture (1, 3, H, W) with correlated channels and all values well inside 0 to 1."""
    rng = np.random.default_rng(seed)
    draws = rng.uniform(-1, 1, (height, width, 3)) @ rng.uniform(-1, 1, (3, 3))
    pixels = np.array(mean) + spread * draws
    assert pixels.min() > 0.05 and pixels.max() < 0.95
    return torch.from_numpy(pixels).float().permute(2, 0, 1)[None]


@pytest.fixture
def style() -> torch.Tensor:
    return picture(40, 50, 1, (0.6, 0.4, 0.5))


@pytest.fixture
def content() -> torch.Tensor:
    return picture(33, 47, 2, (0.4, 0.5, 0.6), 0.08)


def pixels(canvas: torch.Tensor) -> np.ndarray:
    """The colors (M, 3) in float64."""
    return canvas.double().permute(0, 2, 3, 1).reshape(-1, 3).numpy()


def test_luminance_is_y_of_yiq(style):
    got = luminance(style)
    assert got.shape == (1, 1, 40, 50)
    np.testing.assert_allclose(got.flatten().numpy(), pixels(style) @ YIQ[0], rtol=1e-6)


def test_gray_has_the_luminance_and_no_color(style):
    expected = np.repeat((pixels(style) @ YIQ[0])[:, None], 3, axis=1)
    np.testing.assert_allclose(pixels(gray(style)), expected, rtol=1e-6)


def test_with_luminance_replaces_the_luminance_and_keeps_the_chroma(style):
    light = torch.rand(1, 1, 40, 50, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.45
    got = pixels(with_luminance(style, light)) @ YIQ.T
    np.testing.assert_allclose(got[:, 0], light.flatten().double().numpy(), atol=1e-6)
    np.testing.assert_allclose(got[:, 1:], (pixels(style) @ YIQ.T)[:, 1:], atol=1e-6)


def test_with_luminance_stays_between_0_and_1():
    colors = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    for light in (0.0, 1.0):
        got = with_luminance(colors, torch.full((1, 1, 20, 20), light))
        assert got.min() >= 0
        assert got.max() <= 1


def test_match_luminance_has_the_contents_mean_and_deviation(style, content):
    got = match_luminance(style, content)
    assert got.shape == style.shape
    assert torch.equal(got[:, 0], got[:, 1]) and torch.equal(got[:, 0], got[:, 2])
    light, wanted = pixels(got)[:, 0], pixels(content) @ YIQ[0]
    assert light.mean() == pytest.approx(wanted.mean(), abs=1e-6)
    assert light.std(ddof=1) == pytest.approx(wanted.std(ddof=1), rel=1e-4)
    # It is a linear function of the style's luminance.
    assert np.corrcoef(light, pixels(style) @ YIQ[0])[0, 1] == pytest.approx(1, abs=1e-6)


def test_color_statistics_equal_numpys(style):
    mean, covariance = color_statistics(style)
    np.testing.assert_allclose(mean.numpy(), pixels(style).mean(0), rtol=1e-12)
    np.testing.assert_allclose(covariance.numpy(), np.cov(pixels(style).T, bias=True), rtol=1e-10)


def test_match_covariance_has_the_contents_mean_and_covariance():
    # Widely spread colors, so that the regularization for singular covariances has no visible effect.
    style, content = picture(60, 50, 1, (0.5, 0.45, 0.5), 0.14), picture(33, 47, 2, (0.4, 0.5, 0.6), 0.06)
    got, wanted = pixels(match_covariance(style, content)), pixels(content)
    np.testing.assert_allclose(got.mean(0), wanted.mean(0), atol=1e-6)
    expected = np.cov(wanted.T, bias=True)
    assert np.linalg.norm(np.cov(got.T, bias=True) - expected) <= 0.01 * np.linalg.norm(expected)
    assert np.linalg.norm(np.cov(pixels(style).T, bias=True) - expected) > 0.5 * np.linalg.norm(expected)


def test_match_covariance_with_itself_changes_nothing():
    style = picture(60, 50, 1, (0.5, 0.45, 0.5), 0.14)
    torch.testing.assert_close(match_covariance(style, style), style, rtol=0, atol=2e-3)


@pytest.mark.parametrize("match", [match_luminance, match_covariance, match_histogram])
def test_a_picture_of_one_color_stays_finite_and_between_0_and_1(match, content):
    flat = torch.tensor([0.2, 0.4, 0.8]).view(1, 3, 1, 1).expand(1, 3, 8, 9)
    for style, target in ((flat, content), (content, flat)):
        got = match(style, target)
        assert got.isfinite().all()
        assert got.min() >= 0
        assert got.max() <= 1


def test_match_histogram_maps_each_value_to_the_content_value_of_its_rank():
    generator = torch.Generator().manual_seed(0)
    # Few levels, so that there are ties; neither number of pixels divides the other.
    style = torch.randint(0, 20, (1, 3, 7, 9), generator=generator) / 19
    content = torch.rand(1, 3, 8, 11, generator=generator)
    got = match_histogram(style, content)
    for channel in range(3):
        values, wanted = style[0, channel].flatten().tolist(), sorted(content[0, channel].flatten().tolist())
        for value, matched in zip(values, got[0, channel].flatten().tolist(), strict=True):
            below = sum(other <= value for other in values)
            # The smallest content value for which at least the same share of pixels is no brighter.
            rank = next(r for r in range(1, len(wanted) + 1) if r * len(values) >= below * len(wanted))
            assert matched == wanted[rank - 1]


def test_match_histogram_is_exact_for_the_same_number_of_pixels():
    # Each value occurs once, and there are so many that products of ranks are not exact in float32.
    style, content = (
        torch.randperm(211 * 302, generator=torch.Generator().manual_seed(seed))
        .view(1, 1, 211, 302)
        .expand(1, 3, -1, -1)
        for seed in (0, 1)
    )
    # Each value is its rank, and both pictures have the same values, so that the result equals the style.
    assert torch.equal(match_histogram(style / 65536, content / 65536), style / 65536)
