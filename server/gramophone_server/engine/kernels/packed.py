"""3x3 convolutions in bfloat16 by oneDNN whose kernels were packed beforehand, with ReLU in the same pass (CPU).

torch's own convolution packs the kernel anew at every call, forwards and backwards, and leaves ReLU to a second pass
through the memory; where matrix units do the products, that is up to half of its time (in float32 nothing that can be
measured). The numbers are the same. These are the operators that torch.compile puts into its graphs.
"""

from typing import Any

import torch
from torch import Tensor

from ..device import has_native_bfloat16
from .gradients import masked_

_OPERATORS = torch.ops.mkldnn


def is_available(kernel: Tensor) -> bool:
    """Whether kernels of this one's type and place can be packed."""
    return (
        kernel.device.type == "cpu"
        and kernel.dtype == torch.bfloat16
        and has_native_bfloat16(kernel.device)
        and hasattr(_OPERATORS, "_convolution_pointwise")
        and hasattr(_OPERATORS, "_reorder_convolution_weight")
    )


class PackedConvolution:
    """A convolution (C_out, C_in, 3, 3) of x (N, C_in, H, W), channels last in memory; differentiable in x alone.

    Args:
        bias: (C_out,).
        padding: zeros around x, 1 or 0.
    """

    def __init__(self, kernel: Tensor, bias: Tensor, padding: int) -> None:
        self._bias = bias
        self._padding = padding
        # What comes back to x is the convolution of the slope with the kernel turned round, over all it overlaps.
        turned = kernel.flip(2, 3).transpose(0, 1)
        self._forwards, self._backwards = _packed(kernel, padding), _packed(turned, 2 - padding)

    @property
    def parameters(self) -> list[Tensor]:
        """What it holds."""
        return [self._forwards, self._backwards, self._bias]

    def __call__(self, x: Tensor, *, relu: bool = False) -> Tensor:
        """The convolution, and its ReLU if asked for."""
        y: Tensor = _Convolution.apply(x, self, relu)
        return y

    def forwards(self, x: Tensor, relu: bool) -> Tensor:
        """The output for an input."""
        return _convolved(x, self._forwards, self._bias, self._padding, "relu" if relu else "none")

    def backwards(self, slope: Tensor) -> Tensor:
        """The slope of the input for that of the output, before ReLU."""
        slope = slope.contiguous(memory_format=torch.channels_last)
        return _convolved(slope, self._backwards, None, 2 - self._padding, "none")


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, convolution: PackedConvolution, relu: bool) -> Tensor:
        context.convolution = convolution
        context.relu = relu
        y = convolution.forwards(x, relu)
        if relu:
            context.save_for_backward(y)
        return y

    @staticmethod
    def backward(context: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        if context.relu:
            (y,) = context.saved_tensors
            slope = masked_(slope, y)
        return context.convolution.backwards(slope), None, None


def _packed(kernel: Tensor, padding: int) -> Tensor:
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    packed: Tensor = _OPERATORS._reorder_convolution_weight(kernel, [padding] * 2, [1, 1], [1, 1], 1)
    return packed


def _convolved(x: Tensor, packed: Tensor, bias: Tensor | None, padding: int, then: str) -> Tensor:
    y: Tensor = _OPERATORS._convolution_pointwise(x, packed, bias, [padding] * 2, [1, 1], [1, 1], 1, then, [], "")
    return y
