"""Stores files by the SHA-256 of their content: input pictures, pixels and results."""

import contextlib
import errno
import hashlib
import logging
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from .files import atomic_file, atomic_path

log = logging.getLogger(__name__)

_NAME = re.compile(r"[0-9a-f]{64}")
# Marks the folder of blobs: without this file it may be the empty mount point of a file system that is not mounted.
_SENTINEL = ".gramophone"


class DamagedBlobError(Exception):
    """A blob is missing, or its content does not match its name."""


def is_blob_name(text: str) -> bool:
    """Returns whether a text has the form of a blob name: 64 hexadecimal digits."""
    return _NAME.fullmatch(text) is not None


class BlobStore:
    """A folder of blobs. Writes are atomic; `put` and `adopt` replace a damaged blob.

    Attributes:
        damaged: number of blobs found damaged or missing.
        repaired: number of those that were stored again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._damaged: set[str] = set()
        self.damaged = 0
        self.repaired = 0

    def make(self) -> None:
        """Makes the folder and the file that marks it, if they are missing.

        Raises:
            OSError: the folder cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / _SENTINEL).touch(mode=0o600)

    def bind(self, database: str, *, take: bool) -> None:
        """Binds a store outside of the data folder to one database; the data folder has an identity of its own.

        Args:
            database: id of the database.
            take: whether to bind a store that belongs to another database.

        Raises:
            DataFolderError: the store belongs to another database.
            OSError: the store cannot be used.
        """

    def empty(self) -> bool:
        """Returns whether the folder holds nothing, not even the file that marks it."""
        return not any(self._folder.iterdir())

    def check(self) -> None:
        """Checks that the folder exists and holds the file that marks it.

        Raises:
            OSError: the folder is missing, or is not the folder of blobs.
        """
        try:
            os.stat(self._folder / _SENTINEL)
        except (FileNotFoundError, NotADirectoryError):
            reason = "the folder of blobs is missing, or another folder is in its place"
            raise FileNotFoundError(errno.ENOENT, reason, str(self._folder)) from None

    def probe(self) -> None:
        """Checks that the folder exists and can be written.

        Raises:
            OSError: the folder is missing or cannot be written.
        """
        self.check()
        with tempfile.TemporaryFile(dir=self._folder) as file:
            file.write(bytes(4096))
            file.flush()

    def send(self, data: bytes) -> None:
        """Does what takes long in a `put` of the same bytes, before a transaction; a folder needs nothing.

        Raises:
            OSError: the blobs cannot be written.
        """

    def send_file(self, name: str, file: Path) -> None:
        """Does what takes long in an `adopt` of the same file, before a transaction; a folder needs nothing.

        Raises:
            OSError: the blobs cannot be written.
        """

    def put(self, data: bytes) -> str:
        """Stores bytes and returns their name. The bytes are synced to the disk on return.

        Raises:
            OSError: the disk is full, or cannot be written.
        """
        name = hashlib.sha256(data).hexdigest()
        path = self._path(name)
        self.check()
        if not self._is_intact(path):
            self._clear_path(path)
            with atomic_file(path) as file:
                file.write(data)
        self._check_there(path)
        self._note_repair(name)
        return name

    def adopt(self, name: str, file: Path) -> None:
        """Adds an existing file as a blob, by a hard link.

        Args:
            name: SHA-256 of the file; not checked.
            file: a file on the same file system, already synced to the disk.

        Raises:
            OSError: the folder of blobs cannot be written.
        """
        path = self._path(name)
        self.check()
        self._is_intact(path)
        self._clear_path(path)
        # A hard link keeps the original file, so that a failed call can be repeated.
        with atomic_path(path) as fresh:
            os.link(file, fresh)
        self._check_there(path)
        self._note_repair(name)

    def get(self, name: str) -> bytes:
        """Returns the bytes of a blob.

        Raises:
            DamagedBlobError: the blob is missing, or its content does not match its name.
            OSError: the folder is missing, or the file cannot be read at the moment.
        """
        if not _NAME.fullmatch(name):
            raise DamagedBlobError(f"{name!r} is not the name of a blob")
        try:
            data = self._path(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            self.check()
            self._note_damage(name, "is missing")
            raise DamagedBlobError(f"{name} is missing") from error
        if hashlib.sha256(data).hexdigest() != name:
            self._note_damage(name, "does not match its SHA-256")
            raise DamagedBlobError(f"{name} is damaged")
        return data

    def is_good(self, name: str) -> bool:
        """Returns whether a stored blob exists and matches its name. Reads the whole file.

        Raises:
            OSError: the folder is missing, or the file cannot be read at the moment.
        """
        path = self._path(name)
        if self._is_intact(path):
            return True
        self.check()
        self._note_damage(name, "is missing")
        return False

    def fetch(self, name: str) -> None:
        """Makes a blob readable by other processes, as a file in the folder, where it is already.

        Raises:
            DamagedBlobError: the blob is missing, or its content does not match its name.
            OSError: the blobs cannot be read.
        """

    def file(self, name: str) -> Path | None:
        """Returns the path of a blob without checking its content; None if the blob is missing.

        Raises:
            OSError: the folder of blobs cannot be read.
        """
        path = self._path(name)
        try:
            is_file = stat.S_ISREG(path.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            is_file = False
        if not is_file:
            self.check()
            self._note_damage(name, "is missing")
        return path if is_file else None

    def delete(self, name: str) -> None:
        """Deletes a blob, if it exists."""
        _remove(self._path(name))
        self._damaged.discard(name)

    def delete_all(self, names: Iterable[str]) -> None:
        """Deletes blobs, if they exist."""
        for name in names:
            self.delete(name)

    def names(self) -> Iterator[str]:
        """Yields the names of all blobs, and of files that interrupted writes left, as paths relative to the folder."""
        for path in self._folder.glob("*/*"):
            yield path.name if _NAME.fullmatch(path.name) else str(path.relative_to(self._folder))

    def _is_intact(self, path: Path) -> bool:
        """Returns whether a blob exists and matches its name; notes damage if it exists and does not match."""
        try:
            with path.open("rb") as file:
                is_intact = hashlib.file_digest(file, "sha256").hexdigest() == path.name
        except (FileNotFoundError, NotADirectoryError):
            is_intact = False
            if not os.path.lexists(path):
                return False
        except IsADirectoryError:
            is_intact = False
        if not is_intact:
            self._note_damage(path.name, "does not match its SHA-256")
        return is_intact

    def _clear_path(self, path: Path) -> None:
        """Makes the folder of a blob's file, and removes a directory that has the file's name."""
        if not path.parent.is_dir():
            _remove(path.parent)
            path.parent.mkdir(exist_ok=True)
        if path.is_dir():
            _remove(path)

    def _note_damage(self, name: str, what: str) -> None:
        if name not in self._damaged:
            self._damaged.add(name)
            self.damaged += 1
            log.error("the file %s %s: it was damaged or removed on the disk", name, what)

    def _note_repair(self, name: str) -> None:
        if name in self._damaged:
            self._damaged.discard(name)
            self.repaired += 1
            log.warning("the file %s is repaired: it was stored again", name)

    def _check_there(self, path: Path) -> None:
        """Checks that a written file is in the folder of blobs: the folder may have been replaced during the write."""
        self.check()
        if not path.exists():
            reason = "the folder of blobs was replaced by another folder during the write"
            raise FileNotFoundError(errno.ENOENT, reason, str(self._folder))

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name if _NAME.fullmatch(name) else self._folder / name


def _remove(path: Path) -> None:
    """Removes a file or a directory with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
