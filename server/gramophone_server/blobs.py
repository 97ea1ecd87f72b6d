"""Files named by the SHA-256 of what is in them: pictures that come in, results that go out."""

import contextlib
import errno
import hashlib
import logging
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .files import atomic_file, sync_folder

log = logging.getLogger(__name__)

_NAME = re.compile(r"[0-9a-f]{64}")
# By this file the folder is known from an empty one in its place, such as below a mount that is away.
_SENTINEL = ".gramophone"


class DamagedBlobError(Exception):
    """A blob is not there, or not what its name says."""


def is_blob_name(text: str) -> bool:
    """Whether a blob could have this name."""
    return _NAME.fullmatch(text) is not None


class BlobStore:
    """A folder of blobs. A blob is there whole or not at all; what is damaged is replaced when it is put again.

    Attributes:
        damaged: how many blobs were found to be damaged or lost.
        repaired: how many of those were put again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bad: set[str] = set()
        self.damaged = 0
        self.repaired = 0

    def make(self) -> None:
        """Makes the folder, and the file by which it is known, if they are not there.

        Raises:
            OSError: it cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / _SENTINEL).touch(mode=0o600)

    def empty(self) -> bool:
        """Whether there is nothing in the folder, not even the file by which it is known."""
        return not any(self._folder.iterdir())

    def check(self) -> None:
        """Sees that the folder is there, and not another in its place.

        Raises:
            OSError: it is away.
        """
        try:
            os.stat(self._folder / _SENTINEL)
        except (FileNotFoundError, NotADirectoryError):
            reason = "the folder of blobs is away, or another is in its place"
            raise FileNotFoundError(errno.ENOENT, reason, str(self._folder)) from None

    def probe(self) -> None:
        """Sees that the folder is there and can be written.

        Raises:
            OSError: it cannot.
        """
        self.check()
        with tempfile.TemporaryFile(dir=self._folder) as file:
            file.write(bytes(4096))
            file.flush()

    def put(self, data: bytes) -> str:
        """Keeps bytes, on the disk itself by the time it returns; their name.

        Raises:
            OSError: the disk is full, or cannot be written.
        """
        name = hashlib.sha256(data).hexdigest()
        path = self._path(name)
        self.check()
        if not self._is_there_whole(path):
            self._make_room(path)
            with atomic_file(path) as file:
                file.write(data)
        self._check_there(path)
        self._note_repair(name)
        return name

    def adopt(self, name: str, file: Path) -> None:
        """Takes a file in as a blob: one on the same file system, on the disk itself, with that SHA-256.

        Raises:
            OSError: the folder of blobs cannot be written.
        """
        path = self._path(name)
        self.check()
        self._is_there_whole(path)
        self._make_room(path)
        # The file stays where it was, so that this can be done again.
        fresh = path.with_name(f".{name}.part")
        fresh.unlink(missing_ok=True)
        os.link(file, fresh)
        fresh.replace(path)
        sync_folder(path.parent)
        self._check_there(path)
        self._note_repair(name)

    def get(self, name: str) -> bytes:
        """The bytes of a blob.

        Raises:
            DamagedBlobError: they are gone, or are not those that were put.
            OSError: the folder is away, or the file cannot be read for now.
        """
        if not _NAME.fullmatch(name):
            raise DamagedBlobError(f"{name!r} is not the name of a blob")
        try:
            data = self._path(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            self.check()
            self._note_damage(name, "is not there")
            raise DamagedBlobError(f"{name} is not there") from error
        if hashlib.sha256(data).hexdigest() != name:
            self._note_damage(name, "is not what was put")
            raise DamagedBlobError(f"{name} is damaged")
        return data

    def is_good(self, name: str) -> bool:
        """Whether a blob that was put is there and is what its name says. Reads all of it.

        Raises:
            OSError: the folder is away, or the file cannot be read for now.
        """
        path = self._path(name)
        if self._is_there_whole(path):
            return True
        self.check()
        self._note_damage(name, "is not there")
        return False

    def file(self, name: str) -> Path | None:
        """The file of a blob, whose bytes are not looked at; None if it is not there.

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
            self._note_damage(name, "is not there")
        return path if is_file else None

    def delete(self, name: str) -> None:
        """Forgets a blob, if it is there."""
        _remove(self._path(name))
        self._bad.discard(name)

    def names(self) -> Iterator[str]:
        """The names of all blobs, and what a write that was cut off has left, by its path below the folder."""
        for path in self._folder.glob("*/*"):
            yield path.name if _NAME.fullmatch(path.name) else str(path.relative_to(self._folder))

    def _is_there_whole(self, path: Path) -> bool:
        """Whether a blob is there and is what its name says; noting if it is there and is not."""
        try:
            with path.open("rb") as file:
                is_whole = hashlib.file_digest(file, "sha256").hexdigest() == path.name
        except (FileNotFoundError, NotADirectoryError):
            is_whole = False
            if not os.path.lexists(path):
                return False
        except IsADirectoryError:
            is_whole = False
        if not is_whole:
            self._note_damage(path.name, "is not what was put")
        return is_whole

    def _make_room(self, path: Path) -> None:
        """Has a blob's folder be there, and nothing in the blob's place that a file could not replace."""
        if not path.parent.is_dir():
            _remove(path.parent)
            path.parent.mkdir(exist_ok=True)
        if path.is_dir():
            _remove(path)

    def _note_damage(self, name: str, what: str) -> None:
        if name not in self._bad:
            self._bad.add(name)
            self.damaged += 1
            log.error("the file %s %s: it was damaged or removed on the disk", name, what)

    def _note_repair(self, name: str) -> None:
        if name in self._bad:
            self._bad.discard(name)
            self.repaired += 1
            log.warning("the file %s is repaired: it was sent again", name)

    def _check_there(self, path: Path) -> None:
        """Sees that what was written is in the folder, not in one that stood in its place for a moment."""
        self.check()
        if not path.exists():
            reason = "the folder of blobs was exchanged for another"
            raise FileNotFoundError(errno.ENOENT, reason, str(self._folder))

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name if _NAME.fullmatch(name) else self._folder / name


def _remove(path: Path) -> None:
    """Removes whatever has that name."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
