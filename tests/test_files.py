"""Files: pipes, folders, sockets and devices are refused unread, sizes are bounded, and writes are atomic."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from gramophone_server.files import atomic_file, file_version, open_file, read_file, read_up_to


def test_read_file_returns_the_content_of_a_file_within_the_limit(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    assert read_file(path, 100) == b"x" * 100
    with pytest.raises(OSError, match="more than 99 bytes"):
        read_file(path, 99)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "missing", 100)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (os.mkfifo, "it is a pipe"),
        (os.mkdir, "it is a folder"),
        (listening, "it is a socket"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
        (lambda path: path.symlink_to(path), "symbolic links"),
    ],
)
def test_read_file_refuses_all_but_regular_files(tmp_path, make: Callable[[Path], None], reason):
    make(tmp_path / "odd")
    with pytest.raises(OSError, match=reason):
        read_file(tmp_path / "odd", 100)


def test_a_file_that_grows_over_the_limit_is_an_error(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10)
    with open_file(path, 100) as file, path.open("ab") as other:
        assert read_up_to(file, 100, path) == b"x" * 10
        other.write(b"x" * 200)
        other.flush()
        with pytest.raises(OSError, match="more than 100 bytes") as caught:
            read_up_to(file, 100, path)
        assert caught.value.errno == errno.EFBIG


def test_file_version_sees_a_change_whose_times_were_set_back(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    before, status = file_version(path), path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file_version(path) != before
    path.unlink()
    assert file_version(path) is None


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic_file(path) as file:
            file.write(b"half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(("mode", "expected"), [(None, 0o600), (0o666, 0o640)])
def test_a_file_is_private_unless_another_mode_is_asked_for(tmp_path, mode, expected):
    before = os.umask(0o027)
    try:
        with atomic_file(tmp_path / "file", **({"mode": mode} if mode else {})) as file:
            file.write(b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == expected
