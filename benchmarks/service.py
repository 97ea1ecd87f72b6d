"""What the service costs over the engine alone: the same job, with previews, and its peak memory."""

import statistics
import time

import torch
from PIL import Image

from gramophone.v1 import options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from gramophone_server.engine.canvas import noise
from gramophone_server.engine.device import available_threads, fastest_dtype
from gramophone_server.engine.optimizers import LBFGS
from gramophone_server.engine.synthesis import Level, Synthesis
from tests.harness import ServerProcess, encode, events, peak_memory

from .inputs import models, picture, style_objective

ROUNDS, ITERATIONS, REPORT = 3, 40, 5


def measure() -> dict:
    torch.set_num_threads(available_threads())
    rows = []
    with ServerProcess("--log-level", "warning") as server:
        for model in models():
            size = 224
            image = picture(size)
            dtype = fastest_dtype(torch.device("cpu"))
            objective = style_objective(model, image, 5, dtype)
            request = job(model.manifest.name, encode(Image.fromarray(image)), size, ITERATIONS)
            alone, served = [], []
            for _ in range(ROUNDS):
                alone.append(engine_seconds(objective, size))
                served.append(service_seconds(server, request))
            ratio = statistics.median(served) / statistics.median(alone)
            rows.append(
                {
                    "what": f"service over engine alone, {model.manifest.name}",
                    "measured": f"{100 * (ratio - 1):+.1f} % ({min(alone):.2f}–{max(alone):.2f} s alone)",
                    "bar": "≤ 3 %",
                }
            )
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
        f"Style at 5 layers, 224x224, {ITERATIONS} iterations, a report with a preview every {REPORT}; the time of "
        f"the optimise phase, medians of {ROUNDS} rounds in turn."
    )
    return {"title": "Service", "how": how, "rows": rows}


def job(model: str, data: bytes, size: int, iterations: int) -> pb.ReconstructStyleRequest:
    source = options_pb2.StyleSource(image=options_pb2.Image(data=data))
    options = options_pb2.SynthesisOptions(size=size, iterations=iterations, report_every=REPORT, model=model)
    return pb.ReconstructStyleRequest(styles=[source], options=options)


def engine_seconds(objective, size: int) -> float:
    begun = time.perf_counter()
    level = Level(size, size, ITERATIONS, lambda: objective)
    for _ in Synthesis([level], noise([0], size, size), LBFGS(), report_every=ITERATIONS):
        pass
    return time.perf_counter() - begun


def service_seconds(server: ServerProcess, request: pb.ReconstructStyleRequest) -> float:
    result = list(events(server.style.ReconstructStyle(request)))[-1].result
    return result.timings.optimize.ToMicroseconds() / 1e6
