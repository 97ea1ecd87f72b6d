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
from gramophone_server.engine.cost import Workload, forward_flops
from gramophone_server.engine.device import device_name, set_up_cuda
from gramophone_server.engine.objective import Objective
from gramophone_server.models.store import BUILTIN_MODEL

from . import ordinary
from .inputs import FULL_MODEL, device, prepared, spec
from .report import Report

_CASES: tuple[tuple[str, int, dict[str, Any]], ...] = (
    *((name, side, {"optimizer": way}) for name in (BUILTIN_MODEL, FULL_MODEL) for side in (224, 512, 1024)
      for way in ("lbfgs", "adam")),
    (FULL_MODEL, 512, {"precision": "float32"}),
    (FULL_MODEL, 1024, {"kind": "transfer", "tile_size": 512}),
)  # fmt: skip
_BATCHES = (1, 2, 4, 8, 16)


def check(report: Report) -> None:
    """Times steps; nothing can fail but a CUDA graph that gives other numbers."""
    set_up_cuda(device())
    peak = _peak()
    report.note("limits", card=device_name(device()), bfloat16_tflops=round(peak / 1e12, 1))
    for name, side, options in _CASES:
        with report.case(f"timing {name} {side} {options}"):
            _time(report, name, side, options, peak)
    with report.case("timing of batches"):
        _time_batches(report)
    with report.case("timing of an ordinary script"):
        _time_ordinary(report)


def _time(report: Report, name: str, side: int, options: dict[str, Any], peak: float) -> None:
    job = spec(name, side, iterations=10**6, report_every=10**6, **options)
    run = prepared(job, device())
    objective = run._open(job.levels[0])
    for _ in range(25):
        run.synthesis._update(objective)
    step, host = _milliseconds(lambda: run.synthesis._update(objective))
    canvas = run.synthesis.frame().canvas.clone()
    evaluate, _ = _milliseconds(lambda: objective.evaluate(canvas))
    flops = 2 * forward_flops(Workload(objective.network.architecture), side, side)
    row = {
        "model": name, "side": side, **{key: str(value) for key, value in options.items()}, "step ms": step,
        "host ms": host, "gradient ms": evaluate, "time over floor": round(step / 1e3 * peak / flops, 1),
    }  # fmt: skip
    if not options.get("tile_size"):
        with report.case(f"CUDA graph of {name} {side} {options}"):
            row["graph ms"] = _graph(report, objective, canvas)
    report.rows.append({"what": "step", **row})
    run.close()


def _graph(report: Report, objective: Objective, canvas: Tensor) -> float:
    """Returns the milliseconds of a gradient that a CUDA graph replays."""
    expected, stream, graph = objective.evaluate(canvas), torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            objective.evaluate(canvas)
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph):
        replayed = objective.evaluate(canvas)
    graph.replay()
    report.check(torch.equal(replayed.gradient, expected.gradient), "a CUDA graph gives the same gradient")
    return _milliseconds(graph.replay)[0]


def _time_batches(report: Report) -> None:
    alone = 0.0
    base = prepared(spec(BUILTIN_MODEL, 224), device())
    objective = base._open(base._spec.levels[0])
    for n in _BATCHES:
        terms = [replace(term, weight=term.weight.expand(n).clone()) for term in objective.terms]
        batch, canvases = Objective(objective.network, terms), noise(list(range(n)), 224, 224).to(device())
        taken, _ = _milliseconds(partial(batch.evaluate, canvases))
        alone = alone or taken
        report.rows.append(
            {"what": "batch", "canvases": n, "gradient ms": taken, "speedup": round(n * alone / taken, 2)}
        )


def _time_ordinary(report: Report) -> None:
    theirs, _ = _milliseconds(ordinary.step(512, device()), warm=3, times=3)
    ours = next(r for r in report.rows if r.get("model") == FULL_MODEL and r.get("side") == 512)["step ms"]
    report.rows.append(
        {"what": "ordinary script", "side": 512, "step ms": theirs, "ours": ours, "ratio": theirs / ours}
    )
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
