"""The names of devices, as far as they can be judged without opening one."""

import re
from collections.abc import Sequence

_NAME = re.compile(r"auto|cpu|cuda(:(0|[1-9]\d{0,2}))?")

_OTHERS = frozenset(("mps", "metal", "xpu", "hip", "rocm", "hpu", "npu", "tpu", "xla", "mtia", "vulkan", "opencl"))


class DeviceNameError(ValueError):
    """A device cannot be called that; the message says what can be written."""


def check_devices(names: Sequence[str]) -> None:
    """Sees that each name can be a device's, and that no device but the CPU is named twice.

    Raises:
        DeviceNameError: one cannot be, or is.
    """
    for name in names:
        if not _NAME.fullmatch(name):
            raise DeviceNameError(f"{name!r} cannot be a device: {_hint(name)}")
    own = [{"cuda": "cuda:0"}.get(name, name) for name in names if name != "cpu"]
    if "auto" in own and len(own) > 1:
        raise DeviceNameError("auto takes the first CUDA device where there is one: name each device instead")
    for name in own:
        if own.count(name) > 1:
            raise DeviceNameError(f"{name} is named twice, but has one worker; name each device once")


def _hint(name: str) -> str:
    """What to write in place of a name that cannot be a device's."""
    plain = name.strip().lower()
    if _NAME.fullmatch(plain):
        return f"write {plain}"
    if numbered := re.fullmatch(r"(?:cuda|gpu|nvidia)?[ _:-]?0*(\d{1,3})|gpu|nvidia", plain):
        return f"write cuda:{numbered[1] or 0} for a GPU of NVIDIA's, or cpu"
    if plain.split(":")[0] in _OTHERS:
        return "only CPUs and GPUs of NVIDIA's are supported: write cpu, or cuda:0"
    return "write auto, cpu, or cuda:0, cuda:1, and so on; for several workers give --device several times"
