"""The device that the engine runs on: opening it, checking it, its memory and its fastest arithmetic."""

import contextlib
import ctypes
import os
import platform
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import torch

from .cost import KEPT_BLOCK

# Parameters of `mallopt`, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_SMALL_BLOCK = 1 << 20
# Held while a CUDA graph is recorded.
_recording = threading.RLock()


class DeviceError(Exception):
    """A device cannot be used; the message says why."""


def open_device(name: str) -> torch.device:
    """Returns the device "cpu", "cuda" or "cuda:N", after a test computation on it.

    Raises:
        DeviceError: there is no such device, or the test computation fails.
    """
    try:
        device = torch.device("cuda:0" if name == "cuda" else name)
        if device.type == "cuda" and torch.cuda.is_available() and device.index >= (count := torch.cuda.device_count()):
            present = f"cuda:0 to cuda:{count - 1}" if count > 1 else "only cuda:0"
            raise DeviceError(f"this machine has {present}")
        self_test(device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(_first_sentence(error)) from error
    return device


def _first_sentence(error: Exception) -> str:
    """Returns the first sentence of an error, without torch's installation advice."""
    line = (str(error) or type(error).__name__).splitlines()[0]
    return line.split(". ")[0].rstrip(".")


def self_test(device: torch.device) -> None:
    """Runs a small computation on a device and checks its result.

    Raises:
        DeviceError: the result is wrong.
        RuntimeError: the computation fails.
    """
    ones = torch.ones(1, 3, 8, 8, device=device)
    found = ones.sum()
    if device.type != "cpu":
        # Separate libraries (cuDNN, cuBLAS) compute the convolution and the matrix product. On a CPU, the first job
        # loads the libraries, and the memory prediction counts them with the job.
        kernel = torch.ones(3, 3, 3, 3, device=device)
        found = (torch.conv2d(ones, kernel, padding=1) + ones @ torch.ones(8, 8, device=device)).amax()
    expected = 192.0 if device.type == "cpu" else 35.0
    if found.item() != expected:
        raise DeviceError(f"a test computation returned {found.item():g} instead of {expected:g}")


def device_name(device: torch.device) -> str:
    """Returns the device's model name; devices of one name have the same speed."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    # Virtual machines may hide instructions: processors of one name can differ in their instruction sets.
    return f"{processor()}, {torch.backends.cpu.get_cpu_capability()}"


def processor() -> str:
    """Returns the name of the CPU."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()  # Only some architectures of Linux have a "model name".


def set_up_cuda(device: torch.device, limit: int | None = None) -> None:
    """Sets up a GPU for optimization: exact float32, the same bytes at each run, and a limit of its memory.

    Args:
        device: the GPU.
        limit: maximum bytes that torch may hold on it; None for all.
    """
    # TF32 rounds the factors of products to 11 bits: "float32" would be no more exact than bfloat16.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    if limit is not None:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device)


def available_threads() -> int:
    """Returns the number of CPU cores that this process may use; in a container it can be less than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_up_cpu(threads: int = 0) -> None:
    """Sets up this process for optimization: the number of threads, and a heap that keeps freed memory for later steps.

    By default the C library returns each freed block of about a megabyte or more to the system, and each new block
    consists of pages that the system must clear and map: this takes a sixth of a step at 512x512 pixels.
    `release_free_memory` still returns the memory that the steps do not need.

    Args:
        threads: number of CPU threads; 0 for all cores that the process may use.
    """
    torch.set_num_threads(threads or available_threads())
    # Kept blocks leave gaps that larger blocks do not fit into, and nearly double the memory. So keep only smaller
    # blocks: there are few large ones, and mapping their pages again has no measurable cost.
    _keep_blocks(KEPT_BLOCK)


@contextlib.contextmanager
def lean_memory() -> Iterator[None]:
    """Returns freed memory to the system at once inside the `with` block: slower, but the heap gets no gaps.

    Use it for work that is done only once, such as extracting the targets.
    """
    release_free_memory()
    _keep_blocks(_SMALL_BLOCK)
    try:
        yield
    finally:
        _keep_blocks(KEPT_BLOCK)
        release_free_memory()


def share_heap() -> None:
    """Makes all threads that begin later use the heap of the first one; call this before another thread begins.

    A heap of each thread would have gaps of its own, and would be returned to the system between the steps.
    """
    _set_heap(_M_ARENA_MAX, 1)


def _keep_blocks(size: int) -> None:
    """Makes the C library keep freed blocks of less than `size` bytes."""
    _set_heap(_M_MMAP_THRESHOLD, size)
    _set_heap(_M_TRIM_THRESHOLD, -1)


def _set_heap(parameter: int, value: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(parameter, value)


def narrowest_winograd() -> int:
    """Returns the fewest channels with which Winograd convolutions are faster than direct ones on this CPU.

    With AVX-512, direct convolutions are twice as fast as with AVX2, but the memory traffic of the transforms is not.
    """
    return 48 if torch.backends.cpu.get_cpu_capability() == "AVX2" else 64


def has_native_bfloat16(device: torch.device) -> bool:
    """Returns whether the device computes convolutions natively in bfloat16, and faster than in float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Only CPUs with matrix units (AMX). With AVX512, bfloat16 is twice as fast as direct convolutions in float32, but
    # the float32 convolutions of `winograd` are again twice as fast.
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(supported and supported() and _may_use_matrix_units())


def _may_use_matrix_units() -> bool:
    """Returns whether oneDNN's environment variables, which can limit its instruction set, allow matrix units."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "ALL"
    return limit.upper() in ("ALL", "DEFAULT") or "AMX" in limit.upper()


def fastest_dtype(device: torch.device) -> torch.dtype:
    """Returns the type in which the device computes convolutions fastest: bfloat16 or float32."""
    return torch.bfloat16 if has_native_bfloat16(device) else torch.float32


def release_free_memory() -> None:
    """Returns freed memory that torch's allocator of a GPU and the C library (glibc) would otherwise keep."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        # ONNX Runtime and other processes cannot use what torch's allocator keeps.
        with _recording:
            torch.cuda.empty_cache()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def memory_locked() -> Iterator[None]:
    """Makes other threads wait with `release_free_memory`: returning a GPU's memory would spoil a recording."""
    with _recording:
        yield


class Memory:
    """The memory of a device that this process uses and can use, in bytes.

    Args:
        device: the device; for the CPU, the memory is that of the host.
        limit: maximum that this process and those beside it may hold; None for all memory of the device.
        further: further devices of the same kind that must have as much memory.

    Attributes:
        beside: ids of processes whose memory this process may get when they end.
    """

    def __init__(self, device: torch.device, limit: int | None = None, further: Sequence[torch.device] = ()) -> None:
        self._device = device
        self._limit = limit
        self._gpus = [one for one in (device, *further) if one.type == "cuda"]
        self.beside: tuple[int, ...] = ()

    def resident(self) -> int:
        """Returns the bytes that this process holds; 0 where the system does not tell."""
        if self._device.type == "cuda":
            return torch.cuda.memory_reserved(self._device)
        return psutil.Process().memory_info().rss

    def available(self) -> int:
        """Returns the bytes that this process and those beside it hold, plus those that they can still allocate.

        With several GPUs, these are the bytes of the one with the fewest.
        """
        if self._gpus:
            there = min(torch.cuda.memory_reserved(gpu) + torch.cuda.mem_get_info(gpu)[0] for gpu in self._gpus)
        else:
            there = self.resident() + min(psutil.virtual_memory().available, _free_in_container())
        there += sum(map(_resident, self.beside))
        return there if self._limit is None else min(there, self._limit)


def _resident(pid: int) -> int:
    """Returns the bytes of main memory that a process holds; 0 if it has ended."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _free_in_container() -> int:
    """Returns the bytes left in this process's control group (cgroup v2), such as a container's memory limit."""
    try:
        folder = Path("/sys/fs/cgroup")
        limit = (folder / "memory.max").read_text().strip()
        return sys.maxsize if limit == "max" else int(limit) - int((folder / "memory.current").read_text())
    except (OSError, ValueError):
        return sys.maxsize
