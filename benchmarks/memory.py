"""Predicted and measured peak memory of jobs, each on a new server."""

from collections.abc import Iterator
from typing import Any

from PIL import Image

from gramophone.options import JobKind
from gramophone.requests import estimate_request
from gramophone_server.models.store import BUILTIN_MODEL
from tests.harness import ServerProcess, encode, peak_memory

from .inputs import best_model, picture

Job = tuple[JobKind, dict[str, Any]]


def jobs() -> Iterator[Job]:
    """Yields kinds of jobs and options that cover the memory model."""
    yield "style", {"size": 224}
    yield "style", {"size": 512}
    yield "style", {"size": 512, "precision": "float32"}
    yield "style", {"size": 512, "layers": 2}
    yield "style", {"size": 512, "optimizer": "adam"}
    yield "style", {"size": 512, "pooling": "average", "padding": "replicate"}
    yield "style", {"size": 1024, "layers": 3, "optimizer": "adam"}
    yield "style", {"size": 1024, "tile_size": 256}
    yield "style", {"size": 768, "precision": "float32", "tile_size": 384, "optimizer": "adam"}
    yield "content", {"size": 640}
    yield "content", {"size": 512, "layers": ["conv1_2"]}
    yield "transfer", {"size": 512, "averaging": 0.9}
    yield "transfer", {"size": 768, "tv_weight": 1.0}
    yield "style", {"size": 512, "model": BUILTIN_MODEL}


def measure() -> dict[str, Any]:
    """Measures the error of the predicted peak memory of each job."""
    rows = []
    for kind, options in jobs():
        rows.append(_row(kind, {"iterations": 6, "report_every": 3, **options}))
        print(rows[-1], flush=True)
    how = "Six iterations per job; peak resident memory of the worker (VmHWM). The bar is an error of 15 %."
    return {"title": "Predicted peak memory", "how": how, "rows": rows}


def measure_large() -> dict[str, Any]:
    """Measures the peak memory of a job of 4096x4096 pixels with a memory limit."""
    row = _row("style", {"iterations": 2, "report_every": 1, "size": 4096, "optimizer": "adam"}, "--memory", "3GB")
    how = "Two iterations at 5 layers on a server with a worker limited to 3 GB, which is the bar. Takes six minutes."
    return {"title": "A canvas of 4096x4096", "how": how, "rows": [row]}


def _row(kind: JobKind, options: dict[str, Any], *arguments: str) -> dict[str, str]:
    """Estimates and runs a job on a server with these arguments, and returns its row of the table."""
    options = {"model": best_model().manifest.name, **options}
    image = encode(Image.fromarray(picture(min(1024, max(512, options["size"])))))
    request = estimate_request(kind, [image] * (2 if kind == "transfer" else 1), **options)
    with ServerProcess("--log-level", "warning", *arguments) as server:
        predicted = server.style.EstimateJob(request)
        peak = peak_memory(server, request)
    hidden = ("iterations", "report_every")
    shown = ", ".join(f"{key} {value}" for key, value in options.items() if key not in hidden)
    return {
        "job": f"{kind}: {shown}",
        "predicted": f"{predicted.peak_memory_bytes / 1e6:.0f} MB",
        "measured": f"{peak / 1e6:.0f} MB",
        "error": f"{100 * (predicted.peak_memory_bytes / peak - 1):+.0f} %",
    }
