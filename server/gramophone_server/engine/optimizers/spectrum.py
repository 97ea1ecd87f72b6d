"""The initial inverse Hessian of L-BFGS, estimated per band of spatial frequency and per color axis.

The curvature of the loss is far higher in middle frequencies than in low frequencies or in fine color detail. The usual
initial inverse Hessian, a multiple of the identity, fits none of them. The loss is almost invariant to shifts of the
picture, so bands of the Fourier plane are suitable coordinates, and the factor of each band can be estimated from the
curvature pairs.
"""

from typing import Any

import torch
from torch import Tensor

from ..constants import constant

BANDS = 10
# Number of pairs before the estimates are used, and the decay of older pairs per new pair, which is about as fast as
# L-BFGS itself drops pairs.
_WARM_UP, _DECAY = 5, 0.9
# Maximum factor of a band, and the reciprocal of the minimum: the estimate is inaccurate in bands that change little.
_MAX_FACTOR = 30.0
# Canvases with at least this many numbers are transformed one color axis at a time.
_LARGE = 1 << 21
# Maximum number of frequencies that are summed at a time.
_STRIP = 1 << 16

# Orthonormal color axes as rows: brightness, then two opponent colors.
_AXES = ((3**-0.5, 3**-0.5, 3**-0.5), (2**-0.5, -(2**-0.5), 0.0), (6**-0.5, 6**-0.5, -2 * 6**-0.5))


class SpectralScale:
    """A positive definite matrix P for each canvas, diagonal in the frequency bands of three color axes.

    The factor of each band is the square root of (mean square step / mean square change of the gradient) over the
    latest pairs, divided by the same root over all bands. It is the geometric mean of the two usual secant estimates
    (Barzilai & Borwein 1988).
    """

    def __init__(self) -> None:
        self._state: dict[str, Any] = {}
        self._known: _Rings | None = None
        self._scale: Tensor | None = None

    def learn(self, s: Tensor, y: Tensor, good: Tensor) -> None:
        """Updates the estimates from a curvature pair.

        Args:
            s: (N, 3, H, W), the step.
            y: (N, 3, H, W), the change of the gradient.
            good: (N,), bool; for canvases where it is false, the pair is ignored.
        """
        self._scale = None
        moved, changed = self._power(s), self._power(y)
        if "moved" not in self._state:
            zero = torch.zeros_like(moved)
            self._state = {"moved": zero, "changed": zero, "latest": zero, "pairs": torch.zeros_like(zero[:, 0, 0])}
        state, keep = self._state, good.view(-1, 1, 1)
        # Later pairs are smaller by orders of magnitude: normalize them, so that all pairs have the same weight.
        unit = changed.sum((1, 2), keepdim=True).clamp_min(1e-38)
        state["moved"] = torch.where(keep, _DECAY * state["moved"] + moved / unit, state["moved"])
        state["changed"] = torch.where(keep, _DECAY * state["changed"] + changed / unit, state["changed"])
        state["latest"] = torch.where(keep, changed, state["latest"])
        state["pairs"] = torch.where(good, state["pairs"] + 1, state["pairs"])

    def curvature(self) -> Tensor:
        """Returns yᵀPy (N,) of the latest good pair."""
        curvature: Tensor = (self._factors() * self._state["latest"]).sum((1, 2))
        return curvature

    def apply(self, q: Tensor, scale: Tensor) -> Tensor:
        """Returns `scale` (N,) times P·q, (N, 3, H, W); requires at least one earlier call of `learn`."""
        rings, some = self._rings(q), _axes_per_pass(q)
        scaled = self._factors() * scale.view(-1, 1, 1)
        applied: Tensor | None = None
        for axes, factors in zip(torch.split(_axes(q), some), torch.split(scaled, some, 1), strict=True):
            spectrum = torch.fft.rfft2(_projected(q, axes))
            spectrum *= rings.spread(factors)
            part = _projected(torch.fft.irfft2(spectrum, s=q.shape[2:]), axes.T)
            applied = part if applied is None else applied.add_(part)
        assert applied is not None
        return applied

    def state(self) -> dict[str, Any]:
        """Returns everything that the estimates depend on."""
        return dict(self._state)

    def load(self, state: dict[str, Any]) -> None:
        """Resumes from a state."""
        self._state = dict(state)
        self._scale = None

    def _factors(self) -> Tensor:
        """Returns the factors (N, 3, BANDS) of P; 1 for bands without an estimate."""
        if self._scale is None:
            self._scale = self._estimated()
        return self._scale

    def _estimated(self) -> Tensor:
        state = self._state
        moved, changed = state["moved"], state["changed"]
        whole = (moved.sum((1, 2)) / changed.sum((1, 2)).clamp_min(1e-38)).view(-1, 1, 1)
        factors = (moved / changed.clamp_min(1e-38) / whole.clamp_min(1e-38)).sqrt().clamp(1 / _MAX_FACTOR, _MAX_FACTOR)
        known = (changed > 0) & (moved > 0) & (state["pairs"] >= _WARM_UP).view(-1, 1, 1)
        return torch.where(known, factors, 1.0)

    def _power(self, values: Tensor) -> Tensor:
        """Returns the sum of squares of values (N, 3, H, W) in each band, (N, 3, BANDS)."""
        rings = self._rings(values)
        axes = torch.split(_axes(values), _axes_per_pass(values))
        return torch.cat([rings.power(torch.fft.rfft2(_projected(values, some))) for some in axes], dim=1)

    def _rings(self, values: Tensor) -> "_Rings":
        height, width = values.shape[2:]
        if self._known is None or self._known.shape != (height, width):
            self._known = _Rings(height, width, values.device)
        return self._known


class _Rings:
    """The bands of the half plane of frequencies of a real picture, (H, W // 2 + 1): rings with geometric radii.

    Attributes:
        shape: (H, W) of the picture in pixels.
    """

    def __init__(self, height: int, width: int, device: torch.device) -> None:
        self.shape = (height, width)
        rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
        longest = max(height, width)
        octaves = torch.log2(longest * torch.hypot(rows, columns).clamp_min(1 / longest))
        highest = torch.log2(torch.tensor(longest * 0.5**0.5))
        # Store the band of each frequency as one byte. The float masks for the sums below would take the memory of two
        # canvases, so `power` creates them strip by strip.
        self._numbers = (BANDS * octaves / highest).clamp_(0, BANDS - 1).to(torch.uint8).to(device)
        self._bands = torch.arange(BANDS, dtype=torch.uint8, device=device).view(-1, 1)
        # A frequency of the half plane also represents its mirror image, except on the axes that both halves share.
        twice = torch.full((width // 2 + 1,), 2.0)
        twice[0] = 1
        if width % 2 == 0:
            twice[-1] = 1
        self._counts = (twice / (height * width)).to(device)
        # For small pictures, store the weight of the real and imaginary part of each frequency in each band.
        self._weights: Tensor | None = None
        if self._numbers.numel() <= _STRIP:
            members = self._numbers.unsqueeze(2) == self._bands.flatten()
            self._weights = (members * self._counts[:, None]).flatten(0, 1).repeat_interleave(2, 0)

    def power(self, spectrum: Tensor) -> Tensor:
        """Returns the sum of squares in each band, (N, K, BANDS), of a half-plane spectrum (N, K, H, W // 2 + 1)."""
        parts = torch.view_as_real(spectrum).square()
        if self._weights is not None:
            weights = self._weights.to(parts.dtype)
            return torch.bmm(parts.flatten(2), weights.expand(len(parts), *weights.shape))
        # Add explicitly: `sum` over an axis of length 2 takes ten times as long.
        squares = (parts[..., 0] + parts[..., 1]).mul_(self._counts)
        rows = max(1, _STRIP // squares.shape[3])
        total = squares.new_zeros(*squares.shape[:2], BANDS)
        for strip, numbers in zip(torch.split(squares, rows, 2), torch.split(self._numbers, rows), strict=True):
            members = squares.new_empty(BANDS, numbers.numel())
            torch.eq(numbers.view(1, -1), self._bands, out=members)
            # Use a matrix product: index_add is not deterministic on a GPU.
            total += strip.flatten(2) @ members.T
        return total

    def spread(self, factors: Tensor) -> Tensor:
        """Returns the factors (N, K, BANDS) of the bands at each frequency: (N, K, H, W // 2 + 1)."""
        # Many times faster than indexing; int32 rather than int64 indices contribute half of the gain.
        chosen = factors.flatten(0, 1).index_select(1, self._numbers.flatten().int())
        return chosen.view(*factors.shape[:2], *self._numbers.shape)


def _axes(like: Tensor) -> Tensor:
    return constant(_AXES, like=like)


def _axes_per_pass(values: Tensor) -> int:
    """Returns how many color axes are transformed at a time: for large canvases only one, which needs less memory."""
    return 3 if values[0].numel() < _LARGE else 1


def _projected(values: Tensor, axes: Tensor) -> Tensor:
    """Returns values (N, C, H, W) in the color coordinates of the rows of `axes` (K, C): (N, K, H, W)."""
    if axes.shape[1] == 1:
        # torch compiles products of one column with Triton on a GPU, which needs a C compiler there.
        return values * axes.view(1, -1, 1, 1)
    # One product per canvas: a single product would round differently for a canvas alone than for one in a batch.
    projected = torch.bmm(axes.expand(len(values), *axes.shape), values.flatten(2))
    return projected.view(len(values), len(axes), *values.shape[2:])
