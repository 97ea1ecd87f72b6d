"""Limited-memory BFGS."""

import torch
from torch import Tensor

from ..objective import Evaluation
from .batch import is_finite, per_canvas
from .curvature import CurvaturePairs
from .optimizer import State
from .spectrum import SpectralScale


class LBFGS:
    """Limited-memory BFGS (Liu & Nocedal 1989) in the box.

    One evaluation a step and no line search. A step is accepted while its loss is finite and no higher than the
    higher of the latest two accepted ones (Grippo, Lampariello & Lucidi 1986; asking for less at every step stalls in
    the rounding of bfloat16). Else it is taken back to a quarter of its length, and if that fails too, the curvature
    is forgotten for a short step down the gradient. Pixels that rest on the box's edge with the gradient pointing
    outwards are held out of the direction, so it is the clipped picture that converges. The initial inverse Hessian is
    `SpectralScale` instead of a multiple of the identity, which takes about half the evaluations.

    Args:
        learning_rate: factor on the quasi-Newton step.
        history: number of curvature pairs kept, each as large as two canvases.
        first_step: root-mean-square pixel change of the very first step, when no curvature is known, in 0–255 units.
        memory: number of accepted losses with which a new one is compared.
        host: keep the pairs in the host's memory rather than the device's; slower, the same result.
    """

    def __init__(
        self,
        learning_rate: float = 1.0,
        history: int = 20,
        first_step: float = 4.0,
        memory: int = 2,
        *,
        host: bool = False,
    ) -> None:
        self._rate = learning_rate
        self._first_step = first_step / 255
        self._memory = memory
        self._pairs = CurvaturePairs(history, host=host)
        self._spectrum = SpectralScale()
        self._state: State = {}

    def step(self, canvas: Tensor, at: Evaluation) -> Tensor:
        """The next canvas (N, 3, H, W), given the loss and gradient at this one."""
        state = self._state
        if not state:
            return self._first(canvas, at)
        accepted = is_finite(at) & (at.loss <= torch.stack(state["losses"]).amax(0))
        s = canvas - state["canvas"]
        length = self._remember(s, per_canvas(accepted, at.gradient - state["gradient"], 0), accepted)
        state["canvas"] = per_canvas(accepted, canvas, state["canvas"])
        state["gradient"] = per_canvas(accepted, at.gradient, state["gradient"])
        state["losses"] = [*state["losses"], torch.where(accepted, at.loss, state["losses"][-1])][-self._memory :]
        state["rejections"] = torch.where(accepted, 0, state["rejections"] + 1)
        # A direction that fails twice is not a direction of descent: what was learned of the curvature is wrong here.
        lost = state["rejections"] >= 2
        self._pairs.forget(lost)
        state["latest"] = state["latest"].masked_fill(lost, 0)
        blind = state["latest"] == 0
        # Where no curvature is known (yet, or it is negative) strides grow while they pay and shrink when they do not.
        change = self._change(blind, length * torch.where(accepted, 2, 0.25))
        change = per_canvas(~accepted & ~blind, s, change, factor=0.25)
        return change.add_(state["canvas"]).clamp_(0, 1)

    def resize(self, height: int, width: int) -> None:
        """Begins anew at another size, but for what is known of the spectrum."""
        self._state = {}
        self._pairs.clear()

    def state(self) -> State:
        """All that the next step depends on."""
        return {**self._state, "pairs": self._pairs.state(), "spectrum": self._spectrum.state()}

    def load(self, state: State) -> None:
        """Goes on from a state."""
        self._state = dict(state)
        self._pairs.load(self._state.pop("pairs"))
        self._spectrum.load(self._state.pop("spectrum"))

    def _first(self, canvas: Tensor, at: Evaluation) -> Tensor:
        zero = torch.zeros_like(at.loss)
        self._state = {"canvas": canvas, "gradient": at.gradient, "losses": [at.loss], "rejections": zero}
        self._state["latest"] = zero
        change = self._change(zero == 0, torch.full_like(at.loss, self._rate * self._first_step))
        return change.add_(canvas).clamp_(0, 1)

    def _change(self, blind: Tensor, length: Tensor) -> Tensor:
        """The change of the canvas: −H·gradient, or of `length` (N,) down the gradient where `blind` (N,)."""
        state = self._state
        outwards = _outwards(state["canvas"], state["gradient"])
        # A canvas made of a picture may lie otherwise in memory than its gradient does.
        q = torch.where(outwards, 0, state["gradient"]).contiguous()

        def first(q: Tensor) -> Tensor:
            scaled = q
            if len(self._pairs):
                scale = self._rate * state["latest"] / self._spectrum.curvature().clamp_min(1e-38)
                scaled = self._spectrum.apply(q, scale)
            return per_canvas(blind, q, scaled, factor=length / _rms(q).clamp_min(1e-30))

        # Held out on both sides of H, the rest still goes downhill (the two-metric projection of Bertsekas 1982).
        change: Tensor = self._pairs.apply(q, first, self._rate).masked_fill_(outwards, 0).neg_()
        return change

    def _remember(self, s: Tensor, y: Tensor, accepted: Tensor) -> Tensor:
        """Keeps a curvature pair; returns the root-mean-square of the step s."""
        state = self._state
        sy, yy, ss = _dot(s, y), _dot(y, y), _dot(s, s)
        # The curvature condition, with room for rounding; a pair that fails it is kept with weight zero, because the
        # other canvases of the batch may need theirs.
        good = accepted & (sy > 1e-8 * (ss * yy).sqrt())
        self._spectrum.learn(s, y, good)
        state["latest"] = torch.where(good, sy, state["latest"])
        self._pairs.add(s, y, good)
        return (ss / s[0].numel()).sqrt()


def _rms(a: Tensor) -> Tensor:
    return (_dot(a, a) / a[0].numel()).sqrt()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    # As a product of matrices: nothing of the canvas's size is made for it.
    n = len(a)
    return torch.bmm(a.reshape(n, 1, -1), b.reshape(n, -1, 1)).view(n)


def _outwards(canvas: Tensor, gradient: Tensor) -> Tensor:
    """Pixels that no step down the gradient moves: it is 0, or the step would take them out of the box."""
    # A step so long that it ends at an edge wherever it leads.
    return torch.sub(canvas, gradient, alpha=1e38).clamp_(0, 1).eq(canvas)
