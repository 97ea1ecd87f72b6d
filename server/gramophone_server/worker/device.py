"""Selection of the worker's device, and the check whether the device still works."""

import logging
import warnings
from collections.abc import Sequence

import torch

from ..engine.device import DeviceError, open_device, self_test
from .failures import is_out_of_memory

log = logging.getLogger(__name__)


def select_device(name: str) -> torch.device:
    """Returns the device with the given name, after a test computation on it.

    "auto" selects the first CUDA device if it works, else the CPU; the log then says why CUDA is not used.

    Raises:
        DeviceError: the named device cannot be used.
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
            log.warning("cuda:0 exists but cannot be used (%s): this worker runs on the CPU instead", error)
    elif warned:
        reason = str(warned[-1].message).splitlines()[0]
        log.warning("CUDA cannot be used (%s): this worker runs on the CPU instead", reason)
    else:
        log.info("there is no CUDA device: this worker runs on the CPU")
    return open_device("cpu")


def select_devices(name: str) -> tuple[torch.device, ...]:
    """Returns the devices of a name such as "cuda:0+cuda:1", each after a test computation on it.

    Raises:
        DeviceError: one of them cannot be used.
    """
    return tuple(map(select_device, name.split("+")))


def device_names(devices: Sequence[torch.device]) -> str:
    """Returns the name of one or several devices, such as "cuda:0+cuda:1"."""
    return "+".join(map(str, devices))


def other_devices(name: str, device: torch.device) -> tuple[str, ...]:
    """Returns the names of the GPUs that a device setting means beside the device that was selected for it."""
    if name != "auto" or device.type != "cuda":
        return ()
    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()) if number != device.index)


def device_failure(device: torch.device) -> str | None:
    """Returns the reason why an opened device no longer works; None if it works."""
    if device.type == "cpu":
        return None
    try:
        self_test(device)
    except (DeviceError, RuntimeError) as error:
        if is_out_of_memory(error):
            return None  # The device works; other processes use its memory.
        return (str(error) or type(error).__name__).splitlines()[0]
    return None
