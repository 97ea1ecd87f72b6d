"""The overhead of the service: the time of a job with previews relative to the engine alone, and its peak memory."""

import statistics
import threading
from contextlib import suppress
from typing import Any

import grpc
from PIL import Image

from gramophone.v1 import options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from gramophone_server.models.store import BUILTIN_MODEL
from tests.harness import ServerProcess, encode, events, peak_memory

from .alone import start
from .inputs import models, picture
from .time_slices import SLICE, Side, percent, ratios

# The engine alone stops for reports as often as inside the service, where not every report is sent.
SIZE, REPORT = 224, 10
# The speed of identical processes differs by up to two percent, depending on their memory layout: measure several.
PAIRS, WINDOWS, SECONDS = 3, 3, 8


def measure() -> dict:
    """Measures the overhead of the service and the worker's peak memory for each model."""
    rows = []
    for model in models():
        name = model.manifest.name
        rows.append({"what": f"service over engine alone, {name}", "measured": overhead(name), "bar": "≤ 3 %"})
    # A client that requests more than two reports per second.
    what = f"the same, {BUILTIN_MODEL}, a report with a preview every {REPORT} iterations"
    rows.append({"what": what, "measured": overhead(BUILTIN_MODEL, report_every=REPORT), "bar": ""})
    with ServerProcess("--log-level", "warning") as server:
        for model in models():
            request = job(model.manifest.name, encode(Image.fromarray(picture(512))), 512, 3)
            peak = peak_memory(server, pb.EstimateJobRequest(style=request))
            rows.append(
                {
                    "what": f"worker's peak memory, 512x512, 5 layers, {model.manifest.name}",
                    "measured": f"{peak / 1e9:.2f} GB",
                    "bar": "< 2 GB",
                }
            )
    how = (
        f"Style at 5 layers, {SIZE}x{SIZE}, one scale, default previews. Seconds per iteration of the service (front "
        f"and worker) relative to the engine in a process like a worker. Each side runs for {SLICE} s in turn while "
        f"the other one is stopped. Median of {PAIRS} pairs of processes, each the median of {WINDOWS} windows of "
        f"{SECONDS} s per side."
    )
    return {"title": "Service", "how": how, "rows": rows}


def overhead(name: str, **options: Any) -> str:
    """Returns the overhead of the service for a job with these options, over several new pairs of processes."""
    found = []
    for _ in range(PAIRS):
        with ServerProcess("--log-level", "warning") as server:
            found.append(statistics.median(overheads(server, name, **options)))
    return percent(found)


def overheads(server: ServerProcess, name: str, **options: Any) -> list[float]:
    """Returns the seconds per iteration of the service divided by those of the engine, for each window."""
    request = job(name, encode(Image.fromarray(picture(SIZE))), SIZE, 100_000, **options)
    stream = server.style.ReconstructStyle(request)
    served = Side([server.process.pid, *(worker.pid for worker in server.workers())])
    alone = start(name, SIZE, REPORT)
    engine = Side([alone.pid])
    try:
        # Wait until both have reported progress.
        next(event for event in events(stream) if event.HasField("progress"))
        assert alone.stdout is not None
        alone.stdout.readline()

        def follow_service() -> None:
            with suppress(grpc.RpcError):
                for event in events(stream):
                    if event.HasField("progress"):
                        served.reached(event.progress.iteration)

        def follow_engine() -> None:
            for line in alone.stdout or ():
                engine.reached(int(line))

        for follow in (follow_service, follow_engine):
            threading.Thread(target=follow, daemon=True).start()
        return ratios(served, engine, windows=WINDOWS, seconds=SECONDS)
    finally:
        stream.cancel()
        alone.kill()
        alone.wait()


def job(model: str, data: bytes, size: int, iterations: int, **options: Any) -> pb.ReconstructStyleRequest:
    """Returns the request of a style reconstruction of an encoded picture."""
    source = options_pb2.StyleSource(image=options_pb2.InputImage(data=data))
    chosen = options_pb2.SynthesisOptions(
        size=size, iterations=iterations, model=model, scales=1, warm_start=False, **options
    )
    return pb.ReconstructStyleRequest(styles=[source], options=chosen)
