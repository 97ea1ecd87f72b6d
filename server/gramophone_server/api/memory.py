"""Returns freed memory to the operating system after large requests."""

import asyncio
import contextlib
import ctypes
import gc
import sys
from pathlib import Path

# Constants of glibc's malloc.h.
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
# malloc allocates blocks of this size and larger by mmap, and returns them to the system at free.
_BLOCK = 256 << 10
_ARENAS = 2
# Seconds between two checks, and bytes of growth above which memory is trimmed.
_EVERY, _GROWTH = 5.0, 8 << 20


def set_up_allocator() -> None:
    """Makes glibc's malloc keep little freed memory. Must be called before the process starts threads."""
    if (library := _glibc()) is not None:
        library.mallopt(_M_MMAP_THRESHOLD, _BLOCK)
        library.mallopt(_M_ARENA_MAX, _ARENAS)


async def trim_memory_regularly() -> None:
    """Trims memory whenever the process has grown by more than `_GROWTH` bytes. Runs until it is canceled."""
    if (library := _glibc()) is None:
        return
    # Objects that exist now live as long as the process: exclude them from garbage collection.
    gc.freeze()
    least = _resident()
    while True:
        await asyncio.sleep(_EVERY)
        if _resident() > least + _GROWTH:
            # Exceptions keep their stack frames alive, with the data in them, until a collection.
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
    """Returns the resident memory of this process in bytes; 0 where the system does not report it."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    return 0
