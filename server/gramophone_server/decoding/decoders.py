"""The decoder processes, as the front sees them: they start when needed, leave when idle, and can be killed."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..settings import Limits
from .messages import Cut, Header, PictureError, Pixels
from .turns import SMALL, Turns

log = logging.getLogger(__name__)

# Seconds of computing for a file, and for each million of its pixels; and by the clock, in a multiple of that.
_SECONDS, _SECONDS_A_MILLION, _PATIENCE = 1.0, 0.25, 10.0
_IDLE = 20.0
_LONGEST_ANSWER = 1 << 20


class DecodersError(Exception):
    """No picture can be decoded now; the message says why."""


class Decoders:
    """Decodes picture files in processes of their own.

    Args:
        max_pixels: most of a picture.
        memory: bytes that the pictures that are being decoded may take together.
        places: how many are decoded at once; by default as many as there are processors, 2 to 4.
    """

    def __init__(self, max_pixels: int, memory: int = Limits.decode_memory, places: int = 0) -> None:
        self._max_pixels = max_pixels
        self._memory = memory
        self._turns = Turns(places or max(2, min(4, os.cpu_count() or 2)), memory)
        self._idle: list[_Decoder] = []
        self._alive: set[_Decoder] = set()
        self._closed = False

    async def headers(self, files: Sequence[Path], client: str) -> list[Header | PictureError]:
        """The headers of files, or why they are not read; for a client, who has to take turns with others.

        Raises:
            DecodersError: no decoder can be had.
            OSError: a file cannot be read.
        """
        question = {"ask": "headers", "files": [str(file) for file in files], "max_pixels": self._max_pixels}
        seconds = _SECONDS * len(files)
        try:
            answer = await self._ask(question, client, seconds, SMALL)
        except PictureError as error:
            if len(files) > 1:
                # One of them: the others are good.
                return [found for file in files for found in await self.headers([file], client)]
            return [error]
        return [self._header(values) for values in answer["headers"]]

    async def cut(
        self, file: Path, header: Header, cut: Cut, folder: Path, client: str, *, durable: bool = True
    ) -> Pixels:
        """Decodes a file and writes its pixels into a folder.

        Args:
            durable: whether they are on the disk itself when this returns.

        Raises:
            PictureError: it cannot be decoded, or not within the time and the memory that there are for its size.
            DecodersError: no decoder can be had.
            OSError: the file cannot be read, or the pixels not be written.
        """
        question = {
            "ask": "cut", "file": str(file), "folder": str(folder), "max_pixels": self._max_pixels,
            "width": cut.width, "height": cut.height, "region": cut.region, "durable": durable,
        }  # fmt: skip
        made = cut.width * cut.height
        seconds = _SECONDS + _SECONDS_A_MILLION * (header.pixels + made) / 1e6
        # Scaled along one axis it is there beside what it is scaled from, and beside what it becomes.
        between = 4 * max(header.pixels + cut.width * header.height, cut.width * header.height + made)
        memory = max(header.memory, between)
        if memory > self._memory:
            raise PictureError(
                f"would take {memory / 2**20:,.0f} MiB to scale from {header.width}x{header.height} to "
                f"{cut.width}x{cut.height}, but this server gives a picture at most {self._memory / 2**20:,.0f}; scale "
                "it first, or cut it to the shape that is wanted"
            )
        values = await self._ask(question, client, seconds, memory)
        return Pixels(str(values["blob"]), bool(values["black"]), bool(values["source_black"]), str(values["warning"]))

    async def close(self) -> None:
        """Ends all decoders, whatever they are at."""
        self._closed = True
        self._idle.clear()
        for decoder in self._alive:
            decoder.leaving.cancel()
            decoder.kill()
        await asyncio.gather(*(decoder.gone() for decoder in self._alive))

    def _header(self, values: dict[str, Any]) -> Header | PictureError:
        if "refused" in values:
            return PictureError(str(values["refused"]))
        header = Header(int(values["width"]), int(values["height"]), int(values["memory"]), str(values["sha256"]))
        if header.memory > self._memory:
            return PictureError(
                f"would take {header.memory / 2**20:,.0f} MiB to decode, but this server gives a picture at most "
                f"{self._memory / 2**20:,.0f}; scale it down first, or save it as a baseline JPEG or a PNG"
            )
        return header

    async def _ask(self, question: dict[str, Any], client: str, seconds: float, memory: int) -> dict[str, Any]:
        question |= {"seconds": seconds, "memory": memory}
        async with self._turns.one(client, memory):
            try:
                return await self._ask_one(question)
            except _KilledError:
                # Not by its own bounds: perhaps by the system, for the sake of something else.
                with contextlib.suppress(_KilledError):
                    return await self._ask_one(question)
        raise DecodersError("a process that decodes pictures was killed twice; try again later")

    async def _ask_one(self, question: dict[str, Any]) -> dict[str, Any]:
        decoder = await self._one()
        try:
            answer = await decoder.ask(question)
        finally:
            if decoder.answers and not self._closed:
                self._rest(decoder)
            else:
                decoder.kill()
        if "refused" in answer:
            raise PictureError(str(answer["refused"]))
        if "failed" in answer:
            raise OSError(answer["errno"], str(answer["failed"]))
        return answer

    async def _one(self) -> "_Decoder":
        while self._idle:
            decoder = self._idle.pop()
            decoder.leaving.cancel()
            if decoder.answers:
                return decoder
        if self._closed:
            raise DecodersError("the server is shutting down")
        decoder = await _Decoder.start()
        self._alive = {known for known in self._alive if not known.ended} | {decoder}
        return decoder

    def _rest(self, decoder: "_Decoder") -> None:
        self._idle.append(decoder)

        def leave() -> None:
            self._idle.remove(decoder)
            decoder.kill()

        decoder.leaving = asyncio.get_running_loop().call_later(_IDLE, leave)


class _KilledError(Exception):
    """A decoder was killed by somebody else."""


class _Decoder:
    """A decoder process.

    Attributes:
        answers: whether it can be asked.
        leaving: its end, if it stays idle.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._asked = False
        self.leaving: asyncio.Handle = asyncio.get_running_loop().call_soon(lambda: None)

    @classmethod
    async def start(cls) -> "_Decoder":
        try:
            # Its own group: Ctrl-C in a terminal reaches the front alone.
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gramophone_server.decoding", process_group=0, limit=_LONGEST_ANSWER,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            log.error("no decoder can be started: %s", error)
            raise DecodersError(f"the server cannot start a process to decode pictures: {error.strerror}") from error
        return cls(process)

    @property
    def answers(self) -> bool:
        return not self._asked and self._process.returncode is None

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None

    async def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Its answer; without one it cannot be asked again."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._asked = True
        seconds = question["seconds"]
        try:
            async with asyncio.timeout(_PATIENCE * (1 + seconds)):
                self._process.stdin.write(json.dumps(question).encode() + b"\n")
                await self._process.stdin.drain()
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise PictureError(f"is not decoded within {_PATIENCE * (1 + seconds):.0f} s; scale it down") from None
        except ConnectionError:
            line = b""
        if not line.endswith(b"\n"):
            raise self._ended(await self._process.wait(), seconds)
        self._asked = False
        answer: dict[str, Any] = json.loads(line)
        return answer

    def kill(self) -> None:
        """Ends it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def gone(self) -> None:
        """Waits for its end."""
        await self._process.wait()

    def _ended(self, code: int, seconds: float) -> Exception:
        if code == -signal.SIGPROF:
            return PictureError(
                f"takes more than {seconds:.0f} s of computing to decode, too long for its size; save it anew"
            )
        if code == -signal.SIGKILL:
            return _KilledError()
        log.warning("a decoder process ended with %d at a picture", code)
        return PictureError("cannot be decoded: it makes the decoder fail")
