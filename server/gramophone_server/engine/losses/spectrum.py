"""The spectrum loss of Liu, Gousseau & Xia 2016: the Fourier magnitudes of the canvas, which hold its regularity."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..cost import Copies
from .loss import Layer, LayerView, Loss


class Spectrum(Loss):
    """‖I − Ĩ‖² / M, with the picture Ĩ nearest to the canvas I of all those with the style's Fourier magnitudes.

    Liu, Gousseau & Xia 2016 ("Texture Synthesis Through Convolutional Neural Networks and Spectrum Constraints", ICPR):
    the Fourier transform of Ĩ is e^{iφ} Î_s with φ = arg Σ_c Î_c · conj(Î_sc), one phase for the three colors c. The
    loss keeps the long-range order of regular textures, which features with a small receptive field do not see. It
    leaves the phases free, so another loss must be combined with it. Its layer is the canvas itself.

    A style smaller than the canvas has the spectrum of its deviations from its mean, continued by 0, with the same
    variance (the "spot" of Galerne, Gousseau & Morel 2011, "Random Phase Textures: Theory and Synthesis"); of a larger
    one, the middle counts. Interpolating a spectrum would not do: the peaks of a regular texture are too narrow.
    """

    name = "spectrum"
    kind = "style"
    tiling = "statistic"
    on_canvas = True
    # In canvases. Saved: the statistic, its transform and the residual; each operation returns a new tensor.
    copies = Copies(saved=6, forward=6, backward=6, target=2)

    def target(self, features: np.ndarray, share: np.ndarray | float) -> np.ndarray:
        """Returns the picture and the weights of its pixels, (C + 1, H, W)."""
        weights = np.broadcast_to(np.asarray(share, np.float32), features.shape[1:])
        return np.concatenate([features, weights[None]])

    def mixed(self, targets: Sequence[np.ndarray], shares: Sequence[float]) -> np.ndarray:
        """Returns a picture with the mean of the styles' transforms, each turned to the phases of the first."""
        if len(targets) == 1:
            return targets[0]
        height, width = (max(target.shape[axis] for target in targets) for axis in (1, 2))
        means, transforms = [], []
        for target in targets:
            mean, deviations = _split(torch.from_numpy(target)[None])
            means.append(mean)
            transforms.append(_transform(_fitted(deviations, height, width)))
        turned = [transform * _phase(transforms[0], transform) for transform in transforms]
        parts = [share * part for share, part in zip(shares, turned, strict=True)]
        deviations = torch.fft.irfft2(torch.stack(parts).sum(0), (height, width), norm="ortho")
        mean = torch.stack([share * part for share, part in zip(shares, means, strict=True)]).sum(0)
        positions = height * width
        return self.target((mean + deviations * positions**0.5)[0].numpy(), 1 / positions)

    def statistic(self, view: LayerView, target: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns the canvas, and its pixels and their weights (N, C + 1, H, W), which are 0 outside the view."""
        pixels = view.features
        share = view.share if isinstance(view.share, Tensor) else pixels.new_full((1, *pixels.shape[2:]), view.share)
        weights = share.to(pixels.dtype).unsqueeze(1).expand(len(pixels), -1, -1, -1)
        top, left = view.rows.start or 0, view.columns.start or 0
        bottom, right = view.layer.height - top - pixels.shape[2], view.layer.width - left - pixels.shape[3]
        return view.activation, F.pad(torch.cat([pixels, weights], dim=1), (left, right, top, bottom))

    def value(self, statistic: Tensor, target: Tensor | None, layer: Layer) -> Tensor:
        """Returns the loss (N,)."""
        assert target is not None
        (mean, deviations), (mean_s, deviations_s) = _split(statistic), _split(target)
        canvas = _transform(deviations)
        style = _transform(_fitted(deviations_s, layer.height, layer.width))
        # The phase is the best one, so that its own derivative is 0.
        residual = canvas - style * _phase(canvas, style).detach()
        squares = torch.view_as_real(residual).square().sum(4) * _multiplicity(layer.width, mean)
        return (mean - mean_s).square().sum((1, 2, 3)) + squares.sum((1, 2, 3))

    def blank(self, target: np.ndarray) -> float:
        """Returns the mean square of the style's pixels."""
        return float((np.square(target[:-1], dtype=np.float64).sum(0) * target[-1]).sum()) or 1.0


def _split(weighted: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean (N, C, 1, 1) of a picture with weights (N, C + 1, H, W), and its deviations times √weight."""
    pixels, weights = weighted[:, :-1], weighted[:, -1:]
    mean = (pixels * weights).sum((2, 3), keepdim=True)
    return mean, (pixels - mean) * weights.sqrt()


def _fitted(deviations: Tensor, height: int, width: int) -> Tensor:
    """Returns deviations (N, C, H, W) cut to their middle, or continued by 0, with the same sum of squares."""
    rows, columns = deviations.shape[2:]
    top, left = max(0, (rows - height) // 2), max(0, (columns - width) // 2)
    middle = deviations[:, :, top : top + height, left : left + width]
    if middle.shape != deviations.shape:
        energy, kept = deviations.square().sum((1, 2, 3), keepdim=True), middle.square().sum((1, 2, 3), keepdim=True)
        middle = middle * (energy / kept.clamp_min(1e-12)).sqrt()
    return F.pad(middle, (0, max(0, width - columns), 0, max(0, height - rows)))


def _transform(deviations: Tensor) -> Tensor:
    """Returns the Fourier transform (N, C, H, W // 2 + 1) of real (N, C, H, W), which keeps the sum of squares."""
    transform: Tensor = torch.fft.rfft2(deviations, norm="ortho")
    return transform


def _phase(one: Tensor, other: Tensor) -> Tensor:
    """Returns e^{iφ} (N, 1, H, W // 2 + 1), the turn of `other` that brings it nearest to `one`."""
    turn = (one * other.conj()).sum(1, keepdim=True)
    # A flat canvas is equally far from all phases.
    return torch.where(turn == 0, 1, _unit(turn))


def _unit(turn: Tensor) -> Tensor:
    """Returns complex numbers divided by their absolute values; any values in place of 0."""
    if not turn.is_cuda:
        return torch.sgn(turn)
    # On a GPU, torch compiles its own function for complex numbers when it is first used.
    parts = torch.view_as_real(turn)
    return torch.view_as_complex(parts / torch.hypot(parts[..., 0], parts[..., 1]).unsqueeze(-1))


def _multiplicity(width: int, like: Tensor) -> Tensor:
    """Returns how often each column of a real picture's half transform counts: its mirror image is left out."""
    # Made on the device: a copy, even of one number, would wait for it.
    counts = like.new_full((width // 2 + 1,), 2.0)
    counts[:1].fill_(1.0)
    if width % 2 == 0:
        counts[-1:].fill_(1.0)
    return counts
