"""Blobs in an object store, with a bounded cache of local copies."""

import contextlib
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ...blobs import BlobStore, DamagedBlobError, is_blob_name
from ...files import atomic_path
from ..errors import ObjectStoreError
from ..folder import DataFolderError
from .remote import ObjectStore

log = logging.getLogger(__name__)

# Seconds after their last use for which copies are kept in any case: their paths may be in use.
_IN_USE = 300.0
# Share of the bound to which the cache shrinks when it exceeds the bound.
_SHRINK_TO = 0.9
_MARK = "gramophone"


class ObjectBlobs(BlobStore):
    """Blobs in an object store. A read fetches the blob into a local folder, whose copies are checked and evicted.

    Args:
        folder: the folder of the copies.
        objects: the object store.
        bound: bytes of the copies; those used longest ago are evicted.
        needed: returns the names of blobs whose copies must stay, such as those of running jobs.
    """

    def __init__(
        self, folder: Path, objects: ObjectStore, bound: int, needed: Callable[[], Iterable[str]] = tuple
    ) -> None:
        super().__init__(folder)
        self._objects = objects
        self._bound = bound
        self._needed = needed
        self._evicting = threading.Lock()
        self._grown = bound

    def bind(self, database: str, *, take: bool) -> None:
        """Binds the object store to a database, by an object that names it."""
        mine = f"The files of the Gramophone database {database}.\n".encode()
        try:
            found = self._objects.read(_MARK)
        except FileNotFoundError:
            found = b""
        if found not in (b"", mine) and not take:
            raise DataFolderError(
                f"the files in {self._objects.url} belong to jobs of another database, and would be deleted; use that "
                "database with --database, or another prefix with --files; or, if those jobs may be lost, use "
                "--take-database"
            )
        if found != mine:
            self._objects.write(_MARK, mine)

    def empty(self) -> bool:
        """Returns whether the store lacks its mark and all blobs."""
        return self._objects.size(_MARK) is None and not self._objects.list("blobs/")

    def probe(self) -> None:
        """Checks that the folder of the copies and the object store can be written.

        Raises:
            OSError: one of them cannot, or the store has lost its mark.
        """
        super().probe()
        self._check_mark()
        self._objects.write("probe", b"")

    def send(self, data: bytes) -> None:
        """Stores an object ahead of the transaction of a `put`, which then does not wait for the network."""
        self._send(hashlib.sha256(data).hexdigest(), len(data), lambda key: self._objects.write(key, data))

    def send_file(self, name: str, file: Path) -> None:
        """Stores an object ahead of the transaction of an `adopt`."""
        self._send(name, file.stat().st_size, lambda key: self._objects.write_file(key, file))

    def put(self, data: bytes) -> str:
        """Stores bytes and returns their name. The object is stored on return."""
        self.send(data)
        name = super().put(data)
        self._grow(len(data))
        return name

    def adopt(self, name: str, file: Path) -> None:
        """Stores a file as a blob; its copy is a hard link."""
        self.send_file(name, file)
        super().adopt(name, file)
        self._grow(file.stat().st_size)

    def get(self, name: str) -> bytes:
        """Returns the bytes of a blob."""
        self.fetch(name)
        return super().get(name)

    def is_good(self, name: str) -> bool:
        """Returns whether a blob exists and matches its name."""
        try:
            self.fetch(name)
        except DamagedBlobError:
            return False
        # The object may have been removed since its copy was made.
        if self._objects.size(_key(name)) is None:
            self._check_mark()
            self._note_damage(name, "is missing")
            return False
        return True

    def file(self, name: str) -> Path | None:
        """Returns the path of a blob's copy; None if the blob is missing or damaged. It stays for some minutes."""
        try:
            self.fetch(name)
        except DamagedBlobError:
            return None
        return super().file(name)

    def fetch(self, name: str) -> None:
        """Makes a good copy of a blob in the local folder, if there is none.

        Raises:
            DamagedBlobError: the object is missing, or its content does not match its name.
            OSError: the object store or the folder cannot be used.
        """
        if not is_blob_name(name):
            raise DamagedBlobError(f"{name!r} is not the name of a blob")
        path = self._path(name)
        with contextlib.suppress(OSError):
            os.utime(path)
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == name:
                    return
            log.warning("the local copy of the file %s is damaged, and is fetched again", name)
        self._clear_path(path)
        with atomic_path(path) as fresh:
            self._download(name, fresh)
            size = fresh.stat().st_size
        self._note_repair(name)
        self._grow(size)

    def delete(self, name: str) -> None:
        """Deletes a blob and its copy, if they exist."""
        self.delete_all([name])

    def delete_all(self, names: Iterable[str]) -> None:
        """Deletes blobs and their copies, if they exist."""
        names = list(names)
        self._objects.delete([_key(name) for name in names])
        for name in names:
            super().delete(name)

    def names(self) -> Iterator[str]:
        """Yields the names of all blobs in the object store."""
        for found in self._objects.list("blobs/"):
            yield found.name.rpartition("/")[2]

    def _send(self, name: str, size: int, write: Callable[[str], None]) -> None:
        if name in self._damaged or self._objects.size(_key(name)) != size:
            write(_key(name))
            self._note_repair(name)

    def _download(self, name: str, fresh: Path) -> None:
        try:
            self._objects.read_file(_key(name), fresh)
        except FileNotFoundError as error:
            self._check_mark()
            self._note_damage(name, "is missing")
            raise DamagedBlobError(f"{name} is missing") from error
        fresh.chmod(0o600)
        with fresh.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != name:
                self._note_damage(name, "does not match its SHA-256")
                raise DamagedBlobError(f"{name} is damaged")

    def _check_mark(self) -> None:
        """Checks that the store is the one that `make` marked, and not another or an emptied one."""
        if self._objects.size(_MARK) is None:
            raise ObjectStoreError("the object store of the files has lost its mark, the object gramophone")

    def _grow(self, size: int) -> None:
        """Counts the bytes of a new copy, and evicts copies if there may be too many."""
        with self._evicting:
            self._grown += size
            if self._grown > self._bound:
                self._grown = self._evict()

    def _evict(self) -> int:
        """Deletes the copies used longest ago if they exceed the bound; returns the bytes of those left."""
        found = []
        for path in self._folder.glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                found.append((path.stat(), path))
        left = sum(status.st_size for status, _ in found)
        if left <= self._bound:
            return left
        needed, oldest = set(self._needed()), time.time() - _IN_USE
        for status, path in sorted(found, key=lambda one: one[0].st_mtime):
            if left <= _SHRINK_TO * self._bound or status.st_mtime > oldest:
                break
            if path.name not in needed:
                path.unlink(missing_ok=True)
                left -= status.st_size
        return left


def _key(name: str) -> str:
    return f"blobs/{name}"
