"""A job: its spec, its state and its history."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

from .events import Event, Failure, Progress, Result, State
from .spec import JobSpec


class Job:
    """A job and what has happened to it so far.

    The history is bounded: all state changes, the latest progress, and the latest progress that carries a preview. A
    watcher reads from it at its own pace, so a slow one misses intermediate progress and costs nothing. `owner` is the
    name of the client that submitted it.
    """

    def __init__(self, job_id: str, spec: JobSpec, owner: str = "") -> None:
        self.id = job_id
        self.spec = spec
        self.owner = owner
        self.state = State.QUEUED
        self.create_time = time.time()
        self.start_time: float | None = None
        self.end_time: float | None = None
        self._sequence = 0
        self._states: list[Event] = []
        self._progress: Event | None = None
        self._preview: Event | None = None
        self._changed = asyncio.Event()
        self._append(State.QUEUED, None)

    @property
    def progress(self) -> Progress | None:
        """The latest progress."""
        detail = self._progress.detail if self._progress else None
        return detail if isinstance(detail, Progress) else None

    @property
    def outcome(self) -> Result | Failure | None:
        """The result or the failure, once there is one."""
        detail = self._states[-1].detail
        return None if isinstance(detail, Progress) else detail

    def start(self) -> None:
        """QUEUED → RUNNING."""
        self.start_time = time.time()
        self._append(State.RUNNING, None)

    def report(self, progress: Progress) -> None:
        """Takes in progress; ignored once the job has ended."""
        if not self.state.final:
            self._append(State.RUNNING, progress)

    def end(self, outcome: Result | Failure | None) -> None:
        """Ends the job: with its result, its failure, or (None) cancelled. The first ending stays."""
        if self.state.final:
            return
        self.end_time = time.time()
        match outcome:
            case Result():
                queued = (self.start_time or self.end_time) - self.create_time
                self._append(State.SUCCEEDED, replace(outcome, queued=queued))
            case Failure():
                self._append(State.FAILED, outcome)
            case None:
                self._append(State.CANCELLED, None)

    def events(self, after: int = 0) -> list[Event]:
        """The kept events with a higher sequence than `after`, in order."""
        kept = {e.sequence: e for e in (*self._states, self._preview, self._progress) if e and e.sequence > after}
        return [kept[sequence] for sequence in sorted(kept)]

    async def watch(self, after: int = 0) -> AsyncIterator[Event]:
        """The events after `after` as they come, to the end of the job; progress conflated to the latest."""
        while True:
            changed = self._changed
            for event in self.events(after):
                after = event.sequence
                yield event
                if event.state.final:
                    return
                if self._sequence > after:
                    # Something newer came while the reader was busy with this one: look again rather than send on what
                    # is already stale.
                    break
            else:
                if self.state.final and after >= self._sequence:
                    return
                await changed.wait()

    def _append(self, state: State, detail: Progress | Result | Failure | None) -> None:
        self._sequence += 1
        self.state = state
        event = Event(self._sequence, time.time(), state, detail)
        if isinstance(detail, Progress):
            self._progress = event
            if detail.preview is not None:
                self._preview = event
        else:
            self._states.append(event)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
