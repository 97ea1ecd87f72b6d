"""The truncated VGG-19 through which canvases are differentiated."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Pool = Literal["max", "average"]

_LAYER = re.compile(r"conv(\d+)_(\d+)")


class TruncatedVGG:
    """The convolutions of a VGG up to the deepest layer asked for, and nothing behind it.

    Args:
        weights: kernel (C_out, C_in, 3, 3) and bias (C_out,) of each layer `conv{block}_{index}`; 2x2 pooling with
            stride 2 stands before the first layer of every block but the first (Simonyan & Zisserman 2014).
        layers: names of the layers whose activations, after ReLU, `__call__` returns.
        order: for each input channel of the network, the RGB channel that feeds it.
        scale: factor on each input channel of the network, for a canvas of 0 to 1.
        shift: what is added to each input channel after `scale`.
        pool: "max", or "average" as Gatys et al. preferred.
        dtype: arithmetic of the convolutions; bfloat16 or float32.

    Raises:
        KeyError: a layer has no weights.
    """

    def __init__(
        self,
        weights: Mapping[str, tuple[np.ndarray, np.ndarray]],
        layers: Sequence[str],
        *,
        order: Sequence[int] = (0, 1, 2),
        scale: Sequence[float] = (1.0, 1.0, 1.0),
        shift: Sequence[float] = (0.0, 0.0, 0.0),
        pool: Pool = "max",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        missing = [name for name in layers if name not in weights]
        if missing:
            raise KeyError(f"the model has no layer {', '.join(missing)}")
        self.layers = tuple(layers)
        self._wanted = frozenset(layers)
        self._pool = F.max_pool2d if pool == "max" else F.avg_pool2d
        self._dtype = dtype
        self._order = list(order)
        self._scale = torch.tensor(scale, device=device).view(1, 3, 1, 1)
        self._shift = torch.tensor(shift, device=device).view(1, 3, 1, 1)
        names = sorted(weights, key=_position)
        deepest = max(map(names.index, layers))
        self._convolutions: list[tuple[str, Tensor, Tensor]] = []
        for name in names[: deepest + 1]:
            kernel, bias = (torch.tensor(part, device=device, dtype=dtype) for part in weights[name])
            self._convolutions.append((name, kernel.contiguous(memory_format=torch.channels_last), bias))

    @property
    def depth(self) -> int:
        """Number of convolutions that exist."""
        return len(self._convolutions)

    def __call__(self, canvas: Tensor) -> dict[str, Tensor]:
        """Activations after ReLU, each (N, C_l, H_l, W_l) in `dtype`, of a canvas (N, 3, H, W) of 0 to 1."""
        x = canvas[:, self._order] * self._scale + self._shift
        x = x.to(self._dtype, memory_format=torch.channels_last)
        features = {}
        block = 1
        for name, kernel, bias in self._convolutions:
            if _position(name)[0] != block:
                block = _position(name)[0]
                x = self._pool(x, 2)
            # ReLU in place: the convolution's backward does not need its own output, and it halves the memory.
            x = F.conv2d(x, kernel, bias, padding=1).relu_()
            if name in self._wanted:
                features[name] = x
        return features


def _position(layer: str) -> tuple[int, int]:
    match = _LAYER.fullmatch(layer)
    if match is None:
        raise KeyError(f"{layer!r} is not a layer name such as conv4_2")
    return int(match[1]), int(match[2])
