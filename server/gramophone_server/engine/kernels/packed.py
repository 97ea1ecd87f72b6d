"""3x3 convolutions in bfloat16 on a CPU with oneDNN, with kernels packed in advance and ReLU in the same pass.

torch's own convolution packs the kernel again at every call, forward and backward, and needs a second pass through
memory for ReLU. On CPUs with matrix units that is up to half of its time; in float32 the difference is not measurable.
The numbers are the same. torch.compile uses the same operators in its graphs.
"""

from typing import Any

import torch
from torch import Tensor

from ..device import has_native_bfloat16
from .gradients import masked_

_OPERATORS = torch.ops.mkldnn


def is_available(kernel: Tensor) -> bool:
    """Returns whether kernels of this type and on this device can be packed."""
    return (
        kernel.device.type == "cpu"
        and kernel.dtype == torch.bfloat16
        and has_native_bfloat16(kernel.device)
        and hasattr(_OPERATORS, "_convolution_pointwise")
        and hasattr(_OPERATORS, "_reorder_convolution_weight")
    )


class PackedConvolution:
    """A 3x3 convolution with a packed kernel; differentiable with respect to its input only.

    Args:
        kernel: (C_out, C_in, 3, 3), bfloat16.
        bias: (C_out,), bfloat16.
        padding: zero padding of the input, 1 or 0.
    """

    def __init__(self, kernel: Tensor, bias: Tensor, padding: int) -> None:
        self._bias = bias
        self._padding = padding
        # The gradient of x is the convolution of the output's gradient with the rotated kernel, at full overlap.
        turned = kernel.flip(2, 3).transpose(0, 1)
        self._forwards, self._backwards = _packed(kernel, padding), _packed(turned, 2 - padding)

    @property
    def parameters(self) -> list[Tensor]:
        """All tensors that the convolution holds."""
        return [self._forwards, self._backwards, self._bias]

    def __call__(self, x: Tensor, *, relu: bool = False) -> Tensor:
        """Returns the convolution of x (N, C_in, H, W), channels last in memory, with ReLU if `relu` is true."""
        y: Tensor = _Convolution.apply(x, self, relu)
        return y

    def forwards(self, x: Tensor, relu: bool) -> Tensor:
        """Returns the output for the input x, without recording for autograd."""
        return _convolved(x, self._forwards, self._bias, self._padding, "relu" if relu else "none")

    def backwards(self, grad_output: Tensor) -> Tensor:
        """Returns the gradient of the input, given the gradient of the output before ReLU."""
        grad_output = grad_output.contiguous(memory_format=torch.channels_last)
        return _convolved(grad_output, self._backwards, None, 2 - self._padding, "none")


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
    def backward(context: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        if context.relu:
            (y,) = context.saved_tensors
            grad_output = masked_(grad_output, y)
        return context.convolution.backwards(grad_output), None, None


def _packed(kernel: Tensor, padding: int) -> Tensor:
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    packed: Tensor = _OPERATORS._reorder_convolution_weight(kernel, [padding] * 2, [1, 1], [1, 1], 1)
    return packed


def _convolved(x: Tensor, packed: Tensor, bias: Tensor | None, padding: int, then: str) -> Tensor:
    y: Tensor = _OPERATORS._convolution_pointwise(x, packed, bias, [padding] * 2, [1, 1], [1, 1], 1, then, [], "")
    return y
