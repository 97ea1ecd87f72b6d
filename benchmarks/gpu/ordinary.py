"""An ordinary style reconstruction, as tutorials write it: modules of torch and its own L-BFGS, in float32.

The GPU machine may have no other implementation, so this one stands for them. It has VGG-19's shape, random weights,
five Gram losses, and nothing else.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gramophone_server.models.layers import STYLE_LAYERS
from gramophone_server.models.vgg import VGG19_LAYERS, position

_CHANNELS = (64, 128, 256, 512, 512)


def step(side: int, device: torch.device) -> Callable[[], object]:
    """Returns a function that makes one closure call of torch's L-BFGS on a canvas of side x side pixels."""
    network = _network().to(device)
    canvas = torch.rand(1, 3, side, side, device=device, requires_grad=True)
    with torch.no_grad():
        targets = _grams(network, torch.rand_like(canvas))
    optimizer = torch.optim.LBFGS([canvas], max_iter=1, history_size=100)

    def closure() -> Tensor:
        optimizer.zero_grad()
        pairs = zip(_grams(network, canvas), targets, strict=True)
        loss = torch.stack([nn.functional.mse_loss(gram, target) for gram, target in pairs]).sum()
        loss.backward()
        return loss

    return lambda: optimizer.step(closure)


def _network() -> nn.ModuleDict:
    modules, inputs = nn.ModuleDict(), 3
    for name in VGG19_LAYERS[: VGG19_LAYERS.index(STYLE_LAYERS[-1]) + 1]:
        block, index = position(name)
        outputs = _CHANNELS[block - 1]
        pool = [nn.MaxPool2d(2)] if index == 1 and block > 1 else []
        modules[name] = nn.Sequential(*pool, nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU())
        inputs = outputs
    return modules.requires_grad_(False)


def _grams(network: nn.ModuleDict, x: Tensor) -> list[Tensor]:
    grams = []
    for name, module in network.items():
        x = module(x)
        if name in STYLE_LAYERS:
            rows = x.flatten(2)[0]
            grams.append(rows @ rows.T / rows.numel())
    return grams
