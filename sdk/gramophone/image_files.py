"""Pictures that callers have as files: paths, bytes and open files."""

from __future__ import annotations

import errno
import io
import os
import re
from pathlib import Path
from typing import Any

# A letter alone is a drive of Windows.
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHOWN = 80


def from_bytes(data: bytes | bytearray | memoryview) -> bytes:
    """The bytes of a file that is in memory.

    Raises:
        ValueError: there are none.
    """
    if not (read := bytes(data)):
        raise ValueError("the picture is empty; give the bytes of a picture file")
    return read


def from_path(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file.

    Raises:
        FileNotFoundError: there is no such file.
        IsADirectoryError: it is a folder.
        OSError: it cannot be read.
        ValueError: it is empty, or the path is an address or the like.
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
            reason = f"there is no such file; if it is the hash of an uploaded picture, give Uploaded({name!r})"
            raise FileNotFoundError(errno.ENOENT, reason, name) from None
        raise
    if not data:
        raise ValueError(f"{name}: the file is empty; give a picture file")
    return data


def from_file(file: Any) -> bytes:
    """The bytes of an open file, from its beginning if it can seek; it is left at its end.

    Raises:
        TypeError: it is open as text, or gives something else than bytes.
        ValueError: it is empty, closed, or not open for reading.
    """
    shown = _shown(getattr(file, "name", None) or type(file).__name__)
    if getattr(file, "closed", False) is True:
        raise ValueError(f"the picture's file {shown} is closed; give it while it is open, or give its path")
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
        raise TypeError(f"the picture's file {shown} gives {type(data).__name__}, not bytes; give bytes or a path")
    if not data:
        raise ValueError(f"the picture's file {shown} is empty; give a picture file")
    return bytes(data)


def _check_name(name: str) -> None:
    """Refuses a str that is something else than a path, before it is looked for among the files."""
    if not name:
        raise ValueError("the picture's path is empty; give the path of a picture file")
    if name[:5].lower() == "data:":
        raise ValueError("a picture cannot be a data: URI; give its bytes, base64.b64decode(uri.split(',', 1)[1])")
    if found := _ADDRESS.match(name):
        if found[1].lower() == "file":
            raise ValueError(f"a picture cannot be an address, as {_shown(name)} is; give the path alone")
        raise ValueError(
            f"a picture cannot be an address, as {_shown(name)} is; download it first, and give its bytes or its path"
        )
    if "\0" in name or len(name) > 4096:
        raise ValueError(f"{_shown(name)} is no path; give a path as str, or the bytes of a picture file as bytes")


def _can_seek(file: Any) -> bool:
    seekable = getattr(file, "seekable", None)
    # Some wrappers, as of uploads in web frameworks, have only seek.
    return bool(seekable()) if callable(seekable) else hasattr(file, "seek")


def _shown(name: object) -> str:
    text = str(name)
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")
