"""What options of `gramophone serve` may be: sizes, devices, numbers."""

import math
import os
import re
from typing import Any

import click

from ..scheduling.devices import DeviceNameError, check_devices

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_LEAST_MEMORY = 64 << 20
_LONGEST_SOCKET = 105


def size(context: click.Context, option: click.Parameter, value: str | None) -> int | None:
    """A size such as 3GB, 1.5 GiB or 800000000."""
    if value is None:
        return None
    match = re.fullmatch(r"([\d.]+) *([KMGT]I?)?B?", value.strip().upper())
    try:
        if match is None:
            raise ValueError(value)
        return int(float(match[1]) * _UNITS[match[2] or ""])
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{value!r} is not a size; write it as 3GB or 3GiB") from None


def host(context: click.Context, option: click.Parameter, value: str) -> str:
    """A name or an address, and nothing around it."""
    if value.startswith("unix:"):
        if len(os.fsencode(value)) > _LONGEST_SOCKET:
            raise click.BadParameter(f"{value!r} is too long: the path of a socket has at most 100 bytes")
        return value
    if "://" in value or "/" in value:
        raise click.BadParameter(f"{value!r} is a URL; write the host alone, such as {_host_in(value)}")
    if re.fullmatch(r"[^:\[\]]+:\d*|\[.*\]:\d*", value):
        name, _, port = value.rpartition(":")
        raise click.BadParameter(f"{value!r} has a port in it; write --host {name} --port {port or 50051}")
    return value


def _host_in(url: str) -> str:
    return re.sub(r"^\w*:?//|/.*$|:\d*(/.*)?$", "", url) or "127.0.0.1"


def memory(context: click.Context, option: click.Parameter, value: str | None) -> int | None:
    """The memory of a worker."""
    number = size(context, option, value)
    if number is not None and number < _LEAST_MEMORY:
        raise click.BadParameter(f"{value!r} is less than a worker alone takes; give it 1GB or more")
    return number


def threads(context: click.Context, option: click.Parameter, value: int) -> int:
    """As many threads as are of any use."""
    cores = os.cpu_count() or 1
    if value > max(64, 4 * cores):
        raise click.BadParameter(f"{value} threads are too many for the {cores} cores of this machine; leave it out")
    return value


def devices(context: click.Context, option: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Names that can be devices'."""
    try:
        check_devices(value)
    except DeviceNameError as error:
        raise click.BadParameter(str(error)) from error
    return value


class Number(click.FloatRange):
    """A number within bounds, as which FloatRange takes NaN, too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; fails with a sentence."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number
