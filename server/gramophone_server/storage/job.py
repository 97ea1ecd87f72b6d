"""A job: its spec, its state and its history."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace

from ..messages.events import Event, Failure, Progress, Result, State
from ..messages.spec import JobSpec

_RECENT = 256


class Job:
    """A job and what has happened to it so far.

    What is held of the history is bounded: all state changes, the latest progress with its preview, and the figures of
    the latest progress. A watcher reads from it at its own pace, so a slow one misses intermediate progress and costs
    nothing.

    Attributes:
        spec: without its pixels, which are the store's.
        owner: the client whose it is; empty where clients are not told apart.
        priority: its owner's waiting jobs run in this order, the highest first.
        attempts: how often a worker has taken it up.
        losses: how many workers have died on it in this server's life.
        squeeze: how often it has run out of memory; it is planned for half of it each time.
        partial: whether some of its progress is no longer held here.
        marks: what lines of the log that are about it say: its id, and the trace it is part of.
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
        """The latest progress."""
        detail = self._progress.detail if self._progress else None
        return detail if isinstance(detail, Progress) else None

    @property
    def outcome(self) -> Result | Failure | None:
        """The result or the failure, once there is one."""
        detail = self._states[-1].detail if self._states else None
        return None if isinstance(detail, Progress) else detail

    def queue(self) -> Event:
        """→ QUEUED: at first, and again when its worker or its server was lost."""
        return self._append(State.QUEUED, None)

    def start(self) -> Event:
        """QUEUED → RUNNING."""
        self.attempts += 1
        self.start_time = self.start_time or time.time()
        return self._append(State.RUNNING, None)

    def report(self, progress: Progress) -> Event | None:
        """Takes in progress; ignored once the job has ended."""
        return None if self.state.final else self._append(State.RUNNING, progress)

    def ending(self, outcome: Result | Failure | None) -> Event:
        """The event that ends the job: with its result, its failure, or (None) cancelled. It has not happened yet."""
        now = time.time()
        match outcome:
            case Result():
                # Not negative, though the clock may have been put back.
                queued = max(0.0, (self.start_time or now) - self.create_time)
                return Event(self.sequence + 1, now, State.SUCCEEDED, replace(outcome, queued=queued))
            case Failure():
                return Event(self.sequence + 1, now, State.FAILED, outcome)
            case None:
                return Event(self.sequence + 1, now, State.CANCELLED, None)

    def end(self, event: Event) -> None:
        """Ends the job with an `ending`. The first ending stays."""
        if not self.state.final:
            self.end_time = event.time
            self.restore(replace(event, sequence=self.sequence + 1))

    def restore(self, event: Event) -> None:
        """Takes in an event as it is, such as one that was kept."""
        self.sequence = max(self.sequence, event.sequence)
        self.state = event.state
        if isinstance(event.detail, Progress):
            self._progress = event
            if event.detail.preview is not None:
                self._preview = event
            self.partial = self.partial or len(self._recent) == _RECENT
            # Of all but the latest preview the figures are enough.
            self._recent.append(replace(event, detail=replace(event.detail, preview=None)))
        else:
            self._states.append(event)
            if event.state.final:
                self._over.set()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def close(self) -> None:
        """Ends all watching where it is: the server leaves, the job stays."""
        self._closed = True
        self._changed.set()
        self._over.set()

    def holds_all_after(self, after: int) -> bool:
        """Whether `history` has all events with a higher sequence than `after`; if not, the store has."""
        return not self.partial or (bool(self._recent) and self._recent[0].sequence <= after + 1)

    def history(self, after: int = 0) -> list[Event]:
        """All events held with a higher sequence than `after`, in order."""
        held = {e.sequence: e for e in (*self._recent, *self._states, self._preview, self._progress) if e}
        return [held[sequence] for sequence in sorted(held) if sequence > after]

    async def watch(self, after: int = 0) -> AsyncIterator[Event]:
        """The events after `after` as they come, to the end of the job; progress conflated to the latest.

        Ends without a final event only if the server leaves.
        """
        while not self._closed:
            changed = self._changed
            for event in self._latest(after):
                after = event.sequence
                yield event
                if event.state.final:
                    return
                if self.sequence > after:
                    # Something newer came while the reader was busy with this one: look again rather than send on what
                    # is already stale.
                    break
            else:
                if self.state.final and after >= self.sequence:
                    return
                await changed.wait()

    async def rest(self, seconds: float) -> None:
        """Waits for so long, but not beyond the end of the job or of the server."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()

    def _latest(self, after: int) -> list[Event]:
        """The state changes, the latest progress and the latest preview with a higher sequence than `after`."""
        kept = {e.sequence: e for e in (*self._states, self._preview, self._progress) if e and e.sequence > after}
        return [kept[sequence] for sequence in sorted(kept)]

    def _append(self, state: State, detail: Progress | None) -> Event:
        event = Event(self.sequence + 1, time.time(), state, detail)
        self.restore(event)
        return event
