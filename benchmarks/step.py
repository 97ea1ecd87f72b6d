"""Seconds per step of the models and precisions, measured in alternation."""

import statistics
import time

import numpy as np
import torch

from gramophone_server.engine.canvas import noise
from gramophone_server.engine.device import has_native_bfloat16, set_up_cpu
from gramophone_server.engine.optimizers.lbfgs import LBFGS
from gramophone_server.models.model import Model
from gramophone_server.models.store import BUILTIN_MODEL

from .inputs import REAL_MODEL, models, picture, style_objective

# After these steps, L-BFGS has all of its curvature pairs.
WARM_UP = 22
ROUNDS, STEPS = 8, 5


class Job:
    """A style reconstruction that can be continued by some steps at a time."""

    def __init__(self, model: Model, image: np.ndarray, precision: torch.dtype) -> None:
        self._objective = style_objective(model, image, 5, precision)
        self._canvas, self._optimizer = noise([0], *image.shape[:2]), LBFGS(history=model.manifest.lbfgs_history)
        self._step(WARM_UP)

    def seconds(self) -> float:
        """Returns the median seconds of some steps, after one step that warms up the CPU caches."""
        self._step(1)
        return statistics.median(self._step(1) for _ in range(STEPS))

    def _step(self, steps: int) -> float:
        begun = time.perf_counter()
        for _ in range(steps):
            self._canvas = self._optimizer.step(self._canvas, self._objective.evaluate(self._canvas))
        return time.perf_counter() - begun


def measure() -> dict:
    """Measures the seconds per step of each model in each precision."""
    set_up_cpu()
    precisions = [torch.float32, *([torch.bfloat16] if has_native_bfloat16(torch.device("cpu")) else [])]
    rows = []
    for size in (224, 512):
        image = picture(size)
        jobs = {(m.manifest.name, p): Job(m, image, p) for p in precisions for m in models()}
        rounds = [{way: job.seconds() for way, job in jobs.items()} for _ in range(ROUNDS)]
        for name, precision in jobs:
            ratios = [seconds[REAL_MODEL, precision] / seconds[name, precision] for seconds in rounds
                      if (REAL_MODEL, precision) in jobs]  # fmt: skip
            rows.append(
                {
                    "size": f"{size}x{size}",
                    "precision": str(precision).removeprefix("torch."),
                    "model": name,
                    "s/step": f"{statistics.median(seconds[name, precision] for seconds in rounds):.4f}",
                    f"times as fast as {REAL_MODEL}": _spread(ratios),
                }
            )
    how = (
        f"Style at 5 layers, L-BFGS with each model's default history. Medians over {ROUNDS} rounds of {STEPS} steps, "
        "in which models and precisions alternate; ratios are medians over the rounds, with their range. Bar: "
        f"{BUILTIN_MODEL} is 5 times as fast."
    )
    return {"title": "Seconds per step", "how": how, "rows": rows}


def _spread(ratios: list[float]) -> str:
    if not ratios:
        return "–"
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
