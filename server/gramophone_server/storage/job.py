"""A job: its spec, its state and its history."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

from ..messages.events import EncodedPicture, Event, Failure, Progress, Result, State
from ..messages.spec import JobSpec

SEQUENCE_GAP = 100_000
"""Numbers that the sequence skips after a crash, past those of events that clients have seen but were not stored."""

# Number of progress events held, without previews.
_RECENT = 256


class Job:
    """A job with its state and a bounded history.

    The history holds all state changes, the latest progress with its preview, and the last `_RECENT` progress events
    without previews. Watchers read it at their own pace: a slow watcher misses intermediate progress and needs no
    buffer.

    Attributes:
        spec: the spec without pixels; the store has the pixels.
        owner: name of the client; empty without authentication.
        priority: rank among its owner's waiting jobs, the highest first.
        attempts: how often a worker has started it.
        losses: how many workers have died on it since this server started.
        suspected: whether it was running beside other jobs when their worker died: any of them may be the cause.
        squeeze: how often it has run out of memory; each time its memory is halved.
        partial: whether some of its progress is no longer held here.
        marks: fields for log lines about it: its id and its trace.
    """

    def __init__(
        self,
        job_id: str,
        spec: JobSpec,
        *,
        owner: str = "",
        request_id: str | None = None,
        request_sha256: str = "",
        priority: int = 0,
        create_time: float | None = None,
    ) -> None:
        self.id = job_id
        self.marks = {"job_id": job_id}
        self.spec = spec
        self.owner = owner
        self.request_id = request_id
        self.request_sha256 = request_sha256
        self.priority = priority
        self.attempts = 0
        self.losses = 0
        self.suspected = False
        self.squeeze = 0
        self.state = State.QUEUED
        self.create_time = time.time() if create_time is None else create_time
        self.start_time: float | None = None
        self.end_time: float | None = None
        self.sequence = 0
        self.partial = False
        self._states: list[Event] = []
        self._recent: deque[Event] = deque(maxlen=_RECENT)
        self._preview: Event | None = None
        self._progress: Event | None = None
        self._closed = False
        self._changed = asyncio.Event()
        self._over = asyncio.Event()

    @property
    def progress(self) -> Progress | None:
        """The latest progress; None before the first report."""
        detail = self._progress.detail if self._progress else None
        return detail if isinstance(detail, Progress) else None

    @property
    def preview(self) -> EncodedPicture | None:
        """The latest preview; None before the first one."""
        detail = self._preview.detail if self._preview else None
        return detail.preview if isinstance(detail, Progress) else None

    @property
    def outcome(self) -> Result | Failure | None:
        """The result or the failure; None if the job has not ended or was canceled."""
        detail = self._states[-1].detail if self._states else None
        return None if isinstance(detail, Progress) else detail

    @property
    def queue_time(self) -> float:
        """When it was queued last, in seconds since the epoch."""
        queued = [event.time for event in self._states if event.state is State.QUEUED]
        return queued[-1] if queued else self.create_time

    def queue(self) -> Event:
        """Changes the state to QUEUED: at first, and again when the worker or server was lost."""
        return self._append(State.QUEUED, None)

    def start(self) -> Event:
        """Changes the state from QUEUED to RUNNING."""
        self.attempts += 1
        self.start_time = self.start_time or time.time()
        return self._append(State.RUNNING, None)

    def report(self, progress: Progress) -> Event | None:
        """Adds progress; returns None and ignores it if the job has ended."""
        return None if self.state.final else self._append(State.RUNNING, progress)

    def ending(self, outcome: Result | Failure | None) -> Event:
        """Returns the event that would end the job, for `end`; an outcome of None means canceled."""
        now = time.time()
        match outcome:
            case Result():
                # Not negative, even if the system clock was set back.
                queued = max(0.0, (self.start_time or now) - self.create_time)
                return Event(self.sequence + 1, now, State.SUCCEEDED, replace(outcome, queued=queued))
            case Failure():
                return Event(self.sequence + 1, now, State.FAILED, outcome)
            case None:
                return Event(self.sequence + 1, now, State.CANCELLED, None)

    def end(self, event: Event) -> None:
        """Ends the job with an event of `ending`. Later calls are ignored."""
        if not self.state.final:
            self.end_time = event.time
            self.restore(replace(event, sequence=self.sequence + 1))

    def restore(self, event: Event) -> None:
        """Adds an existing event, such as a stored one."""
        self.sequence = max(self.sequence, event.sequence)
        self.state = event.state
        if isinstance(event.detail, Progress):
            self._progress = event
            if event.detail.preview is not None:
                self._preview = event
            self.partial = self.partial or len(self._recent) == _RECENT
            # Keep only the latest preview; older progress is held without.
            self._recent.append(replace(event, detail=replace(event.detail, preview=None)))
        else:
            self._states.append(event)
            if event.state.final:
                self._over.set()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def catch_up(self, events: Iterable[Event]) -> None:
        """Adds events that another front has stored, in order; progress between them may be missing."""
        self.partial = True
        self._recent.clear()
        for event in events:
            if event.sequence > self.sequence:
                self.restore(event)

    def show(self, event: Event) -> None:
        """Adds the preview of an earlier progress event, unless there is a later one."""
        if self._preview is None or self._preview.sequence < event.sequence:
            self._preview = event

    def close(self) -> None:
        """Ends all `watch` iterators without ending the job, for a shutdown."""
        self._closed = True
        self._changed.set()
        self._over.set()

    def holds_all_after(self, after: int) -> bool:
        """Whether `history` has all events with a sequence above `after`; if not, the store has them."""
        return not self.partial or (bool(self._recent) and self._recent[0].sequence <= after + 1)

    def history(self, after: int = 0) -> list[Event]:
        """Returns all held events with a sequence above `after`, in order."""
        held = {e.sequence: e for e in (*self._recent, *self._states, self._preview, self._progress) if e}
        return [held[sequence] for sequence in sorted(held) if sequence > after]

    async def watch(self, after: int = 0) -> AsyncIterator[Event]:
        """Yields events with a sequence above `after` until the job ends; only the latest of several progress events.

        Stops without a final event only when the server shuts down.
        """
        while not self._closed:
            changed = self._changed
            for event in self._latest(after):
                after = event.sequence
                yield event
                if event.state.final:
                    return
                if self.sequence > after:
                    # Newer events arrived while the reader handled this one: the rest of the list is stale.
                    break
            else:
                if self.state.final and after >= self.sequence:
                    return
                await changed.wait()

    async def sleep(self, seconds: float) -> None:
        """Sleeps for `seconds`, or until the job ends or the server shuts down."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()

    def _latest(self, after: int) -> list[Event]:
        """Returns state changes, the latest progress and the latest preview with a sequence above `after`, in order."""
        kept = {e.sequence: e for e in (*self._states, self._preview, self._progress) if e and e.sequence > after}
        return [kept[sequence] for sequence in sorted(kept)]

    def _append(self, state: State, detail: Progress | None) -> Event:
        event = Event(self.sequence + 1, time.time(), state, detail)
        self.restore(event)
        return event
