"""Gives memory back to the system once it is no longer needed: large requests come and go."""

import asyncio
import contextlib
import ctypes
import gc
import sys
from pathlib import Path

# Of glibc's malloc.h.
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
# Blocks from this size on go back to the system by themselves.
_BLOCK = 256 << 10
_ARENAS = 2
# Seconds between looks, and bytes of growth from which on it is worth the time.
_EVERY, _GROWTH = 5.0, 8 << 20


def set_up_allocator() -> None:
    """Has the C library keep little of what this process frees (glibc); to be called before threads start."""
    if (library := _glibc()) is not None:
        library.mallopt(_M_MMAP_THRESHOLD, _BLOCK)
        library.mallopt(_M_ARENA_MAX, _ARENAS)


async def give_back_often() -> None:
    """Gives free memory back to the system for as long as the process is larger than at first, for ever."""
    if (library := _glibc()) is None:
        return
    # What is there now stays; the collector need not look at it again.
    gc.freeze()
    least = _resident()
    while True:
        await asyncio.sleep(_EVERY)
        if _resident() > least + _GROWTH:
            # Errors hold the frames that they came through, and what is in those, until it comes by.
            gc.collect()
            await asyncio.to_thread(library.malloc_trim, 0)
        least = min(least, _resident())


def _glibc() -> ctypes.CDLL | None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            if hasattr(library, "malloc_trim") and hasattr(library, "mallopt"):
                return library
    return None


def _resident() -> int:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    return 0
