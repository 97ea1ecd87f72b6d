"""Progress bars of several jobs in a terminal: one for each running job, and one for all."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

from ..values import Frame


class Board:
    """The bars of a batch of jobs, on standard error; prints nothing where that is no terminal.

    Args:
        total: number of jobs.
        done: number of jobs that are already done.
        quiet: whether to show no bars.
    """

    def __init__(self, total: int, done: int, *, quiet: bool) -> None:
        from tqdm import tqdm

        self._new, self._hidden = tqdm, quiet or not sys.stderr.isatty()
        self._lock = threading.Lock()
        self._lines: set[int] = set()
        self._all = self._bar(0, "all pictures", unit="picture", total=total, initial=done)

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_: object) -> None:
        self._all.close()

    @contextlib.contextmanager
    def line(self, name: str) -> Iterator[Line]:
        """Shows a bar for one job in the block; any thread may call this."""
        with self._lock:
            number = next(n for n in range(1, len(self._lines) + 2) if n not in self._lines)
            self._lines.add(number)
        line = Line(self._bar(number, name, unit="it", bar_format="{desc}: waiting"))
        try:
            yield line
        finally:
            line.close()
            with self._lock:
                self._lines.discard(number)

    def advance(self) -> None:
        """Counts a job that has ended."""
        self._all.update()

    @contextlib.contextmanager
    def printing(self) -> Iterator[None]:
        """Hides the bars in the block, so that it can print lines."""
        if self._hidden:
            yield
            return
        with self._new.external_write_mode():
            yield

    def _bar(self, position: int, name: str, **settings: Any) -> Any:
        return self._new(
            desc=name, position=position, leave=False, disable=self._hidden, dynamic_ncols=True, **settings
        )


class Line:
    """The bar of one job."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def update(self, frame: Frame) -> None:
        """Shows the progress of a frame."""
        self._bar.bar_format = None
        self._bar.total = frame.iterations
        self._bar.set_postfix(loss=f"{frame.loss:.4g}", refresh=False)
        self._bar.update(frame.iteration - self._bar.n)

    def close(self) -> None:
        """Removes the bar."""
        self._bar.close()
