"""Transfer of colors from one picture to another. Pictures are (N, 3, H, W), RGB, 0 to 1.

The methods are those of Gatys, Bethge, Hertzmann & Shechtman 2016, "Preserving Color in Neural Artistic Style
Transfer".
"""

import torch
from torch import Tensor

from .constants import constant

# Weights of R, G and B in the luminance Y of YIQ, the color space of the paper (Rec. 601).
_LUMA = (0.299, 0.587, 0.114)


def luminance(picture: Tensor) -> Tensor:
    """Returns the luminance Y of a picture, (N, 1, H, W), 0 to 1."""
    return (picture * constant(_LUMA, like=picture).view(1, 3, 1, 1)).sum(1, True)


def gray(picture: Tensor) -> Tensor:
    """Returns a picture in gray, (N, 3, H, W): its luminance in all three channels."""
    return luminance(picture).expand(-1, 3, -1, -1)


def with_luminance(picture: Tensor, light: Tensor) -> Tensor:
    """Returns a picture with its luminance replaced by `light` and its colors (I and Q of YIQ) kept, clipped to 0 to 1.

    Args:
        picture: (N, 3, H, W).
        light: (N, 1, H, W), the new luminance.
    """
    # The weights of Y sum to 1, so adding d to all channels adds d to Y and leaves I and Q unchanged.
    return (picture + (light - luminance(picture))).clamp(0, 1)


def match_luminance(style: Tensor, content: Tensor) -> Tensor:
    """Returns the style in gray, with the mean and standard deviation of the content's luminance.

    The formula is equation 1 in section 2 of the paper: L ↦ σc / σs · (L − μs) + μc.

    Args:
        style: (N, 3, H, W).
        content: (N, 3, H', W'); its size may differ.

    Returns:
        (N, 3, H, W), clipped to 0 to 1.
    """
    of_style, of_content = luminance(style), luminance(content)
    deviation, mean = torch.std_mean(of_style)
    wanted_deviation, wanted_mean = torch.std_mean(of_content)
    matched = (of_style - mean) * (wanted_deviation / deviation.clamp_min(1e-6)) + wanted_mean
    return matched.clamp(0, 1).expand(-1, 3, -1, -1)


def match_covariance(style: Tensor, content: Tensor) -> Tensor:
    """Returns the style with the mean color and color covariance of the content: x ↦ Σc^½ Σs^-½ (x − μs) + μc.

    The formula is in section 3 of the paper.

    Args:
        style: (N, 3, H, W); μs and Σs are its mean and covariance.
        content: (N, 3, H', W'); its size may differ; μc and Σc are its mean and covariance.

    Returns:
        (N, 3, H, W), clipped to 0 to 1.
    """
    mean, covariance = color_statistics(style)
    wanted_mean, wanted = color_statistics(content)
    # The covariance of a picture with a single hue is singular: regularize it before the inverse square root.
    transform = _power(wanted, 0.5) @ _power(covariance + 1e-5 * torch.eye(3, dtype=covariance.dtype), -0.5)
    pixels = style.double().permute(0, 2, 3, 1)
    matched = (pixels - mean) @ transform.T + wanted_mean
    return matched.clamp(0, 1).permute(0, 3, 1, 2).to(style.dtype)


def match_histogram(style: Tensor, content: Tensor) -> Tensor:
    """Returns the style with the content's histogram in each RGB channel.

    Args:
        style: (N, 3, H, W).
        content: (N, 3, H', W'); its size may differ.

    Returns:
        (N, 3, H, W).
    """
    channels = []
    for of_style, of_content in zip(style.unbind(1), content.unbind(1), strict=True):
        values, wanted = of_style.flatten().sort().values, of_content.flatten().sort().values
        # For each style pixel, count the style pixels that are not brighter, and take the content's value of that rank.
        below = torch.searchsorted(values, of_style.flatten().contiguous(), right=True)
        # ⌈below · len(wanted) / len(values)⌉ − 1 in integer arithmetic: float32 would be wrong by one rank.
        channels.append(wanted[(below * len(wanted) - 1) // len(values)].view(of_style.shape))
    return torch.stack(channels, dim=1)


def color_statistics(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean (3,) and covariance (3, 3) of the RGB colors of a picture, float64 on the CPU."""
    pixels = picture.double().permute(0, 2, 3, 1).reshape(-1, 3).cpu()
    return pixels.mean(0), torch.cov(pixels.T, correction=0)


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Returns a power of a symmetric positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    power: Tensor = vectors @ torch.diag(values.clamp_min(0) ** exponent) @ vectors.T
    return power
