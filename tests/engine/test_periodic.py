"""The periodic component of pictures, compared with its definition as the solution of a linear system."""

import numpy as np
import pytest
import torch

from gramophone_server.engine.periodic import periodic_component


def solved(picture: np.ndarray, wraps: tuple[bool, bool]) -> np.ndarray:
    """Returns the periodic component of a picture (H, W): the smooth part has the Laplacian of the jumps."""
    height, width = picture.shape
    laplacian, jumps = np.zeros((picture.size, picture.size)), np.zeros(picture.size)
    for row in range(height):
        for column in range(width):
            here = row * width + column
            for down, right in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                beyond = not (0 <= row + down < height and 0 <= column + right < width)
                if beyond and not wraps[0 if down else 1]:
                    continue  # The mirror image of the pixel itself.
                there = (row + down) % height * width + (column + right) % width
                laplacian[here, there] += 1
                laplacian[here, here] -= 1
                if beyond:
                    jumps[here] += picture.flat[there] - picture.flat[here]
    smooth = np.linalg.lstsq(laplacian, jumps, rcond=None)[0]
    return picture - (smooth - smooth.mean()).reshape(picture.shape)


@pytest.mark.parametrize("wraps", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("size", [(8, 6), (7, 9)])
def test_it_is_the_picture_minus_the_smooth_solution(size, wraps):
    picture = torch.rand(1, 1, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    got = periodic_component(picture, wraps)[0, 0].numpy()
    np.testing.assert_allclose(got, solved(picture[0, 0].numpy(), wraps), atol=1e-12)


def test_a_ramp_loses_its_jump_and_the_middle_keeps_its_detail():
    """The jump of 1 becomes a step as small as those inside; a pattern that fits together stays."""
    ramp = torch.linspace(0, 1, 64, dtype=torch.float64).view(1, 1, 1, 64).expand(1, 3, 32, 64)
    waves = 0.1 * torch.sin(torch.arange(64, dtype=torch.float64) * 2 * torch.pi / 8)
    got = periodic_component(ramp + waves, (True, True))
    assert (got[..., 0] - got[..., -1]).abs().max() < 0.1
    torch.testing.assert_close(got.mean(), ramp.mean())
    torch.testing.assert_close(
        periodic_component(waves.expand(1, 3, 32, 64), (False, True)), waves.expand(1, 3, 32, 64), atol=0.08, rtol=0
    )


def test_without_an_axis_the_picture_stays():
    picture = torch.rand(1, 3, 4, 5)
    assert periodic_component(picture, (False, False)) is picture
