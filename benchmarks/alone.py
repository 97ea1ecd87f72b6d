"""The engine without the service, in a process like a worker: `python -m benchmarks.alone MODEL SIZE REPORT_EVERY`.

It runs one endless style reconstruction of the PNG on its standard input, and prints the iteration of every report.
"""

import os
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

from gramophone_server.scheduling.link import ENVIRONMENT


def start(model: str, size: int, report_every: int) -> subprocess.Popen[str]:
    """Starts the process and returns it; the caller must end it."""
    from .inputs import picture

    command = [sys.executable, "-m", "benchmarks.alone", model, str(size), str(report_every)]
    with tempfile.TemporaryFile() as file:
        # Draw the picture in this process: drawn in the new one, it would change that process's heap, because numpy
        # requests huge pages.
        Image.fromarray(picture(size)).save(file, "PNG")
        file.seek(0)
        return subprocess.Popen(
            command, stdin=file, stdout=subprocess.PIPE, text=True, env={**ENVIRONMENT, **os.environ}
        )


def paint(name: str, size: int, report_every: int) -> None:
    """Runs the job with the model `name` until the process is killed."""
    from gramophone_server.engine.device import set_up_cpu

    from .inputs import models, prepare

    set_up_cpu()
    (model,) = (model for model in models() if model.manifest.name == name)
    with Image.open(sys.stdin.buffer) as image:
        pixels = np.asarray(image)
    # Use exactly the job that the service runs: the time of a step also depends on the content of the canvas.
    job = prepare(model, pixels, size=size, iterations=1_000_000, scales=1, warm_start=False, report_every=report_every)
    for frame in job.synthesis:
        print(frame.iteration, flush=True)
        # Drop the frame, as the worker does: it keeps tensors alive that the next steps need freed.
        del frame


if __name__ == "__main__":
    paint(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
