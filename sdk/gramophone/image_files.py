"""Reading of picture files given as paths, bytes or open files."""

from __future__ import annotations

import errno
import io
import os
import re
from pathlib import Path
from typing import Any

# At least two letters before "://": a single letter is a Windows drive.
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHOWN = 80


def from_bytes(data: bytes | bytearray | memoryview) -> bytes:
    """Returns the bytes of a picture file in memory.

    Raises:
        ValueError: the data is empty.
    """
    if not (read := bytes(data)):
        raise ValueError("the picture is empty; give the bytes of a picture file")
    return read


def from_path(path: str | os.PathLike[str]) -> bytes:
    """Reads a picture file; returns its bytes.

    Raises:
        FileNotFoundError: the file does not exist.
        IsADirectoryError: the path is a folder.
        OSError: the file cannot be read.
        ValueError: the file is empty, or the path is not a path, such as a URL.
    """
    name = os.fspath(path)
    if isinstance(path, str):
        _check_name(path)
    try:
        data = Path(name).expanduser().read_bytes()
    except IsADirectoryError:
        reason = "is a folder, not a picture; give the path of a picture file in it"
        raise IsADirectoryError(errno.EISDIR, reason, name) from None
    except FileNotFoundError:
        if _SHA256.fullmatch(name):
            reason = f"there is no such file; if this is the hash of an uploaded picture, give Uploaded({name!r})"
            raise FileNotFoundError(errno.ENOENT, reason, name) from None
        raise
    if not data:
        raise ValueError(f"{name}: the file is empty; give a picture file")
    return data


def from_file(file: Any) -> bytes:
    """Reads an open file to its end, from its start if it can seek; returns the bytes.

    Raises:
        TypeError: the file is open as text, or its `read` does not return bytes.
        ValueError: the file is empty, closed, or not open for reading.
    """
    shown = _shown(getattr(file, "name", None) or type(file).__name__)
    if getattr(file, "closed", False) is True:
        raise ValueError(f"the picture's file {shown} is closed; pass it while it is open, or pass its path")
    if isinstance(file, io.TextIOBase):
        raise TypeError(f"the picture's file {shown} is open as text; open it with mode 'rb'")
    try:
        if _can_seek(file):
            file.seek(0)
        data = file.read()
    except io.UnsupportedOperation:
        raise ValueError(f"the picture's file {shown} is not open for reading; open it with mode 'rb'") from None
    if hasattr(data, "__await__"):
        if hasattr(data, "close"):
            data.close()
        raise TypeError(f"the picture's file {shown} is read asynchronously; give the bytes, `await file.read()`")
    if isinstance(data, str):
        raise TypeError(f"the picture's file {shown} is open as text; open it with mode 'rb'")
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"the picture's file {shown} returns {type(data).__name__}, not bytes; give bytes or a path")
    if not data:
        raise ValueError(f"the picture's file {shown} is empty; give a picture file")
    return bytes(data)


def _check_name(name: str) -> None:
    """Raises ValueError for a str that is not a path, such as a URL or the contents of a file."""
    if not name:
        raise ValueError("the picture's path is empty; give the path of a picture file")
    if name[:5].lower() == "data:":
        raise ValueError("a picture cannot be a data: URI; give its bytes, base64.b64decode(uri.split(',', 1)[1])")
    if found := _ADDRESS.match(name):
        if found[1].lower() == "file":
            raise ValueError(f"a picture cannot be a URL such as {_shown(name)}; give only its path")
        raise ValueError(
            f"a picture cannot be a URL such as {_shown(name)}; download it first, and give its bytes or its path"
        )
    if "\0" in name or len(name) > 4096:
        raise ValueError(f"{_shown(name)} is not a path; give a path as str, or the bytes of a picture file as bytes")


def _can_seek(file: Any) -> bool:
    seekable = getattr(file, "seekable", None)
    # Some file-like objects, such as uploads in web frameworks, have `seek` but not `seekable`.
    return bool(seekable()) if callable(seekable) else hasattr(file, "seek")


def _shown(name: object) -> str:
    text = str(name)
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
