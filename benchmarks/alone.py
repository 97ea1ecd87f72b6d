"""The engine alone, in a process set up as a worker is: `python -m benchmarks.alone MODEL SIZE REPORT_EVERY`.

Makes one endless style reconstruction, and writes a line with the iteration at every report.
"""

import os
import subprocess
import sys

from gramophone_server.jobs.executor import ENVIRONMENT


def start(model: str, size: int, report_every: int) -> subprocess.Popen[str]:
    """The process; whoever starts it ends it."""
    command = [sys.executable, "-m", "benchmarks.alone", model, str(size), str(report_every)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**ENVIRONMENT, **os.environ})


def paint(name: str, size: int, report_every: int) -> None:
    import torch

    from gramophone_server.engine.canvas import noise
    from gramophone_server.engine.device import fastest_dtype, set_up_cpu
    from gramophone_server.engine.optimizers import LBFGS
    from gramophone_server.engine.synthesis import Level, Synthesis

    from .inputs import models, picture, style_objective

    set_up_cpu()
    (model,) = (model for model in models() if model.manifest.name == name)
    objective = style_objective(model, picture(size), 5, fastest_dtype(torch.device("cpu")))
    level = Level(size, size, 1_000_000, lambda: objective)
    for frame in Synthesis([level], noise([0], size, size), LBFGS(), report_every=report_every):
        print(frame.iteration, flush=True)


if __name__ == "__main__":
    paint(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
