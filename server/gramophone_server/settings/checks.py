"""What bounds alone cannot say about a value. Each check raises a ValueError that says what to write instead."""

import os
import re
from collections.abc import Sequence

# Bytes of "unix:" and of a path, as far as systems take it.
_LONGEST_SOCKET = 105
_DEVICE = re.compile(r"auto|cpu|cuda(:(0|[1-9]\d{0,2}))?")
_OTHER_DEVICES = frozenset(
    ("mps", "metal", "xpu", "hip", "rocm", "hpu", "npu", "tpu", "xla", "mtia", "vulkan", "opencl")
)


class DeviceNameError(ValueError):
    """A device cannot have that name; the message says what can be written."""


def check_host(value: str) -> None:
    """Accepts a host name, an IP address, or unix:PATH, without a scheme or a port.

    Raises:
        ValueError: it is something else.
    """
    if value.startswith("unix:"):
        if len(os.fsencode(value)) > _LONGEST_SOCKET:
            raise ValueError(f"{value!r} is too long: the path of a socket has at most 100 bytes")
        return
    if "://" in value or "/" in value:
        raise ValueError(f"{value!r} is a URL; write the host alone, such as {_host_in(value)}")
    if re.fullmatch(r"[^:\[\]]+:\d*|\[.*\]:\d*", value):
        name, _, port = value.rpartition(":")
        raise ValueError(f"{value!r} has a port in it; write --host {name} --port {port or 50051}")


def check_threads(value: int) -> None:
    """Accepts a number of threads that this machine has a use for.

    Raises:
        ValueError: there are too many for its cores.
    """
    cores = os.cpu_count() or 1
    if value > max(64, 4 * cores):
        raise ValueError(f"{value} threads are too many for the {cores} cores of this machine; leave it out")


def check_devices(names: Sequence[str]) -> None:
    """Accepts names that devices can have, without opening one; each but the CPU at most once.

    Raises:
        DeviceNameError: a name cannot be a device's or comes twice, or there is none.
    """
    if not names:
        raise DeviceNameError("there is no device; write auto, cpu, or cuda:0")
    for name in names:
        if not _DEVICE.fullmatch(name):
            raise DeviceNameError(f"{name!r} cannot be a device: {_hint(name)}")
    own = [{"cuda": "cuda:0"}.get(name, name) for name in names if name != "cpu"]
    if "auto" in own and len(own) > 1:
        raise DeviceNameError("auto takes the first CUDA device where there is one: name each device instead")
    for name in own:
        if own.count(name) > 1:
            raise DeviceNameError(f"{name} is named twice, but has one worker; name each device once")


def _host_in(url: str) -> str:
    return re.sub(r"^\w*:?//|/.*$|:\d*(/.*)?$", "", url) or "127.0.0.1"


def _hint(name: str) -> str:
    """What to write in place of a name that cannot be a device's."""
    plain = name.strip().lower()
    if _DEVICE.fullmatch(plain):
        return f"write {plain}"
    if numbered := re.fullmatch(r"(?:cuda|gpu|nvidia)?[ _:-]?0*(\d{1,3})|gpu|nvidia", plain):
        return f"write cuda:{numbered[1] or 0} for a GPU of NVIDIA's, or cpu"
    if plain.split(":")[0] in _OTHER_DEVICES:
        return "only CPUs and GPUs of NVIDIA's are supported: write cpu, or cuda:0"
    return "write auto, cpu, or cuda:0, cuda:1, and so on; for several workers give --device several times"
