"""The estimate of a job's memory and time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A job's memory and time on a device, estimated before anything is allocated.

    Attributes:
        tile: side of the tiles in pixels; None if the whole canvas runs at once.
        peak: peak memory of the worker in bytes.
        available: memory that the worker can use in bytes, including the memory that it already holds.
        flops: floating-point operations of the network's convolutions and of the style losses over the whole job.
        seconds: duration of the job; 0 if the request did not ask for times.
        seconds_per_iteration: duration of an iteration at full size; 0 if the request did not ask for times.
        device: name of the device.
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
        """Whether the available memory is enough."""
        return self.peak <= self.available

    @property
    def refusal(self) -> str:
        """A sentence that says why the job does not fit."""
        return (
            f"The job needs {self.peak:,} bytes of memory on {self.device}, even in tiles, and {self.available:,} are "
            "available; make options.size smaller, lower options.lbfgs_history, or use OPTIMIZER_ADAM."
        )
