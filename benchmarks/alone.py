"""The engine alone, in a process set up as a worker is: `python -m benchmarks.alone MODEL SIZE ITERATIONS`.

Makes the same style reconstruction again for each line that it reads, and answers each with its seconds.
"""

import os
import subprocess
import sys
import time

from gramophone_server.jobs.executor import ENVIRONMENT


class Alone:
    """The process, ended with its `with` block."""

    def __init__(self, model: str, size: int, iterations: int) -> None:
        command = [sys.executable, "-m", "benchmarks.alone", model, str(size), str(iterations)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env={**ENVIRONMENT, **os.environ})

    def __enter__(self) -> "Alone":
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def seconds(self) -> float:
        """What the job takes now."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


def serve(name: str, size: int, iterations: int) -> None:
    import torch

    from gramophone_server.engine.canvas import noise
    from gramophone_server.engine.device import fastest_dtype, set_up_cpu
    from gramophone_server.engine.optimizers import LBFGS
    from gramophone_server.engine.synthesis import Level, Synthesis

    from .inputs import models, picture, style_objective

    set_up_cpu()
    (model,) = (model for model in models() if model.manifest.name == name)
    objective = style_objective(model, picture(size), 5, fastest_dtype(torch.device("cpu")))
    for _ in sys.stdin:
        level = Level(size, size, iterations, lambda: objective)
        begun = time.perf_counter()
        for _ in Synthesis([level], noise([0], size, size), LBFGS(), report_every=iterations):
            pass
        print(time.perf_counter() - begun, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
