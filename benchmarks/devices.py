"""The time and the memory of a step on two parts of the CPU, beside one of them."""

import os
import statistics
import time
from functools import partial
from typing import Any

import torch

from gramophone_server.engine.canvas import noise
from gramophone_server.engine.device import fastest_dtype, set_up_cpu, share_heap
from gramophone_server.engine.devices import Devices
from gramophone_server.engine.objective import Objective
from gramophone_server.engine.partition import partition
from gramophone_server.engine.tiling import Partition

from .inputs import UnavailableError, best_model, picture, style_objective
from .tiles import added_memory

SIZE, TILE = 1024, 512
ROUNDS = 5
CPU = torch.device("cpu")


def measure() -> dict[str, Any]:
    """Measures a gradient evaluation on one core, and on two devices of one core each.

    Raises:
        UnavailableError: this process may use only one core.
    """
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise UnavailableError("two devices need two cores")
    share_heap()
    set_up_cpu(1)
    devices = Devices([CPU, CPU])
    for number, core in enumerate(cores):
        devices.submit(number, partial(os.sched_setaffinity, 0, {core})).result()
    os.sched_setaffinity(0, {cores[0]})
    try:
        return _table(devices)
    finally:
        os.sched_setaffinity(0, cores)
        devices.close()


def _table(devices: Devices) -> dict[str, Any]:
    model, dtype = best_model(), fastest_dtype(CPU)
    objective = style_objective(model, picture(256), 5, dtype)
    network = objective.network

    def parted(parts: Partition, several: Devices | None = None) -> Objective:
        copies = [network] * (len(several) - 1) if several else []
        return Objective(network, objective.terms, tiles=parts.tiles, cut=parts.cut, devices=several, copies=copies)

    divided, tiled = (partition(network.architecture, SIZE, SIZE, side, devices=2) for side in (None, TILE))
    ways = {
        "whole, one device": objective,
        f"{_described(divided)}, one device": parted(divided),
        f"{_described(divided)}, two devices": parted(divided, devices),
        f"{_described(tiled)}, one device": parted(tiled),
        f"{_described(tiled)}, two devices": parted(tiled, devices),
    }
    beside = dict(zip(ways, [None, None, "whole, one device", None, f"{_described(tiled)}, one device"], strict=True))
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
        other, times = beside[way], ""
        if other is not None:
            ratios = [alone / mine for alone, mine in zip(seconds[other], all_taken, strict=True)]
            times = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) of {other}"
        rows.append(
            {
                "what": way,
                "seconds": f"{statistics.median(all_taken):.2f}",
                "times as fast": times,
                "memory of the step": f"{memory[way] / 1e6:.0f} MB",
                "bar": "≥ 1.7" if other is not None else "",
            }
        )
    how = (
        f"One evaluation of the loss and its gradient, {SIZE}x{SIZE}, style at 5 layers of {model.manifest.name}, "
        f"{str(dtype)[6:]}, each device on a core of its own: median of {ROUNDS} rounds in which all alternate."
    )
    return {"title": "Several devices", "how": how, "rows": rows}


def _described(parts: Partition) -> str:
    return f"{len(parts.tiles)} tiles" + (f", whole after {parts.cut}" if parts.cut else "")


def _measured(objective: Objective, canvas: torch.Tensor) -> tuple[float, int]:
    """Returns the seconds and the peak of the additional memory in bytes of an evaluation."""
    taken = 0.0

    def evaluate() -> None:
        nonlocal taken
        begun = time.perf_counter()
        objective.evaluate(canvas)
        taken = time.perf_counter() - begun

    held = added_memory(evaluate)
    return taken, held
