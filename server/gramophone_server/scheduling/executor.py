"""Executors run jobs. `Executor` is the interface to implement for another kind of worker."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ..messages.estimate import Estimate
from ..messages.events import Failure, Progress
from ..messages.pipe import Outcome, Run
from ..messages.spec import JobSpec, Picture
from ..models.layers import PoolingName

Features = tuple[tuple[str, tuple[int, ...], bytes], ...]
"""(layer, shape, values as float32 bytes) of each tensor."""


class WorkerDiedError(Exception):
    """The worker process died; the message says how and begins with a verb.

    Attributes:
        begun: whether the worker had started the job.
        jobs: number of jobs that the process ran; with several, any of them may be the cause.
    """

    def __init__(self, message: str, *, begun: bool = True, jobs: int = 1) -> None:
        super().__init__(message)
        self.begun = begun
        self.jobs = jobs


class Executor(Protocol):
    """Runs jobs on one device: one alone, or several that share it."""

    async def start(self) -> None:
        """Starts the worker; returns before its device is open."""
        ...

    async def run(self, task: Run, on_progress: Callable[[Progress], None]) -> Outcome:
        """Runs a job until it ends or is paused.

        Several calls may run at a time if all their tasks are shared.

        Raises:
            WorkerDiedError: the worker died; the job can be run again.
        """
        ...

    def makes_room(self, jobs: int) -> bool:
        """Returns whether one more shared job can run now beside `jobs` shared ones.

        If not, the executor may prepare for it, and then calls the function that was given to `listen`.
        """
        ...

    def listen(self, on_room: Callable[[], None]) -> None:
        """Sets the function to call on the event loop when one more shared job may be able to run."""
        ...

    async def cancel(self, job_id: str) -> None:
        """Asks the job to stop after its current iteration, if it is running."""
        ...

    async def pause(self, job_id: str) -> None:
        """Asks the job to save a checkpoint after its current iteration and stop, if it is running."""
        ...

    async def extract(
        self, model: str, picture: Picture, pixels: Path, layers: tuple[str, ...], *, gram: bool, pooling: PoolingName
    ) -> Features | Failure:
        """Returns features of a picture.

        Args:
            pixels: folder with the pixels of the picture.
            gram: whether to return Gram matrices instead of feature maps.
        """
        ...

    async def estimate(self, spec: JobSpec, *, timed: bool) -> Estimate | Failure:
        """Returns the job's estimated memory and, if `timed`, its time."""
        ...

    @property
    def ready(self) -> bool:
        """Whether the device is open and the worker can run jobs and answer at once."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why the worker cannot be used for now; None if it can, or is about to open its device."""
        ...

    async def wait_ready(self) -> None:
        """Waits until the worker is ready."""
        ...

    async def stop(self) -> None:
        """Stops the worker and its jobs."""
        ...
