"""The display of a job: a live widget, or an output that is updated; the picture stays when the job has ended."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from typing import Any

from ..history import History
from ..values import Result
from .html import base64_text, card
from .pictures import display_png
from .snapshot import Snapshot

LONGEST = 512
"""Maximum side in pixels of a displayed picture."""


class View:
    """The output of a cell that shows a job. Its methods can be called from any thread.

    This class replaces the output after each report. When the job has ended, the output is a card and a PNG, which a
    saved notebook keeps.

    Args:
        history: the events of the job.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._lock = threading.Lock()
        self._last: dict[str, str] | None = None
        self._handle = self._display(self._bundle())

    def update(self) -> None:
        """Shows the latest report."""
        with self._lock:
            if self._last is None:
                self._show()

    def end(self, error: str = "") -> None:
        """Replaces the output by its last state; `error` says why the job could not be watched to its end."""
        with self._lock:
            if self._last is None:
                self._last = self._bundle(error or self._failure())
            self._replace(self._last)

    def note(self, message: str) -> None:
        """Shows a message beside the state, for example why the job could not be canceled."""
        with self._lock:
            if self._last is None:
                self._replace(self._bundle(message))

    def _show(self) -> None:
        self._replace(self._bundle())

    def _replace(self, bundle: dict[str, str]) -> None:
        self._handle.update(bundle, raw=True)

    def _display(self, bundle: dict[str, str]) -> Any:
        from IPython.display import display

        show: Any = display
        return show(bundle, raw=True, display_id=True)

    def _bundle(self, error: str = "") -> dict[str, str]:
        """Returns the static output by MIME type."""
        snapshot, png = Snapshot.of(self._history), self._png()
        bundle = {"text/plain": f"job {snapshot.job_id}: {snapshot.caption}", "text/html": card(snapshot, png, error)}
        if png:
            bundle["image/png"] = base64_text(png)
        return bundle

    def _png(self) -> bytes | None:
        ending = self._history.ending
        # A large result has no data before it is downloaded.
        data = (isinstance(ending, Result) and ending.data) or self._history.preview
        return display_png(data, LONGEST) if data else None

    def _failure(self) -> str:
        ending = self._history.ending
        return str(ending) if isinstance(ending, Exception) else ""


def open_view(history: History, cancel: Callable[[], object]) -> View:
    """Displays a job in the current cell, as a widget if anywidget is installed.

    Args:
        history: the events of the job.
        cancel: function that starts to cancel the job, for the widget's button. It must not block.

    Raises:
        RuntimeError: this program is not a notebook.
    """
    if importlib.util.find_spec("IPython") is None:
        raise RuntimeError("job.show() needs IPython: pip install 'gramophone[notebook]'")
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        raise RuntimeError("job.show() works in a notebook; elsewhere iterate over the job, or over job.progress()")
    if not history.ended and importlib.util.find_spec("anywidget") is not None:
        from .widget import WidgetView

        return WidgetView(history, cancel)
    return View(history)
