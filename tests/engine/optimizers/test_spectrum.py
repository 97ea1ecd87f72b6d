"""The spectral scale of L-BFGS compared with a full Fourier transform, frequency by frequency."""

import math

import numpy as np
import pytest
import torch

from gramophone_server.engine.optimizers.spectrum import BANDS, SpectralScale

AXES = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([[3], [2], [6]])


def band(row: int, column: int, height: int, width: int) -> int:
    """Returns the band of a frequency (row, column) of the full transform."""
    rows, columns = np.fft.fftfreq(height)[row], np.fft.fftfreq(width)[column]
    longest = max(height, width)
    octaves = math.log2(max(longest * math.hypot(rows, columns), 1))
    return min(BANDS - 1, int(BANDS * octaves / math.log2(longest * math.sqrt(0.5))))


def spectra(values: torch.Tensor) -> np.ndarray:
    """Returns the full spectrum (3, H, W) of a canvas (1, 3, H, W), for each color axis."""
    return np.fft.fft2(np.einsum("ac,chw->ahw", AXES, values[0].double().numpy()))


def power(values: torch.Tensor) -> np.ndarray:
    """Returns the power (3, BANDS) of a canvas for each color axis and band."""
    height, width = values.shape[2:]
    spectrum, sums = spectra(values), np.zeros((3, BANDS))
    for row in range(height):
        for column in range(width):
            sums[:, band(row, column, height, width)] += np.abs(spectrum[:, row, column]) ** 2
    return sums / (height * width)


@pytest.fixture(params=[None, 1, 40], ids=["small", "row by row", "strip by strip"])
def strips(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transforms canvases like large ones: axis by axis, in strips of `param` frequencies. None transforms at once."""
    if request.param:
        monkeypatch.setattr("gramophone_server.engine.optimizers.spectrum._LARGE", 0)
        monkeypatch.setattr("gramophone_server.engine.optimizers.spectrum._STRIP", request.param)


@pytest.mark.usefixtures("strips")
@pytest.mark.parametrize("size", [(16, 16), (15, 22), (9, 31), (20, 7)])
def test_the_spectral_scale_equals_a_full_transform(size: tuple[int, int]):
    torch.manual_seed(1)
    scale, good = SpectralScale(), torch.ones(1, dtype=torch.bool)
    moved, changed = np.zeros((3, BANDS)), np.zeros((3, BANDS))
    for _ in range(6):
        s, y = torch.randn(1, 3, *size), torch.randn(1, 3, *size) * torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
        scale.learn(s, y, good)
        unit = power(y).sum()
        moved, changed = 0.9 * moved + power(s) / unit, 0.9 * changed + power(y) / unit
    known = moved > 0
    factors = np.where(known, moved / np.where(known, changed, 1) * changed.sum() / moved.sum(), 1) ** 0.5
    assert factors.max() < 30 and factors.min() > 1 / 30
    # The curvature of the latest pair, by Parseval's theorem.
    assert scale.curvature().item() == pytest.approx((factors * power(y)).sum(), rel=1e-5)
    q = torch.randn(1, 3, *size)
    spectrum = spectra(q)
    for row in range(size[0]):
        for column in range(size[1]):
            spectrum[:, row, column] *= factors[:, band(row, column, *size)]
    expected = np.einsum("ac,ahw->chw", AXES, np.fft.ifft2(spectrum).real)
    np.testing.assert_allclose(scale.apply(q, torch.tensor([2.0]))[0].numpy(), 2 * expected, atol=2e-5)


def test_canvases_of_a_batch_are_independent():
    torch.manual_seed(2)
    s, y, q = torch.randn(3, 3, 3, 12, 10).unbind(0)
    together, alone = SpectralScale(), SpectralScale()
    for _ in range(6):
        together.learn(s, y, torch.tensor([True, False, True]))
        alone.learn(s[2:], y[2:], torch.tensor([True]))
    one = torch.ones(3)
    torch.testing.assert_close(together.apply(q, one)[2:], alone.apply(q[2:], one[2:]))
    # A canvas without good pairs is not scaled.
    torch.testing.assert_close(together.apply(q, one)[1], q[1], atol=1e-5, rtol=0)
