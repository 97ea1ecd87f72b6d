"""Loss weights far from 1, and pictures that the optimizer never changes, seen by a client."""

import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gramophone.v1 import job_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from tests.harness import events, options, png


def transfer(server, content_weight: float, style_weight: float, **fields: Any) -> list[job_pb2.JobEvent]:
    """The events of a small style transfer."""
    return list(
        events(
            server.style.TransferStyle(
                pb.TransferStyleRequest(
                    content=options_pb2.InputImage(data=png(seed=1)),
                    styles=[options_pb2.StyleSource(image=options_pb2.InputImage(data=png(seed=2)))],
                    content_weight=content_weight,
                    style_weight=style_weight,
                    options=options(**fields),
                )
            )
        )
    )


def pixels(event: job_pb2.JobEvent) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(event.result.image.data)), np.int16)


@pytest.mark.parametrize("scale", [options_pb2.LOSS_SCALE_PAPER, options_pb2.LOSS_SCALE_RELATIVE])
@pytest.mark.parametrize("weights", [(1e5, 1e10), (1e-15, 1e-10), (1e25, 1e30)])
def test_the_picture_depends_only_on_the_ratio_of_the_weights(server, weights, scale):
    *_, expected = transfer(server, 1, 1e5, loss_scale=scale)
    *reports, made = transfer(server, *weights, loss_scale=scale)
    assert np.abs(pixels(made) - pixels(expected)).max() <= 1
    assert made.result.loss == pytest.approx(weights[0] * expected.result.loss, rel=1e-3)
    assert "warnings" not in json.loads(made.result.recipe_json)
    progress = [event.progress for event in reports if event.HasField("progress")]
    for report in progress:
        total = sum(term.loss * term.weight for term in report.layer_losses)
        assert report.loss == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("style_weight", [0, 1e-25])
@pytest.mark.parametrize("optimizer", [options_pb2.OPTIMIZER_LBFGS, options_pb2.OPTIMIZER_ADAM])
def test_an_unchanged_picture_gives_a_warning(server, style_weight, optimizer):
    """The job starts at the content; with (nearly) all weight on the content loss, each step raises the loss."""
    *_, end = transfer(server, 1, style_weight, tv_weight=0, optimizer=optimizer)
    assert end.state == job_pb2.JOB_STATE_SUCCEEDED
    (warning,) = json.loads(end.result.recipe_json)["warnings"]
    assert "equals the initial picture, because none of 4 updates lowered its loss" in warning
    assert "options.init" in warning and "style_weight" in warning
    assert f"job {end.job_id}: {warning}" in server.read_log()
