"""A convolutional network, truncated at the deepest layers in use, as a differentiable torch function of the canvas."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .architecture import INPUT, Architecture, Convolution, Operation, Pooling, Sum, Window, sources
from .convolution import ComputedConvolution, widths_of
from .kernels.fold import folded, folded_kernel
from .kernels.gradients import relu_
from .kernels.padding import ZEROS, Paddings, Widths, padded
from .kernels.pooling import max_pool

Pool = Literal["max", "average", "average_rescaled"]

# The average of 2x2 activations is smaller than their maximum; twice the average is about as large as the maximum.
AVERAGE_SCALE = 2.0
# The first convolution of this kind runs on the folded canvas.
_FOLDED = Window(6, 2, 2, 2)


class Network:
    """A convolutional network up to the deepest requested layers.

    Args:
        architecture: operations of the network.
        weights: kernel (C_out, C_in / groups, k, k) and bias (C_out,) of each convolution.
        layers: names of the layers whose features (outputs after ReLU) are requested.
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
        architecture: the operations up to the deepest requested layers.
        layers: names of the requested layers.
        paddings: padding along the vertical and along the horizontal axis.
        dtype: arithmetic of the convolutions.
        heads: the heads of `layers`, at least float32.

    Raises:
        KeyError: the network has no such layer.
    """

    def __init__(
        self,
        architecture: Architecture,
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
        self.architecture = architecture.upto(layers)
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
        first = [convolution for convolution in self.architecture.convolutions if convolution.source == INPUT]
        self._folds = len(first) == 1 and first[0].window == _FOLDED and first[0].groups == 1
        self._convolutions: dict[str, ComputedConvolution] = {}
        for convolution in self.architecture.convolutions:
            kernel, bias = (torch.tensor(part, dtype=torch.float64) for part in weights[convolution.name])
            window = convolution.window
            if convolution.source == INPUT:
                kernel = kernel[:, place] * factor
                if self._folds:
                    # `folded` pads the canvas itself.
                    kernel, window = folded_kernel(kernel), Window(3)
            kernel, bias = kernel.to(device, dtype), bias.to(device, dtype)
            self._convolutions[convolution.name] = ComputedConvolution(convolution, window, kernel, bias, paddings)
        self._late_relu = frozenset(filter(self._has_late_relu, self._convolutions))
        self._steps = self._plan()
        exact = torch.promote_types(dtype, torch.float32)
        self.heads = {
            name: torch.tensor(head, device=device, dtype=exact)
            for name, head in (heads or {}).items()
            if name in self._requested
        }

    @property
    def parameters(self) -> list[Tensor]:
        """All kernels, biases and heads, in the form that the computation uses."""
        return [t for convolution in self._convolutions.values() for t in convolution.parameters] + list(
            self.heads.values()
        )

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

    def visit(
        self, x: Tensor, take: Callable[[str, Tensor], Tensor], *, after: str = INPUT, until: str | None = None
    ) -> Tensor:
        """Calls `take` with the name and activation of each requested layer as soon as the activation is computed.

        The forward pass continues with the tensor that `take` returns. It must have the same values; another tensor
        with the same values lets `take` add to the gradient in the backward pass. Heads are not applied, because not
        every use of the features needs the head at each position.

        Args:
            x: what the first operation reads: the canvas (N, 3, H, W) with values of 0 to 1, or the output of `after`.
            take: function of a layer's name and its activation (N, C_l, H_l, W_l).
            after: the operation after which to begin, one of the architecture's `cuts`; by default with the canvas.
            until: the last operation, one of the architecture's `cuts`; None for all that follow.

        Returns:
            The output of the last operation.
        """
        maps = {after: self._entered(x) if after == INPUT else x}
        del x
        last = after
        for operation, finished in self._steps[self._begin(after) : None if until is None else self._begin(until)]:
            # The call holds the only references to maps that no later operation reads, so that they can be freed.
            inputs = [maps[name] for name in sources(operation)]
            for name in finished:
                del maps[name]
            x = self._computed(operation, inputs)
            if operation.name in self._requested:
                x = take(operation.name, x)
            last = operation.name
            maps[last] = x
            del x
        return maps[last]

    def _begin(self, after: str) -> int:
        """Returns the number of the first operation after another one, or after the canvas."""
        return 0 if after == INPUT else 1 + self.architecture.operations.index(self.architecture[after])

    def features(self, layer: str, activation: Tensor) -> Tensor:
        """Returns the features of a layer: its head applied to the activation (N, C_l, H_l, W_l).

        Without a head, the features are the activation.
        """
        if layer not in self.heads:
            return activation
        return F.conv2d(activation, self.heads[layer].to(activation.dtype)[:, :, None, None])

    def _entered(self, canvas: Tensor) -> Tensor:
        """Returns what the first convolution reads."""
        if self._folds:
            return folded(canvas, self._offset, self.dtype, paddings=self.paddings)
        return (canvas + self._offset).to(self.dtype, memory_format=torch.channels_last)

    def _computed(self, operation: Operation, inputs: list[Tensor]) -> Tensor:
        """Returns the output of an operation; empties `inputs`."""
        x = inputs.pop()
        match operation:
            case Convolution():
                convolution = self._convolutions[operation.name]
                return convolution.linear(x) if operation.name in self._late_relu else convolution(x)
            case Pooling():
                return self._pooled(x, operation)
            case Sum():
                total: Tensor = _Add.apply(inputs.pop(), x)
                return relu_(total) if operation.relu else total

    def _pooled(self, x: Tensor, pooling: Pooling) -> Tensor:
        window = pooling.window
        if self.paddings != ZEROS or window.before != window.after:
            widths = widths_of(window)
            if self._pool == "max" and not self.architecture.is_rectified(pooling.source):
                x, widths = _surrounded(x, widths, self.paddings)
            # The maximum of activations after ReLU does not change with zeros around them.
            x, window = padded(x, widths, self.paddings), replace(window, before=0, after=0)
        if self._pool == "max":
            relu = pooling.source in self._late_relu
            return max_pool(x, window.side, window.stride, window.before, ceil=window.ceil, relu=relu)
        x = F.avg_pool2d(x, window.side, window.stride, window.before, window.ceil, count_include_pad=False)
        return x * AVERAGE_SCALE if self._pool == "average_rescaled" else x

    def _has_late_relu(self, name: str) -> bool:
        """Returns whether ReLU follows the pooling after a convolution.

        Max pooling and ReLU commute. ReLU after pooling has a quarter of the work, forward and backward.
        """
        operation, consumers = self.architecture[name], self.architecture.consumers(name)
        return (
            self._pool == "max"
            and isinstance(operation, Convolution)
            and operation.relu
            and name not in self._requested
            and self._convolutions[name].is_direct
            and len(consumers) == 1
            and isinstance(consumers[0], Pooling)
        )

    def _plan(self) -> list[tuple[Operation, frozenset[str]]]:
        """Returns each operation with the names of its inputs that no later operation reads."""
        steps: list[tuple[Operation, frozenset[str]]] = []
        later: set[str] = set()
        for operation in reversed(self.architecture.operations):
            steps.append((operation, frozenset(sources(operation)) - later))
            later.update(sources(operation))
        return steps[::-1]


class _Add(torch.autograd.Function):
    """The sum of two tensors, with a gradient of its own for each: the ReLU before it changes its gradient in place."""

    @staticmethod
    def forward(context: Any, first: Tensor, second: Tensor) -> Tensor:
        return first + second

    @staticmethod
    def backward(context: Any, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        return grad_output, grad_output.clone()


def _surrounded(x: Tensor, widths: Widths, paddings: Paddings) -> tuple[Tensor, Widths]:
    """Pads x (N, C, H, W) by -inf along the axes with zero padding; returns it with the widths that are left."""
    top, bottom, left, right = (
        width if padding == "zeros" else 0 for width, padding in zip(widths, np.repeat(paddings, 2), strict=True)
    )
    x = F.pad(x, (left, right, top, bottom), value=-math.inf)
    return x, (widths[0] - top, widths[1] - bottom, widths[2] - left, widths[3] - right)
