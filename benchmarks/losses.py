"""The style losses after the same time, by distances that none of them optimizes."""

import time
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from gramophone_server.engine.device import set_up_cpu
from gramophone_server.models.features import FeatureExtractor
from gramophone_server.worker.prepared import FinishedPicture
from tests.worker.painting import one_thread

from .inputs import assets, best_model, prepare

LOSSES = ("gram", "mean_covariance", "sliced_wasserstein", "nearest_neighbor")
PICTURES = ("starry_night", "coastal_scene")
SECONDS, SIZE, DIRECTIONS = 40.0, 224, 512
HELD_OUT = "conv3_3"


def measure() -> dict[str, Any]:
    """Measures two distances between each painted picture and its style."""
    set_up_cpu()
    model, folder, rows = best_model(), assets() / "data" / "images", []
    with one_thread():
        for name in PICTURES:
            with Image.open(folder / f"{name}.jpg") as opened:
                style = np.asarray(opened.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))
            features = FeatureExtractor(model, threads=1)
            for scales, loss in ((scales, loss) for scales in (1, 0) for loss in LOSSES):
                painted, iterations = paint(style, style_loss=loss, scales=scales)
                held = [features.extract(picture, [HELD_OUT])[HELD_OUT] for picture in (painted.picture, style)]
                maps = [torch.from_numpy(values).flatten(1) for values in held]
                rows.append(
                    {
                        "picture": name,
                        "levels": "1" if scales else "pyramid",
                        "style_loss": loss,
                        "iterations": iterations,
                        "7x7 patches": f"{sliced(patches(painted.picture), patches(style)):.2e}",
                        HELD_OUT: f"{sliced(*maps) / maps[1].square().mean().item():.2e}",
                    }
                )
    how = (
        f"Sliced Wasserstein distance ({DIRECTIONS} random directions) to the style of 7x7 pixel patches (values of 0 "
        f"to 1) and of the features of {HELD_OUT}, which no loss compares (divided by their mean square), after "
        f"{SECONDS:g} seconds of processor time in one thread; {model.manifest.name}, {SIZE}x{SIZE}, from noise. Lower "
        "is better."
    )
    return {"title": "Style losses", "how": how, "rows": rows}


def paint(style: np.ndarray, seconds: float = SECONDS, **options: Any) -> tuple[FinishedPicture, int]:
    """Returns the picture painted in a time, in seconds of this process on all cores, and its iterations."""
    # With a pyramid, each level but the last gets an eighth of the iterations.
    job = prepare(best_model(), style, size=SIZE, iterations=400, report_every=1, warm_start=False, **options)
    begun, iterations = time.process_time(), 0
    for _ in job.synthesis:
        iterations += 1
        if time.process_time() - begun > seconds:
            break
    return job.finish(job.synthesis.frame()), iterations


def patches(picture: np.ndarray) -> Tensor:
    """Returns all 7x7 patches (147, M) of a uint8 picture, with values of 0 to 1."""
    values: Tensor = F.unfold(torch.from_numpy(picture.transpose(2, 0, 1) / np.float32(255))[None], 7)[0]
    return values


def sliced(one: Tensor, other: Tensor) -> float:
    """Returns the mean squared sliced Wasserstein distance of two sets of vectors (C, M)."""
    generator = torch.Generator().manual_seed(0)
    directions = F.normalize(torch.randn(DIRECTIONS, len(one), generator=generator), dim=1)
    difference = (directions @ one).sort(dim=1).values - (directions @ other).sort(dim=1).values
    return difference.square().mean().item()
