"""Several pictures in one command: some jobs at a time; a command that is run again continues where it was.

Each job has a request id made of its pictures and options, so that the server returns the job of an earlier command
instead of painting the picture again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from .. import Client, InvalidRequestError, Job, JobCancelledError, JobFailedError
from ..values import Frame, Result
from .board import Board
from .connect import Server
from .console import note, say
from .files import save, shown
from .ledger import Ledger
from .sentences import name_pictures, sentence_of
from .signals import BatchGuard
from .terminal_pictures import show
from .watching import summary, warn

# Number of jobs that are submitted and not yet saved.
_AT_ONCE = 8
# Maximum number of earlier jobs of a picture that have failed or were canceled; after them, its job has no request id.
_MOST_ATTEMPTS = 20


@dataclass(frozen=True)
class Item:
    """One picture of a batch.

    Attributes:
        submit: submits its job with additional options.
        output: path of its result.
        pictures: its pictures by the path of their field in the request, for messages.
        key: from `key_of`.
        each: is called with every frame of its job.
    """

    submit: Callable[[dict[str, Any]], Job]
    output: Path
    pictures: dict[str, Any]
    key: str
    each: Callable[[Frame], None]


class _Painting:
    """A submitted job as `Client.map` uses it: its result is saved before it counts as ended."""

    def __init__(self, job: Job, item: Item, batch: _Batch) -> None:
        self.id = job.id
        self._job, self._item, self._batch = job, item, batch

    def result(self) -> Result:
        with self._batch.board.line(shown(self._item.output.name)) as line:
            for frame in self._job:
                line.update(frame)
                self._item.each(frame)
        result = self._job.result()
        save(self._item.output, result.data, self._batch.quality)
        return result

    def cancel(self) -> None:
        if not self._batch.guard.leaves_jobs:
            self._job.cancel()


@dataclass(frozen=True)
class _Batch:
    """What all paintings share."""

    board: Board
    guard: BatchGuard
    quality: int | None

    def submit(self, item: Item) -> _Painting:
        return _Painting(submitted(item), item, self)


def submitted(item: Item) -> Job:
    """Submits a job, or returns that of an earlier command, unless it failed or was canceled."""
    for attempt in range(_MOST_ATTEMPTS):
        job = item.submit({"request_id": f"{item.key}-{attempt}"})
        if job.info().state not in ("failed", "cancelled"):
            return job
    return item.submit({})


def paint_all(
    client: Client,
    items: Sequence[Item],
    lasting_server: Server | None,
    quality: int | None,
    *,
    quiet: bool,
    shows: bool,
) -> bool:
    """Paints all pictures that are not painted yet; prints a line for each, and the reason for each that failed.

    Args:
        quality: quality of a JPEG, WebP or AVIF; None for the default.
        quiet: whether to show no progress bars.
        shows: whether to show the results in a terminal that can.

    Returns:
        Whether all pictures are painted.
    """
    ledgers = {folder: Ledger(folder) for folder in {item.output.parent for item in items}}
    waiting = [item for item in items if not ledgers[item.output.parent].has(item.output, item.key)]
    done = len(items) - len(waiting)
    if done:
        note(f"{done} of {len(items)} pictures are painted already, with the same options")
    failed = 0
    guard = BatchGuard(lambda: _farewell(lasting_server))
    with guard, Board(len(items), done, quiet=quiet) as board:
        batch = _Batch(board, guard, quality)
        with contextlib.closing(_outcomes(client, batch, waiting)) as outcomes:
            for item, result, error in outcomes:
                guard.check()
                board.advance()
                if result is not None:
                    ledgers[item.output.parent].add(item.output, item.key)
                name_pictures({at: shown(picture) for at, picture in item.pictures.items()})
                with board.printing():
                    failed += not _report(item, result, error, guard)
                    if shows and result is not None:
                        show(result.data)
    if failed:
        note(f"{failed} of {len(items)} pictures are not painted; the same command tries them again")
    return not failed


def _outcomes(
    client: Client, batch: _Batch, items: Sequence[Item]
) -> Generator[tuple[Item, Result | None, Exception | None]]:
    # A painting has what `map` needs of a job.
    submit: Callable[..., Any] = batch.submit
    with contextlib.closing(cast(Any, client.map(submit, items, at_once=_AT_ONCE, in_order=False))) as outcomes:
        for outcome in outcomes:
            yield items[outcome.number], outcome.value, outcome.error


def _report(item: Item, result: Result | None, error: Exception | None, guard: BatchGuard) -> bool:
    """Prints the outcome of a picture, and returns whether it is painted.

    Raises:
        Exception: the error, if it concerns all pictures; the jobs that run are left running.
    """
    if result is not None:
        warn(result)
        say(summary(result, shown(item.output)))
        return True
    assert error is not None
    own = isinstance(error, InvalidRequestError) and all("content" in v.field for v in error.violations)
    if not (own or isinstance(error, JobFailedError | JobCancelledError)):
        guard.leaves_jobs = True
        raise error
    note(f"Error: {shown(item.output)} is not painted: {sentence_of(error)}")
    return False


def _farewell(server: Server | None) -> str:
    if server is None:
        return "the jobs end, because their server ends with this command"
    return "the jobs continue; the same command fetches their results"
