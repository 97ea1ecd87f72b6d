"""Files that are none are refused without being read."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from gramophone_server.files import file_version, open_file, read_file, read_up_to


def test_what_is_in_a_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    assert read_file(path, 100) == b"x" * 100
    with pytest.raises(OSError, match="more than 99 bytes"):
        read_file(path, 99)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "nobody", 100)


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
def test_what_is_no_file(tmp_path, make: Callable[[Path], None], reason):
    make(tmp_path / "odd")
    with pytest.raises(OSError, match=reason):
        read_file(tmp_path / "odd", 100)


def test_a_file_that_grows(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10)
    with open_file(path, 100) as file, path.open("ab") as other:
        assert read_up_to(file, 100, path) == b"x" * 10
        other.write(b"x" * 200)
        other.flush()
        with pytest.raises(OSError, match="more than 100 bytes") as caught:
            read_up_to(file, 100, path)
        assert caught.value.errno == errno.EFBIG


def test_a_change_with_the_times_set_back_is_seen(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    before, status = file_version(path), path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file_version(path) != before
    path.unlink()
    assert file_version(path) is None
