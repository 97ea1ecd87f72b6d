"""Manages decoder processes in the front: starts them on demand, ends idle ones, kills those that take too long."""

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
from .messages import Header, PictureError, Pixels, PixelSpec, Region, Regions, SmallPicture
from .slots import SMALL, DecodeSlots

log = logging.getLogger(__name__)

# CPU seconds per file and per million pixels, and the limit of wall-clock time as a multiple of them.
_SECONDS, _SECONDS_PER_MILLION, _WALL_CLOCK_FACTOR = 1.0, 0.25, 10.0
# CPU seconds and bytes for the regions of a map, which is read at 1024 pixels a side, and bytes per scaled pixel.
_MAP_SECONDS, _MAP_MEMORY, _MAP_BYTES_PER_PIXEL = 5.0, 160 << 20, 8
# Seconds after which an idle decoder process ends.
_IDLE_SECONDS = 20.0
# Bytes of a line of JSON that a decoder process may send.
_MAX_RESPONSE_BYTES = 1 << 20


class DecodersError(Exception):
    """No decoder process is available; the message says why."""


class Decoders:
    """Decodes picture files in decoder processes.

    Args:
        max_pixels: maximum number of pixels of a picture.
        memory: bytes that all pictures together may take while they are being decoded.
        slots: number of pictures that are decoded at once; by default the number of processors, but 2 to 4.
    """

    def __init__(self, max_pixels: int, memory: int = Limits.decode_memory, slots: int = 0) -> None:
        self._max_pixels = max_pixels
        self._memory = memory
        self._slots = DecodeSlots(slots or max(2, min(4, os.cpu_count() or 2)), memory)
        self._idle: list[_Decoder] = []
        self._alive: set[_Decoder] = set()
        self._closed = False

    async def headers(self, files: Sequence[Path], client: str) -> list[Header | PictureError]:
        """Reads the headers of files; returns a PictureError in place of the header of an invalid file.

        Args:
            client: the client that sent the files; slots are shared fairly among clients, see `DecodeSlots`.

        Raises:
            DecodersError: no decoder process is available.
            OSError: a file cannot be read.
        """
        request = {"method": "headers", "files": [str(file) for file in files], "max_pixels": self._max_pixels}
        seconds = _SECONDS * len(files)
        try:
            response = await self._request(request, client, seconds, SMALL)
        except PictureError as error:
            if len(files) > 1:
                # One file made the whole request fail: read each on its own.
                return [found for file in files for found in await self.headers([file], client)]
            return [error]
        return [self._header(values) for values in response["headers"]]

    async def decode(
        self, file: Path, header: Header, spec: PixelSpec, folder: Path, client: str, *, durable: bool = True
    ) -> Pixels:
        """Decodes a file and writes its pixels into a folder.

        Args:
            durable: whether to sync the pixels to the disk.

        Raises:
            PictureError: the file cannot be decoded, or not within the time and the memory allowed for its size.
            DecodersError: no decoder process is available.
            OSError: the file cannot be read, or the pixels cannot be written.
        """
        request = {
            "method": "decode", "file": str(file), "folder": str(folder), "max_pixels": self._max_pixels,
            "width": spec.width, "height": spec.height, "kind": spec.kind, "durable": durable,
        }  # fmt: skip
        scaled = spec.width * spec.height
        seconds = _SECONDS + _SECONDS_PER_MILLION * (header.pixels + scaled) / 1e6
        # Pillow scales one axis at a time, and holds the input and the output of each of the two passes.
        between = 4 * max(header.pixels + spec.width * header.height, spec.width * header.height + scaled)
        memory = max(header.memory, between)
        if memory > self._memory:
            raise PictureError(
                f"would take {memory / 2**20:,.0f} MiB to scale from {header.width}x{header.height} to "
                f"{spec.width}x{spec.height}, but this server allows a picture at most {self._memory / 2**20:,.0f}; "
                "scale it first, or crop it to the shape of the canvas"
            )
        values = await self._request(request, client, seconds, memory)
        black, source_black, alpha = (bool(values[name]) for name in ("black", "source_black", "alpha"))
        return Pixels(str(values["blob"]), black, source_black, str(values["warning"]), alpha)

    async def regions(
        self, file: Path, header: Header, width: int, height: int, folder: Path, client: str, *, durable: bool = True
    ) -> Regions:
        """Finds the regions of a color-coded map, and writes the region of each of width x height pixels into a folder.

        Raises as `decode`, and PictureError if the picture is no map of regions in flat colors.
        """
        request = {
            "method": "regions", "file": str(file), "folder": str(folder), "max_pixels": self._max_pixels,
            "width": width, "height": height, "durable": durable,
        }  # fmt: skip
        scaled = width * height
        seconds = _SECONDS + _MAP_SECONDS + _SECONDS_PER_MILLION * (header.pixels + 4 * scaled) / 1e6
        memory = header.memory + _MAP_MEMORY + _MAP_BYTES_PER_PIXEL * scaled
        values = await self._request(request, client, seconds, min(memory, self._memory))
        found = tuple(Region(str(region["color"]), float(region["area"])) for region in values["regions"])
        return Regions(str(values["blob"]), found, str(values["warning"]))

    async def shrink(self, file: Path, header: Header, size: int, folder: Path, client: str) -> SmallPicture:
        """Writes a copy of a picture whose longest side has at most `size` pixels into a folder.

        Raises as `decode`.
        """
        request = {
            "method": "shrink", "file": str(file), "folder": str(folder), "max_pixels": self._max_pixels, "size": size,
        }  # fmt: skip
        seconds = _SECONDS + _SECONDS_PER_MILLION * header.pixels / 1e6
        # Pillow holds the picture and the output of the first of its two passes.
        memory = header.memory + 4 * size * max(header.width, header.height)
        values = await self._request(request, client, seconds, min(memory, self._memory))
        return SmallPicture(str(values["file"]), values["format"], int(values["width"]), int(values["height"]))

    async def encode(self, pixels: Path, spec: PixelSpec, folder: Path, client: str) -> Path:
        """Writes a file of pixels, which `decode` has written, as a PNG into a folder; returns its path.

        Raises as `decode`.
        """
        request = {
            "method": "encode", "file": str(pixels), "folder": str(folder),
            "width": spec.width, "height": spec.height, "kind": spec.kind,
        }  # fmt: skip
        area = spec.width * spec.height
        seconds = _SECONDS + _SECONDS_PER_MILLION * area / 1e6
        # The bytes of the file, and Pillow's picture, each of at most 4 bytes per pixel.
        memory = 8 * area
        return folder / str((await self._request(request, client, seconds, min(memory, self._memory)))["file"])

    async def close(self) -> None:
        """Kills all decoder processes."""
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
                f"would take {header.memory / 2**20:,.0f} MiB to decode, but this server allows a picture at most "
                f"{self._memory / 2**20:,.0f}; scale it down first, or save it as a baseline JPEG or a PNG"
            )
        return header

    async def _request(self, request: dict[str, Any], client: str, seconds: float, memory: int) -> dict[str, Any]:
        request |= {"seconds": seconds, "memory": memory}
        async with self._slots.hold(client, memory):
            try:
                return await self._request_once(request)
            except _KilledError:
                # SIGKILL is not from the decoder's own limits, perhaps from the OOM killer: retry once.
                with contextlib.suppress(_KilledError):
                    return await self._request_once(request)
        raise DecodersError("a process that decodes pictures was killed twice; try again later")

    async def _request_once(self, request: dict[str, Any]) -> dict[str, Any]:
        decoder = await self._take_decoder()
        try:
            response = await decoder.request(request)
        finally:
            if decoder.ready and not self._closed:
                self._keep_idle(decoder)
            else:
                decoder.kill()
        if "refused" in response:
            raise PictureError(str(response["refused"]))
        if "failed" in response:
            raise OSError(response["errno"], str(response["failed"]))
        return response

    async def _take_decoder(self) -> "_Decoder":
        while self._idle:
            decoder = self._idle.pop()
            decoder.leaving.cancel()
            if decoder.ready:
                return decoder
        if self._closed:
            raise DecodersError("the server is shutting down")
        decoder = await _Decoder.start()
        self._alive = {known for known in self._alive if not known.ended} | {decoder}
        return decoder

    def _keep_idle(self, decoder: "_Decoder") -> None:
        self._idle.append(decoder)

        def leave() -> None:
            self._idle.remove(decoder)
            decoder.kill()

        decoder.leaving = asyncio.get_running_loop().call_later(_IDLE_SECONDS, leave)


class _KilledError(Exception):
    """A decoder process was killed by SIGKILL, which the server did not send."""


class _Decoder:
    """A decoder process.

    Attributes:
        ready: whether the process can take a request.
        leaving: the timer that ends the process if it stays idle.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._busy = False
        self.leaving: asyncio.Handle = asyncio.get_running_loop().call_soon(lambda: None)

    @classmethod
    async def start(cls) -> "_Decoder":
        try:
            # In its own process group, so that Ctrl-C in a terminal signals only the front.
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gramophone_server.decoding", process_group=0, limit=_MAX_RESPONSE_BYTES,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            log.error("no decoder can be started: %s", error)
            raise DecodersError(f"the server cannot start a process to decode pictures: {error.strerror}") from error
        return cls(process)

    @property
    def ready(self) -> bool:
        return not self._busy and self._process.returncode is None

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None

    async def request(self, request: dict[str, Any]) -> dict[str, Any]:
        """Sends a request and returns the response; after an error the process takes no more requests."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._busy = True
        seconds = request["seconds"]
        limit = _WALL_CLOCK_FACTOR * (1 + seconds)
        try:
            async with asyncio.timeout(limit):
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                await self._process.stdin.drain()
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise PictureError(f"takes more than {limit:.0f} s to decode; scale it down") from None
        except ConnectionError:
            line = b""
        if not line.endswith(b"\n"):
            raise self._ended(await self._process.wait(), seconds)
        self._busy = False
        response: dict[str, Any] = json.loads(line)
        return response

    def kill(self) -> None:
        """Kills the process."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def gone(self) -> None:
        """Waits until the process has ended."""
        await self._process.wait()

    def _ended(self, code: int, seconds: float) -> Exception:
        if code == -signal.SIGPROF:
            return PictureError(
                f"takes more than {seconds:.0f} s of CPU time to decode, too long for its size; save it again"
            )
        if code == -signal.SIGKILL:
            return _KilledError()
        log.warning("a decoder process ended with status %d while it decoded a picture", code)
        return PictureError("cannot be decoded: it makes the decoder fail")
