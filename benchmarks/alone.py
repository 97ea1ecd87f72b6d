"""The engine alone, in a process set up as a worker is: `python -m benchmarks.alone MODEL SIZE REPORT_EVERY`.

Makes one endless style reconstruction of the PNG on its standard input, and writes the iteration of every report.
"""

import os
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

from gramophone_server.scheduling.executor import ENVIRONMENT


def start(model: str, size: int, report_every: int) -> subprocess.Popen[str]:
    """The process; whoever starts it ends it."""
    from .inputs import picture

    command = [sys.executable, "-m", "benchmarks.alone", model, str(size), str(report_every)]
    with tempfile.TemporaryFile() as file:
        # Drawn there, it would leave that process a heap which partly lies in huge pages (numpy asks for them).
        Image.fromarray(picture(size)).save(file, "PNG")
        file.seek(0)
        return subprocess.Popen(
            command, stdin=file, stdout=subprocess.PIPE, text=True, env={**ENVIRONMENT, **os.environ}
        )


def paint(name: str, size: int, report_every: int) -> None:
    from gramophone_server.engine.device import set_up_cpu

    from .inputs import models, prepare

    set_up_cpu()
    (model,) = (model for model in models() if model.manifest.name == name)
    with Image.open(sys.stdin.buffer) as image:
        pixels = np.asarray(image)
    # The very job that goes through the service: what a step takes depends on the canvas, too.
    job = prepare(model, pixels, size=size, iterations=1_000_000, scales=1, report_every=report_every)
    for frame in job.synthesis:
        print(frame.iteration, flush=True)
        # As in the worker: what is held here, the next steps would have to do without.
        del frame


if __name__ == "__main__":
    paint(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
