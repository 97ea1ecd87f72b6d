"""Counts what a step of each combination of options asks of CUDA."""

import itertools
import json
from typing import Any

from tests.cuda.scripts.jobs import prepared, spec, warmed
from tests.fake_cuda import fakecuda

UPDATES = 4


def combinations() -> list[dict[str, Any]]:
    """Returns options of jobs: all kinds, optimizers and models, and each other option with both optimizers."""
    kinds, optimizers, models = ("style", "content", "transfer"), ("lbfgs", "adam"), ("vgg19-slim", "vgg19-random")
    found: list[dict[str, Any]] = [
        {"kind": kind, "optimizer": optimizer, "model": model}
        for kind, optimizer, model in itertools.product(kinds, optimizers, models)
    ]
    others: list[dict[str, Any]] = [
        {"padding": "replicate"}, {"pooling": "average"}, {"pooling": "average_rescaled"}, {"precision": "float32"},
        {"tv_weight": 1e-3}, {"averaging": 0.9}, {"plateau": 0.01}, {"color": "luminance", "kind": "transfer"},
        {"style_loss": "mean_covariance"}, {"style_loss": "sliced_wasserstein"}, {"style_loss": "nearest_neighbor"},
        {"masked": True}, {"masked": True, "kind": "transfer", "outside": "keep"}, {"tile_size": 64},
        {"loss_scale": "relative"}, {"masked": True, "style_loss": "sliced_wasserstein"},
        {"masked": True, "style_loss": "mean_covariance"}, {"masked": True, "style_loss": "nearest_neighbor"},
    ]  # fmt: skip
    found += [{"optimizer": optimizer, **other} for optimizer, other in itertools.product(optimizers, others)]
    return found


def measured(options: dict[str, Any]) -> dict[str, Any]:
    """Returns the counts of a step and of a report of a job."""
    tile = options.get("tile_size")
    job = prepared(spec(**options), tile=tile)
    step = warmed(job, 12 if options["optimizer"] == "lbfgs" else 3)
    with fakecuda.counting(under="gramophone_server") as steps:
        for _ in range(UPDATES):
            step()
    with fakecuda.counting(under="gramophone_server") as report:
        frame = job.synthesis.frame()
        job.loss(frame), job.loss_terms(frame), frame.numbers
    return {
        "options": options,
        "launches": len(steps.launches) / UPDATES,
        "waits": steps.sites("sync", "h2d", "d2h"),
        "report": sum(report.sites("sync").values()),
    }


print(json.dumps([measured(options) for options in combinations()]))
