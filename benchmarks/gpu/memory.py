"""Compares the memory that jobs take of the GPU with their plans."""

import gc
from dataclasses import dataclass, field
from typing import Any

import torch

from gramophone_server.engine.device import Memory, release_free_memory, set_up_cuda
from gramophone_server.models.loading import load_architecture
from gramophone_server.models.store import BUILTIN_MODEL
from gramophone_server.worker.plan import plan

from .inputs import FULL_MODEL, device, model, prepared, spec, updates
from .report import Report


@dataclass(frozen=True)
class _Case:
    """A job, the bytes that its plan may use, None for all that are free, and whether it may use CUDA graphs."""

    name: str
    side: int
    options: dict[str, Any] = field(default_factory=dict)
    available: int | None = None
    graphs: bool = True


_CASES = (
    _Case(BUILTIN_MODEL, 512),
    _Case(FULL_MODEL, 512),
    _Case(FULL_MODEL, 1024, {"precision": "float32"}),
    _Case(FULL_MODEL, 1024, {"precision": "float32"}, graphs=False),
    _Case(FULL_MODEL, 2048),
    _Case(FULL_MODEL, 2048, {"tile_size": 512}),
    _Case(FULL_MODEL, 1024, {"kind": "transfer", "optimizer": "adam"}),
    _Case(BUILTIN_MODEL, 2048, {"lbfgs_history": 60}, 1200 << 20),
)


def check(report: Report) -> None:
    """Runs some steps of each job, and compares the memory."""
    set_up_cuda(device())
    memory = Memory(device())
    idle = memory.resident()
    for case in _CASES:
        with report.case(f"memory of {case.name} at {case.side} {case.options}"):
            _check(report, case, memory.available() - idle)
    gc.collect()
    release_free_memory()
    reserved, allocated = torch.cuda.memory_reserved(), torch.cuda.memory_allocated()
    report.check(
        reserved < allocated + (256 << 20),
        "freed memory is returned to the GPU",
        reserved=reserved,
        allocated=allocated,
    )


def _check(report: Report, case: _Case, available: int) -> None:
    steps = min(case.options.get("lbfgs_history", 20), 40) + 4
    job = spec(case.name, case.side, iterations=steps + 40, report_every=10**6, **case.options)
    chosen = plan(job, load_architecture(model(case.name)), device(), case.available or available, graphs=case.graphs)
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    free, before = torch.cuda.mem_get_info(device())[0], torch.cuda.memory_allocated()
    run = prepared(job, device(), tile=chosen.tile, host_history=chosen.host_history, graphs=chosen.graphs)
    with updates(run) as update:
        for _ in range(steps):
            update()
        taken = free - torch.cuda.mem_get_info(device())[0]
    run.close()
    report.check(
        taken <= 1.05 * chosen.bytes, f"{case.name} at {case.side} {case.options} takes what was planned",
        planned=chosen.bytes, taken=taken, allocated=torch.cuda.max_memory_allocated() - before, tile=chosen.tile,
        host_history=chosen.host_history, graphs=chosen.graphs,
    )  # fmt: skip
