"""Colors of one picture given to another. Pictures are (N, 3, H, W), RGB, 0 to 1.

After Gatys, Bethge, Hertzmann & Shechtman 2016, "Preserving Color in Neural Artistic Style Transfer".
"""

import torch
from torch import Tensor

# Of Y in YIQ, the space the paper works in (Rec. 601).
_LUMA = (0.299, 0.587, 0.114)


def luminance(picture: Tensor) -> Tensor:
    """Y (N, 1, H, W) of a picture."""
    return (picture * torch.tensor(_LUMA, device=picture.device, dtype=picture.dtype).view(1, 3, 1, 1)).sum(1, True)


def gray(picture: Tensor) -> Tensor:
    """A picture without its colors, (N, 3, H, W)."""
    return luminance(picture).expand(-1, 3, -1, -1)


def with_luminance(picture: Tensor, light: Tensor) -> Tensor:
    """A picture with another's brightness `light` (N, 1, H, W) and its own colors (I and Q of YIQ)."""
    # Y's weights sum to 1: adding the same to all channels changes Y by as much, and neither I nor Q.
    return (picture + (light - luminance(picture))).clamp(0, 1)


def match_luminance(style: Tensor, content: Tensor) -> Tensor:
    """The style in gray, its brightness given the content's mean and deviation (section 2, equation 1)."""
    of_style, of_content = luminance(style), luminance(content)
    deviation, mean = torch.std_mean(of_style)
    wanted_deviation, wanted_mean = torch.std_mean(of_content)
    matched = (of_style - mean) * (wanted_deviation / deviation.clamp_min(1e-6)) + wanted_mean
    return matched.clamp(0, 1).expand(-1, 3, -1, -1)


def match_covariance(style: Tensor, content: Tensor) -> Tensor:
    """The style with the content's mean color and covariance: x ↦ Σc^½ Σs^-½ (x − μs) + μc (section 3)."""
    mean, covariance = color_statistics(style)
    wanted_mean, wanted = color_statistics(content)
    # A picture of one hue has a singular covariance.
    transform = _power(wanted, 0.5) @ _power(covariance + 1e-5 * torch.eye(3, dtype=covariance.dtype), -0.5)
    pixels = style.double().permute(0, 2, 3, 1)
    matched = (pixels - mean) @ transform.T + wanted_mean
    return matched.clamp(0, 1).permute(0, 3, 1, 2).to(style.dtype)


def match_histogram(style: Tensor, content: Tensor) -> Tensor:
    """The style with the content's histogram in each channel."""
    channels = []
    for of_style, of_content in zip(style.unbind(1), content.unbind(1), strict=True):
        values, wanted = of_style.flatten().sort().values, of_content.flatten().sort().values
        # The share of the style's pixels that are no brighter, and the content's value at that share.
        below = torch.searchsorted(values, of_style.flatten().contiguous(), right=True)
        # ⌈below · len(wanted) / len(values)⌉ − 1 in whole numbers: float32 would be a pixel off.
        channels.append(wanted[(below * len(wanted) - 1) // len(values)].view(of_style.shape))
    return torch.stack(channels, dim=1)


def color_statistics(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (3,) and covariance (3, 3) of the colors of a picture, float64 on the CPU."""
    pixels = picture.double().permute(0, 2, 3, 1).reshape(-1, 3).cpu()
    return pixels.mean(0), torch.cov(pixels.T, correction=0)


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """A power of a symmetric positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    power: Tensor = vectors @ torch.diag(values.clamp_min(0) ** exponent) @ vectors.T
    return power
