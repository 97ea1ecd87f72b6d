"""The truncated VGG-19 through which canvases are differentiated."""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .cost import winograd_pays
from .kernels import packed, winograd
from .kernels.fold import folded, folded_kernel
from .kernels.gradients import relu_

Pool = Literal["max", "average", "average_rescaled"]
Padding = Literal["zeros", "replicate"]

# Averages of 2x2 activations are smaller than their maxima; twice the average is about as large.
AVERAGE_SCALE = 2.0

_LAYER = re.compile(r"conv(\d+)_(\d+)")


class TruncatedVGG:
    """The convolutions of a VGG up to the deepest layer asked for, and nothing behind it.

    Args:
        weights: kernel (C_out, C_in, 3, 3) and bias (C_out,) of each layer `conv{block}_{index}`; 2x2 pooling with
            stride 2 stands before the first layer of every block but the first (Simonyan & Zisserman 2014). A first
            kernel of (C_out, 3, 6, 6) has a stride of 2 itself, and no pooling stands before block 2.
        layers: names of the layers whose features, the activations after ReLU, are asked for.
        heads: for some layers a matrix (C_l, C_l); the features of such a layer are its product with the activation, at
            each position.
        order: for each input channel of the network, the RGB channel that feeds it.
        scale: factor on each input channel of the network, for a canvas of 0 to 1.
        shift: what is added to each input channel after `scale`.
        pool: "max", or "average" as Gatys et al. preferred, or "average_rescaled": twice the average, so that deep
            activations stay as large as the filters expect.
        padding: what stands around a feature map: "zeros", or "replicate" for its own edge, which leaves no frame.
        dtype: arithmetic of the convolutions; bfloat16 or float32.

    Attributes:
        dtype: as above.
        heads: those of `layers`, at least float32.

    Raises:
        KeyError: a layer has no weights.
    """

    def __init__(
        self,
        weights: Mapping[str, tuple[np.ndarray, np.ndarray]],
        layers: Sequence[str],
        *,
        heads: Mapping[str, np.ndarray] | None = None,
        order: Sequence[int] = (0, 1, 2),
        scale: Sequence[float] = (1.0, 1.0, 1.0),
        shift: Sequence[float] = (0.0, 0.0, 0.0),
        pool: Pool = "max",
        padding: Padding = "zeros",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        missing = [name for name in layers if name not in weights]
        if missing:
            raise KeyError(f"the model has no layer {', '.join(missing)}")
        self.layers = tuple(layers)
        self._wanted = frozenset(layers)
        self._pool = pool
        self.dtype = dtype
        # The first kernel takes RGB in its order, so that no canvas has to be put into another.
        place = torch.tensor(order).argsort()
        factor, offset = (torch.tensor(values, dtype=torch.float64)[place].view(3, 1, 1) for values in (scale, shift))
        # Only what is padded has to know where 0 is; the factor is the first kernel's.
        self._offset = (offset / factor).to(device, torch.float32)
        self._padding: Padding = padding
        names = sorted(weights, key=_position)
        deepest = max(map(names.index, layers))
        self._folds = weights[names[0]][0].shape[2] == 6
        self._convolutions: list[_Convolution] = []
        for name in names[: deepest + 1]:
            kernel, bias = (torch.tensor(part, dtype=torch.float64) for part in weights[name])
            around: Padding | None = padding
            if name == names[0]:
                kernel = kernel[:, place] * factor
                if self._folds:
                    # What is folded is padded already.
                    kernel, around = folded_kernel(kernel), None
            kernel, bias = kernel.to(device, dtype), bias.to(device, dtype)
            self._convolutions.append(_Convolution(name, kernel, bias, around))
        exact = torch.promote_types(dtype, torch.float32)
        self.heads = {
            name: torch.tensor(head, device=device, dtype=exact)
            for name, head in (heads or {}).items()
            if name in self._wanted
        }

    @property
    def parameters(self) -> list[Tensor]:
        """All kernels, biases and heads, as they are computed with."""
        return [t for convolution in self._convolutions for t in convolution.parameters] + list(self.heads.values())

    @property
    def depth(self) -> int:
        """Number of convolutions that exist."""
        return len(self._convolutions)

    def stride(self, layer: str) -> int:
        """Pixels of the canvas per position of a layer, along each axis."""
        return max(2 if self._folds else 1, 1 << (_position(layer)[0] - 1))

    @property
    def grid(self) -> int:
        """The stride of the deepest layer."""
        return self.stride(self._convolutions[-1].name)

    @property
    def radius(self) -> int:
        """Receptive radius of the deepest layer: pixels around a position's own that it depends on, to each side."""
        # A 3x3 kernel reaches one position further, one of 6x6 with stride 2 too. Pooling reads the pixels that the
        # position stands for.
        return sum(self.stride(convolution.name) for convolution in self._convolutions)

    def flops(self, height: int, width: int) -> float:
        """Operations of the convolutions on one canvas, forwards and direct; a multiply-add is two."""
        strides = [(c, self.stride(c.name)) for c in self._convolutions]
        return float(sum(18 * c.inputs * c.outputs * (height // s) * (width // s) for c, s in strides))

    def __call__(self, canvas: Tensor) -> dict[str, Tensor]:
        """The features of `layers`, (N, C_l, H_l, W_l) in `dtype`.

        Args:
            canvas: (N, 3, H, W) of 0 to 1.
        """
        features = {}

        def take(name: str, activation: Tensor) -> Tensor:
            features[name] = self.features(name, activation)
            return activation

        self.visit(canvas, take)
        return features

    def visit(self, canvas: Tensor, take: Callable[[str, Tensor], Tensor]) -> None:
        """Shows `take` the activation of each layer as soon as it is there, and goes on with what it returns.

        What it returns has the values of what it was given; by returning another tensor it can have its say in the
        gradient. A head is not applied: not every use of the features needs it at each position.
        """
        if self._folds:
            x = folded(canvas, self._offset, self.dtype, padding=self._padding)
        else:
            x = (canvas + self._offset).to(self.dtype, memory_format=torch.channels_last)
        for convolution, following in pairwise([*self._convolutions, None]):
            assert convolution is not None
            pooled = following is not None and self.stride(following.name) != self.stride(convolution.name)
            name = convolution.name
            if pooled and self._pool == "max" and convolution.is_direct and name not in self._wanted:
                # The largest of four is the largest before ReLU too, and leaves it a quarter to do, both ways.
                x = F.max_pool2d(convolution.linear(x), 2).relu_()
                continue
            x = convolution(x)
            if name in self._wanted:
                x = take(name, x)
            if pooled:
                x = self._pooled(x)

    def features(self, layer: str, activation: Tensor) -> Tensor:
        """What the layer's head makes of its activation (N, C_l, H_l, W_l); itself if there is none."""
        if layer not in self.heads:
            return activation
        return F.conv2d(activation, self.heads[layer].to(activation.dtype)[:, :, None, None])

    def _pooled(self, x: Tensor) -> Tensor:
        if self._pool == "max":
            return F.max_pool2d(x, 2)
        x = F.avg_pool2d(x, 2)
        return x * AVERAGE_SCALE if self._pool == "average_rescaled" else x


class _Convolution:
    """A 3x3 convolution and its ReLU, computed in the way that is fastest for it.

    Args:
        padding: what stands around the input; None for nothing.
    """

    def __init__(self, name: str, kernel: Tensor, bias: Tensor, padding: Padding | None) -> None:
        self.name = name
        self.outputs, self.inputs = kernel.shape[:2]
        self._replicate = padding == "replicate"
        self._zeros = 1 if padding == "zeros" else 0
        self._bias = bias
        self._kernel: Tensor | None = None
        self._packed: packed.PackedConvolution | None = None
        exact_on_cpu = kernel.device.type == "cpu" and kernel.dtype == torch.float32 and padding == "zeros"
        if exact_on_cpu and winograd_pays(self.inputs, self.outputs):
            self._points = winograd.transformed(kernel)
            self.parameters = [self._points, bias]
        elif packed.is_available(kernel):
            self._packed = packed.PackedConvolution(kernel, bias, self._zeros)
            self.parameters = self._packed.parameters
        else:
            self._kernel = kernel.contiguous(memory_format=torch.channels_last)
            self.parameters = [self._kernel, bias]

    @property
    def is_direct(self) -> bool:
        """Whether there is a `linear` part to be had."""
        return self._kernel is not None or self._packed is not None

    def __call__(self, x: Tensor) -> Tensor:
        if not self.is_direct:
            return winograd.convolve(x, self._points, self._bias)
        if self._packed is not None:
            return self._packed(self._padded(x), relu=True)
        # ReLU in place: the convolution's backward does not need its own output, and it halves the memory.
        return relu_(self.linear(x))

    def linear(self, x: Tensor) -> Tensor:
        """Without the ReLU."""
        x = self._padded(x)
        if self._packed is not None:
            return self._packed(x)
        assert self._kernel is not None
        return F.conv2d(x, self._kernel, self._bias, padding=self._zeros)

    def _padded(self, x: Tensor) -> Tensor:
        return F.pad(x, (1, 1, 1, 1), mode="replicate") if self._replicate else x


def _position(layer: str) -> tuple[int, int]:
    match = _LAYER.fullmatch(layer)
    if match is None:
        raise KeyError(f"{layer!r} is not a layer name such as conv4_2")
    return int(match[1]), int(match[2])
