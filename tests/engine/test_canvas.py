"""Initial canvases, the conversion of canvases to and from pictures, and resizing."""

import numpy as np
import pytest
import torch
from PIL import Image

from gramophone_server.engine.canvas import colored_noise, fine_detail, from_pictures, noise, resized, to_pictures


def test_noise_depends_only_on_its_own_seed():
    batch = noise([3, 4, 3], 8, 9)
    assert torch.equal(batch[0], batch[2])
    assert not torch.equal(batch[0], batch[1])
    assert torch.equal(noise([4], 8, 9)[0], batch[1])


def test_noise_is_between_0_and_1_around_gray():
    canvas = noise([0], 64, 64)
    assert canvas.min() >= 0
    assert canvas.max() <= 1
    assert abs(canvas.mean().item() - 0.5) < 0.01
    assert 0.05 < canvas.std().item() < 0.2


def test_pictures_survive_the_round_trip():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    assert np.array_equal(to_pictures(from_pictures(list(pictures))), pictures)


def test_levels_are_rounded_not_truncated():
    canvas = torch.tensor([0.6, 1.4, 254.7]).div(255).view(1, 3, 1, 1)
    assert to_pictures(canvas).flatten().tolist() == [1, 1, 255]


def test_every_level_of_16_bits_survives_the_round_trip():
    picture = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1).repeat(3, axis=2)
    got = to_pictures(from_pictures([picture]), bit_depth=16)
    assert got.dtype == np.uint16
    assert np.array_equal(got, picture[None])


def test_16_bits_keep_levels_that_8_bits_cannot():
    canvas = torch.tensor([-0.5, 0.6 / 65535, 100.4 / 65535, 100.6 / 65535, 65534.4 / 65535, 1.5]).view(1, 1, 1, 6)
    before = canvas.clone()
    got = to_pictures(canvas.expand(1, 3, 1, 6), bit_depth=16)
    assert got[0, 0, :, 0].tolist() == [0, 1, 100, 101, 65534, 65535]
    assert torch.equal(canvas, before)


MEAN, COVARIANCE = (
    torch.tensor([0.4, 0.5, 0.6], dtype=torch.float64),
    1e-3 * torch.tensor([[4, 3, -1], [3, 5, 1], [-1, 1, 2]], dtype=torch.float64),
)


def test_colored_noise_has_the_mean_and_covariance():
    got = colored_noise([0], 200, 200, MEAN, COVARIANCE)[0].double().flatten(1).numpy()
    np.testing.assert_allclose(got.mean(1), MEAN, atol=4 * (5e-3 / 40_000) ** 0.5)
    # The standard deviation of a covariance estimated from n samples is at most √(2 / n) times the variance.
    np.testing.assert_allclose(np.cov(got), COVARIANCE, atol=4 * 5e-3 * (2 / 40_000) ** 0.5)


def test_colored_noise_is_spatially_white_and_depends_only_on_its_own_seed():
    first, second = colored_noise([0, 1], 100, 101, MEAN, COVARIANCE)
    assert torch.equal(colored_noise([1], 100, 101, MEAN, COVARIANCE)[0], second)
    neighbors = torch.corrcoef(torch.stack([first[0, :, 1:].flatten(), first[0, :, :-1].flatten()]))[0, 1]
    assert abs(neighbors) < 0.04
    assert abs(torch.corrcoef(torch.stack([first[0].flatten(), second[0].flatten()]))[0, 1]) < 0.04


def test_colored_noise_of_one_hue_has_that_hue():
    hue = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    got = colored_noise([0], 50, 50, torch.full((3,), 0.5, dtype=torch.float64), 1e-3 * torch.outer(hue, hue))[0] - 0.5
    torch.testing.assert_close(got[1:], got[:1] * torch.tensor([2.0, 3.0]).view(2, 1, 1), rtol=0, atol=1e-5)


def test_colored_noise_stays_between_0_and_1():
    got = colored_noise([0], 50, 50, MEAN, 100 * COVARIANCE)
    assert got.min() == 0
    assert got.max() == 1


def test_fine_detail_has_mean_0_and_nearly_the_requested_deviation():
    got = fine_detail([0], 128, 128, deviation=0.05)
    # The low quarter of the frequencies is removed, so that the deviation is a little less.
    assert got.std().item() == pytest.approx(0.05, rel=0.15)
    assert abs(got.mean().item()) < 1e-4


def test_fine_detail_has_no_low_frequencies():
    def low_share(values: torch.Tensor) -> float:
        """Returns the mean power of frequencies with a period of 16 pixels or more, relative to the others."""
        power = torch.fft.fft2(values.double()).abs().square()
        frequency = torch.fft.fftfreq(128).abs()
        low = torch.maximum(frequency[:, None], frequency[None]) <= 1 / 16
        return (power[..., low].mean() / power[..., ~low].mean()).item()

    assert low_share(noise([0], 128, 128) - 0.5) > 0.8
    assert low_share(fine_detail([0], 128, 128, deviation=0.05)) < 0.05


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_fine_detail_differs_from_the_initial_noise_and_between_sizes(seed):
    def draws(height: int) -> list[float]:
        return fine_detail([seed], height, 64, deviation=1.0)[0, 0, :16].flatten().tolist()

    start = noise([seed], 64, 64)[0, 0, :16].flatten().tolist()
    assert draws(64) == draws(64)
    assert abs(np.corrcoef(draws(64), start)[0, 1]) < 0.1
    assert abs(np.corrcoef(draws(64), draws(32))[0, 1]) < 0.1


def test_fine_detail_depends_only_on_its_own_seed():
    batch = fine_detail([3, 4], 17, 1, deviation=0.1)
    assert batch.shape == (2, 3, 17, 1)
    assert not torch.equal(batch[0], batch[1])
    torch.testing.assert_close(fine_detail([4], 17, 1, deviation=0.1)[0], batch[1])


@pytest.mark.parametrize("size", [(20, 31), (13, 16), (90, 70), (41, 17)])
def test_resized_equals_pillows_antialiased_interpolation(size):
    values = torch.rand(2, 3, 41, 53, generator=torch.Generator().manual_seed(0))
    got = resized(values, *size)
    for n in range(2):
        for channel in range(3):
            image = Image.fromarray(values[n, channel].numpy()).resize(size[::-1], Image.Resampling.BILINEAR)
            np.testing.assert_allclose(got[n, channel].numpy(), np.asarray(image), atol=1e-5)


@pytest.mark.parametrize("wraps", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("size", [(20, 31), (13, 16), (90, 70), (41, 17)])
def test_a_wrapping_picture_is_resized_like_its_repetition(size, wraps):
    values = torch.rand(2, 3, 41, 53, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    copies = [3 if wrap else 1 for wrap in wraps]
    repeated = resized(values.tile(copies), *(copy * side for copy, side in zip(copies, size, strict=True)))
    middle = [slice(side * (copy // 2), side * (copy // 2 + 1)) for copy, side in zip(copies, size, strict=True)]
    torch.testing.assert_close(resized(values, size[0], size[1], wraps), repeated[:, :, *middle])


def test_enlarging_a_wrapping_picture_commutes_with_rolling():
    values = torch.rand(1, 3, 24, 36, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved = resized(values.roll((5, 7), (2, 3)), 48, 72, (True, True))
    torch.testing.assert_close(moved, resized(values, 48, 72, (True, True)).roll((10, 14), (2, 3)))


def test_resizing_to_the_same_size_changes_nothing_and_resized_values_stay_in_range():
    values = torch.randint(0, 2, (1, 3, 40, 30), generator=torch.Generator().manual_seed(0)).float()
    torch.testing.assert_close(resized(values, 40, 30), values, rtol=0, atol=1e-6)
    for size in ((80, 77), (7, 5)):
        got = resized(values, *size)
        assert got.min() >= 0
        assert got.max() <= 1 + 1e-6
