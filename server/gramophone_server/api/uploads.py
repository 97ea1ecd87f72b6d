"""Uploads: picture files that come in pieces, straight to the disk."""

import asyncio
import contextlib
import hashlib
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from gramophone.v1 import job_service_pb2 as pb

from ..decoding.staging import Staging
from ..reading.budgets import EVICTED
from ..reading.request_images import on_disk
from ..rpc.violations import BusyError, Checker, TooMuchError
from ..storage.store import JobStore

_SHA256 = re.compile(r"[0-9a-f]{64}")
# Seconds between two pieces, and in which all have to come: some to begin with, the rest by bytes a second.
_PAUSE, _START, _SLOWEST = 30.0, 30.0, 32 << 10
# Seconds that an upload has in any case, and how long another waits for its place.
_SURE, _WAIT, _LOOK = 1.0, 5.0, 0.1


@dataclass(eq=False)
class _Upload:
    client: str
    begun: float
    bytes: int = 0
    evicted: bool = False
    deadline: asyncio.Timeout | None = None

    def rate(self, now: float) -> float:
        """Bytes a second since its beginning."""
        return self.bytes / max(1e-3, now - self.begun)


class Uploads:
    """Takes uploads in.

    Args:
        most_bytes: of a file.
        most: uploads under way; a client has at most half of them. While another waits, the slowest is ended.
    """

    def __init__(self, store: JobStore, most_bytes: int, most: int) -> None:
        self._store = store
        self._most_bytes = most_bytes
        self._most = most
        self._running: set[_Upload] = set()

    async def take(
        self, requests: AsyncIterator[pb.UploadImageRequest], owner: str, client: str
    ) -> pb.UploadImageResponse:
        """Keeps the file that the messages of a call bring.

        Raises:
            InvalidRequestError: they bring none, or another than they say.
            TooMuchError: too many uploads are under way.
            QuotaExceededError: the client keeps as much as one may.
            StorageError: it cannot be kept.
            TimeoutError: the client pauses for too long.
        """
        await self._room(client)
        with self._place(client) as upload:
            try:
                async with asyncio.timeout(_PAUSE) as upload.deadline:
                    return await self._take(requests, owner, upload)
            except TimeoutError:
                if upload.evicted:
                    raise BusyError(EVICTED, 1.0) from None
                raise

    async def _take(
        self, requests: AsyncIterator[pb.UploadImageRequest], owner: str, upload: _Upload
    ) -> pb.UploadImageResponse:
        check, name = Checker(), ""
        with Staging(self._store.folder.staging) as staging, _File() as file:
            async for request in requests:
                if not name:
                    name = _name(request, check)
                    if (size := await self._store.has_upload(owner, name)) is not None:
                        return pb.UploadImageResponse(sha256=name, size=size)
                    await self._store.check_room(owner)
                self._count(upload, len(request.data), check)
                with on_disk():
                    await asyncio.to_thread(file.write, staging, name, request.data)
            if not name:
                check.add("sha256", "is missing: there was no message")
            elif file.sha256 != name:
                check.add("sha256", f"is {name}, but what came has the hash {file.sha256}; send the file again")
            check.stop_if_wrong()
            with on_disk():
                await asyncio.to_thread(file.sync)
            await self._store.add_upload_file(owner, name, upload.bytes, staging.path / name)
            return pb.UploadImageResponse(sha256=name, size=upload.bytes)

    def _count(self, upload: _Upload, size: int, check: Checker) -> None:
        upload.bytes += size
        if upload.bytes > self._most_bytes:
            check.add("data", f"is more than {self._most_bytes:,} bytes, the most this server takes")
            check.stop_if_wrong()
        now = asyncio.get_running_loop().time()
        if upload.deadline is not None and not upload.evicted:
            upload.deadline.reschedule(min(now + _PAUSE, upload.begun + _START + upload.bytes / _SLOWEST))

    async def _room(self, client: str) -> None:
        """Waits until there is room for an upload."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _WAIT
        while not self._has_room(client):
            if loop.time() > until:
                raise TooMuchError(f"{self._most} uploads are under way, as many as this server takes at once", 2.0)
            self._evict(loop.time())
            await asyncio.sleep(_LOOK)

    def _has_room(self, client: str) -> bool:
        own = sum(upload.client == client for upload in self._running)
        return len(self._running) < self._most and own < max(1, self._most // 2)

    def _evict(self, now: float) -> None:
        old = [upload for upload in self._running if now - upload.begun > _SURE and not upload.evicted]
        if old and len(self._running) >= self._most:
            slowest = min(old, key=lambda upload: upload.rate(now))
            slowest.evicted = True
            if slowest.deadline is not None:
                slowest.deadline.reschedule(now)

    @contextmanager
    def _place(self, client: str) -> Iterator[_Upload]:
        upload = _Upload(client, asyncio.get_running_loop().time())
        self._running.add(upload)
        try:
            yield upload
        finally:
            self._running.discard(upload)


class _File(contextlib.AbstractContextManager["_File"]):
    """A file that is written piece by piece."""

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self._hashing = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._hashing.hexdigest()

    def write(self, staging: Staging, name: str, data: bytes) -> None:
        self._file = self._file or (staging.path / name).open("wb")
        self._hashing.update(data)
        self._file.write(data)

    def sync(self) -> None:
        """Puts what was written on the disk itself."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())

    def __exit__(self, *_: Any) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()


def _name(request: pb.UploadImageRequest, check: Checker) -> str:
    if not _SHA256.fullmatch(request.sha256):
        check.add("sha256", "must be the SHA-256 of the file, 64 lower-case hexadecimal digits")
    check.stop_if_wrong()
    return request.sha256
