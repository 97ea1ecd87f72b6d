"""Counts what a step of each combination of options asks of CUDA, with and without a graph."""

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
        {"padding": "replicate"}, {"padding": "margin"}, {"pooling": "average"}, {"pooling": "average_rescaled"},
        {"precision": "float32"}, {"tv_weight": 1e-3}, {"averaging": 0.9}, {"plateau": 0.01},
        {"loss_scale": "relative"},
        {"color": "luminance", "kind": "transfer"}, {"color": "match", "kind": "transfer"},
        {"losses": ("mean_covariance",)}, {"losses": ("sliced_wasserstein",)}, {"losses": ("nearest_neighbor",)},
        {"losses": ("gram", "spectrum")}, {"losses": ("gram", "mean_covariance")},
        {"masked": True}, {"masked": True, "kind": "transfer", "outside": "keep"},
        {"masked": True, "precision": "float32"},
        {"masked": True, "losses": ("sliced_wasserstein",)}, {"masked": True, "losses": ("nearest_neighbor",)},
        {"masked": True, "tile_size": 64}, {"masked": True, "losses": ("mean_covariance",)},
        {"tile_size": 64}, {"tile_size": 64, "losses": ("nearest_neighbor",)}, {"tile_size": 64, "kind": "transfer"},
        {"tile_size": 64, "wrap": "both"}, {"wrap": "both"}, {"wrap": "x", "kind": "transfer"},
        {"kind": "transfer", "transparent": True}, {"kind": "content", "transparent": True, "averaging": 0.9},
    ]  # fmt: skip
    found += [{"optimizer": optimizer, **other} for optimizer, other in itertools.product(optimizers, others)]
    return found


def measured(options: dict[str, Any], *, graphs: bool) -> dict[str, Any]:
    """Returns the counts of a step and of a report of a job."""
    job = prepared(spec(**options), tile=options.get("tile_size"), graphs=graphs)
    step = warmed(job, 12 if options["optimizer"] == "lbfgs" else 5)
    with fakecuda.counting(under="gramophone_server") as steps:
        for _ in range(UPDATES):
            step()
    with fakecuda.counting(under="gramophone_server") as report:
        frame = job.synthesis.frame()
        job.loss(frame), job.loss_terms(frame), frame.numbers
    return {
        "options": options,
        "graphs": graphs,
        "launches": len(steps.launches) / UPDATES,
        "nodes": sum(e.amount for e in steps.launches if e.name == "cudaGraphLaunch") / UPDATES,
        "waits": steps.sites("sync", "h2d", "d2h"),
        "report": sum(report.sites("sync").values()),
    }


print(json.dumps([measured(options, graphs=graphs) for options in combinations() for graphs in (False, True)]))
