"""Reads files that others put there: never a pipe without a writer, a device, or more than is wanted.

And writes files whole or not at all. Standard library only.
"""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO

FileVersion = tuple[int, int, int, int, int]
_KINDS = {
    stat.S_IFIFO: "is a pipe",
    stat.S_IFDIR: "is a folder",
    stat.S_IFCHR: "is a device",
    stat.S_IFBLK: "is a device",
    stat.S_IFSOCK: "is a socket",
}


def open_file(path: Path, most: int) -> BufferedReader:
    """Opens a regular file of at most `most` bytes for reading; does not wait for a pipe.

    Raises:
        OSError: there is none, or it is something else or larger; `strerror` says which.
    """
    # Looked at before it is opened, because opening alone does something to some devices.
    _check(os.stat(path), path, most)
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        _check(os.fstat(descriptor), path, most)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_file(path: Path, most: int) -> bytes:
    """What is in a regular file of at most `most` bytes.

    Raises:
        OSError: see `open_file`.
    """
    with open_file(path, most) as file:
        return read_up_to(file, most, path)


def read_up_to(file: BufferedReader, most: int, path: Path) -> bytes:
    """All that follows in a file; an OSError if that is more than `most` bytes, or it grows meanwhile."""
    status = os.fstat(file.fileno())
    _check(status, path, most)
    # Not `most`, which would be allocated before it is read.
    left = max(0, status.st_size - file.tell())
    data = file.read(left + 1)
    if len(data) > left:
        raise OSError(errno.EBUSY, "it is being written", str(path))
    return data


def file_version(path: Path) -> FileVersion | None:
    """Something that changes whenever the file does; None if there is none."""
    try:
        return version_of(path.stat())
    except OSError:
        return None


def version_of(status: os.stat_result) -> FileVersion:
    """See `file_version`. The time of the change is in it because the other time can be set at will."""
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which is in place, whole and on the disk, when the block ends well, and else never was.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    fresh = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        sync_folder(path.parent)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Puts the names in a folder on the disk, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _check(status: os.stat_result, path: Path, most: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "is something else")
        raise OSError(errno.EINVAL, f"it {kind}, not a file", str(path))
    if status.st_size > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
