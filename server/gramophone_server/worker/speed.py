"""The speed of the device: measured once per model, corrected by the jobs that run, and cached in a file."""

import math
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import pairwise

import torch

from ..engine.canvas import noise
from ..engine.cost import Workload, forward_flops
from ..engine.device import device_name, release_free_memory
from ..engine.losses import GRAM, Layer, LayerView, style_loss
from ..engine.objective import Objective
from ..engine.optimizers.lbfgs import LBFGS
from ..engine.synthesis import Level, Synthesis
from ..engine.term import WeightedTerm
from ..models.model import Model
from ..models.networks import open_network
from .speed_file import SpeedFile, is_possible

# Sides of the canvases that are measured. A CPU is busy with the convolutions of a small canvas. On a GPU, launches
# take longer than the kernels of a small canvas: a large canvas runs at another speed.
_CPU_SIDES, _GPU_SIDES = (256,), (256, 1024)
# Steps that are not counted, in which libraries load and memory is first used, and steps that are.
_WARM_UP, _STEPS = 2, 3
# Channels and side of the feature maps on which a loss is measured, and the number of evaluations.
_CHANNELS, _LOSS_SIDE, _EVALUATIONS = 128, 64, 3
# Weight of a job in the running mean, and by which factor it may differ from the mean: a job can run beside other
# programs, or on a machine that was asleep.
_WEIGHT, _FACTOR = 0.25, 4.0
# Iterations and seconds at full size from which a job counts.
_LEAST_ITERATIONS, _LEAST_SECONDS = 5, 0.5


class Speeds:
    """The speed of gradient steps per model, precision and size, stored in the user's cache folder.

    Until a job of a size has run, the speed is that of a measurement with a canvas of noise.

    Args:
        device: the device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._file = SpeedFile()

    def flops_per_second(self, model: Model, precision: str, pixels: int, devices: int = 1) -> float:
        """Returns the operations of the convolutions per second; measures them if no job or measurement has before.

        Args:
            model: the model.
            precision: precision of the convolutions, "float32" or "bfloat16".
            pixels: pixels of the canvas.
            devices: number of devices that compute the canvas; the result is the speed of one of them.
        """
        known, size = self._file.read(), _size(pixels)
        # A job of half or twice the side is a better guess than a measurement.
        for near in (size, size + 1, size - 1):
            if (key := self._job_key(model, precision, near, devices)) in known:
                return known[key]
        sides = _GPU_SIDES if self._device.type == "cuda" else _CPU_SIDES
        side = max((side for side in sides if side**2 <= pixels), default=sides[0])
        key = f"{self._key(model, precision)}, measured at {side}"
        speed = self._known(key, lambda: self._measure_at_most(model, precision, side))
        # The measurement uses all threads, each of several parts of a CPU only its own.
        return speed / devices if self._device.type == "cpu" else speed

    def learn(
        self, model: Model, precision: str, pixels: int, flops: float, iterations: int, seconds: float, devices: int = 1
    ) -> None:
        """Corrects the speed by a job, as a running mean over the jobs of its size.

        Args:
            model, precision, pixels, devices: as for `flops_per_second`.
            flops: operations of the convolutions in one iteration at full size, on the busiest device.
            iterations: iterations at full size that were timed; few are ignored.
            seconds: their duration.
        """
        if iterations < _LEAST_ITERATIONS or seconds < _LEAST_SECONDS:
            return
        speed, key = flops * iterations / seconds, self._job_key(model, precision, _size(pixels), devices)
        before = self._file.read().get(key)
        if before is not None:
            ratio = min(_FACTOR, max(1 / _FACTOR, speed / before))
            speed = before * ratio**_WEIGHT
        if is_possible(speed):
            self._file.add(key, speed)

    def loss_operations_per_second(self, name: str) -> float:
        """Returns the operations per second of a style loss, as it counts them; measures them if the cache has none."""
        return self._known(f"{self._machine()}, loss {name}", lambda: self._measure_loss(name))

    def _known(self, key: str, measure: Callable[[], float]) -> float:
        found = self._file.read().get(key)
        if found is None:
            found = measure()
            release_free_memory()
            self._file.add(key, found)
        return found

    def _key(self, model: Model, precision: str) -> str:
        return f"{self._machine()}, {precision}, {model.manifest.sha256}"

    def _job_key(self, model: Model, precision: str, size: int, devices: int) -> str:
        several = f", {devices} devices" if devices > 1 else ""
        return f"{self._key(model, precision)}, jobs of about {2**size}{several}"

    def _machine(self) -> str:
        name, threads = device_name(self._device), torch.get_num_threads()
        return f"{name}, {threads} threads, gramophone {version('gramophone')}, torch {torch.__version__}"

    def _measure_loss(self, name: str) -> float:
        loss, layer = style_loss(name), Layer(_LOSS_SIDE, _LOSS_SIDE)
        canvas, style = torch.rand(2, 1, _CHANNELS, _LOSS_SIDE, _LOSS_SIDE, generator=torch.Generator().manual_seed(0))
        share = 1 / layer.positions
        target = torch.from_numpy(loss.target(style[0].numpy(), share))[None].to(self._device)
        features = canvas.to(self._device, memory_format=torch.channels_last).requires_grad_()
        view = LayerView(layer, features, None, slice(None), slice(None), share)
        seconds = []
        for _ in range(1 + _EVALUATIONS):
            begun = time.perf_counter()
            value = loss.value(loss.statistic(view, target)[1], target, layer)
            torch.autograd.grad(value.sum(), features)[0].sum().item()  # waits for the device
            seconds.append(time.perf_counter() - begun)
        # The first evaluation prepares the device.
        return loss.operations(_CHANNELS, layer.positions, layer.positions) / min(seconds[1:])

    def _measure_at_most(self, model: Model, precision: str, side: int) -> float:
        """Returns the speed at a side, or at the largest smaller one for which a GPU has memory."""
        try:
            return self._measure(model, precision, side)
        except torch.OutOfMemoryError:
            smaller = [other for other in _GPU_SIDES if other < side]
            if not smaller:
                raise
        release_free_memory()
        return self._measure_at_most(model, precision, smaller[-1])

    def _measure(self, model: Model, precision: str, side: int) -> float:
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        known = {layer.name for layer in model.manifest.layers}
        layers = [layer for layer in model.manifest.style_layers if layer in known]
        network = open_network(model, layers, dtype=dtype, device=self._device)
        one = torch.ones(1, device=self._device)
        channels = {layer.name: layer.channels for layer in model.manifest.layers}
        terms = [
            WeightedTerm(GRAM, n, torch.zeros(1, channels[n], channels[n], device=self._device), one) for n in layers
        ]
        objective = Objective(network, terms)
        level = Level(side, side, _WARM_UP + _STEPS, lambda: objective)
        start = noise([0], side, side).to(self._device)
        optimizer = LBFGS(history=model.manifest.lbfgs_history)
        ended = []
        for frame in Synthesis([level], start, optimizer, report_every=1):
            frame.loss.sum().item()  # waits for the device
            ended.append(time.perf_counter())
        # The fastest step is the one that other programs disturbed least.
        seconds = min(after - before for before, after in pairwise(ended[_WARM_UP - 1 :]))
        return 2 * forward_flops(Workload(network.architecture), side, side) / seconds


def _size(pixels: int) -> int:
    """Returns the size class of a canvas: the logarithm to base 2 of its side, if it were a square, rounded."""
    return round(math.log2(pixels) / 2)
