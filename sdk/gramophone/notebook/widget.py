"""The live widget of a job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from ..history import History
from .snapshot import HEIGHT, WIDTH, Snapshot
from .view import View


class JobWidget(anywidget.AnyWidget):
    """A widget with picture, loss curve, progress and a button to cancel.

    Attributes:
        job: what to show: id, iteration, iterations, caption, curve, width and height of the curve, message.
        picture: file of the picture; empty for none.
    """

    _esm = (Path(__file__).parent / "widget.js").read_text()
    _css = (Path(__file__).parent / "widget.css").read_text()
    job = traitlets.Dict().tag(sync=True)
    picture = traitlets.Bytes().tag(sync=True)


class WidgetView(View):
    """A display of a job by a JobWidget, which the picture replaces when the job has ended.

    Args:
        history: the events of the job.
        cancel: function that starts to cancel the job.
    """

    def __init__(self, history: History, cancel: Callable[[], object]) -> None:
        self._widget = JobWidget(job=_content(Snapshot.of(history)), picture=history.preview)
        self._widget.on_msg(lambda _, content, __: cancel() if content == {"type": "cancel"} else None)
        super().__init__(history)

    def end(self, error: str = "") -> None:
        """Replaces the widget by its last state."""
        super().end(error)
        self._widget.close()

    def note(self, message: str) -> None:
        """Shows a message beside the state."""
        with self._lock:
            if self._last is None:
                self._show(message)

    def _show(self, message: str = "") -> None:
        snapshot = Snapshot.of(self._history)
        with self._widget.hold_sync():
            self._widget.job = _content(snapshot, message)
            # A report without a preview keeps the picture.
            self._widget.picture = self._history.preview

    def _display(self, bundle: dict[str, str]) -> Any:
        shown = self._widget._repr_mimebundle_()
        assert shown is not None
        # Front ends without widgets show the rest of the bundle.
        return super()._display({**bundle, **shown[0], "text/plain": bundle["text/plain"]})


def _content(snapshot: Snapshot, message: str = "") -> dict[str, Any]:
    return {
        "id": snapshot.job_id,
        "iteration": snapshot.iteration,
        "iterations": snapshot.iterations,
        "caption": snapshot.caption,
        "curve": snapshot.curve,
        "width": WIDTH,
        "height": HEIGHT,
        "message": message,
    }
