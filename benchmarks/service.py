"""What the service costs over the engine alone: the same job, with previews, and its peak memory."""

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
from .turns import SLICE, Side, percent, ratios

# The engine alone stops for a report as often as one inside the service does, whether it is sent or not.
SIZE, REPORT = 224, 10
# Two processes that do the very same differ by up to two percent, by how their memory happens to lie: hence several.
PAIRS, WINDOWS, SECONDS = 3, 3, 8


def measure() -> dict:
    rows = []
    for model in models():
        name = model.manifest.name
        rows.append({"what": f"service over engine alone, {name}", "measured": cost(name), "bar": "≤ 3 %"})
    # Of a client that asks for more than two reports a second.
    what = f"the same, {BUILTIN_MODEL}, a report with a preview every {REPORT} iterations"
    rows.append({"what": what, "measured": cost(BUILTIN_MODEL, report_every=REPORT), "bar": ""})
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
        f"Style at 5 layers, {SIZE}x{SIZE}, one scale, previews as they come by default; "
        f"seconds an iteration over those of the engine in a process set up like a worker, each for {SLICE} s in turn "
        f"while the other is stopped, the front with the worker; the median of {PAIRS} pairs of processes, "
        f"each the median of {WINDOWS} windows of {SECONDS} s a side."
    )
    return {"title": "Service", "how": how, "rows": rows}


def cost(name: str, **options: Any) -> str:
    """What the service adds to a job of a model with these options, over fresh pairs of processes."""
    found = []
    for _ in range(PAIRS):
        with ServerProcess("--log-level", "warning") as server:
            found.append(statistics.median(surplus(server, name, **options)))
    return percent(found)


def surplus(server: ServerProcess, name: str, **options: Any) -> list[float]:
    """Seconds an iteration of the service over those of the engine, in each window."""
    request = job(name, encode(Image.fromarray(picture(SIZE))), SIZE, 100_000, **options)
    stream = server.style.ReconstructStyle(request)
    served = Side([server.process.pid, *(worker.pid for worker in server.workers())])
    alone = start(name, SIZE, REPORT)
    engine = Side([alone.pid])
    try:
        # Both are under way.
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
    source = options_pb2.StyleSource(image=options_pb2.InputImage(data=data))
    chosen = options_pb2.SynthesisOptions(size=size, iterations=iterations, model=model, scales=1, **options)
    return pb.ReconstructStyleRequest(styles=[source], options=chosen)
