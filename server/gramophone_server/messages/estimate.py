"""What a job would take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """What a job would take on a device, before anything is allocated.

    Attributes:
        tile: side of the tiles in which it would run; None for the whole canvas at once.
        peak: most memory the worker would hold, in bytes.
        available: memory the worker can have, in bytes, what it holds already included.
        flops: operations of the network's convolutions over the whole job.
        seconds: time to the end of the job; 0 if it was not asked for.
        seconds_per_iteration: at full size; 0 if it was not asked for.
        device: its name.
    """

    tile: int | None
    peak: int
    available: int
    flops: float
    seconds: float
    seconds_per_iteration: float
    device: str

    @property
    def fits(self) -> bool:
        """Whether there is memory enough."""
        return self.peak <= self.available

    @property
    def refusal(self) -> str:
        """A sentence on why the job cannot run."""
        return (
            f"The job needs {self.peak:,} bytes of memory on {self.device}, even in tiles, and {self.available:,} are "
            "available; make options.size smaller, lower options.lbfgs_history, or use OPTIMIZER_ADAM."
        )
