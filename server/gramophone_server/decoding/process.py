"""A decoder process: answers one question after the other, each within bounds on its memory and its computing time.

Questions and answers are lines of JSON: a decoder that a hostile file has taken over can send the front only values.
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
from .messages import Header, PictureError
from .pictures import cut, decode

if sys.platform != "win32":
    import resource

# Of address space, beside what a file is said to take: for libraries' own buffers.
_SLACK = 96 << 20
_MOST_FILE, _MOST_FILES = 1 << 30, 64
# Of Linux' prctl.h.
_PR_SET_PDEATHSIG = 1


class DecoderProcess:
    """Answers questions from one file in another."""

    def __init__(self, questions: IO[bytes], answers: IO[bytes]) -> None:
        self._questions = questions
        self._answers = answers
        _restrict()

    def run(self) -> None:
        """Answers until the questions end."""
        for line in self._questions:
            self._answers.write(json.dumps(answer(json.loads(line))).encode() + b"\n")
            self._answers.flush()


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """The answer to a question of `Decoders`, within the bounds that it sets."""
    try:
        # Before the bounds: what libraries take is none of a file's doing.
        heif.prepare_for([question["file"]] if "file" in question else question["files"])
        with _bounded(question["seconds"], question["memory"]):
            if question["ask"] == "headers":
                return {"headers": _headers(question["files"], question["max_pixels"])}
            return _cut(question)
    except PictureError as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"refused": "takes more memory to decode than its header says; save it anew"}
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


def _cut(question: dict[str, Any]) -> dict[str, Any]:
    with open(question["file"], "rb") as file:
        image, warning = decode(file, question["max_pixels"])
    size, durable = (question["width"], question["height"]), question["durable"]
    folder = Path(question["folder"])
    return asdict(cut(image, *size, question["region"], folder, durable=durable, warning=warning))


@contextmanager
def _bounded(seconds: float, memory: int) -> Iterator[None]:
    """Has the system end this process after so many seconds of computing, and refuse it more than so many bytes."""
    if sys.platform == "win32":
        yield
        return
    unlimited = resource.RLIM_INFINITY, resource.RLIM_INFINITY
    # Its default is to end the process.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    if (held := _address_space()) is not None:
        resource.setrlimit(resource.RLIMIT_AS, (held + memory + _SLACK, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, unlimited)


def _address_space() -> int | None:
    """Bytes of address space that this process has; None where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return None


def _restrict() -> None:
    """What holds for the process's whole life."""
    # A Ctrl-C is meant for the front, which ends its decoders.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "win32":
        return
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for limit, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, _MOST_FILE),
        (resource.RLIMIT_NOFILE, _MOST_FILES),
    ):
        _, hard = resource.getrlimit(limit)
        resource.setrlimit(limit, (most if hard < 0 else min(most, hard),) * 2)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:
            os._exit(0)  # The front has gone already.
