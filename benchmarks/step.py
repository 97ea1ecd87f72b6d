"""Seconds a step: models, sizes and precisions, alternating in one run."""

import statistics
import time

import torch

from gramophone_server.engine.canvas import noise
from gramophone_server.engine.device import set_up_cpu
from gramophone_server.engine.optimizers import LBFGS

from .inputs import models, need_bfloat16, picture, style_objective

ROUNDS, STEPS = 3, 4


def measure() -> dict:
    need_bfloat16()
    set_up_cpu()
    rows = []
    for model in models():
        for size in (224, 512):
            image = picture(size)
            seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
            objectives = {dtype: style_objective(model, image, 5, dtype) for dtype in seconds}
            for _ in range(ROUNDS):
                for dtype, objective in objectives.items():
                    seconds[dtype].append(seconds_a_step(objective, size))
            full, reduced = (statistics.median(seconds[dtype]) for dtype in (torch.float32, torch.bfloat16))
            rows.append(
                {
                    "model": model.manifest.name,
                    "size": f"{size}x{size}",
                    "float32": f"{full:.3f} s",
                    "bfloat16": f"{reduced:.3f} s",
                    "ratio": f"{full / reduced:.2f}",
                }
            )
    how = f"Style at 5 layers, L-BFGS; medians of {ROUNDS} rounds of {STEPS} steps, the precisions in turn."
    return {"title": "Seconds a step", "how": how, "rows": rows}


def seconds_a_step(objective, size: int) -> float:
    canvas, optimizer = noise([0], size, size), LBFGS()
    canvas = optimizer.step(canvas, objective.evaluate(canvas))
    begun = time.perf_counter()
    for _ in range(STEPS):
        canvas = optimizer.step(canvas, objective.evaluate(canvas))
    return (time.perf_counter() - begun) / STEPS
