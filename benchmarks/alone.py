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
    from gramophone_server.engine.device import set_up_cpu

    from .inputs import models, picture, studio

    set_up_cpu()
    (model,) = (model for model in models() if model.manifest.name == name)
    # The very job that goes through the service: what a step takes depends on the canvas, too.
    job = studio(model, picture(size), size=size, iterations=1_000_000, scales=1, report_every=report_every)
    for frame in job.synthesis:
        print(frame.iteration, flush=True)
        # As in the worker: what is held here, the next steps would have to do without.
        del frame


if __name__ == "__main__":
    paint(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
