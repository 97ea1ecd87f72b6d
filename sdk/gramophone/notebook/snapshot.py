"""The state of a job as text and numbers to display."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..brief import Value
from ..history import History

# Maximum number of points of a curve, and the size of its drawing in arbitrary units.
_POINTS = 200
WIDTH, HEIGHT = 200, 40


@dataclass(frozen=True, repr=False)
class Snapshot(Value):
    """The state of a job to display.

    Attributes:
        job_id: the job's id.
        state: its state, as in JobInfo.
        iteration, iterations: number of updates done and requested; 0 before the first report.
        loss: total loss at the last report; None if there is none or it is not finite.
        elapsed, remaining: seconds since the job started to run, and estimated seconds until it ends.
        curve: the loss curve as an SVG path in a box of WIDTH x HEIGHT; the loss axis is logarithmic.
    """

    job_id: str
    state: str
    iteration: int = 0
    iterations: int = 0
    loss: float | None = None
    elapsed: float = 0.0
    remaining: float = 0.0
    curve: str = ""

    @property
    def ended(self) -> bool:
        """Whether the job has ended."""
        return self.state in ("succeeded", "failed", "cancelled")

    @property
    def caption(self) -> str:
        """The state in one line."""
        parts = [self.state]
        if self.iterations:
            parts.append(f"iteration {self.iteration} of {self.iterations}")
        if self.loss is not None:
            parts.append(f"loss {self.loss:.4g}")
        if self.iterations:
            parts.append(f"{self.elapsed:.0f} s" if self.ended else f"{self.remaining:.0f} s left")
        return " · ".join(parts)

    @classmethod
    def of(cls, history: History) -> Snapshot:
        """Returns the state after the latest received event."""
        frames = [frame for _, frame in history.frames(0)]
        if not frames:
            return cls(history.job_id, history.state)
        last = frames[-1]
        return cls(
            history.job_id,
            history.state,
            last.iteration,
            last.iterations,
            last.loss if math.isfinite(last.loss) else None,
            last.elapsed,
            last.remaining,
            curve([(frame.iteration, frame.loss) for frame in frames]),
        )


def curve(points: Sequence[tuple[int, float]]) -> str:
    """Returns a curve as an SVG path; empty if it has fewer than two points.

    Args:
        points: (iteration, loss) pairs. Losses that are not positive and finite are left out.
    """
    kept = [(x, math.log(loss)) for x, loss in points if 0 < loss < math.inf]
    if len(kept) < 2:
        return ""
    step = math.ceil(len(kept) / _POINTS)
    kept = kept[:-1:step] + kept[-1:]
    (left, right), low, high = (kept[0][0], kept[-1][0]), min(y for _, y in kept), max(y for _, y in kept)
    across, down = WIDTH / max(right - left, 1), HEIGHT / max(high - low, 1e-9)
    return "M" + "L".join(f"{(x - left) * across:.1f} {(high - y) * down:.1f}" for x, y in kept)
