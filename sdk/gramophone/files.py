"""Atomic writes: a temporary file next to the target replaces it in one step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a temporary file that replaces `path` when the block ends without an error; creates missing folders.

    After an error `path` is unchanged and the temporary file is removed. The file is not synced to the disk.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as fresh, fresh.open("xb") as file:
        yield file


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields an unused path next to `path`; the file that the block creates there replaces `path`.

    After an error `path` is unchanged and the new file is removed.

    Raises:
        OSError: the folder cannot be written.
    """
    fresh = path.with_name(f".{os.urandom(8).hex()}.part")
    try:
        yield fresh
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
