"""What the engine runs on."""

import contextlib
import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from .cost import KEPT_BLOCK

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_SMALL_BLOCK = 1 << 20


class DeviceError(Exception):
    """A device cannot be used; the message says why."""


def open_device(name: str) -> torch.device:
    """The device of that name, "cpu", "cuda" or "cuda:1", which has computed something by then.

    Raises:
        DeviceError: there is no such device, or it does not compute.
    """
    try:
        device = torch.device("cuda:0" if name == "cuda" else name)
        if device.type == "cuda" and torch.cuda.is_available() and device.index >= (count := torch.cuda.device_count()):
            last = f"to cuda:{count - 1}" if count > 1 else "alone"
            raise DeviceError(f"this machine has cuda:0 {last}")
        prove(device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(_first_sentence(error)) from error
    return device


def _first_sentence(error: Exception) -> str:
    """What went wrong, without torch's advice to install things."""
    line = (str(error) or type(error).__name__).splitlines()[0]
    return line.split(". ")[0].rstrip(".")


def prove(device: torch.device) -> None:
    """Has a device compute, and looks at what it gives.

    Raises:
        DeviceError: it gives something else.
        RuntimeError: it does not compute.
    """
    ones = torch.ones(1, 3, 8, 8, device=device)
    found = ones.sum()
    if device.type != "cpu":
        # Libraries of their own do these two. On a CPU the first job loads them, and its memory is counted so.
        kernel = torch.ones(3, 3, 3, 3, device=device)
        found = (torch.conv2d(ones, kernel, padding=1) + ones @ torch.ones(8, 8, device=device)).amax()
    expected = 192.0 if device.type == "cpu" else 35.0
    if found.item() != expected:
        raise DeviceError(f"it computes {found.item():g} where {expected:g} is right")


def device_name(device: torch.device) -> str:
    """What the device calls itself, as far as it can be found out: not unique, but of the same speed."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    # Processors of one name may have different instructions, as virtual machines let them.
    return f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}"


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()  # Not Linux, or not on every architecture.


def available_threads() -> int:
    """CPU cores this process may use, which in a container can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_up_cpu(threads: int = 0) -> None:
    """Sets this process up for optimizing: its threads, and to keep what it frees for the next step.

    By default the C library gives each freed block of a megabyte or more back to the system, and gets every next one in
    pages that must be cleared and mapped one by one: a sixth of a step at 512x512. `release_free_memory` still gives
    back what a step has no use for.

    Args:
        threads: 0 for as many as the process may use.
    """
    torch.set_num_threads(threads or available_threads())
    # Kept blocks leave gaps that larger ones do not fit, and nearly double what they take. Of larger ones there are
    # few, and at their size to get them page by page costs nothing that can be measured.
    _keep_blocks(KEPT_BLOCK)


@contextlib.contextmanager
def lean_memory() -> Iterator[None]:
    """Lets freed memory go at once meanwhile, for what is done but once: slower, and without gaps."""
    release_free_memory()
    _keep_blocks(_SMALL_BLOCK)
    try:
        yield
    finally:
        _keep_blocks(KEPT_BLOCK)
        release_free_memory()


def _keep_blocks(size: int) -> None:
    """Has the C library keep freed blocks of less than so many bytes."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            library.mallopt(_M_MMAP_THRESHOLD, size)
            library.mallopt(_M_TRIM_THRESHOLD, -1)


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether the device computes convolutions in bfloat16 natively, and faster than in float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Of CPUs those with matrix units (AMX). AVX512's own bfloat16 is twice as fast as direct convolutions in float32,
    # but those of `winograd` are twice as fast again.
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(supported and supported())


def fastest_dtype(device: torch.device) -> torch.dtype:
    """The arithmetic in which the device computes convolutions fastest: bfloat16 or float32."""
    return torch.bfloat16 if has_native_bfloat16(device) else torch.float32


def release_free_memory() -> None:
    """Gives the system back what loading and extracting have freed, where the C library would keep it (glibc)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


class Memory:
    """The memory of a device, as this process sees it, in bytes.

    Args:
        limit: most that this process may hold; None for what the device has.
    """

    def __init__(self, device: torch.device, limit: int | None = None) -> None:
        self._device = device
        self._limit = limit

    def resident(self) -> int:
        """What this process holds."""
        if self._device.type == "cuda":
            return torch.cuda.memory_reserved(self._device)
        return psutil.Process().memory_info().rss

    def available(self) -> int:
        """What it holds and what it could still have."""
        if self._device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self._device)
        else:
            free = min(psutil.virtual_memory().available, _free_in_container())
        there = self.resident() + free
        return there if self._limit is None else min(there, self._limit)


def _free_in_container() -> int:
    """What a control group leaves (version 2; a container's limit is below its machine's memory)."""
    try:
        folder = Path("/sys/fs/cgroup")
        limit = (folder / "memory.max").read_text().strip()
        return sys.maxsize if limit == "max" else int(limit) - int((folder / "memory.current").read_text())
    except (OSError, ValueError):
        return sys.maxsize
