"""What signals do to a command that waits for a job: the job is harmed only by who asks for that."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from .. import GramophoneError, Job
from .console import note, status_of

_Handler = Callable[[int, FrameType | None], None]


class LeaveError(BaseException):
    """A signal ends the command; its number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Vigil:
    """Waits for jobs, and leaves them in order when a signal comes, for the length of a `with` block.

    SIGTERM and SIGHUP, which is a lost terminal, end the command and leave the job. So does Ctrl-C, unless `cancels`:
    then the first one cancels the job, and the second leaves at once.

    Args:
        cancels: whether Ctrl-C cancels the job.
        farewell: says what becomes of the job that is left, for a person.
    """

    def __init__(self, *, cancels: bool, farewell: Callable[[Job], str]) -> None:
        self._cancels = cancels
        self._farewell = farewell
        self._job: Job | None = None
        self._interrupts = 0
        self._asked = False
        self._left: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Vigil:
        handlers: dict[int, _Handler] = {signal.SIGTERM: self._leave, signal.SIGINT: self._interrupt}
        if hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = self._leave
        for number, handler in handlers.items():
            # What is ignored, as by nohup, stays so.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if isinstance(error, LeaveError):
            if self._job is not None:
                note(f"\n{self._farewell(self._job) if not self._asked else self._doubt(self._job)}")
            raise SystemExit(status_of(error.number)) from None

    @contextlib.contextmanager
    def over(self, job: Job) -> Iterator[None]:
        """The block in which that job is waited for."""
        self._job = job
        if self._interrupts:
            self._cancel(job)
        yield
        self._job = None

    def check(self) -> None:
        """Leaves if a signal has said so: an exception that it raises where C calls Python may end there, unseen."""
        if self._left is not None:
            raise LeaveError(self._left)

    def _leave(self, number: int, frame: FrameType | None) -> None:
        self._left = number
        raise LeaveError(number)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += 1
        if not self._cancels or self._interrupts > 1:
            self._leave(number, frame)
        elif self._job is not None:
            self._cancel(self._job)
        else:
            _aside(lambda: note("\ncancelling as soon as the server has answered; Ctrl-C again leaves at once"))

    def _cancel(self, job: Job) -> None:
        self._asked = True

        def cancel() -> None:
            note(f"\ncancelling job {job.id}; Ctrl-C again leaves at once")
            try:
                job.cancel()
            except GramophoneError as error:
                note(f"Error: {error}")

        _aside(cancel)

    @staticmethod
    def _doubt(job: Job) -> str:
        return f"left before the server has said that job {job.id} is cancelled"


def _aside(work: Callable[[], None]) -> None:
    # A handler comes in the middle of anything, such as of a call or of a line that is being printed.
    threading.Thread(target=work, daemon=True).start()
