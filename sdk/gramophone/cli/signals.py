"""Signals in commands that wait for a job. Only Ctrl-C cancels the job; other signals leave it running."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from .. import GramophoneError, Job
from .console import note, status_of

_Handler = Callable[[int, FrameType | None], None]


class SignalError(BaseException):
    """Ends the command after a signal; `number` is the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class SignalGuard:
    """Handles signals during a `with` block in which a command waits for jobs.

    SIGTERM, and SIGHUP of a closed terminal, end the command and leave the job running. So does Ctrl-C, unless
    `cancels` is set: then the first Ctrl-C cancels the job, and the second ends the command immediately.

    Args:
        cancels: whether Ctrl-C cancels the job.
        farewell: returns the message that tells the user what happens to a job that is left running.
    """

    def __init__(self, *, cancels: bool, farewell: Callable[[Job], str]) -> None:
        self._cancels = cancels
        self._farewell = farewell
        self._job: Job | None = None
        self._interrupts = 0
        self._cancel_requested = False
        self._received: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> SignalGuard:
        handlers: dict[int, _Handler] = {signal.SIGTERM: self._leave, signal.SIGINT: self._interrupt}
        if hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = self._leave
        for number, handler in handlers.items():
            # Signals that are ignored, for example by nohup, stay ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, handler)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if isinstance(error, SignalError):
            if self._job is not None:
                message = _unconfirmed(self._job) if self._cancel_requested else self._farewell(self._job)
                note(f"\n{message}")
            raise SystemExit(status_of(error.number)) from None

    @contextlib.contextmanager
    def waiting_for(self, job: Job) -> Iterator[None]:
        """Marks the block in which the command waits for a job."""
        self._job = job
        if self._interrupts:
            self._cancel(job)
        yield
        self._job = None

    def check(self) -> None:
        """Raises again for a received signal: C code that calls Python may have swallowed the handler's exception."""
        if self._received is not None:
            raise SignalError(self._received)

    def _leave(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        raise SignalError(number)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += 1
        if not self._cancels or self._interrupts > 1:
            self._leave(number, frame)
        elif self._job is not None:
            self._cancel(self._job)
        else:
            _in_thread(lambda: note("\ncanceling when the server has responded; press Ctrl-C again to exit at once"))

    def _cancel(self, job: Job) -> None:
        self._cancel_requested = True

        def cancel() -> None:
            note(f"\ncanceling job {job.id}; press Ctrl-C again to exit at once")
            try:
                job.cancel()
            except GramophoneError as error:
                note(f"Error: {error}")

        _in_thread(cancel)


class BatchGuard(SignalGuard):
    """Handles signals while a command waits for several jobs: Ctrl-C ends the loop at once, which cancels them.

    Args:
        farewell: returns the message that tells the user what happens to jobs that are left running.

    Attributes:
        leaves_jobs: whether the jobs are left running when the command ends early.
    """

    def __init__(self, farewell: Callable[[], str]) -> None:
        super().__init__(cancels=True, farewell=lambda job: farewell())
        self._message = farewell
        self.leaves_jobs = False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, SignalError):
            note(f"\n{self._message() if self.leaves_jobs else 'the jobs are canceled'}")
        super().__exit__(kind, error, trace)

    def _leave(self, number: int, frame: FrameType | None) -> None:
        self.leaves_jobs = True
        super()._leave(number, frame)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        raise SignalError(number)


def _unconfirmed(job: Job) -> str:
    return f"exited before the server confirmed that job {job.id} is canceled"


def _in_thread(work: Callable[[], None]) -> None:
    # A signal handler can interrupt any code, such as a call or a print, which the work must not use reentrantly.
    threading.Thread(target=work, daemon=True).start()
