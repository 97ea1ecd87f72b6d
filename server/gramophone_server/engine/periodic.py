"""The periodic component of a picture: the picture without the jump between its opposite edges."""

import math

import torch
from torch import Tensor

from .tiling import Wraps


def periodic_component(values: Tensor, wraps: Wraps) -> Tensor:
    """Returns values (N, C, H, W) minus a smooth picture that has their jumps at the edges (Moisan 2011, section 2).

    "Periodic plus smooth image decomposition", Journal of Mathematical Imaging and Vision. The smooth component s has
    the discrete Laplacian of the jumps v: its Fourier transform is v̂ / (2 cos ω_y + 2 cos ω_x − 4).

    Args:
        wraps: the axes whose jumps are removed. Along the other axis, s continues as its mirror image.
    """
    if not any(wraps):
        return values
    exact = values.double()
    for axis, wrap in zip((2, 3), wraps, strict=True):
        exact = exact if wrap else torch.cat([exact, exact.flip(axis)], axis)
    jumps = torch.zeros_like(exact)
    for axis, wrap in zip((2, 3), wraps, strict=True):
        if wrap and exact.shape[axis] > 1:
            jump = exact.select(axis, -1) - exact.select(axis, 0)
            jumps.select(axis, 0).add_(jump)
            jumps.select(axis, -1).sub_(jump)
    height, width = exact.shape[2:]
    rows, columns = torch.fft.fftfreq(height, dtype=torch.float64), torch.fft.rfftfreq(width, dtype=torch.float64)
    laplacian = (2 * (2 * math.pi * rows).cos())[:, None] + (2 * (2 * math.pi * columns).cos())[None] - 4
    # The mean stays in the periodic component.
    laplacian[0, 0] = math.inf
    smooth = torch.fft.irfft2(torch.fft.rfft2(jumps) / laplacian.to(exact.device), s=(height, width))
    periodic: Tensor = values - smooth[:, :, : values.shape[2], : values.shape[3]].to(values)
    return periodic
