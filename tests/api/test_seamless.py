"""Jobs whose results tile, through a server and a worker."""

import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gramophone.v1 import options_pb2 as o
from gramophone.v1 import style_transfer_service_pb2 as pb
from tests.harness import encode, options, run, submit
from tests.marks import slow
from tests.worker.test_seamless import ramp, seam, texture

# Small, and at one level: what a test of many pictures affords.
SMALL: dict[str, Any] = {"size": 64, "iterations": 40, "scales": 1, "precision": o.PRECISION_FLOAT32}


def source(picture: Image.Image) -> o.InputImage:
    return o.InputImage(data=encode(picture))


def style(**fields: Any) -> pb.ReconstructStyleRequest:
    sources = [o.StyleSource(image=source(texture()))]
    return pb.ReconstructStyleRequest(styles=sources, options=options(**(SMALL | fields)))


def shown(result: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(result.image.data)))


@pytest.mark.parametrize(
    ("wrap", "axes", "jobs"),
    [slow(o.WRAP_X, (1,), 3), slow(o.WRAP_Y, (0,), 3), (o.WRAP_BOTH, (0, 1), 2)],
    ids=["x", "y", "both"],
)
def test_textures_have_no_seam(server, wrap, axes, jobs):
    made = [shown(run(server, style(wrap=wrap, seed=seed))) for seed in range(jobs)]
    assert np.mean([seam(each, axis) for each in made for axis in axes]) <= 1.05
    assert all(np.mean([seam(each, axis) for each in made]) > 1.15 for axis in {0, 1} - set(axes))


def test_circular_padding_wraps_both_axes_and_an_axis_implies_circular_padding(server):
    both, named = (run(server, style(iterations=2, **how)) for how in ({"padding": o.PADDING_CIRCULAR}, {"wrap": 4}))
    recipe = json.loads(both.recipe_json)
    assert (recipe["padding"], recipe["wrap"]) == ("circular", "both")
    assert recipe == json.loads(named.recipe_json)
    assert both.image.data == named.image.data


def test_a_content_becomes_a_picture_that_tiles(server):
    def painted(wrap: Any) -> np.ndarray:
        request = pb.TransferStyleRequest(
            content=source(ramp()), styles=[o.StyleSource(image=source(texture()))], options=options(**SMALL, wrap=wrap)
        )
        *_, last = submit(server, pb.EstimateJobRequest(transfer=request))
        return shown(last.result)

    flat, torus = painted(o.WRAP_NONE), painted(o.WRAP_BOTH)
    for axis in (0, 1):
        assert seam(torus, axis) < 1.3 < 1.5 < seam(flat, axis)
