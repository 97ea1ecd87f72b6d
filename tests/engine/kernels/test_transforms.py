"""The transforms of Winograd's convolutions compared with plain sums."""

import pytest
import torch

from gramophone_server.engine.kernels.transforms import Pair, transforms


def correlated(pair: Pair, points: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    return pair.output.double() @ (points * (pair.input.double() @ inputs))


@pytest.mark.parametrize("tile", [2, 4, 6])
def test_the_transforms_compute_the_correlation_of_three_weights(tile):
    generator = torch.Generator().manual_seed(0)
    weights, inputs = (torch.randn(n, generator=generator, dtype=torch.float64) for n in (3, tile + 2))
    made = transforms(tile)
    expected = torch.stack([weights @ inputs[i : i + 3] for i in range(tile)])
    # The transforms are rounded to float32.
    torch.testing.assert_close(correlated(made.forwards, made.kernel @ weights, inputs), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("tile", [2, 4, 6])
def test_the_turned_transforms_compute_the_correlation_of_the_turned_weights(tile):
    """The adjoint of the convolution uses the same transformed kernel."""
    generator = torch.Generator().manual_seed(0)
    weights, inputs = (torch.randn(n, generator=generator, dtype=torch.float64) for n in (3, tile + 2))
    made = transforms(tile)
    expected = torch.stack([weights.flip(0) @ inputs[i : i + 3] for i in range(tile)])
    torch.testing.assert_close(correlated(made.backwards, made.kernel @ weights, inputs), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("tile", [2, 4])
def test_the_transformed_weights_of_a_tile_are_the_first_ones_of_larger_tiles(tile):
    assert torch.equal(transforms(tile).kernel, transforms(6).kernel[: tile + 2])
