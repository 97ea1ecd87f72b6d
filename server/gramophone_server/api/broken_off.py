"""Keeps what has arrived of uploads that broke off, so that a later upload can continue them."""

import asyncio
import contextlib
import hashlib
from pathlib import Path
from typing import BinaryIO

from ..decoding.staging import Staging
from ..files import sync_file
from ..rpc.violations import ConflictError

# Seconds for which the bytes are kept, and limits of their number: in all, and of the files.
_SECONDS, _MAX_BYTES, _MAX_FILES = 3600.0, 256 << 20, 32
# Fewer bytes are not worth keeping.
_MIN_BYTES = 64 << 10


class UploadFile:
    """A file in a staging folder of its own, written and hashed piece by piece.

    Args:
        name: its name.
        folder: the folder of staging folders.

    Attributes:
        size: number of bytes written.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.size = 0
        self._name = name
        self._hashing = hashlib.sha256()
        self._staging = Staging(folder)
        self._staging.__enter__()
        self._file: BinaryIO | None = None

    @property
    def path(self) -> Path:
        """The path of the file."""
        return self._staging.path / self._name

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes so far, hexadecimal."""
        return self._hashing.hexdigest()

    def write(self, data: bytes) -> None:
        """Appends bytes; blocks.

        Raises:
            OSError: the disk is full, or cannot be written.
        """
        self._file = self._file or self.path.open("ab")
        self._file.write(data)
        self._hashing.update(data)
        self.size += len(data)

    def sync(self) -> None:
        """Flushes the file to disk (fsync); blocks.

        Raises:
            OSError: the disk is full, or cannot be written.
        """
        self._file = self._file or self.path.open("ab")
        sync_file(self._file)

    def pause(self) -> None:
        """Closes the file until more is written.

        Raises:
            OSError: the disk is full, or cannot be written.
        """
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def close(self) -> None:
        """Closes the file, and removes it unless it was moved."""
        with contextlib.suppress(OSError):
            self.pause()
        self._staging.__exit__(None, None, None)


class BrokenOffUploads:
    """The files of uploads that broke off, of all clients; the oldest make room for newer ones."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], tuple[UploadFile, asyncio.TimerHandle]] = {}

    def size(self, owner: str, name: str) -> int | None:
        """Returns how many bytes of a client's file are kept; None if there are none."""
        kept = self._kept.get((owner, name))
        return None if kept is None else kept[0].size

    def take(self, owner: str, name: str, offset: int, folder: Path) -> UploadFile:
        """Returns a client's file to which the bytes from `offset` on can be appended.

        Raises:
            ConflictError: the file has more or fewer bytes.
        """
        has = self.size(owner, name) or 0
        if offset not in (0, has):
            reason = f"is {offset}, but the server has {has} bytes of the file; continue there"
            raise ConflictError([("offset", reason)])
        if offset:
            return self._remove(owner, name)
        if has:
            self._remove(owner, name).close()
        return UploadFile(name, folder)

    def keep(self, owner: str, name: str, file: UploadFile) -> None:
        """Keeps a client's file, if it is worth it; else closes it."""
        if (owner, name) in self._kept:
            self._remove(owner, name).close()
        if not file.path.exists() or not _MIN_BYTES <= file.size <= _MAX_BYTES:
            file.close()
            return
        while self._kept and (len(self._kept) >= _MAX_FILES or self._total() + file.size > _MAX_BYTES):
            self._remove(*next(iter(self._kept))).close()
        try:
            file.pause()
        except OSError:
            # The end of the file is lost.
            file.close()
            return
        timer = asyncio.get_running_loop().call_later(_SECONDS, lambda: self._remove(owner, name).close())
        self._kept[owner, name] = file, timer

    def _total(self) -> int:
        return sum(file.size for file, _ in self._kept.values())

    def _remove(self, owner: str, name: str) -> UploadFile:
        file, timer = self._kept.pop((owner, name))
        timer.cancel()
        return file
