"""Receives uploads: picture files in pieces, written to disk as they arrive."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gramophone.v1 import job_service_pb2 as pb

from ..reading.budgets import EVICTED
from ..reading.request_images import on_disk
from ..reading.rules import read_field
from ..rpc.violations import BusyError, Checker, InvalidRequestError, LimitReachedError
from ..storage.errors import StorageError
from ..storage.quotas import QuotaExceededError
from ..storage.store import JobStore
from .broken_off import BrokenOffUploads

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
        self._broken_off = BrokenOffUploads()

    async def take(
        self, requests: AsyncIterator[pb.UploadImageRequest], owner: str, client: str
    ) -> pb.UploadImageResponse:
        """Receives and stores the file of one call.

        Raises:
            InvalidRequestError: the call has no message, or the file does not match its SHA-256.
            ConflictError: the call continues an upload at a position where the server cannot.
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

    async def known(self, name: str, owner: str) -> tuple[int, bool] | None:
        """Returns how many bytes of a file the server has, and whether it has all of them; None if it has nothing.

        Raises:
            InvalidRequestError: the name is no SHA-256.
            StorageError: the storage cannot be used.
        """
        check = Checker()
        _check_name(name, check)
        if (size := await self._store.uploads.has(owner, name)) is not None:
            return size, True
        kept = self._broken_off.size(owner, name)
        return None if kept is None else (kept, False)

    async def _take(
        self, requests: AsyncIterator[pb.UploadImageRequest], owner: str, upload: _Upload
    ) -> pb.UploadImageResponse:
        check, name, file = Checker(), "", None
        try:
            async for request in requests:
                if file is None:
                    name = request.sha256
                    offset = _read_first(request, check)
                    if (size := await self._store.uploads.has(owner, name)) is not None:
                        return pb.UploadImageResponse(sha256=name, size=size)
                    await self._store.check_room(owner)
                    file = self._broken_off.take(owner, name, offset, self._store.folder.staging)
                self._count(upload, file.size + len(request.data), len(request.data), check)
                with on_disk():
                    await asyncio.to_thread(file.write, request.data)
            if file is None:
                check.add("sha256", "is missing: the stream has no message")
                check.stop_if_wrong()
                raise AssertionError("unreachable")
            if file.sha256 != name:
                check.add("sha256", f"is {name}, but the received file has {file.sha256}; send the file again")
            check.stop_if_wrong()
            with on_disk():
                await asyncio.to_thread(file.sync)
            await self._store.uploads.add_file(owner, name, file.size, file.path)
            return pb.UploadImageResponse(sha256=name, size=file.size)
        except (InvalidRequestError, StorageError, QuotaExceededError):
            # What is wrong with the file, or with storing it, would not change.
            if file is not None:
                file.close()
            file = None
            raise
        finally:
            if file is not None:
                self._broken_off.keep(owner, name, file)

    def _count(self, upload: _Upload, size: int, added: int, check: Checker) -> None:
        upload.bytes += added
        if size > self._max_bytes:
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


def _read_first(request: pb.UploadImageRequest, check: Checker) -> int:
    """Checks the first message, and returns the position of its data in the file."""
    offset = read_field(request, "offset", check)
    _check_name(request.sha256, check)
    return int(offset)


def _check_name(name: str, check: Checker) -> None:
    if not _SHA256.fullmatch(name):
        check.add("sha256", "must be the SHA-256 of the file, 64 lower-case hexadecimal digits")
    check.stop_if_wrong()
