"""Jobs with each style loss: the loss falls, and a job in tiles paints the picture of the whole job."""

from typing import Any

import numpy as np
import pytest

from gramophone_server.engine.losses import style_losses

from .painting import finished, paint, prepare

NAMES = sorted(style_losses())


@pytest.mark.parametrize("kind", ["style", "transfer"])
@pytest.mark.parametrize("name", NAMES)
def test_the_loss_falls(name, kind):
    job = prepare(kind, style_loss=name, size=48, iterations=12, report_every=1, scales=1)
    first, *_, last = [job.loss(frame) for frame in job.synthesis]
    assert last < first / 2
    assert finished(job).loss > 0


@pytest.mark.parametrize("name", [name for name in NAMES if style_losses()[name].tiling])
def test_tiles_paint_the_picture_of_the_whole_job(name):
    sizes: dict[str, Any] = {"size": 96, "iterations": 4, "scales": 1}
    whole, tiled = (paint("transfer", style_loss=name, tile_size=tile_size, **sizes) for tile_size in (0, 64))
    assert np.abs(whole.picture.astype(int) - tiled.picture).max() <= 1
