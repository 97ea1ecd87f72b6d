"""Comparison of the engine with other projects: same weights, pictures, layers, sizes and cores, alternating runs."""

import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gramophone.requests import estimate_request
from gramophone_server.engine.canvas import from_pictures, noise, to_pictures
from gramophone_server.engine.device import available_threads, fastest_dtype, set_up_cpu
from gramophone_server.engine.objective import Objective
from gramophone_server.engine.optimizers.lbfgs import LBFGS
from gramophone_server.engine.synthesis import Frame
from gramophone_server.scheduling.link import ENVIRONMENT
from gramophone_server.worker.targets import Targets
from tests.harness import ServerProcess, peak_memory

from .inputs import REAL_MODEL, assets, best_model, prepare, style_objective
from .machine import kind
from .peers.environment import peer_python, problem

PEERS = {"neural-style": "neural_style_pt.py", "pystiche": "pystiche_peer.py"}
PICTURES = ("starry_night", "coastal_scene")
CALLS = 200
KEPT = (10, 25, 50, 75, 100, 150, 200)
PLOT = Path(__file__).parent / f"loss-{kind()}.svg"
# Bars of the ratios to neural-style, by kind of CPU: seconds per step, and seconds to its final loss.
STEP_BARS = {"amx": "4 times", "avx2": "2.2 times at 224x224 and 2.5 times at 512x512"}
LOSS_BARS = {"amx": "12 times fewer seconds", "avx2": "6 times fewer seconds"}
VARIANTS: dict[str, dict[str, Any]] = {
    "gramophone": {},
    "gramophone, iterations=90": {"iterations": 90},
    "gramophone, warm_start=False": {"warm_start": False},
    "gramophone, warm_start=False, scales=1": {"warm_start": False, "scales": 1},
}

Curve = list[tuple[float, int, float]]
"""Points (seconds, closure calls, the paper's loss of the 8-bit picture at that time)."""


def measure_steps() -> dict[str, Any]:
    """Measures the seconds per step and the peak memory of each program."""
    folder = assets()
    set_up_cpu()
    rows = []
    for size, calls, rounds in ((224, 12, 3), (512, 6, 2)):
        image = _picture(folder, PICTURES[0], size)
        objective = style_objective(best_model(), image, 5, fastest_dtype(torch.device("cpu")))
        seconds: dict[str, list[float]] = {"gramophone": []} | {peer: [] for peer in _peers()}  # type: ignore[assignment]
        peaks = {"gramophone": _peak(image, size)}
        for _ in range(rounds):
            seconds["gramophone"].append(_seconds_a_step(objective, size, calls))
            for peer in _peers():
                record, _ = _run_peer(peer, folder, image, calls)
                seconds[peer].append(statistics.median(record["step_seconds"][2:]))
                peaks[peer] = record["optimizing_bytes"]
        ours = statistics.median(seconds["gramophone"])
        for name, values in seconds.items():
            rows.append(
                {
                    "size": f"{size}x{size}",
                    "program": name,
                    "s/step": f"{statistics.median(values):.3f}",
                    "times gramophone's": f"{statistics.median(values) / ours:.2f}",
                    "peak memory": f"{peaks[name] / 1e6:.0f} MB",
                }
            )
    how = (
        "Style at 5 layers with L-BFGS; all other options are each program's defaults. Medians of 3 rounds at 224x224 "
        "and 2 at 512x512, in which the programs alternate. "
        + (f"Bar for neural-style: {STEP_BARS[kind()]}. " if kind() in STEP_BARS else "")
        + "The memory is the peak of the process that optimizes."
    )
    return {"title": "Seconds per step, compared with other projects", "how": how, "rows": rows}


def measure_loss() -> dict[str, Any]:
    """Measures the seconds to neural-style's final loss, and the final losses."""
    import matplotlib  # noqa: F401 - without it the plot fails, after minutes of measurements

    folder = assets()
    set_up_cpu()
    rows, curves = [], {}
    for name in PICTURES:
        image = _picture(folder, name, 224)
        exact = style_objective(best_model(), image, 5, torch.float32)
        peer = _peer_curve(folder, image, exact)
        seconds, _, target = peer[-1]
        curves[name], costs = {"neural-style": peer}, {"neural-style": float(CALLS)}
        for label, options in VARIANTS.items():
            curves[name][label], costs[label] = _our_curve(image, exact, target, **options)
        for label, curve in curves[name].items():
            there = next(((s, n) for s, n, loss in curve if loss <= target), None)
            rows.append(
                {
                    "picture": name,
                    "program": label,
                    "loss at the end": f"{curve[-1][2]:.2e}",
                    "cost in steps": f"{costs[label]:.0f}",
                    "to neural-style's at 200": f"{there[0]:.1f} s, {there[1]} calls" if there else "not reached",
                    "times fewer seconds": f"{seconds / there[0]:.1f}" if there else "–",
                }
            )
    _plot(curves)
    how = (
        "Style at 5 layers from noise, 224x224: 200 closure calls of neural-style's L-BFGS, and Gramophone's jobs of "
        "the default 300 iterations, in a process that has had a short job; no seconds count the loading of the model "
        "and the targets. The loss is the paper's, computed in float32 from the 8-bit picture. The cost is "
        "that of all iterations, in steps of the job's own model at full size. Bars: "
        + (f"{LOSS_BARS[kind()]}; " if kind() in LOSS_BARS else "")
        + f"for starry_night at most 1.2e7 at the cost of 50 steps. ![loss against seconds]({PLOT.name})"
    )
    return {"title": "Loss, compared with neural-style", "how": how, "rows": rows}


def _peers() -> list[str]:
    found = []
    for peer in PEERS:
        if why := problem(peer):
            print(f"{peer} is skipped, because it cannot be installed: {why}")
        else:
            found.append(peer)
    return found


def _picture(folder: Path, name: str, size: int) -> np.ndarray:
    with Image.open(folder / "data" / "images" / f"{name}.jpg") as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))


def _run_peer(peer: str, folder: Path, image: np.ndarray, calls: int) -> tuple[dict[str, Any], dict[int, np.ndarray]]:
    """Runs a peer, and returns its record and its picture after each number of calls in KEPT."""
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        Image.fromarray(image).save(work / "style.png")
        command = [
            *(str(peer_python()), str(Path(__file__).parent / "peers" / PEERS[peer])),
            *("--weights", str(folder / "weights" / "vgg19-caffe-conv.pth"), "--picture", str(work / "style.png")),
            *("--size", str(len(image)), "--iterations", str(calls), "--threads", str(available_threads())),
            *("--output", str(work / "record.json"), "--picture-output", str(work / "out.png")),
            *("--pictures-at", ",".join(map(str, KEPT)), "--folder", str(work / "kept")),
        ]
        # Remove the variables that our workers set.
        environment = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(f"{peer} failed: {done.stdout[-2000:]}")
        pictures = {n: work / "kept" / f"{n}.png" for n in KEPT}
        kept = {n: np.asarray(Image.open(path).convert("RGB")) for n, path in pictures.items() if path.exists()}
        record: dict[str, Any] = json.loads((work / "record.json").read_text())
        return record, kept


def _peer_curve(folder: Path, image: np.ndarray, exact: Objective) -> Curve:
    # One additional call: the picture of a call shows the canvas before the update that follows the call.
    record, pictures = _run_peer("neural-style", folder, image, CALLS + 1)
    return [(sum(record["step_seconds"][:n]), n, _loss(exact, picture)) for n, picture in pictures.items()]


def _our_curve(image: np.ndarray, exact: Objective, target: float, **options: Any) -> tuple[Curve, float]:
    """Runs the engine like a worker that has had a job with this picture; evaluating pictures is not counted.

    So the time counts neither the loading of the model nor the targets; nor does that of neural-style. The curve has
    every fifth iteration, and each one where the loss is about to reach the target.

    Returns:
        The curve of the levels of full size, and the cost of all iterations in steps of the last level.
    """
    targets = Targets("cpu", available_threads())
    for _ in prepare(best_model(), image, targets, size=224, **{**options, "iterations": 8}).synthesis:
        pass
    job = prepare(best_model(), image, targets, size=224, report_every=1, **options)
    curve: Curve = []
    seconds, before, begun = 0.0, 0, time.perf_counter()
    steps: dict[int, list[float]] = {}
    for frame in job.synthesis:
        passed, count = time.perf_counter() - begun, frame.iteration - before
        seconds += passed
        steps.setdefault(frame.level, []).extend([passed / count] * count)
        nearly = frame.numbers.best[0] < 1.1 * target and (not curve or curve[-1][2] > target)
        if frame.canvas.shape[2] == 224 and (frame.iteration % 5 == 0 or nearly):
            curve.append((seconds, frame.iteration, _delivered(exact, frame)))
        before, begun = frame.iteration, time.perf_counter()
    # The first steps of a level include its preparation, which the median leaves out.
    cost = sum(len(of_level) * statistics.median(of_level) for of_level in steps.values())
    return curve, cost / statistics.median(steps[frame.level])


def _delivered(exact: Objective, frame: Frame) -> float:
    return min(_loss(exact, to_pictures(canvas)[0]) for canvas in (frame.canvas, frame.best.canvas))


def _loss(exact: Objective, picture: np.ndarray) -> float:
    with torch.no_grad():
        return exact.total(exact.losses(from_pictures([picture]))).item()


def _seconds_a_step(objective: Objective, size: int, steps: int) -> float:
    canvas, optimizer, seconds = noise([0], size, size), LBFGS(), []
    for _ in range(steps):
        begun = time.perf_counter()
        canvas = optimizer.step(canvas, objective.evaluate(canvas))
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[2:])


def _peak(image: np.ndarray, size: int) -> int:
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        Image.fromarray(image).save(file.name)
        data = Path(file.name).read_bytes()
    request = estimate_request("style", [data], model=REAL_MODEL, size=size, iterations=6, report_every=3)
    with ServerProcess("--log-level", "warning") as server:
        return peak_memory(server, request)


def _plot(curves: dict[str, dict[str, Curve]]) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "gramophone"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(curves), figsize=(10, 4), sharey=True, layout="constrained")
    for axis, (name, programs) in zip(axes, curves.items(), strict=True):
        for program, curve in programs.items():
            axis.loglog([s for s, _, _ in curve], [loss for _, _, loss in curve], label=program)
        axis.set(title=name, xlabel="seconds", ylabel="the paper's loss, 8-bit picture")
        axis.grid(visible=True, which="both", alpha=0.2)
        axis.legend()
    figure.savefig(PLOT, metadata={"Date": None})
