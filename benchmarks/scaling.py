"""The time of a step as a function of the size, the batch and the tiles."""

import statistics
import time
from typing import Any

import torch

from gramophone_server.engine.canvas import noise
from gramophone_server.engine.cost import Workload, forward_flops
from gramophone_server.engine.device import fastest_dtype, set_up_cpu
from gramophone_server.engine.objective import Objective
from gramophone_server.engine.partition import in_tiles, partition
from gramophone_server.engine.tiling import Partition

from .inputs import best_model, picture, style_objective

SIZES = (128, 256, 512, 1024, 2048)
BATCHES = (1, 2, 4, 8)
TILES = (768, 512, 256)
ROUNDS = 3


def measure() -> dict[str, Any]:
    """Measures gradient evaluations for several sizes, batches and tiles."""
    set_up_cpu()
    model = best_model()
    dtype = fastest_dtype(torch.device("cpu"))
    objective = style_objective(model, picture(256), 5, dtype)
    network, used = objective.network, objective.network.architecture
    work = Workload(used)
    rows = []

    def parted(parts: Partition) -> Objective:
        return Objective(network, objective.terms, tiles=parts.tiles, cut=parts.cut)

    def add(what: str, seconds: float, flops: float, note: str = "") -> None:
        speed = f"{flops / seconds / 1e9:.0f}"
        rows.append({"what": what, "seconds": f"{seconds:.3f}", "GFLOP/s": speed, "beside": note})

    for size in SIZES:
        side = 1024 if size > 1024 else None
        by_parts = parted(partition(used, size, size, side))
        seconds = _seconds({"": by_parts}, size, 2 if size > 512 else ROUNDS)[""]
        add(f"{size}x{size}" + (f", tiles of {side}" if side else ""), seconds, 2 * forward_flops(work, size, size))
    alone = 0.0
    for batch in BATCHES:
        seconds = _seconds({"": objective}, 224, ROUNDS, batch)[""]
        alone = alone or seconds
        flops = 2 * batch * forward_flops(work, 224, 224)
        add(
            f"batch of {batch} at 224x224", seconds, flops, f"{batch * alone / seconds:.2f} times as fast as one by one"
        )
    ways: dict[str, Objective] = {"whole": objective}
    for side in TILES:
        parts = partition(used, 1024, 1024, side)
        ways[f"tiles of {side}, whole after {parts.cut}"] = parted(parts)
    ways["tiles of 512 at all layers"] = parted(in_tiles(used, 1024, 1024, 512))
    for way, seconds in (found := _seconds(ways, 1024, ROUNDS)).items():
        note = "" if way == "whole" else f"{seconds / found['whole']:.2f} times whole"
        add(f"1024x1024, {way}", seconds, 2 * forward_flops(work, 1024, 1024), note)
    how = (
        f"One evaluation of the loss and its gradient, style at 5 layers of {model.manifest.name}, {str(dtype)[6:]}. "
        "GFLOP/s counts the operations of the whole canvas, so the extra operations of tiles show as a lower speed."
    )
    return {"title": "Cost of a step", "how": how, "rows": rows}


def _seconds(ways: dict[str, Objective], size: int, rounds: int, batch: int = 1) -> dict[str, float]:
    """Returns the median seconds of each objective, measured in alternation after a warm-up round."""
    canvas = noise(range(batch), size, size)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for counted in range(rounds + 1):
        for way, objective in ways.items():
            begun = time.perf_counter()
            objective.evaluate(canvas)
            if counted:
                seconds[way].append(time.perf_counter() - begun)
    return {way: statistics.median(values) for way, values in seconds.items()}
