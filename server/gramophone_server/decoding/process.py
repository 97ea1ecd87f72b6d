"""A decoder process: handles one request after the other, each within limits on memory and CPU time.

Requests and responses are lines of JSON, not pickles: a decoder that a hostile file has taken over can send only data.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from . import heif
from .header import read_header
from .messages import Header, PictureError, PixelSpec
from .pictures import decode, write_pixels

if sys.platform != "win32":
    import resource

# Bytes of address space for the libraries' own buffers, in addition to the estimate for the file.
_SLACK = 96 << 20
# Limits of the process: bytes of a file that it writes, and open files.
_MAX_FILE_BYTES, _MAX_OPEN_FILES = 1 << 30, 64
# From Linux's prctl.h.
_PR_SET_PDEATHSIG = 1


class DecoderProcess:
    """Reads requests from one file and writes responses to another."""

    def __init__(self, requests: IO[bytes], responses: IO[bytes]) -> None:
        self._requests = requests
        self._responses = responses
        _restrict()

    def run(self) -> None:
        """Handles requests until the file ends."""
        for line in self._requests:
            self._responses.write(json.dumps(respond(json.loads(line))).encode() + b"\n")
            self._responses.flush()


def respond(request: dict[str, Any]) -> dict[str, Any]:
    """Returns the response to a request of `Decoders`, within the request's limits."""
    try:
        # Load libraries before the limits are set: the file's limits do not cover them.
        heif.prepare_for([request["file"]] if "file" in request else request["files"])
        if request["method"] == "regions":
            from . import regions  # noqa: F401 - loads numpy
        with _bounded(request["seconds"], request["memory"]):
            if request["method"] == "headers":
                return {"headers": _headers(request["files"], request["max_pixels"])}
            methods = {"regions": _regions, "shrink": _shrink, "decode": _decode, "encode": _encode}
            return methods[request["method"]](request)
    except PictureError as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"refused": "takes more memory to decode than its header says; save it again"}
    except OSError as error:
        return {"failed": error.strerror or str(error), "errno": error.errno}


def _headers(files: Sequence[str], max_pixels: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in files:
        try:
            with open(name, "rb") as file:
                header: Header = read_header(file, max_pixels)
            found.append(asdict(header))
        except PictureError as error:
            found.append({"refused": str(error)})
    return found


def _decode(request: dict[str, Any]) -> dict[str, Any]:
    with open(request["file"], "rb") as file:
        images = [decode(file, request["max_pixels"], alpha=request["kind"] == "rgba")]
    width, height, kind, folder = request["width"], request["height"], request["kind"], Path(request["folder"])
    durable, warning = request["durable"], images[0][1]
    # Keep no reference to the picture, also none in a tuple of arguments, so that it is freed when it has been scaled.
    return asdict(write_pixels(images.pop()[0], width, height, kind, folder, durable=durable, warning=warning))


def _regions(request: dict[str, Any]) -> dict[str, Any]:
    from .regions import write_regions

    with open(request["file"], "rb") as file:
        image, warning = decode(file, request["max_pixels"])
    width, height, folder = request["width"], request["height"], Path(request["folder"])
    return asdict(write_regions(image, width, height, folder, durable=request["durable"], warning=warning))


def _shrink(request: dict[str, Any]) -> dict[str, Any]:
    from .shrinking import write_small

    with open(request["file"], "rb") as file:
        image, _ = decode(file, request["max_pixels"], alpha=True)
    return asdict(write_small(image, request["size"], Path(request["folder"])))


def _encode(request: dict[str, Any]) -> dict[str, Any]:
    from .encoding import write_png

    spec = PixelSpec(request["width"], request["height"], request["kind"])
    return {"file": write_png(Path(request["file"]), spec, Path(request["folder"]))}


@contextmanager
def _bounded(seconds: float, memory: int) -> Iterator[None]:
    """Limits the block: after `seconds` of CPU time SIGPROF ends the process; more than `memory` bytes are refused."""
    if sys.platform == "win32":
        yield
        return
    unlimited = resource.RLIM_INFINITY, resource.RLIM_INFINITY
    # The default action of SIGPROF ends the process.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    if (held := _address_space()) is not None:
        resource.setrlimit(resource.RLIMIT_AS, (held + memory + _SLACK, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, unlimited)


def _address_space() -> int | None:
    """Returns the bytes of address space in use; None where /proc is missing."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return None


def _restrict() -> None:
    """Sets the limits that hold for the whole life of the process."""
    # The front handles Ctrl-C and ends its decoders.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "win32":
        return
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for limit, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, _MAX_FILE_BYTES),
        (resource.RLIMIT_NOFILE, _MAX_OPEN_FILES),
    ):
        _, hard = resource.getrlimit(limit)
        resource.setrlimit(limit, (most if hard < 0 else min(most, hard),) * 2)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:
            os._exit(0)  # The front ended before prctl took effect.
