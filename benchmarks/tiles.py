"""The time and the memory of a step in tiles, relative to one without."""

import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch

from gramophone_server.engine.canvas import noise
from gramophone_server.engine.device import fastest_dtype, release_free_memory, set_up_cpu
from gramophone_server.engine.objective import Objective
from gramophone_server.engine.partition import in_tiles, partition
from gramophone_server.engine.tiling import Partition

from .inputs import best_model, picture, style_objective

SIZE = 1024
SIDES = (768, 512, 256)
ROUNDS = 2


def measure() -> dict[str, Any]:
    """Measures a gradient evaluation whole, in tiles, and in tiles at all layers."""
    set_up_cpu(1)
    model, dtype = best_model(), fastest_dtype(torch.device("cpu"))
    objective = style_objective(model, picture(256), 5, dtype)
    network = objective.network

    def parted(parts: Partition) -> Objective:
        return Objective(network, objective.terms, tiles=parts.tiles, cut=parts.cut)

    ways = {"whole": objective}
    for side in SIDES:
        parts = partition(network.architecture, SIZE, SIZE, side)
        ways[f"tiles of {side}, whole after {parts.cut}"] = parted(parts)
    ways["tiles of 512 at all layers"] = parted(in_tiles(network.architecture, SIZE, SIZE, 512))
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    memory: dict[str, int] = dict.fromkeys(ways, 0)
    canvas = noise([0], SIZE, SIZE)
    for counted in range(1 + ROUNDS):
        for way, evaluated in ways.items():
            taken, held = _measured(evaluated, canvas)
            memory[way] = max(memory[way], held)
            if counted:
                seconds[way].append(taken)
    rows = []
    for way, all_taken in seconds.items():
        ratios = [mine / whole for mine, whole in zip(all_taken, seconds["whole"], strict=True)]
        spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if way != "whole" else ""
        rows.append(
            {
                "what": way,
                "times whole": f"{statistics.median(ratios):.2f}{spread}",
                "memory of the step": f"{memory[way] / 1e6:.0f} MB",
                "bar": "≤ 1.3" if "512, " in way else "",
            }
        )
    how = (
        f"One evaluation of the loss and its gradient, {SIZE}x{SIZE}, style at 5 layers of {model.manifest.name}, "
        f"{str(dtype)[6:]}: processor time in one thread, median and range of {ROUNDS} rounds in which all alternate."
    )
    return {"title": "Tiles", "how": how, "rows": rows}


def _measured(objective: Objective, canvas: torch.Tensor) -> tuple[float, int]:
    """Returns the processor time in seconds and the peak of the additional memory in bytes of an evaluation."""
    taken = 0.0

    def evaluate() -> None:
        nonlocal taken
        begun = time.process_time()
        objective.evaluate(canvas)
        taken = time.process_time() - begun

    held = added_memory(evaluate)
    return taken, held


def added_memory(work: Callable[[], object]) -> int:
    """Does some work, and returns the peak of the additional memory in bytes."""
    release_free_memory()
    process, done = psutil.Process(), threading.Event()
    before = most = process.memory_info().rss

    def watch() -> None:
        nonlocal most
        while not done.wait(0.02):
            most = max(most, process.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    work()
    done.set()
    watching.join()
    return most - before
