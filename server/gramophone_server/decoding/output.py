"""Writes what was decoded to files that are named by their content."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from ..files import sync_file


def write_blob(folder: Path, parts: Iterable[bytes], *, durable: bool) -> str:
    """Writes a file whose content is all parts to a folder, and returns its name, the SHA-256 of the content.

    Args:
        durable: whether to sync the file to the disk.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    unfinished, hashing = folder / ".part", hashlib.sha256()
    with unfinished.open("wb") as file:
        for part in parts:
            hashing.update(part)
            file.write(part)
        if durable:
            sync_file(file)
    blob = hashing.hexdigest()
    unfinished.replace(folder / blob)
    return blob
