"""Reads untrusted files safely (regular files only, bounded size) and writes files atomically.

Standard library only.
"""

import errno
import os
import stat
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


def open_file(path: Path, max_bytes: int) -> BufferedReader:
    """Opens a regular file of at most `max_bytes` bytes for reading; does not block on a pipe.

    Raises:
        OSError: the file is missing, is not a regular file, or is larger; `strerror` says which.
    """
    # Check before opening: some devices react to being opened.
    _check(os.stat(path), path, max_bytes)
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        _check(os.fstat(descriptor), path, max_bytes)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_file(path: Path, max_bytes: int) -> bytes:
    """Returns the content of a regular file of at most `max_bytes` bytes.

    Raises:
        OSError: see `open_file`.
    """
    with open_file(path, max_bytes) as file:
        return read_up_to(file, max_bytes, path)


def read_up_to(file: BufferedReader, max_bytes: int, path: Path) -> bytes:
    """Returns the rest of a file, from its current position.

    Raises:
        OSError: the file has more than `max_bytes` bytes, or grows during the read.
    """
    status = os.fstat(file.fileno())
    _check(status, path, max_bytes)
    # Do not pass `max_bytes` to read(): Python would allocate that many bytes first.
    left = max(0, status.st_size - file.tell())
    data = file.read(left + 1)
    if len(data) > left:
        raise OSError(errno.EBUSY, "it is being written", str(path))
    return data


def file_version(path: Path) -> FileVersion | None:
    """Returns a value that changes whenever the file changes; None if the file cannot be found."""
    try:
        return version_of(path.stat())
    except OSError:
        return None


def version_of(status: os.stat_result) -> FileVersion:
    """Returns the version of an open file; see `file_version`. It includes ctime because programs can set mtime."""
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


@contextmanager
def atomic_file(path: Path, *, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """Opens a temporary file that replaces `path`, synced to the disk, when the block ends without an error.

    After an error `path` is unchanged and the temporary file is removed.

    Args:
        mode: permission bits of a file, less those of the umask.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    with atomic_path(path) as fresh, open(fresh, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        yield file
        sync_file(file)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields an unused name beside `path`; the file that the block makes there replaces `path`.

    After an error `path` is unchanged and the file is removed. The block syncs the file (`sync_file`), this its name.

    Raises:
        OSError: the folder cannot be written.
    """
    fresh = path.with_name(f".{os.urandom(8).hex()}.part")
    try:
        yield fresh
        fresh.replace(path)
        sync_folder(path.parent)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def sync_file(file: IO[bytes]) -> None:
    """Syncs what was written to a file to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Syncs the entries of a folder to the disk, on POSIX systems."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _check(status: os.stat_result, path: Path, max_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "is something else")
        raise OSError(errno.EINVAL, f"it {kind}, not a file", str(path))
    if status.st_size > max_bytes:
        raise OSError(errno.EFBIG, f"it has more than {max_bytes:,} bytes", str(path))
