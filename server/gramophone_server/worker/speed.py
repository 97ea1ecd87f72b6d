"""The speed of the device, measured once per model and cached in a file."""

import json
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

from ..engine.canvas import noise
from ..engine.cost import Workload, forward_flops
from ..engine.device import device_name, release_free_memory
from ..engine.losses import GRAM, Layer, LayerView, style_loss
from ..engine.objective import Objective, WeightedTerm
from ..engine.optimizers.lbfgs import LBFGS
from ..engine.synthesis import Level, Synthesis
from ..files import atomic_file, read_file
from ..models.model import Model
from ..models.networks import open_network

# Side of the canvas and number of steps of a measurement: large enough that the convolutions dominate, small enough for
# a few seconds on any device.
_SIDE, _STEPS = 192, 3
# Channels and side of the feature maps on which a loss is measured, and the number of evaluations.
_CHANNELS, _LOSS_SIDE, _EVALUATIONS = 128, 64, 3
_MOST_BYTES = 1 << 20


class Speeds:
    """Measures the speed of gradient steps per model and precision, and stores it in the user's cache folder.

    Args:
        device: the device to measure.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self._path = cache / "gramophone" / "speeds.json"

    def flops_per_second(self, model: Model, precision: str) -> float:
        """Returns the operations of the convolutions per second; measures them if the cache has no value."""
        return self._known(self._key(model, precision), lambda: self._measure(model, precision))

    def loss_operations_per_second(self, name: str) -> float:
        """Returns the operations per second of a style loss, as it counts them; measures them if the cache has none."""
        return self._known(f"{self._machine()}, loss {name}", lambda: self._measure_loss(name))

    def _known(self, key: str, measure: Callable[[], float]) -> float:
        known = self._read()
        if key not in known:
            known[key] = measure()
            release_free_memory()
            self._write(known)
        return known[key]

    def _key(self, model: Model, precision: str) -> str:
        return f"{self._machine()}, {precision}, {model.manifest.sha256}"

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

    def _measure(self, model: Model, precision: str) -> float:
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
        level = Level(_SIDE, _SIDE, 1 + _STEPS, lambda: objective)
        begun = 0.0
        start = noise([0], _SIDE, _SIDE).to(self._device)
        optimizer = LBFGS(history=model.manifest.lbfgs_history)
        for frame in Synthesis([level], start, optimizer, report_every=1):
            frame.loss.item()  # waits for the device
            begun = begun or time.perf_counter()
        seconds = (time.perf_counter() - begun) / _STEPS
        return 2 * forward_flops(Workload(network.architecture), _SIDE, _SIDE) / seconds

    def _read(self) -> dict[str, float]:
        try:
            known = json.loads(read_file(self._path, _MOST_BYTES))
        except (OSError, ValueError, RecursionError):
            return {}
        # Ignore a cache file with any other content.
        entries = known.items() if isinstance(known, dict) else ()
        return {key: speed for key, speed in entries if isinstance(speed, float) and 0 < speed < float("inf")}

    def _write(self, known: dict[str, float]) -> None:
        # Ignore a failed write: the next worker then measures again.
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self._path) as file:
                file.write(f"{json.dumps(known, indent=1)}\n".encode())
        except OSError:
            pass
