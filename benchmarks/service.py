"""What the service costs over the engine alone: the same job, with previews, and its peak memory."""

import statistics

from PIL import Image

from gramophone.v1 import options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from tests.harness import ServerProcess, encode, events, peak_memory

from .alone import Alone
from .inputs import models, picture

ROUNDS, SIZE, ITERATIONS, REPORT = 9, 224, 40, 5


def measure() -> dict:
    rows = []
    with ServerProcess("--log-level", "warning") as server:
        for model in models():
            name = model.manifest.name
            request = job(name, encode(Image.fromarray(picture(SIZE))), SIZE, ITERATIONS)
            with Alone(name, SIZE, ITERATIONS) as alone:
                ratios = paired_ratios(alone, server, request)
            low, middle, high = statistics.quantiles(ratios, n=4)
            rows.append(
                {
                    "what": f"service over engine alone, {name}",
                    "measured": f"{percent(middle)} (quartiles {percent(low)} and {percent(high)})",
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
        f"Style at 5 layers, {SIZE}x{SIZE}, {ITERATIONS} iterations at one scale, a report with a preview every "
        f"{REPORT}; the time of the optimise phase over that of the engine in a process set up like a worker, "
        f"one after the other, {ROUNDS} rounds; the median of the rounds' ratios."
    )
    return {"title": "Service", "how": how, "rows": rows}


def paired_ratios(alone: Alone, server: ServerProcess, request: pb.ReconstructStyleRequest) -> list[float]:
    """Service over engine of each round. What slows the machine for longer than a round slows both."""
    alone.seconds()
    service_seconds(server, request)
    ratios = []
    for round_ in range(ROUNDS):
        # Each goes first in every other round, or what the first leaves behind would be the second's alone.
        if round_ % 2:
            served = service_seconds(server, request)
            ratios.append(served / alone.seconds())
        else:
            engine = alone.seconds()
            ratios.append(service_seconds(server, request) / engine)
    return ratios


def percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"


def job(model: str, data: bytes, size: int, iterations: int) -> pb.ReconstructStyleRequest:
    source = options_pb2.StyleSource(image=options_pb2.Image(data=data))
    options = options_pb2.SynthesisOptions(size=size, iterations=iterations, report_every=REPORT, model=model, scales=1)
    return pb.ReconstructStyleRequest(styles=[source], options=options)


def service_seconds(server: ServerProcess, request: pb.ReconstructStyleRequest) -> float:
    result = list(events(server.style.ReconstructStyle(request)))[-1].result
    return result.timings.optimize.ToMicroseconds() / 1e6
