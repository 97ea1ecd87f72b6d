"""Checks that the same job gives the same bytes again, also from a checkpoint, and with and without CUDA graphs."""

import hashlib
import io
from typing import Any

import torch

from gramophone_server.engine.device import set_up_cuda
from gramophone_server.models.store import BUILTIN_MODEL

from .inputs import MODELS, device, prepared, spec
from .report import Report

_SIDE, _STEPS = 160, 40
_JOBS: tuple[dict[str, Any], ...] = (
    {},
    {"optimizer": "adam"},
    {"padding": "replicate"},
    {"padding": "circular", "wrap": "both"},
    {"pooling": "average"},
    {"precision": "float32"},
    {"kind": "transfer", "tile_size": 64},
)


def check(report: Report) -> None:
    """Paints each job twice and once without graphs, and one job from a checkpoint."""
    set_up_cuda(device())
    for name in MODELS:
        for options in _JOBS:
            with report.case(f"twice: {name} {options}"):
                first, second = _painted(name, options), _painted(name, options)
                report.check(first == second, f"{name} {options}: the same bytes twice", sha256=first[:16])
                eager = _painted(name, options, graphs=False)
                report.check(first == eager, f"{name} {options}: the same bytes without a graph", sha256=eager[:16])
    for graphs in (True, False):
        with report.case("resume"):
            _check_resume(report, graphs=graphs)


def _painted(name: str, options: dict[str, Any], *, graphs: bool = True) -> str:
    """Returns the SHA-256 of a job's canvas."""
    job = prepared(spec(name, _SIDE, iterations=_STEPS, **options), device(), graphs=graphs)
    for frame in job.synthesis:
        canvas = frame.canvas
    return hashlib.sha256(canvas.cpu().numpy().tobytes()).hexdigest()


def _check_resume(report: Report, *, graphs: bool) -> None:
    job = spec(BUILTIN_MODEL, _SIDE, iterations=_STEPS)
    first, saved = prepared(job, device(), graphs=True), io.BytesIO()
    for frame in first.synthesis:
        if frame.iteration == _STEPS // 2:
            torch.save(first.synthesis.state(), saved)
        end = frame.canvas
    saved.seek(0)
    again = prepared(job, device(), graphs=graphs)
    again.resume(torch.load(saved, map_location="cpu", weights_only=True))
    for frame in again.synthesis:
        canvas = frame.canvas
    report.check(torch.equal(canvas, end), "from a checkpoint a job ends with the same bytes", graphs=graphs)
