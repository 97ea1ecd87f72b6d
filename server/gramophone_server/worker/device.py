"""Which device a worker runs on, and whether it still does."""

import logging
import warnings

import torch

from ..engine.device import DeviceError, open_device, prove

log = logging.getLogger(__name__)


def open_named(name: str) -> torch.device:
    """The device of that name; of "auto" the first CUDA device, or else the CPU, which the log says.

    Raises:
        DeviceError: a device that was named cannot be used.
    """
    if name != "auto":
        return open_device(name)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        there = torch.cuda.is_available()
    if there:
        try:
            return open_device("cuda:0")
        except DeviceError as error:
            log.warning("cuda:0 is there but cannot be used (%s): this worker runs on the CPU instead", error)
    elif warned:
        reason = str(warned[-1].message).splitlines()[0]
        log.warning("CUDA cannot be used (%s): this worker runs on the CPU instead", reason)
    else:
        log.info("there is no CUDA device here: this worker runs on the CPU")
    return open_device("cpu")


def trouble_of(device: torch.device) -> str | None:
    """Why a device that was open cannot be used any more; None if it can."""
    if device.type == "cpu":
        return None
    try:
        prove(device)
    except (DeviceError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            return None  # It works, for others.
        return (str(error) or type(error).__name__).splitlines()[0]
    return None
