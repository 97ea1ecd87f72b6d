"""The limited-memory BFGS optimizer."""

import torch
from torch import Tensor

from ..objective import Evaluation
from ..tiling import FLAT, Wraps
from .batch import is_finite, per_canvas
from .curvature import CurvaturePairs, FixedPairs, Pairs
from .optimizer import State
from .spectrum import SpectralScale


class LBFGS:
    """Limited-memory BFGS (Liu & Nocedal 1989) with pixels constrained to the box, 0 to 1.

    Each step uses one gradient evaluation, without a line search. A step is accepted if its loss is finite and not
    higher than the maximum of the latest two accepted losses (Grippo, Lampariello & Lucidi 1986); demanding a decrease
    at every step would stall in the rounding of bfloat16. A rejected step is retried with a quarter of its length. If
    the retry is rejected too, all curvature pairs are dropped and a short gradient descent step follows.

    Pixels on the boundary of the box whose descent direction points outward are excluded from the step, so that the
    clipped picture converges. The initial inverse Hessian is `SpectralScale` instead of a multiple of the identity,
    which halves the number of evaluations.

    Args:
        learning_rate: factor of the quasi-Newton step.
        history: maximum number of curvature pairs, each as large as two canvases.
        first_step: root-mean-square pixel change of the first step, when no curvature is known, in 0–255 units.
        memory: number of accepted losses with which a new loss is compared.
        host: keep the pairs in the host's memory rather than the device's; slower, with the same result.
        fixed: keep the pairs in memory that is allocated at once, so that steps can be recorded; slower on a CPU, and
            with other rounding.
    """

    def __init__(
        self,
        learning_rate: float = 1.0,
        history: int = 20,
        first_step: float = 4.0,
        memory: int = 2,
        *,
        host: bool = False,
        fixed: bool = False,
    ) -> None:
        self.is_uniform = fixed
        self._rate = learning_rate
        self._first_step = first_step / 255
        self._memory = memory
        self._pairs: Pairs = FixedPairs(history) if fixed else CurvaturePairs(history, host=host)
        self._spectrum = SpectralScale()
        self._state: State = {}

    def reserve(self, canvas: Tensor) -> None:
        """Allocates the memory of the curvature pairs, if it is fixed."""
        self._pairs.reserve(canvas)

    def step(self, canvas: Tensor, at: Evaluation) -> Tensor:
        """Returns the next canvas (N, 3, H, W), 0 to 1, given the loss and gradient at the current one."""
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
        # A direction that fails twice is not a descent direction: the curvature pairs do not apply at this canvas.
        lost = state["rejections"] >= 2
        self._pairs.forget(lost)
        state["latest"] = state["latest"].masked_fill(lost, 0)
        no_curvature = state["latest"] == 0
        # Without known curvature (at the start, or where it is negative), double the step length after an accepted step
        # and quarter it after a rejected one.
        change = self._change(no_curvature, length * torch.where(accepted, 2, 0.25))
        change = per_canvas(~accepted & ~no_curvature, s, change, factor=0.25)
        return change.add_(state["canvas"]).clamp_(0, 1)

    def resize(self, height: int, width: int, wraps: Wraps = FLAT) -> None:
        """Drops all state except the spectral scale, which also applies to canvases of height x width pixels."""
        self._state = {}
        self._pairs.clear()

    def forget(self) -> None:
        """Drops all state, also the spectral scale, which does not apply to another objective."""
        self._state = {}
        self._pairs.clear()
        self._spectrum = SpectralScale()

    def state(self) -> State:
        """Returns everything that the next step depends on."""
        return {**self._state, "pairs": self._pairs.state(), "spectrum": self._spectrum.state()}

    def load(self, state: State) -> None:
        """Resumes from a state."""
        self._state = dict(state)
        self._pairs.load(self._state.pop("pairs"))
        self._spectrum.load(self._state.pop("spectrum"))

    def variables(self) -> State:
        """Returns everything that the next step depends on, except the curvature pairs."""
        return {"step": self._state, "spectrum": self._spectrum.state()}

    def assign(self, variables: State) -> None:
        """Sets the tensors that `variables` returns."""
        self._state = dict(variables["step"])
        self._spectrum.load(variables["spectrum"])

    def _first(self, canvas: Tensor, at: Evaluation) -> Tensor:
        zero = torch.zeros_like(at.loss)
        self._state = {"canvas": canvas, "gradient": at.gradient, "losses": [at.loss], "rejections": zero}
        self._state["latest"] = zero
        change = self._change(zero == 0, torch.full_like(at.loss, self._rate * self._first_step))
        return change.add_(canvas).clamp_(0, 1)

    def _change(self, no_curvature: Tensor, length: Tensor) -> Tensor:
        """Returns the change of the canvas: −H·gradient, or a gradient descent step where no curvature is known.

        Args:
            no_curvature: (N,), bool, whether no curvature is known.
            length: (N,), root-mean-square length of the gradient descent step.
        """
        state = self._state
        blocked = _blocked(state["canvas"], state["gradient"])
        # The canvas of a decoded picture can have another memory layout than its gradient.
        q = torch.where(blocked, 0, state["gradient"]).contiguous()

        def first(q: Tensor) -> Tensor:
            scaled = q
            if len(self._pairs):
                scale = self._rate * state["latest"] / self._spectrum.curvature().clamp_min(1e-38)
                scaled = self._spectrum.apply(q, scale)
            return per_canvas(no_curvature, q, scaled, factor=length / _rms(q).clamp_min(1e-30))

        # Exclude the pixels before and after the product with H, so that the rest remains a descent direction (the
        # two-metric projection of Bertsekas 1982).
        change: Tensor = self._pairs.apply(q, first, self._rate).masked_fill_(blocked, 0).neg_()
        return change

    def _remember(self, s: Tensor, y: Tensor, accepted: Tensor) -> Tensor:
        """Adds a curvature pair and returns the root mean square (N,) of the step s."""
        state = self._state
        sy, yy, ss = _dot(s, y), _dot(y, y), _dot(s, s)
        # The curvature condition sᵀy > 0, with tolerance for rounding. A pair that fails it is stored but ignored,
        # because the pairs of the other canvases of the batch can be good.
        good = accepted & (sy > 1e-8 * (ss * yy).sqrt())
        self._spectrum.learn(s, y, good)
        state["latest"] = torch.where(good, sy, state["latest"])
        self._pairs.add(s, y, good)
        return (ss / s[0].numel()).sqrt()


def _rms(a: Tensor) -> Tensor:
    return (_dot(a, a) / a[0].numel()).sqrt()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    # A matrix product allocates no temporary tensor of the canvas's size.
    n = len(a)
    return torch.bmm(a.reshape(n, 1, -1), b.reshape(n, -1, 1)).view(n)


def _blocked(canvas: Tensor, gradient: Tensor) -> Tensor:
    """Returns the pixels that a gradient descent step cannot move: it would leave the box, or their gradient is 0."""
    # The step is so long that every pixel with a gradient ends at the boundary of the box.
    return torch.sub(canvas, gradient, alpha=1e38).clamp_(0, 1).eq(canvas)
