"""Times style reconstruction by neural-style-pt, with the loss that the benchmarks compare.

This script runs in the interpreter of the peers' environment, which has none of our packages. It calls the unchanged
`main` of the peer, with the peer's own loading, preprocessing, modules, initial canvas and L-BFGS. The script changes
three things: there is no content layer, it sets the strength of each style layer, and it times each closure call. The
peer maps pixels to 0..256 rather than 0..255 and truncates to 8 bits; both are left unchanged.
"""

import argparse
import contextlib
import json
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image

LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def parse_arguments(description: str, optimizers: Sequence[str], *flags: str) -> argparse.Namespace:
    """Parses the command line that the peers share, plus the on/off flags of a single peer."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--weights", type=Path, required=True, help="state dict of VGG-19; the name must contain vgg19")
    parser.add_argument("--picture", type=Path, required=True, help="the style picture, already resized to --size")
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--iterations", type=int, default=200, help="closure calls, 2 or more")
    parser.add_argument("--optimizer", choices=optimizers, default="lbfgs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="default: torch's own choice")
    parser.add_argument(
        "--layers", type=int, choices=range(1, 6), default=5, help="number of style layers, from the first"
    )
    parser.add_argument("--output", type=Path, required=True, help="file of the record, JSON")
    parser.add_argument("--picture-output", type=Path, required=True, help="file of the picture that the peer writes")
    parser.add_argument("--pictures-at", type=counts, default=(), help="closure calls to save pictures of: 10,25")
    parser.add_argument("--folder", type=Path, default=Path(), help="folder of these pictures, COUNT.png")
    for flag in flags:
        parser.add_argument(flag, action="store_true")
    arguments = parser.parse_args()
    if arguments.iterations < 2:
        parser.error("--iterations must be 2 or more")
    with Image.open(arguments.picture) as picture:
        if picture.size != (arguments.size, arguments.size):
            parser.error(f"{arguments.picture} is {picture.size}, not {arguments.size} x {arguments.size}")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    return arguments


def counts(text: str) -> tuple[int, ...]:
    """Parses integers separated by commas."""
    return tuple(int(part) for part in text.split(","))


class Recorder:
    """Times an optimizer's closure calls, and saves their losses and pictures.

    Loss and picture are those of the canvas with which the closure was called. The time of saving is not counted.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._loading_bytes = 0
        self._left = 0.0
        self._losses: list[float] = []
        self._seconds: list[float] = []
        self._step_seconds: list[float] = []

    def watch(self, optimizer: torch.optim.Optimizer, render: Callable[[], Image.Image]) -> None:
        """Times every closure call of `optimizer.step`; `render` returns the canvas as an image."""
        step = optimizer.step

        def watched(closure: Callable[[], Any]) -> Any:
            value = step(lambda: self._call(closure, render))
            self._add_update(time.perf_counter())
            return value

        optimizer.step = watched  # type: ignore[method-assign]

    def _call(self, closure: Callable[[], Any], render: Callable[[], Image.Image]) -> Any:
        begun = time.perf_counter()
        if self._losses:
            self._add_update(begun)
        else:
            self._loading_bytes = peak_bytes()
            reset_peak()
        loss = closure()
        seconds = time.perf_counter() - begun
        self._losses.append(loss.item() if isinstance(loss, torch.Tensor) else loss)
        self._seconds.append(seconds)
        self._step_seconds.append(seconds)
        if len(self._losses) in self._arguments.pictures_at:
            self._arguments.folder.mkdir(parents=True, exist_ok=True)
            render().save(self._arguments.folder / f"{len(self._losses)}.png")
        self._left = time.perf_counter()
        return loss

    def _add_update(self, now: float) -> None:
        """Adds the time of the optimizer since the last closure call to that call's step."""
        self._step_seconds[-1] += now - self._left
        self._left = now

    def write(self, peer: str, **more: Any) -> None:
        """Writes the record of the run."""
        arguments = self._arguments
        optimizing = peak_bytes()
        packages = (peer, "torch", "torchvision", "numpy", "pillow")
        record = {
            "peer": peer,
            "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
            "threads": torch.get_num_threads(),
            "size": arguments.size,
            "iterations": arguments.iterations,
            "optimizer": arguments.optimizer,
            "seed": arguments.seed,
            "layers": LAYERS[: arguments.layers],
            "seconds": self._seconds,  # closure call: forward and backward
            "step_seconds": self._step_seconds,  # closure call and the optimizer's update after it
            "losses": self._losses,
            # Peaks of resident memory; while loading, a peer also builds and drops the classifier.
            "loading_bytes": self._loading_bytes,
            "optimizing_bytes": optimizing,  # from the first closure call on; outside Linux, of the whole run
            "peak_bytes": max(self._loading_bytes, optimizing),
            **more,
        }
        arguments.output.write_text(json.dumps(record, indent=2) + "\n")


def peak_bytes() -> int:
    """Returns the peak resident memory of this process, since the last `reset_peak`, if there was one."""
    # ru_maxrss includes the memory of the parent process, because Linux keeps it across exec.
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak() -> None:
    """Resets the peak memory, where the system supports it (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


class _NoLayers(str):
    """A string of layer names that splits into no layers.

    Splitting "" gives one empty name, which the peer never finds: it would build the network to its end.
    """

    def split(self, *_: Any) -> list[str]:  # type: ignore[override]
        return []


def main() -> None:
    """Runs the peer's `main` with its options set and three of its functions wrapped."""
    arguments = parse_arguments("Style reconstruction by neural-style-pt", ("lbfgs", "adam"))
    names = LAYERS[: arguments.layers]
    options = {
        "style_image": arguments.picture,
        "content_image": arguments.picture,  # only its size is used
        "image_size": arguments.size,
        "style_layers": ",".join(names),
        "tv_weight": 0,
        "num_iterations": arguments.iterations,
        "optimizer": arguments.optimizer,
        "seed": arguments.seed,
        "model_file": arguments.weights,
        "output_image": arguments.picture_output,
        "print_iter": 0,
        "save_iter": 0,
        "gpu": "c",
    }
    # The peer parses the command line when it is imported. Without -disable_check it requires the classifier's weights;
    # with -normalize_weights it calls the function that this script replaces with `set_strengths`.
    words = [word for name, value in options.items() for word in (f"-{name}", str(value))]
    sys.argv = ["neural-style", *words, "-disable_check", "-normalize_weights"]
    from neural_style import neural_style as peer

    peer.params.content_layers = _NoLayers()
    recorder = Recorder(arguments)
    load, set_up = peer.loadCaffemodel, peer.setup_optimizer

    def load_checked(*parameters: Any) -> tuple[torch.nn.Sequential, dict]:
        """Loads the network and checks the keys of the file: -disable_check would silently leave random weights."""
        network, layers = load(*parameters)
        keys = torch.load(arguments.weights, map_location="cpu", mmap=True, weights_only=True).keys()
        if missing := {f"features.{key}" for key in network.state_dict()} - keys:
            raise SystemExit(f"{arguments.weights} lacks {', '.join(sorted(missing))}")
        return network, layers

    def set_strengths(_: Sequence[torch.nn.Module], style_losses: Sequence[torch.nn.Module]) -> None:
        """Makes the sum of the peer's layer losses equal that of Gatys et al., with a weight of 1 / layers per layer.

        Gatys: sum (G − A)² / (4 N² M²). The peer: mean over N² of (G / (N M) − A / (N M))².
        """
        for module in style_losses:
            module.strength = module.target.size(0) ** 2 / (4 * len(style_losses))

    def set_up_watched(image: torch.nn.Parameter) -> tuple[torch.optim.Optimizer, int]:
        optimizer, last = set_up(image)
        recorder.watch(optimizer, lambda: peer.deprocess(image.detach().clone()))
        return optimizer, last

    peer.loadCaffemodel, peer.normalize_weights, peer.setup_optimizer = load_checked, set_strengths, set_up_watched
    peer.main()
    recorder.write("neural-style")


if __name__ == "__main__":
    main()
