"""The speed of the device, measured once per model and cached in a file."""

import json
import os
import time
from importlib.metadata import version
from pathlib import Path

import torch

from ..engine.canvas import noise
from ..engine.cost import Workload, forward_flops
from ..engine.device import device_name, release_free_memory
from ..engine.losses import GRAM
from ..engine.network import Network
from ..engine.objective import Objective, WeightedTerm
from ..engine.optimizers.lbfgs import LBFGS
from ..engine.synthesis import Level, Synthesis
from ..files import atomic_file, read_file
from ..models.loading import load_network
from ..models.model import Model

# Side of the canvas and number of steps of a measurement: large enough that the convolutions dominate, small enough for
# a few seconds on any device.
_SIDE, _STEPS = 192, 3
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
        key = self._key(model, precision)
        known = self._read()
        if key not in known:
            known[key] = self._measure(model, precision)
            release_free_memory()
            self._write(known)
        return known[key]

    def _key(self, model: Model, precision: str) -> str:
        name, threads, sha256 = device_name(self._device), torch.get_num_threads(), model.manifest.sha256
        versions = f"gramophone {version('gramophone')}, torch {torch.__version__}"
        return f"{name}, {threads} threads, {versions}, {precision}, {sha256}"

    def _measure(self, model: Model, precision: str) -> float:
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        known = {layer.name for layer in model.manifest.layers}
        layers = [layer for layer in model.manifest.style_layers if layer in known]
        parameters = load_network(model)
        network = Network(
            parameters.architecture, parameters.weights, layers, heads=parameters.heads, dtype=dtype,
            device=self._device,
        )  # fmt: skip
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
