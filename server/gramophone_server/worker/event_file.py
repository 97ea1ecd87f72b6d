"""Event files for TensorBoard with the losses, speed, previews and result of a job."""

import io
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image

from ..messages.events import EncodedPicture, LossTerm, Progress, Result

log = logging.getLogger(__name__)

# Maximum number of entries queued for the disk before the job must wait, and seconds between two flushes.
_QUEUE, _FLUSH_EVERY = 1000, 5
# Formats that browsers can display.
_BROWSER_FORMATS = ("png", "jpeg")


class EventFile:
    """The event file of one run of a job; a background thread writes it, and leaving the `with` block closes it.

    An error never fails the job: it is logged, and nothing more is written to the file.

    Args:
        folder: folder of all jobs; the file is in its subfolder named after the job. None to write nothing.
        job_id: id of the job.
        resumed_at: the iteration at which a resumed job continues: TensorBoard discards later entries of an earlier
            run. None for a job that starts.
    """

    def __init__(self, folder: Path | None, job_id: str, resumed_at: int | None) -> None:
        self._writer: Any = None
        if folder is None:
            return
        try:
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog
            from tensorboard.summary.writer.event_file_writer import EventFileWriter

            # Mode 0o700: other users must not read the pictures.
            (folder / job_id).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._writer = EventFileWriter(str(folder / job_id), _QUEUE, _FLUSH_EVERY)
            if resumed_at is not None:
                start = SessionLog(status=SessionLog.START)
                self._writer.add_event(Event(wall_time=time.time(), step=resumed_at + 1, session_log=start))
        except (ImportError, OSError) as error:
            self._stop_writing(error)

    def __enter__(self) -> "EventFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except Exception as failure:
                self._stop_writing(failure)

    def progress(self, progress: Progress) -> None:
        """Writes the numbers of a report; the terms of the loss are unweighted."""
        scalars = {"loss": progress.loss, "iterations_per_second": progress.iterations_per_second}
        self._add(progress.iteration, scalars | {_tag(term): term.loss for term in progress.terms})

    def preview(self, iteration: int, picture: EncodedPicture) -> None:
        """Writes a preview; can be called from any thread."""
        self._add(iteration, {"preview": picture})

    def result(self, result: Result) -> None:
        """Writes the result of the job and its loss."""
        self._add(result.iterations, {"result": result.image, "result/loss": result.loss})

    def _add(self, step: int, values: Mapping[str, float | EncodedPicture]) -> None:
        writer = self._writer
        if writer is None:
            return
        try:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.compat.proto.summary_pb2 import Summary

            summary = Summary(value=[_value(Summary, tag, value) for tag, value in values.items()])
            writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
        except Exception as error:
            # The writer raises an error of its background thread at the next entry.
            self._stop_writing(error)

    def _stop_writing(self, error: Exception) -> None:
        self._writer = None
        log.warning("writing for TensorBoard stops: %s", error)


def _value(summary: Any, tag: str, value: float | EncodedPicture) -> Any:
    if not isinstance(value, EncodedPicture):
        return summary.Value(tag=tag, simple_value=value)
    image = summary.Image(
        width=value.width, height=value.height, colorspace=3, encoded_image_string=_for_browser(value)
    )
    return summary.Value(tag=tag, image=image)


def _for_browser(picture: EncodedPicture) -> bytes:
    """Returns the picture as an image file that browsers can display."""
    if picture.format in _BROWSER_FORMATS:
        return picture.data
    buffer = io.BytesIO()
    if picture.format == "tiff":
        # Pillow cannot read 16-bit RGB.
        import numpy as np
        import tifffile

        pixels = tifffile.imread(io.BytesIO(picture.data))
        image = Image.fromarray(pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8))
    else:
        image = Image.open(io.BytesIO(picture.data))
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _tag(term: LossTerm) -> str:
    region = "" if term.region is None else f"/region {term.region}"
    # Gram matrices have the tags of earlier versions.
    parts = term.kind, "" if term.style_loss == "gram" else term.style_loss, term.layer
    return f"loss/{'/'.join(part for part in parts if part)}{region}"
