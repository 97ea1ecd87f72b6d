"""One convolution of a network, computed by the fastest algorithm for its shape, precision and device."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .architecture import Convolution, Window
from .cost import winograd_fitting, winograd_tile
from .device import narrowest_winograd
from .kernels import packed, winograd
from .kernels.gradients import relu_
from .kernels.padding import REPLICATE, ZEROS, Paddings, Widths, padded


class ComputedConvolution:
    """A convolution followed by ReLU, computed with the fastest available algorithm.

    The algorithm is Winograd's, oneDNN with a packed kernel, or torch's own convolution.

    Args:
        operation: the convolution.
        window: the window of the kernel, which differs from the operation's if the canvas is folded.
        kernel: (C_out, C_in / groups, k, k).
        bias: (C_out,).
        paddings: padding along the vertical and along the horizontal axis.

    Attributes:
        parameters: kernel and bias, in the form that the computation uses.
    """

    def __init__(
        self, operation: Convolution, window: Window, kernel: Tensor, bias: Tensor, paddings: Paddings
    ) -> None:
        self._relu = operation.relu
        self._groups = operation.groups
        # Zeros are padded by the convolution itself if both sides are alike.
        self._paddings = paddings
        self._zeros = window.before if paddings == ZEROS and window.before == window.after else 0
        self._margins: Widths = (0, 0, 0, 0) if self._zeros else widths_of(window)
        self._window = window
        self._bias = bias
        self._channels = operation.inputs, operation.outputs
        self._kernel: Tensor | None = None
        self._packed: packed.PackedConvolution | None = None
        self._winograd: winograd.Kernel | None = None
        small = Window(3, before=window.before, after=window.after)
        exact_on_cpu = kernel.device.type == "cpu" and kernel.dtype == torch.float32 and paddings != REPLICATE
        plain = window == Window(3, 1, 1, 1) and operation.groups == 1 and operation.relu
        tile = winograd_tile(operation.inputs, operation.outputs, narrowest_winograd())
        if window == small and self._zeros <= 1 and operation.groups == 1 and packed.is_available(kernel):
            self._packed = packed.PackedConvolution(kernel, bias, self._zeros)
            self.parameters = self._packed.parameters
        else:
            self._kernel = kernel.contiguous(memory_format=torch.channels_last)
            self.parameters = [self._kernel, bias]
        if exact_on_cpu and plain and tile:
            self._winograd = winograd.Kernel(kernel, tile)
            self.parameters.append(self._winograd.points)

    @property
    def is_direct(self) -> bool:
        """Whether `linear` computes maps of all sizes: the Winograd form always includes ReLU."""
        return self._winograd is None

    def __call__(self, x: Tensor) -> Tensor:
        """Returns the output (N, C_out, H_l, W_l) of its input x (N, C_in, H, W)."""
        if self._winograd is not None and (tile := self._tile_on(*x.shape[2:])):
            return winograd.convolve(x, self._winograd, self._bias, self._paddings, tile=tile)
        if self._packed is not None:
            return self._packed(self._padded(x), relu=self._relu)
        # Apply ReLU in place: this halves the memory, and the backward pass does not need the convolution's output.
        return relu_(self.linear(x)) if self._relu else self.linear(x)

    def linear(self, x: Tensor) -> Tensor:
        """Returns the convolution (N, C_out, H_l, W_l) of its input x (N, C_in, H, W), without ReLU."""
        x = self._padded(x)
        if self._packed is not None:
            return self._packed(x)
        assert self._kernel is not None
        window = self._window
        return F.conv2d(x, self._kernel, self._bias, window.stride, self._zeros, window.dilation, self._groups)

    def _tile_on(self, height: int, width: int) -> int:
        """Returns the side of the Winograd tiles on a map of height x width positions; 0 for a direct convolution."""
        return 0 if self._winograd is None else winograd_fitting(self._winograd.tile, *self._channels, height, width)

    def _padded(self, x: Tensor) -> Tensor:
        return padded(x, self._margins, self._paddings)


def widths_of(window: Window) -> Widths:
    """Returns the padding of a window at the top, bottom, left and right."""
    return window.before, window.after, window.before, window.after
