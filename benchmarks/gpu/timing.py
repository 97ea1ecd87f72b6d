"""Times steps on the GPU: both optimizers, CUDA graphs, batches, an ordinary script, and the GPU's own limits."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gramophone_server.engine.canvas import noise
from gramophone_server.engine.device import device_name, set_up_cuda
from gramophone_server.engine.graphs import Captured, CapturedObjective, GraphRecorder
from gramophone_server.engine.network import Network
from gramophone_server.engine.objective import Objective
from gramophone_server.models.store import BUILTIN_MODEL

from . import ordinary
from .inputs import FULL_MODEL, device, objective, prepared, spec, updates
from .report import Report

_CASES: tuple[tuple[str, int, dict[str, Any]], ...] = (
    *((name, side, {"optimizer": way}) for name in (BUILTIN_MODEL, FULL_MODEL) for side in (224, 512, 1024)
      for way in ("lbfgs", "adam")),
    (FULL_MODEL, 512, {"precision": "float32"}),
    (FULL_MODEL, 1024, {"kind": "transfer", "tile_size": 512}),
)  # fmt: skip
_BATCHES = (1, 2, 4, 8, 16)


def check(report: Report) -> None:
    """Times steps with and without CUDA graphs, batches, and an ordinary script."""
    set_up_cuda(device())
    report.note("limits", card=device_name(device()), bfloat16_tflops=round(_peak() / 1e12, 1))
    for name, side, options in _CASES:
        with report.case(f"timing {name} {side} {options}"):
            report.rows.append({"what": "step", **_timed(name, side, options)})
    with report.case("timing of batches"):
        _time_batches(report)
    with report.case("timing of an ordinary script"):
        _time_ordinary(report)


def _timed(name: str, side: int, options: dict[str, Any]) -> dict[str, Any]:
    """Returns the times of a step without and with a graph, beside those of the convolutions alone."""
    job = spec(name, side, iterations=10**6, report_every=10**6, **options)
    row: dict[str, Any] = {"model": name, "side": side, **{key: str(value) for key, value in options.items()}}
    run = prepared(job, device(), graphs=True)
    recorder = run.synthesis._recorder
    for what, run.synthesis._recorder in (("eager", None), ("graph", recorder)):
        with updates(run) as update:
            for _ in range(25):
                update()
            row[f"{what} ms"], row[f"{what} host ms"] = _milliseconds(update)
    if not options.get("tile_size"):
        canvas = noise([0], side, side).to(device())
        convolutions = Captured(partial(_convolutions, run._network()), GraphRecorder(device()))
        row["convolutions ms"], _ = _milliseconds(lambda: convolutions(canvas))
        row["over floor"] = round(row["graph ms"] / row["convolutions ms"], 2)
    run.close()
    return row


def _convolutions(network: Network, canvas: Tensor) -> tuple[Tensor, ...]:
    """Returns the gradient of the deepest layer alone: the network forward and backward, without any loss."""
    last = canvas = canvas.detach().requires_grad_()

    def take(_: str, activation: Tensor) -> Tensor:
        nonlocal last
        last = activation
        return activation

    network.visit(canvas, take)
    return torch.autograd.grad(last, canvas, torch.ones_like(last))


def _time_batches(report: Report) -> None:
    alone: dict[str, float] = {}
    base = objective(spec(BUILTIN_MODEL, 224), device())
    for n in _BATCHES:
        terms = [replace(term, weight=term.weight.expand(n).clone()) for term in base.terms]
        batch, canvases = Objective(base.network, terms), noise(list(range(n)), 224, 224).to(device())
        row: dict[str, Any] = {"what": "batch", "canvases": n}
        for what, evaluator in (("eager", batch), ("graph", CapturedObjective(batch, GraphRecorder(device())))):
            taken, _ = _milliseconds(partial(evaluator.evaluate, canvases))
            alone.setdefault(what, taken)
            row |= {f"{what} ms": taken, f"{what} speedup": round(n * alone[what] / taken, 2)}
        report.rows.append(row)


def _time_ordinary(report: Report) -> None:
    theirs, _ = _milliseconds(ordinary.step(512, device()), warm=3, times=3)
    ours = next(r for r in report.rows if r.get("model") == FULL_MODEL and r.get("side") == 512)["graph ms"]
    row = {"what": "ordinary script", "side": 512, "step ms": theirs, "ours": ours, "ratio": round(theirs / ours, 1)}
    report.rows.append(row)
    report.check(theirs / ours >= 5, "a step takes a fifth of an ordinary script's", ratio=round(theirs / ours, 2))


def _peak() -> float:
    """Returns the operations per second of a large product in bfloat16."""
    a, b = (torch.randn(8192, 8192, device=device(), dtype=torch.bfloat16) for _ in range(2))
    return 2 * 8192**3 / (_milliseconds(lambda: a @ b, times=5)[0] / 1e3)


def _milliseconds(
    work: Callable[[], object], *, warm: int = 5, times: int = 10, rounds: int = 3
) -> tuple[float, float]:
    """Returns the median milliseconds of a call on the device, and of the host alone."""
    for _ in range(warm):
        work()
    torch.cuda.synchronize()
    on_device, on_host = [], []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        begun = time.perf_counter()
        for _ in range(times):
            work()
        on_host.append((time.perf_counter() - begun) / times * 1e3)
        end.record()
        end.synchronize()
        on_device.append(begin.elapsed_time(end) / times)
    return round(statistics.median(on_device), 3), round(statistics.median(on_host), 3)
