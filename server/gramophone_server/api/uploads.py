"""Receives uploads: picture files in pieces, written to disk as they arrive."""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from gramophone.v1 import job_service_pb2 as pb

from ..decoding.staging import Staging
from ..files import sync_file
from ..reading.budgets import EVICTED
from ..reading.request_images import on_disk
from ..rpc.violations import BusyError, Checker, LimitReachedError
from ..storage.store import JobStore

_SHA256 = re.compile(r"[0-9a-f]{64}")
# Maximum seconds between two pieces. The whole file must arrive within _START seconds plus its size / _MIN_RATE.
_PAUSE, _START, _MIN_RATE = 30.0, 30.0, 32 << 10
# Seconds: an upload is not evicted before _MIN_AGE; a new upload waits up to _WAIT for a slot, polling every _POLL.
_MIN_AGE, _WAIT, _POLL = 1.0, 5.0, 0.1


@dataclass(eq=False)
class _Upload:
    """An upload in progress."""

    client: str
    begun: float
    bytes: int = 0
    evicted: bool = False
    deadline: asyncio.Timeout | None = None

    def rate(self, now: float) -> float:
        """Returns the mean rate since the upload began, in bytes per second."""
        return self.bytes / max(1e-3, now - self.begun)


class Uploads:
    """Receives uploads and stores their files.

    Args:
        max_bytes: maximum size of a file.
        limit: maximum uploads in progress; one client may have half of them. If an upload waits for a slot, the slowest
            upload is evicted.
    """

    def __init__(self, store: JobStore, max_bytes: int, limit: int) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._limit = limit
        self._running: set[_Upload] = set()

    async def take(
        self, requests: AsyncIterator[pb.UploadImageRequest], owner: str, client: str
    ) -> pb.UploadImageResponse:
        """Receives and stores the file of one call.

        Raises:
            InvalidRequestError: the call has no message, or the file does not match its SHA-256.
            LimitReachedError: too many uploads are in progress.
            QuotaExceededError: the client's storage quota is full.
            StorageError: the file cannot be stored.
            TimeoutError: the client sends too slowly.
        """
        await self._wait_for_slot(client)
        with self._slot(client) as upload:
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
                check.add("sha256", "is missing: the stream has no message")
            elif file.sha256 != name:
                check.add("sha256", f"is {name}, but the received file has {file.sha256}; send the file again")
            check.stop_if_wrong()
            with on_disk():
                await asyncio.to_thread(file.sync)
            await self._store.add_upload_file(owner, name, upload.bytes, staging.path / name)
            return pb.UploadImageResponse(sha256=name, size=upload.bytes)

    def _count(self, upload: _Upload, size: int, check: Checker) -> None:
        upload.bytes += size
        if upload.bytes > self._max_bytes:
            check.add("data", f"is more than {self._max_bytes:,} bytes, the maximum of this server")
            check.stop_if_wrong()
        now = asyncio.get_running_loop().time()
        if upload.deadline is not None and not upload.evicted:
            upload.deadline.reschedule(min(now + _PAUSE, upload.begun + _START + upload.bytes / _MIN_RATE))

    async def _wait_for_slot(self, client: str) -> None:
        """Waits until the client may start an upload."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _WAIT
        while not self._has_slot(client):
            if loop.time() > until:
                raise LimitReachedError(f"{self._limit} uploads are in progress, the maximum of this server", 2.0)
            self._evict(loop.time())
            await asyncio.sleep(_POLL)

    def _has_slot(self, client: str) -> bool:
        own = sum(upload.client == client for upload in self._running)
        return len(self._running) < self._limit and own < max(1, self._limit // 2)

    def _evict(self, now: float) -> None:
        """Ends the slowest upload, if all slots are taken."""
        old = [upload for upload in self._running if now - upload.begun > _MIN_AGE and not upload.evicted]
        if old and len(self._running) >= self._limit:
            slowest = min(old, key=lambda upload: upload.rate(now))
            slowest.evicted = True
            if slowest.deadline is not None:
                slowest.deadline.reschedule(now)

    @contextmanager
    def _slot(self, client: str) -> Iterator[_Upload]:
        upload = _Upload(client, asyncio.get_running_loop().time())
        self._running.add(upload)
        try:
            yield upload
        finally:
            self._running.discard(upload)


class _File(contextlib.AbstractContextManager["_File"]):
    """A file in the staging folder, written and hashed piece by piece."""

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
        """Flushes the file to disk (fsync)."""
        if self._file is not None:
            sync_file(self._file)

    def __exit__(self, *_: Any) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()


def _name(request: pb.UploadImageRequest, check: Checker) -> str:
    if not _SHA256.fullmatch(request.sha256):
        check.add("sha256", "must be the SHA-256 of the file, 64 lower-case hexadecimal digits")
    check.stop_if_wrong()
    return request.sha256
