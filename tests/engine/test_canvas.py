import numpy as np
import torch

from gramophone_server.engine.canvas import from_pictures, noise, to_pictures


def test_noise_depends_on_its_own_seed_alone():
    batch = noise([3, 4, 3], 8, 9)
    assert torch.equal(batch[0], batch[2])
    assert not torch.equal(batch[0], batch[1])
    assert torch.equal(noise([4], 8, 9)[0], batch[1])


def test_noise_is_in_the_box_around_grey():
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
