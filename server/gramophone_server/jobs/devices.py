"""The names of devices, as far as they can be judged without opening one."""

import re
from collections.abc import Sequence

_NAME = re.compile(r"auto|cpu|cuda(:(0|[1-9]\d{0,2}))?")


class DeviceNameError(ValueError):
    """A device cannot be called that; the message says what can be written."""


def check_devices(names: Sequence[str]) -> None:
    """Sees that each name can be a device's, and that no device but the CPU is named twice.

    Raises:
        DeviceNameError: one cannot be, or is.
    """
    for name in names:
        if not _NAME.fullmatch(name):
            raise DeviceNameError(
                f"{name!r} cannot be a device: write auto, cpu, or cuda:0, cuda:1, and so on; "
                "for several workers give --device several times"
            )
    own = [{"cuda": "cuda:0"}.get(name, name) for name in names if name != "cpu"]
    if "auto" in own and len(own) > 1:
        raise DeviceNameError("auto takes the first CUDA device where there is one: name each device instead")
    for name in own:
        if own.count(name) > 1:
            raise DeviceNameError(f"{name} is named twice, but has one worker; name each device once")
