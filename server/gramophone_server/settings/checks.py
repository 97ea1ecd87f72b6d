"""Checks of setting values that need more than bounds. Each raises a ValueError that says what to write instead."""

import os
import re
from collections.abc import Sequence

# Bytes of "unix:" and the longest socket path that all systems accept.
_LONGEST_SOCKET = 105
_MAX_PORT = 65535
_DEVICE = re.compile(r"auto|cpu|cuda(:(0|[1-9]\d{0,2}))?")
_OTHER_DEVICES = frozenset(
    ("mps", "metal", "xpu", "hip", "rocm", "hpu", "npu", "tpu", "xla", "mtia", "vulkan", "opencl")
)


class DeviceNameError(ValueError):
    """A device name is invalid; the message says what to write instead."""


def check_host(value: str) -> None:
    """Accepts a host name, an IP address, or unix:PATH, without a scheme or a port.

    Raises:
        ValueError: the value is something else.
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


def check_http(value: str) -> None:
    """Accepts HOST:PORT, with an IPv6 address in brackets.

    Raises:
        ValueError: the value is something else.
    """
    split_address(value)


def split_address(value: str) -> tuple[str, int]:
    """Returns (host, port) of HOST:PORT, without the brackets of an IPv6 address.

    Raises:
        ValueError: the value is something else.
    """
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:/\[\]\s]*):(\d{1,5})", value)
    if match is None or int(match[2]) > _MAX_PORT:
        raise ValueError(f"{value!r} is not an address; write HOST:PORT, such as 127.0.0.1:8080")
    return match[1].strip("[]"), int(match[2])


def check_files(value: str) -> None:
    """Accepts the URL of a bucket with a prefix, or of a whole bucket.

    Raises:
        ValueError: the value is something else.
    """
    if re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+(/[^/?#*\s]+)*/?", value) is None:
        raise ValueError(f"{value!r} is not the URL of a bucket and a prefix; write it as s3://bucket/gramophone")


def check_origins(values: Sequence[str]) -> None:
    """Accepts origins of web pages: scheme and host, and a port if it is not the default.

    Raises:
        ValueError: a value is something else.
    """
    for value in values:
        if not re.fullmatch(r"https?://(\[[0-9A-Fa-f:.]+\]|[^:/?#@\[\]\s*]+)(:\d{1,5})?", value):
            raise ValueError(f"{value!r} is not an origin; write its scheme and host, such as https://pages.example")


def check_threads(value: int) -> None:
    """Accepts up to 64 threads, or 4 per core if that is more.

    Raises:
        ValueError: the number is larger.
    """
    cores = os.cpu_count() or 1
    if value > max(64, 4 * cores):
        raise ValueError(f"{value} threads are too many for the {cores} cores of this machine; leave it out")


def check_devices(names: Sequence[str]) -> None:
    """Checks the form of device names without opening a device. Only "cpu" may be given several times.

    Raises:
        DeviceNameError: a name is invalid or given twice, or there is none.
    """
    if not names:
        raise DeviceNameError("no device is given; write auto, cpu, or cuda:0")
    parts = [part for name in names for part in name.split("+")]
    for part in parts:
        if not _DEVICE.fullmatch(part):
            raise DeviceNameError(f"{part!r} cannot be a device: {_hint(part)}")
    for name in names:
        if len({part.split(":")[0] for part in name.split("+")}) > 1:
            raise DeviceNameError(f"{name} is of two kinds: join only GPUs, as cuda:0+cuda:1, or only CPUs, as cpu+cpu")
    own = [{"cuda": "cuda:0"}.get(part, part) for part in parts if part != "cpu"]
    if "auto" in own and len(own) > 1:
        raise DeviceNameError("auto cannot be combined with other devices; name each device instead")
    for name in own:
        if own.count(name) > 1:
            raise DeviceNameError(f"{name} is named twice, but a GPU has only one worker; name each device once")


def _host_in(url: str) -> str:
    return re.sub(r"^\w*:?//|/.*$|:\d*(/.*)?$", "", url) or "127.0.0.1"


def _hint(name: str) -> str:
    """Returns what to write instead of an invalid device name."""
    plain = name.strip().lower()
    if _DEVICE.fullmatch(plain):
        return f"write {plain}"
    if numbered := re.fullmatch(r"(?:cuda|gpu|nvidia)?[ _:-]?0*(\d{1,3})|gpu|nvidia", plain):
        return f"write cuda:{numbered[1] or 0} for an NVIDIA GPU, or cpu"
    if plain.split(":")[0] in _OTHER_DEVICES:
        return "only CPUs and NVIDIA GPUs are supported: write cpu, or cuda:0"
    return "write auto, cpu, or cuda:0, cuda:1, and so on; for several workers give --device several times"
