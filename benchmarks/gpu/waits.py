"""Checks that no step makes the host wait for the GPU."""

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from gramophone_server.engine.device import set_up_cuda
from gramophone_server.models.store import BUILTIN_MODEL

from .inputs import device, prepared, spec
from .report import Report

_STEPS = 40
_JOBS: tuple[dict[str, Any], ...] = (
    {},
    {"optimizer": "adam"},
    {"kind": "transfer", "color": "luminance"},
    {"kind": "transfer", "tile_size": 128},
    {"plateau": 0.01, "averaging": 0.9},
    {"style_loss": "sliced_wasserstein"},
)


def check(report: Report) -> None:
    """Counts the waits of steps with torch's own debug mode."""
    set_up_cuda(device())
    for options in _JOBS:
        with report.case(f"waits {options}"):
            frames = iter(
                prepared(
                    spec(BUILTIN_MODEL, 256, iterations=100, report_every=_STEPS, **options), device(), graphs=True
                ).synthesis
            )
            next(frames)
            torch.cuda.synchronize()
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                torch.cuda.set_sync_debug_mode("warn")
                try:
                    next(frames)
                finally:
                    torch.cuda.set_sync_debug_mode("default")
            places = Counter(
                f"{Path(warning.filename).name}:{warning.lineno}"
                for warning in seen
                if "synchroniz" in str(warning.message) and "prototype" not in str(warning.message)
            )
            # The plateau is tested at reports, which may wait.
            allowed = 1 if options.get("plateau") else 0
            report.check(
                places.total() <= allowed, f"no step waits for the device {options}", of=_STEPS, places=dict(places)
            )
