"""Speed of the algorithms for 3x3 convolutions in float32, on which the rules for Winograd tiles in `cost` rest."""

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from gramophone_server.engine.cost import winograd_fitting, winograd_tile
from gramophone_server.engine.device import narrowest_winograd, set_up_cpu
from gramophone_server.engine.kernels.gradients import relu_
from gramophone_server.engine.kernels.winograd import Kernel, convolve

# Input channels, output channels and side of the feature map: layers of vgg19-caffe at 224x224 and at 512x512, and
# layers with fewer channels.
SHAPES = (
    (64, 64, 224), (64, 128, 112), (128, 128, 112), (128, 256, 56), (256, 256, 56), (256, 512, 28), (512, 512, 28),
    (512, 512, 14), (512, 512, 7), (256, 512, 7), (256, 256, 14), (128, 128, 14), (64, 64, 512), (128, 128, 256),
    (256, 256, 128), (512, 512, 64),
    (16, 16, 224), (32, 32, 112), (32, 64, 112), (48, 48, 112), (48, 96, 56), (96, 96, 56),
)  # fmt: skip
ROUNDS = 6


def measure() -> dict:
    """Measures the forward and the backward pass of each algorithm, in alternation."""
    set_up_cpu(1)
    nnpack = torch._nnpack_available()  # type: ignore[attr-defined]  # This call also initializes it.
    rows = []
    for inputs, outputs, side in SHAPES:
        ways = _ways(inputs, outputs, side, nnpack=nnpack)
        seconds = [{name: _seconds(way) for name, way in ways.items()} for _ in range(ROUNDS)]
        flops = 2 * 9 * inputs * outputs * side * side
        speeds = {name: f"{flops / min(each[name] for each in seconds) / 1e9:.0f}" for name in ways}
        chosen = winograd_fitting(winograd_tile(inputs, outputs, narrowest_winograd()), inputs, outputs, side, side)
        rows.append(
            {"layer": f"{inputs} to {outputs}, {side}x{side}"}
            | speeds
            | {"chosen": f"Winograd {chosen}x{chosen}" if chosen else "direct"}
        )
    how = (
        "GFLOP/s of 3x3 convolutions in float32 with ReLU, and of their gradients toward the input, by the operations "
        f"of a direct convolution; processor time of one thread, the best of {ROUNDS} alternating rounds. Direct: "
        "oneDNN, channels last. Winograd: this engine's, with tiles of these sizes. NNPACK: the convolution in torch, "
        "channels first, without ReLU, forward; torch offers it without transforming the kernel in advance."
    )
    return {"title": "Convolutions", "how": how, "rows": rows}


def _ways(inputs: int, outputs: int, side: int, *, nnpack: bool) -> dict[str, Callable[[], object]]:
    x = torch.randn(1, inputs, side, side).contiguous(memory_format=torch.channels_last).requires_grad_()
    kernel, bias = torch.randn(outputs, inputs, 3, 3) / (9 * inputs) ** 0.5, torch.randn(outputs)
    slope = torch.randn(1, outputs, side, side).contiguous(memory_format=torch.channels_last)
    direct = kernel.contiguous(memory_format=torch.channels_last)
    ways: dict[str, Callable[[], object]] = {}

    def add(name: str, convolution: Callable[[], Tensor]) -> None:
        y = convolution()
        ways[name] = torch.no_grad()(convolution)
        ways[f"{name}, gradient"] = lambda: torch.autograd.grad(y, x, slope, retain_graph=True)

    add("direct", lambda: relu_(F.conv2d(x, direct, bias, padding=1)))
    for tile in (2, 4, 6):
        transformed = Kernel(kernel, tile)
        add(f"Winograd {tile}x{tile}", lambda transformed=transformed: convolve(x, transformed, bias))  # type: ignore[misc]
    if nnpack:
        first = x.detach().contiguous()
        ways["NNPACK"] = lambda: torch._nnpack_spatial_convolution(first, kernel, bias, [1, 1], [1, 1])
    return ways


def _seconds(way: Callable[[], object]) -> float:
    way()
    begun = time.thread_time()
    way()
    return time.thread_time() - begun
