"""Stores uploads: picture files that clients send before the requests that use them."""

import contextlib
import hashlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from ..blobs import BlobStore, is_blob_name
from .access import Access
from .database import blobs, insert_missing, uploads
from .errors import StorageError
from .stored_files import StoredFiles
from .transactions import Transactions


class UploadArchive:
    """Stores uploads. All methods block.

    Raises, from any method:
        OSError, sqlalchemy.exc.SQLAlchemyError: the disk is full, or its contents cannot be used.
    """

    def __init__(self, transactions: Transactions, files: BlobStore, stored: StoredFiles) -> None:
        self._transactions = transactions
        self._files = files
        self._stored = stored

    def add(self, owner: str, data: bytes) -> str:
        """Stores a client's picture file; returns its SHA-256.

        Raises:
            QuotaExceededError: the file does not fit beside the files that cannot be evicted.
        """
        name = hashlib.sha256(data).hexdigest()
        self._add(owner, name, len(data), lambda: self._files.send(data), lambda: self._files.put(data))
        return name

    def add_file(self, owner: str, name: str, size: int, file: Path) -> None:
        """Stores a client's picture file that is on disk already; the file is moved.

        Args:
            name: its SHA-256.
            size: its bytes.

        Raises:
            QuotaExceededError: the file does not fit beside the files that cannot be evicted.
        """
        send, keep = partial(self._files.send_file, name, file), partial(self._files.adopt, name, file)
        self._add(owner, name, size, send, keep)

    def _add(self, owner: str, name: str, size: int, send: Callable[[], object], keep: Callable[[], object]) -> None:
        self._stored.make_room(owner, {name: size}, is_upload=True)
        try:
            send()
            with self._transactions.writing() as connection:
                self._transactions.rights.keep_files(connection)
                keep()
                self._stored.register(connection, {name: size})
                if not self._touch(connection, owner, name):
                    row = {"owner": owner, "sha256": name, "used": time.time()}
                    connection.execute(insert_missing(connection, uploads), row)
        except BaseException:
            self._stored.add_orphans([name])
            raise

    def use(self, owner: str, name: str) -> None:
        """Marks a client's upload as used now."""
        with self._transactions.writing() as connection:
            self._touch(connection, owner, name)

    def has(self, owner: str, name: str) -> int | None:
        """Returns the size of a client's upload; None if it does not exist or is damaged."""
        mine = sa.select(uploads.c.sha256).where(uploads.c.owner == owner, uploads.c.sha256 == name)
        with self._transactions.engine.connect() as connection:
            size = connection.execute(sa.select(blobs.c.size).where(blobs.c.sha256.in_(mine))).scalar()
        return size if size is not None and self._files.is_good(name) else None

    def file(self, owner: str, name: str) -> Path | None:
        """Returns the file of a client's upload; None if it does not exist. It may be damaged."""
        if not is_blob_name(name):
            return None
        wanted = sa.select(uploads.c.sha256).where(uploads.c.owner == owner, uploads.c.sha256 == name)
        with self._transactions.engine.connect() as connection:
            found = connection.execute(wanted).scalar()
        return self._files.file(found) if found else None

    def _touch(self, connection: sa.Connection, owner: str, name: str) -> bool:
        where = (uploads.c.owner == owner, uploads.c.sha256 == name)
        return connection.execute(uploads.update().where(*where).values(used=time.time())).rowcount > 0


class UploadStore:
    """Stores uploads in the background.

    Args:
        archive: the uploads on disk.
        access: accesses the disk, and knows whether it can be used.
    """

    def __init__(self, archive: UploadArchive, access: Access) -> None:
        self._archive = archive
        self._access = access

    async def add(self, owner: str, data: bytes) -> str:
        """Stores a client's picture file; returns its SHA-256.

        Raises:
            QuotaExceededError: the file does not fit beside the files of unfinished jobs.
            StorageError: it cannot be stored.
        """
        return await self._access.write(partial(self._archive.add, owner, data))

    async def add_file(self, owner: str, name: str, size: int, file: Path) -> None:
        """Stores a client's picture file that is on disk already; the file is moved.

        Args:
            name: its SHA-256.
            size: its bytes.

        Raises:
            QuotaExceededError: the file does not fit beside the files of unfinished jobs.
            StorageError: it cannot be stored.
        """
        await self._access.write(partial(self._archive.add_file, owner, name, size, file))

    async def has(self, owner: str, name: str) -> int | None:
        """Returns the size of a client's upload and marks it as used; None if it does not exist or is damaged.

        Raises:
            StorageError: the storage cannot be used.
        """
        size = await self._access.read(partial(self._archive.has, owner, name))
        if size is not None:
            await self._access.write(partial(self._archive.use, owner, name))
        return size

    async def file(self, owner: str, name: str) -> Path | None:
        """Returns the file of a client's upload and marks it as used; None if it does not exist. It may be damaged.

        Raises:
            StorageError: the storage cannot be read.
        """
        file = await self._access.read(partial(self._archive.file, owner, name))
        if file is not None:
            # A full disk must not prevent reading the file.
            with contextlib.suppress(StorageError):
                await self._access.write(partial(self._archive.use, owner, name))
        return file
