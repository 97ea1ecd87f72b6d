"""The VGG-19 network, truncated at the deepest layer in use, as a differentiable torch function of the canvas."""

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
from .kernels.padding import REPLICATE, ZEROS, Paddings, padded

Pool = Literal["max", "average", "average_rescaled"]

# The average of 2x2 activations is smaller than their maximum; twice the average is about as large as the maximum.
AVERAGE_SCALE = 2.0

_LAYER = re.compile(r"conv(\d+)_(\d+)")


class TruncatedVGG:
    """The convolutions of a VGG network up to the deepest requested layer (Simonyan & Zisserman 2014).

    Args:
        weights: kernel (C_out, C_in, 3, 3) and bias (C_out,) of each layer `conv{block}_{index}`. A 2x2 pooling with
            stride 2 precedes the first layer of every block except the first. If the first kernel has the shape
            (C_out, 3, 6, 6), its convolution has stride 2, and no pooling precedes block 2.
        layers: names of the layers whose features (activations after ReLU) are requested.
        heads: for some layers a matrix (C_l, C_l). The features of such a layer are the product of the matrix and the
            activation at each position.
        order: for each input channel of the network, the index of its RGB channel.
        scale: factor for each input channel of the network, for canvas values of 0 to 1.
        shift: offset added to each input channel after `scale`.
        pool: "max"; "average", which Gatys et al. preferred; or "average_rescaled", twice the average, so that deep
            activations stay as large as the filters expect.
        paddings: padding of the canvas and each feature map along the vertical and along the horizontal axis: "zeros";
            "replicate" for copies of the edge; or "circular" for the opposite edge. If the size along a circular axis
            is not a multiple of the deepest stride, pooling drops positions there.
        dtype: arithmetic of the convolutions: bfloat16 or float32.
        device: device of the parameters.

    Attributes:
        layers: names of the requested layers.
        paddings: padding along the vertical and along the horizontal axis.
        dtype: arithmetic of the convolutions.
        heads: the heads of `layers`, at least float32.

    Raises:
        KeyError: a requested layer has no weights.
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
        paddings: Paddings = ZEROS,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        missing = [name for name in layers if name not in weights]
        if missing:
            raise KeyError(f"the model has no layer {', '.join(missing)}")
        self.layers = tuple(layers)
        self._requested = frozenset(layers)
        self._pool = pool
        self.dtype = dtype
        # Permute the input channels of the first kernel to RGB instead of permuting every canvas.
        place = torch.tensor(order).argsort()
        factor, offset = (torch.tensor(values, dtype=torch.float64)[place].view(3, 1, 1) for values in (scale, shift))
        # The first kernel includes `scale`. The offset is added to the canvas, so that zero padding means 0 after
        # preprocessing.
        self._offset = (offset / factor).to(device, torch.float32)
        self.paddings = paddings
        names = sorted(weights, key=_position)
        deepest = max(map(names.index, layers))
        self._folds = weights[names[0]][0].shape[2] == 6
        self._convolutions: list[_Convolution] = []
        for name in names[: deepest + 1]:
            kernel, bias = (torch.tensor(part, dtype=torch.float64) for part in weights[name])
            around: Paddings | None = paddings
            if name == names[0]:
                kernel = kernel[:, place] * factor
                if self._folds:
                    # `folded` pads the canvas itself.
                    kernel, around = folded_kernel(kernel), None
            kernel, bias = kernel.to(device, dtype), bias.to(device, dtype)
            self._convolutions.append(_Convolution(name, kernel, bias, around))
        exact = torch.promote_types(dtype, torch.float32)
        self.heads = {
            name: torch.tensor(head, device=device, dtype=exact)
            for name, head in (heads or {}).items()
            if name in self._requested
        }

    @property
    def parameters(self) -> list[Tensor]:
        """All kernels, biases and heads, in the form that the computation uses."""
        return [t for convolution in self._convolutions for t in convolution.parameters] + list(self.heads.values())

    @property
    def depth(self) -> int:
        """Number of convolutions up to the deepest requested layer."""
        return len(self._convolutions)

    def stride(self, layer: str) -> int:
        """Returns the stride of a layer's feature map: canvas pixels per position, along each axis."""
        return max(2 if self._folds else 1, 1 << (_position(layer)[0] - 1))

    @property
    def grid(self) -> int:
        """Stride of the deepest layer, in canvas pixels."""
        return self.stride(self._convolutions[-1].name)

    @property
    def radius(self) -> int:
        """Receptive radius of the deepest layer: how far its receptive field extends beyond the position's own pixels.

        The unit is canvas pixels, in each direction.
        """
        # A 3x3 kernel extends the receptive field by one position in each direction, and so does a 6x6 kernel with
        # stride 2. Pooling reads only the position's own pixels and does not extend it.
        return sum(self.stride(convolution.name) for convolution in self._convolutions)

    def flops(self, height: int, width: int) -> float:
        """Returns the operations of one forward pass over one canvas of height x width pixels.

        Convolutions count as direct ones (not Winograd); a multiply-add counts as two operations.
        """
        strides = [(c, self.stride(c.name)) for c in self._convolutions]
        return float(sum(18 * c.inputs * c.outputs * (height // s) * (width // s) for c, s in strides))

    def __call__(self, canvas: Tensor) -> dict[str, Tensor]:
        """Returns the features of the requested layers, each (N, C_l, H_l, W_l) in `dtype`.

        Args:
            canvas: (N, 3, H, W) with values of 0 to 1.
        """
        features = {}

        def take(name: str, activation: Tensor) -> Tensor:
            features[name] = self.features(name, activation)
            return activation

        self.visit(canvas, take)
        return features

    def visit(self, canvas: Tensor, take: Callable[[str, Tensor], Tensor]) -> None:
        """Calls `take` with the name and activation of each requested layer as soon as the activation is computed.

        The forward pass continues with the tensor that `take` returns. It must have the same values; another tensor
        with the same values lets `take` add to the gradient in the backward pass. Heads are not applied, because not
        every use of the features needs the head at each position.

        Args:
            canvas: (N, 3, H, W) with values of 0 to 1.
            take: function of a layer's name and its activation (N, C_l, H_l, W_l).
        """
        if self._folds:
            x = folded(canvas, self._offset, self.dtype, paddings=self.paddings)
        else:
            x = (canvas + self._offset).to(self.dtype, memory_format=torch.channels_last)
        for convolution, following in pairwise([*self._convolutions, None]):
            assert convolution is not None
            pooled = following is not None and self.stride(following.name) != self.stride(convolution.name)
            name = convolution.name
            if pooled and self._pool == "max" and convolution.is_direct and name not in self._requested:
                # Max pooling and ReLU commute. ReLU after pooling has a quarter of the work, forward and backward.
                x = F.max_pool2d(convolution.linear(x), 2).relu_()
                continue
            x = convolution(x)
            if name in self._requested:
                x = take(name, x)
            if pooled:
                x = self._pooled(x)

    def features(self, layer: str, activation: Tensor) -> Tensor:
        """Returns the features of a layer: its head applied to the activation (N, C_l, H_l, W_l).

        Without a head, the features are the activation.
        """
        if layer not in self.heads:
            return activation
        return F.conv2d(activation, self.heads[layer].to(activation.dtype)[:, :, None, None])

    def _pooled(self, x: Tensor) -> Tensor:
        if self._pool == "max":
            return F.max_pool2d(x, 2)
        x = F.avg_pool2d(x, 2)
        return x * AVERAGE_SCALE if self._pool == "average_rescaled" else x


class _Convolution:
    """A 3x3 convolution followed by ReLU, computed with the fastest available algorithm.

    The algorithm is Winograd's, oneDNN with a packed kernel, or torch's own convolution.

    Args:
        name: name of the layer.
        kernel: (C_out, C_in, 3, 3).
        bias: (C_out,).
        paddings: padding of the input by one position along the vertical and along the horizontal axis; None for no
            padding.
    """

    def __init__(self, name: str, kernel: Tensor, bias: Tensor, paddings: Paddings | None) -> None:
        self.name = name
        self.outputs, self.inputs = kernel.shape[:2]
        self._paddings = ZEROS if paddings is None else paddings
        self._zeros = 1 if paddings == ZEROS else 0
        self._margin = 0 if paddings in (None, ZEROS) else 1
        self._bias = bias
        self._kernel: Tensor | None = None
        self._packed: packed.PackedConvolution | None = None
        exact_on_cpu = kernel.device.type == "cpu" and kernel.dtype == torch.float32 and paddings != REPLICATE
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
        """Whether `linear` is available: the Winograd form always includes ReLU."""
        return self._kernel is not None or self._packed is not None

    def __call__(self, x: Tensor) -> Tensor:
        if not self.is_direct:
            return winograd.convolve(x, self._points, self._bias, self._paddings)
        if self._packed is not None:
            return self._packed(self._padded(x), relu=True)
        # Apply ReLU in place: this halves the memory, and the backward pass does not need the convolution's output.
        return relu_(self.linear(x))

    def linear(self, x: Tensor) -> Tensor:
        """Returns the convolution (N, C_out, H_l, W_l) of x (N, C_in, H_l, W_l), without ReLU."""
        x = self._padded(x)
        if self._packed is not None:
            return self._packed(x)
        assert self._kernel is not None
        return F.conv2d(x, self._kernel, self._bias, padding=self._zeros)

    def _padded(self, x: Tensor) -> Tensor:
        return padded(x, (self._margin,) * 4, self._paddings)


def _position(layer: str) -> tuple[int, int]:
    match = _LAYER.fullmatch(layer)
    if match is None:
        raise KeyError(f"{layer!r} is not a layer name such as conv4_2")
    return int(match[1]), int(match[2])
