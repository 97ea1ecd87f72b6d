"""The time of a step as a function of the size and the batch."""

import statistics
import time
from typing import Any

import torch

from gramophone_server.engine.canvas import noise
from gramophone_server.engine.cost import Workload, forward_flops
from gramophone_server.engine.device import fastest_dtype, set_up_cpu
from gramophone_server.engine.objective import Objective
from gramophone_server.engine.partition import partition

from .inputs import best_model, picture, style_objective

SIZES = (128, 256, 512, 1024, 2048)
BATCHES = (1, 2, 4, 8)
ROUNDS = 3


def measure() -> dict[str, Any]:
    """Measures gradient evaluations for several sizes and batches."""
    set_up_cpu()
    model = best_model()
    dtype = fastest_dtype(torch.device("cpu"))
    objective = style_objective(model, picture(256), 5, dtype)
    network, used = objective.network, objective.network.architecture
    work = Workload(used)
    rows = []

    def add(what: str, seconds: float, flops: float, note: str = "") -> None:
        speed = f"{flops / seconds / 1e9:.0f}"
        rows.append({"what": what, "seconds": f"{seconds:.3f}", "GFLOP/s": speed, "beside": note})

    for size in SIZES:
        side = 1024 if size > 1024 else None
        parts = partition(used, size, size, side)
        by_parts = Objective(network, objective.terms, tiles=parts.tiles, cut=parts.cut)
        seconds = _seconds(by_parts, size, 2 if size > 512 else ROUNDS)
        add(f"{size}x{size}" + (f", tiles of {side}" if side else ""), seconds, 2 * forward_flops(work, size, size))
    alone = 0.0
    for batch in BATCHES:
        seconds = _seconds(objective, 224, ROUNDS, batch)
        alone = alone or seconds
        flops = 2 * batch * forward_flops(work, 224, 224)
        add(
            f"batch of {batch} at 224x224", seconds, flops, f"{batch * alone / seconds:.2f} times as fast as one by one"
        )
    how = (
        f"One evaluation of the loss and its gradient, style at 5 layers of {model.manifest.name}, {str(dtype)[6:]}. "
        "GFLOP/s counts the operations of the whole canvas, so the extra operations of tiles show as a lower speed."
    )
    return {"title": "Cost of a step", "how": how, "rows": rows}


def _seconds(objective: Objective, size: int, rounds: int, batch: int = 1) -> float:
    """Returns the median seconds of an evaluation, measured after a warm-up round."""
    canvas = noise(range(batch), size, size)
    seconds = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        objective.evaluate(canvas)
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[1:])
