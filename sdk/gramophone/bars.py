"""Progress bars of jobs."""

from __future__ import annotations

from typing import Any

from .values import Frame


class Bar:
    """A tqdm bar of a job: its total is the number of iterations, whether or not each of them has a frame.

    Args:
        options: arguments of tqdm.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        from tqdm.auto import tqdm

        self._bar: Any = tqdm(**{"unit": "it", **options})

    def update(self, frame: Frame) -> None:
        """Shows the iteration and the loss of a frame."""
        self._bar.total = frame.iterations
        self._bar.set_postfix(loss=f"{frame.loss:.4g}", refresh=False)
        # After a restart of the server a job repeats some iterations.
        self._bar.update(frame.iteration - self._bar.n)

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bar.refresh()
        self._bar.close()
