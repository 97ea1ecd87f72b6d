"""Picture files that clients have sent ahead of their requests."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from ..blobs import BlobStore, is_blob_name
from .database import blobs, uploads
from .stored_files import StoredFiles
from .transactions import Transactions


class UploadArchive:
    """Keeps uploads. Everything here blocks.

    Raises, from any method:
        OSError, sqlalchemy.exc.SQLAlchemyError: the disk is full, or what is on it cannot be used.
    """

    def __init__(self, transactions: Transactions, files: BlobStore, stored: StoredFiles) -> None:
        self._transactions = transactions
        self._files = files
        self._stored = stored

    def add(self, owner: str, data: bytes) -> str:
        """Keeps a picture file of a client's; its SHA-256.

        Raises:
            QuotaExceededError: there is no room for it beside what has to stay.
        """
        name = hashlib.sha256(data).hexdigest()
        self._add(owner, name, len(data), lambda: self._files.put(data))
        return name

    def add_file(self, owner: str, name: str, size: int, file: Path) -> None:
        """Keeps a picture file of a client's, of so many bytes and with that SHA-256.

        Raises:
            QuotaExceededError: there is no room for it beside what has to stay.
        """
        self._add(owner, name, size, lambda: self._files.adopt(name, file))

    def _add(self, owner: str, name: str, size: int, keep: Callable[[], object]) -> None:
        self._stored.make_room(owner, {name: size}, is_upload=True)
        try:
            keep()
            with self._transactions.writing() as connection:
                self._stored.count(connection, {name: size})
                if not self._touch(connection, owner, name):
                    connection.execute(uploads.insert().values(owner=owner, sha256=name, used=time.time()))
        except BaseException:
            self._stored.leave([name])
            raise

    def use(self, owner: str, name: str) -> None:
        """Counts a file that a client has uploaded as used now."""
        with self._transactions.writing() as connection:
            self._touch(connection, owner, name)

    def has(self, owner: str, name: str) -> int | None:
        """The size of a file that a client has uploaded, if it has, and if it is as it was."""
        mine = sa.select(uploads.c.sha256).where(uploads.c.owner == owner, uploads.c.sha256 == name)
        with self._transactions.engine.connect() as connection:
            size = connection.execute(sa.select(blobs.c.size).where(blobs.c.sha256.in_(mine))).scalar()
        return size if size is not None and self._files.is_good(name) else None

    def file(self, owner: str, name: str) -> Path | None:
        """The file that a client has uploaded, if it has; it may have been damaged since."""
        if not is_blob_name(name):
            return None
        wanted = sa.select(uploads.c.sha256).where(uploads.c.owner == owner, uploads.c.sha256 == name)
        with self._transactions.engine.connect() as connection:
            found = connection.execute(wanted).scalar()
        return self._files.file(found) if found else None

    def _touch(self, connection: sa.Connection, owner: str, name: str) -> bool:
        where = (uploads.c.owner == owner, uploads.c.sha256 == name)
        return connection.execute(uploads.update().where(*where).values(used=time.time())).rowcount > 0
