"""The time from the submission of a job to its first preview, on a server whose worker has run a job before."""

import statistics
import time
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image

import gramophone
from gramophone.options import JobKind
from tests.harness import ServerProcess, encode

from .inputs import models, picture

KINDS: tuple[JobKind, ...] = ("style", "transfer")
SIZES = (224, 512)
ROUNDS = 5


def measure() -> dict[str, Any]:
    """Measures each model, kind of job and size; each job has pictures that the server has not seen."""
    rows = []
    with ServerProcess("--log-level", "warning") as server, gramophone.Client(server.address) as client:
        for model in models():
            name = model.manifest.name
            for kind in KINDS:
                for size in SIZES:
                    # The first job warms up.
                    seconds = [_seconds(client, name, kind, size, number) for number in range(1 + ROUNDS)][1:]
                    rows.append(
                        {
                            "job": f"{kind}, {size}x{size}, {name}",
                            "seconds": f"{statistics.median(seconds):.2f} (slowest {max(seconds):.2f})",
                            "bar": "≤ 1",
                        }
                    )
                    print(rows[-1], flush=True)
    how = (
        "Through the SDK, default options, on a worker that has run such a job with other pictures; "
        f"median of {ROUNDS} jobs."
    )
    return {"title": "First preview after submission", "how": how, "rows": rows}


def _seconds(client: gramophone.Client, model: str, kind: JobKind, size: int, number: int) -> float:
    """Returns the seconds from the submission of a job to its first preview; cancels the job then."""
    style, content = (_data(size, 2 * number + which) for which in range(2))
    begun = time.perf_counter()
    if kind == "style":
        job = client.style(style, size=size, model=model, iterations=100_000)
    else:
        job = client.transfer(content, style, size=size, model=model, iterations=100_000)
    next(frame for frame in job if frame.preview is not None)
    seconds = time.perf_counter() - begun
    job.cancel()
    with suppress(gramophone.JobCancelledError):
        job.result()
    return seconds


def _data(size: int, number: int) -> bytes:
    """Returns an encoded picture that differs from those of other numbers."""
    return encode(Image.fromarray(np.roll(picture(size), number, axis=1)))
