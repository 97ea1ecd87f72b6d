"""The initial inverse Hessian of L-BFGS, learned by spatial frequency and color.

The loss of a picture is far stiffer in mid frequencies than in coarse ones, and than in fine color; a single number,
the usual initial inverse Hessian, fits none of them. Bands of the Fourier plane are as good a coordinate system as
there is for a loss that is almost the same wherever a picture is shifted, and what each needs can be read off the
curvature pairs themselves.
"""

from typing import Any

import torch
from torch import Tensor

BANDS = 10
# Pairs before the bands are trusted, and how fast old ones fade: about as fast as L-BFGS itself forgets.
_WARM_UP, _DECAY = 5, 0.9
# Bands that move little are measured badly.
_MOST = 30.0
# Canvases of so many numbers and more are transformed axis by axis.
_LARGE = 1 << 21
# Most frequencies that are summed at a time.
_STRIP = 1 << 16

# Rows: brightness, then two opponent colors; orthonormal.
_AXES = ((3**-0.5, 3**-0.5, 3**-0.5), (2**-0.5, -(2**-0.5), 0.0), (6**-0.5, 6**-0.5, -2 * 6**-0.5))


class SpectralScale:
    """A positive definite matrix P for each canvas, diagonal in frequency bands of three color axes.

    Each band's factor is the root of (mean square step / mean square change of the gradient) over the latest pairs,
    the geometric mean of the two usual secant estimates, relative to the whole picture's.
    """

    def __init__(self) -> None:
        self._state: dict[str, Any] = {}
        self._known: _Rings | None = None
        self._scale: Tensor | None = None

    def learn(self, s: Tensor, y: Tensor, good: Tensor) -> None:
        """Takes in steps and changes of the gradient (N, 3, H, W) of the canvases that are `good` (N,)."""
        self._scale = None
        moved, changed = self._power(s), self._power(y)
        if "moved" not in self._state:
            zero = torch.zeros_like(moved)
            self._state = {"moved": zero, "changed": zero, "latest": zero, "pairs": torch.zeros_like(zero[:, 0, 0])}
        state, keep = self._state, good.view(-1, 1, 1)
        # Later pairs are smaller by orders of magnitude; each counts the same.
        unit = changed.sum((1, 2), keepdim=True).clamp_min(1e-38)
        state["moved"] = torch.where(keep, _DECAY * state["moved"] + moved / unit, state["moved"])
        state["changed"] = torch.where(keep, _DECAY * state["changed"] + changed / unit, state["changed"])
        state["latest"] = torch.where(keep, changed, state["latest"])
        state["pairs"] = torch.where(good, state["pairs"] + 1, state["pairs"])

    def curvature(self) -> Tensor:
        """yᵀPy (N,) of the latest good pair."""
        curvature: Tensor = (self._factors() * self._state["latest"]).sum((1, 2))
        return curvature

    def apply(self, q: Tensor, scale: Tensor) -> Tensor:
        """`scale` (N,) times P·q, (N, 3, H, W); there must have been a pair."""
        rings, some = self._rings(q), _at_once(q)
        scaled = self._factors() * scale.view(-1, 1, 1)
        applied: Tensor | None = None
        for axes, factors in zip(torch.split(_axes(q), some), torch.split(scaled, some, 1), strict=True):
            spectrum = torch.fft.rfft2(_turned(q, axes))
            spectrum *= rings.spread(factors)
            part = _turned(torch.fft.irfft2(spectrum, s=q.shape[2:]), axes.T)
            applied = part if applied is None else applied.add_(part)
        assert applied is not None
        return applied

    def state(self) -> dict[str, Any]:
        """All that has been learned."""
        return dict(self._state)

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""
        self._state = dict(state)
        self._scale = None

    def _factors(self) -> Tensor:
        """(N, 3, BANDS); 1 for bands of which nothing is known."""
        if self._scale is None:
            self._scale = self._found()
        return self._scale

    def _found(self) -> Tensor:
        state = self._state
        moved, changed = state["moved"], state["changed"]
        whole = (moved.sum((1, 2)) / changed.sum((1, 2)).clamp_min(1e-38)).view(-1, 1, 1)
        factors = (moved / changed.clamp_min(1e-38) / whole.clamp_min(1e-38)).sqrt().clamp(1 / _MOST, _MOST)
        known = (changed > 0) & (moved > 0) & (state["pairs"] >= _WARM_UP).view(-1, 1, 1)
        return torch.where(known, factors, 1.0)

    def _power(self, values: Tensor) -> Tensor:
        """Sum of squares of values (N, 3, H, W) in each band, (N, 3, BANDS)."""
        rings = self._rings(values)
        axes = torch.split(_axes(values), _at_once(values))
        return torch.cat([rings.power(torch.fft.rfft2(_turned(values, some))) for some in axes], dim=1)

    def _rings(self, values: Tensor) -> "_Rings":
        height, width = values.shape[2:]
        if self._known is None or self._known.shape != (height, width):
            self._known = _Rings(height, width, values.device)
        return self._known


class _Rings:
    """The bands of a picture's half plane of frequencies (H, W // 2 + 1): rings whose radii grow geometrically.

    Attributes:
        shape: (H, W) of the picture.
    """

    def __init__(self, height: int, width: int, device: torch.device) -> None:
        self.shape = (height, width)
        rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
        longest = max(height, width)
        octaves = torch.log2(longest * torch.hypot(rows, columns).clamp_min(1 / longest))
        highest = torch.log2(torch.tensor(longest * 0.5**0.5))
        # A byte each: what the sums below are made with takes as much as two canvases, and is made strip by strip.
        self._numbers = (BANDS * octaves / highest).clamp_(0, BANDS - 1).to(torch.uint8).to(device)
        self._bands = torch.arange(BANDS, dtype=torch.uint8, device=device).view(-1, 1)
        # The half plane of a real transform stands for both halves, except where they meet.
        twice = torch.full((width // 2 + 1,), 2.0)
        twice[0] = 1
        if width % 2 == 0:
            twice[-1] = 1
        self._counts = (twice / (height * width)).to(device)
        # Of small pictures there is room for what each part of each frequency counts in each band.
        self._weights: Tensor | None = None
        if self._numbers.numel() <= _STRIP:
            members = self._numbers.unsqueeze(2) == self._bands.flatten()
            self._weights = (members * self._counts[:, None]).flatten(0, 1).repeat_interleave(2, 0)

    def power(self, spectrum: Tensor) -> Tensor:
        """The sum of squares in each band, (N, K, BANDS), of what has a half plane (N, K, H, W // 2 + 1)."""
        parts = torch.view_as_real(spectrum).square()
        if self._weights is not None:
            weights = self._weights.to(parts.dtype)
            return torch.bmm(parts.flatten(2), weights.expand(len(parts), *weights.shape))
        # Not `sum`, which takes ten times as long over two numbers at a time.
        squares = (parts[..., 0] + parts[..., 1]).mul_(self._counts)
        rows = max(1, _STRIP // squares.shape[3])
        total = squares.new_zeros(*squares.shape[:2], BANDS)
        for strip, numbers in zip(torch.split(squares, rows, 2), torch.split(self._numbers, rows), strict=True):
            members = squares.new_empty(BANDS, numbers.numel())
            torch.eq(numbers.view(1, -1), self._bands, out=members)
            # A product, because adding by index would not be the same twice on a GPU.
            total += strip.flatten(2) @ members.T
        return total

    def spread(self, factors: Tensor) -> Tensor:
        """Factors (N, K, BANDS) of the bands, to each its frequencies: (N, K, H, W // 2 + 1)."""
        # Many times as fast as indexing, and half of it is not to have 8 bytes for each.
        chosen = factors.flatten(0, 1).index_select(1, self._numbers.flatten().int())
        return chosen.view(*factors.shape[:2], *self._numbers.shape)


def _axes(like: Tensor) -> Tensor:
    return torch.tensor(_AXES, device=like.device, dtype=like.dtype)


def _at_once(values: Tensor) -> int:
    """Of how many axes of color spectra are made at a time: of large canvases of one, which takes less memory."""
    return 3 if values[0].numel() < _LARGE else 1


def _turned(values: Tensor, axes: Tensor) -> Tensor:
    """Values (N, C, H, W) in other coordinates of color, the rows of `axes` (K, C)."""
    # A product for each canvas: one for all of them would round otherwise for a canvas alone than in a batch.
    turned = torch.bmm(axes.expand(len(values), *axes.shape), values.flatten(2))
    return turned.view(len(values), len(axes), *values.shape[2:])
